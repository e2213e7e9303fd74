"""What was seen, on the page: where else an object was, and zones drawn on the picture."""

from collections.abc import Iterator
from typing import Any

import pytest

from helpers.clips import save_tiny_clip
from helpers.pages import at, until
from helpers.pond_page import Pond, looking, pond_daemon
from helpers.tracking import wait_until
from tracker.client import Client
from tracker.errors import Unavailable

pytestmark = pytest.mark.browser


@pytest.fixture(scope="module")
def pond(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pond]:
    folder = tmp_path_factory.mktemp("pond")
    save_tiny_clip(folder / "clip")
    labels = {"model": str(folder / "clip"), "device": "cpu"}
    kept = {"persist": {"dir": str(folder / "state")}, "looks": {"every_s": 0.2}, "labels": labels}
    with pond_daemon(folder, **kept) as pond:
        yield pond


def test_where_else_was_this(address: str, browser: Any, client: Client, pond: Pond) -> None:
    with looking(browser, address) as page:
        frame = client.snapshot("pond", pin_s=30).frame
        first = client.add("pond", frame=frame, points=[pond.inside(frame, 1)], label="<b>koi</b>").object
        second = client.add("pond", frame=frame, points=[pond.inside(frame, 1)]).object
        wait_until(lambda: client.similar(stream="pond", object=second).hits)
        page.click(f"[aria-label='Where else? object {second}']")
        page.wait_for_selector(f"#similar-hits li:has-text('pond {first} <b>koi</b>')")
        assert page.query_selector("#similar-hits b") is None
        assert "alike" in page.inner_text("#similar-hits li")
        page.click("#similar-close")
        assert page.is_hidden("#similar-found")


def test_words_find_what_clip_has_seen(address: str, browser: Any, client: Client, pond: Pond) -> None:
    with looking(browser, address) as page:
        frame = client.snapshot("pond", pin_s=30).frame
        fish = client.add("pond", frame=frame, points=[pond.inside(frame, 1)], label="<i>koi</i>").object
        wait_until(lambda: found_by_words(client), timeout_s=60)
        page.fill("#similar-text", "an orange <i>fish</i>")
        page.keyboard.press("Enter")
        page.wait_for_selector(f"#similar-hits li:has-text('pond {fish} <i>koi</i>')")
        assert page.query_selector("#similar i") is None


def found_by_words(client: Client) -> bool:
    try:
        return bool(client.similar(text="a fish").hits)
    except Unavailable:  # CLIP is still being loaded
        return False


def test_a_line_is_drawn_edited_and_removed(address: str, browser: Any, client: Client) -> None:
    with looking(browser, address) as page:
        page.click("#zone-line")
        for corner in ((100, 300), (100, 60)):
            page.mouse.click(*at(page, *corner))
        page.fill("#zone-form [name=zone]", "gate")
        page.click("#zone-form .main")
        page.wait_for_selector("#zones li:has-text('gate')")
        (zone,) = client.zones("pond").zones
        assert zone.settings.line is not None
        for found, wanted in zip(zone.settings.line, ((100, 300), (100, 60)), strict=True):
            assert found == pytest.approx(wanted, abs=3)
        assert client.objects("pond").objects == []
        page.click("[aria-label='Edit zone gate']")
        page.fill("#zone-points", "200,300 200,60")
        page.click("#zone-form .main")
        wait_until(lambda: client.zones("pond").zones[0].settings.line == ((200, 300), (200, 60)))
        page.click("[aria-label='Remove zone gate']")
        wait_until(lambda: not client.zones("pond").zones)
        until(page, "!document.querySelector('#zones li')")


def test_a_refusal_is_shown_as_worded_and_the_drawing_stays(address: str, browser: Any, client: Client) -> None:
    with looking(browser, address) as page:
        page.click("#zone-polygon")
        page.fill("#zone-points", "0,0 90,90 90,0 0,90")
        page.fill("#zone-form [name=zone]", "bow")
        page.click("#zone-form .main")
        page.wait_for_selector(".toast.alarming:has-text('cross')")
        assert page.is_visible("#zone-form")
        assert client.zones("pond").zones == []
