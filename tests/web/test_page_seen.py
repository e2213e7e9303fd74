"""What was seen, on the page: where else an object was, and zones drawn on the picture."""

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from helpers.clips import save_tiny_clip
from helpers.pages import app, at, serious_for_axe, until
from helpers.pond_page import Film, Pond, looking, pond_daemon
from helpers.tracking import wait_until
from tracker.client import Client
from tracker.config import ZoneConfig
from tracker.errors import Unavailable

pytestmark = [pytest.mark.browser, pytest.mark.usefixtures("preloaded")]

HOSTILE = '<img src=x onerror="document.title=1"><b>koi</b>'


@pytest.fixture(scope="module")
def pond(tmp_path_factory: pytest.TempPathFactory, film: Film) -> Iterator[Pond]:
    folder = tmp_path_factory.mktemp("pond")
    save_tiny_clip(folder / "clip")
    labels = {"model": str(folder / "clip"), "device": "cpu"}
    small = {"name": "nano", "image_size": 128}  # what is found is no matter here
    kept = {"model": small, "persist": {"dir": str(folder / "state")}, "looks": {"every_s": 0.2}, "labels": labels}
    broken = {"url": str(folder / HOSTILE.replace("/", "")), "loop": True}
    with answering() as url:
        describe = {"url": url, "model": "any"}
        more = {"zz-broken": broken, "zz-other": {"url": str(film.path), "loop": True}}
        with pond_daemon(folder, film, more, describe=describe, **kept) as pond:
            yield pond


@contextmanager
def answering() -> Iterator[str]:
    """A server of OpenAI's protocol that describes everything as markup; its URL."""
    body = json.dumps({"choices": [{"index": 0, "message": {"role": "assistant", "content": HOSTILE}}]}).encode()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: Any) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as http:
        thread = threading.Thread(target=http.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        yield f"http://127.0.0.1:{http.server_port}/v1"
        http.shutdown()
        thread.join()


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


def test_the_watch_list(address: str, browser: Any, client: Client, pond: Pond) -> None:
    """Something like an object that is selected is waited for, seen, and waited for no longer."""
    with looking(browser, address) as page:
        frame = client.snapshot("pond", pin_s=60).frame
        first = client.add("pond", frame=frame, points=[pond.inside(frame, 1)]).object
        wait_until(lambda: client.similar(stream="pond", box=box_around(pond, frame), frame=frame).hits)
        assert page.is_disabled("#watch-begin")
        page.click(f".object[data-object='{first}'] .choose")
        page.click("#watch-begin")
        page.keyboard.type(HOSTILE)
        page.fill("#watch-form [name=threshold]", "80")
        page.keyboard.press("Enter")
        page.wait_for_selector(f"#watched .name:text-is('{HOSTILE}')")
        (watched,) = client.watched().watched
        assert (watched.name, watched.threshold) == (HOSTILE, 0.8)
        second = client.add("pond", frame=frame, points=[pond.inside(frame, 1)], label=HOSTILE).object
        page.wait_for_selector(f"#watched .hits li:has-text('pond {second} {HOSTILE}')")
        page.wait_for_selector(f"#events li:has-text('{second} “{HOSTILE}” looks like {HOSTILE}')")
        no_markup(page)
    with looking(browser, address) as page:  # another browser has it from the daemon, and the hits from its history
        page.wait_for_selector(f"#watched .hits li:has-text('pond {second}')")
        page.click(f"[aria-label='Wait no longer for {HOSTILE}']")
        page.wait_for_selector("#no-watched")
        assert client.watched().watched == []


def box_around(pond: Pond, frame: int) -> tuple[float, float, float, float]:
    ys, xs = pond.truth(frame, 1).nonzero()
    return float(xs.min()), float(ys.min()), float(xs.max()) + 1, float(ys.max()) + 1


def no_markup(page: Any) -> None:
    """Nothing hostile became an element, and no script of it ran."""
    assert page.query_selector("body img, aside b, aside i, body svg") is None
    assert page.title() != "1"


def test_nothing_hostile_becomes_markup(address: str, browser: Any, client: Client, pond: Pond) -> None:
    """Label, meta, description, the names of watched looks, the reason of a stream's failure."""
    with looking(browser, address) as page:
        frame = client.snapshot("pond", pin_s=60).frame
        told = client.add("pond", frame=frame, points=[pond.inside(frame, 1)], label=HOSTILE).object
        meta = client.add("pond", frame=frame, points=[pond.inside(frame, 1)], meta={"description": HOSTILE}).object
        client.describe("pond", told)
        for number in (told, meta):
            page.wait_for_selector(f".object[data-object='{number}'] .description:text-is('{HOSTILE}')")
        page.wait_for_selector(f"#events li:has-text('object described {told} “{HOSTILE}”: {HOSTILE}')")
        page.click(".tile:has-text('zz-broken')")
        page.wait_for_selector("#stream-error:has-text('<img src=x')")
        no_markup(page)


def test_nothing_serious_for_axe_with_every_panel_open(
    address: str, browser: Any, client: Client, pond: Pond
) -> None:
    for scheme in ("dark", "light"):
        with looking(browser, f"{address}s/pond", color_scheme=scheme, bypass_csp=True) as page:
            every_panel_open(page, client, pond)
            assert not serious_for_axe(page)
        client.remove("pond", all=True)
        client.remove_zone("pond", "bow")
        for watched in client.watched().watched:
            client.stop_watching(watched.watch)


def every_panel_open(page: Any, client: Client, pond: Pond) -> None:
    """Keys, objects, a search with hits, a watched look that was seen and one being added, a zone being edited, and
    events."""
    frame = client.snapshot("pond", pin_s=60).frame
    marks: dict[str, Any] = {"frame": frame, "points": [pond.inside(frame, 1)]}
    first = client.add("pond", **marks, label="koi").object
    wait_until(lambda: client.similar(stream="pond", box=box_around(pond, frame), frame=frame).hits)
    client.watch_for("the koi", stream="pond", object=first, threshold=0.8)
    second = client.add("pond", **marks).object
    client.set_zone("pond", "bow", ZoneConfig(polygon=[(20, 20), (200, 20), (200, 200)]))
    page.click("#help")
    page.click(f"[aria-label='Where else? object {second}']")
    page.wait_for_selector("#similar-hits li")
    page.click(f".object[data-object='{second}'] .choose")
    page.wait_for_selector("#watched .hits li")
    page.click("#watch-begin")
    page.wait_for_selector("#zones li")
    page.click("[aria-label='Edit zone bow']")
    page.wait_for_selector("#events li:has-text('looks like')")


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


@pytest.mark.usefixtures("client")
def test_a_zone_is_drawn_by_keys(address: str, browser: Any, client: Client) -> None:
    with looking(browser, f"{address}s/pond") as page:
        page.click("#zone-polygon")
        page.wait_for_selector("#hint:has-text('arrows and Space')")
        for key in ("ArrowRight", "Space", "ArrowDown", "Space", "ArrowLeft", "Space"):
            page.keyboard.press(key)
        corners = app(page, "app.zones.draft.points")
        assert len({tuple(corner) for corner in corners}) == 3
        assert app(page, "app.prompt.points.length") == 0
        page.fill("#zone-form [name=zone]", "with spaces in it")
        page.keyboard.press("Enter")
        assert not page.eval_on_selector("#zone-form [name=zone]", "(field) => field.validity.valid")
        page.fill("#zone-form [name=zone]", "keys")
        page.keyboard.press("Enter")
        page.wait_for_selector("#zones li:has-text('keys')")
        page.wait_for_selector("#hint:has-text('Click on an object')")
        client.remove_zone("pond", "keys")


def test_a_refusal_is_shown_as_worded_and_the_drawing_stays(address: str, browser: Any, client: Client) -> None:
    with looking(browser, address) as page:
        page.click("#zone-polygon")
        page.fill("#zone-points", "0,0 90,90 90,0 0,90")
        page.fill("#zone-form [name=zone]", "bow")
        page.click("#zone-form .main")
        page.wait_for_selector("#zone-form .refusal:has-text('cross')")
        assert page.is_visible("#zone-form")
        assert client.zones("pond").zones == []


def test_a_zone_that_two_edit(address: str, browser: Any, client: Client) -> None:
    """Who edits a zone is told that another changed or removed it; a name in use is no new zone's."""
    square: list[tuple[float, float]] = [(20, 20), (200, 20), (200, 200)]
    client.set_zone("pond", "bow", ZoneConfig(polygon=square))
    with looking(browser, f"{address}s/pond") as page:
        page.click("[aria-label='Edit zone bow']")
        assert not page.is_editable("#zone-form [name=zone]")
        client.set_zone("pond", "bow", ZoneConfig(polygon=[*square, (20, 200)]))
        page.wait_for_selector("#zone-hint:has-text('changed it meanwhile')")
        assert app(page, "app.zones.zones[0].settings.polygon.length") == 4
        client.remove_zone("pond", "bow")
        app(page, "app.refresh()")
        page.wait_for_selector("#zone-hint:has-text('removed it meanwhile')")
        page.click("#zone-form .main")
        wait_until(lambda: [zone.settings.polygon for zone in client.zones("pond").zones] == [square])
        page.click("#zone-line")
        page.fill("#zone-points", "9,9 99,99")
        page.fill("#zone-form [name=zone]", "bow")
        page.click("#zone-form .main")
        page.wait_for_selector("#zone-form .refusal:has-text('there is a zone bow')")
        page.click("#zone-leave")
        client.remove_zone("pond", "bow")
        app(page, "app.refresh()")
        page.wait_for_selector("#zones li", state="detached")


def test_a_drawing_that_is_begun_while_another_is_saved_stays(address: str, browser: Any, client: Client) -> None:
    with looking(browser, f"{address}s/pond") as page:
        page.click("#zone-polygon")
        page.fill("#zone-points", "20,20 200,20 200,200")
        page.fill("#zone-form [name=zone]", "bow")
        app(page, "[app.zones.save(), app.zones.begin(true)][0]")
        assert [zone.zone for zone in client.zones("pond").zones] == ["bow"]
        assert page.is_visible("#zone-form")
        assert app(page, "app.zones.draft.line") is True


def test_what_others_no_longer_wait_for_goes(address: str, browser: Any, client: Client, pond: Pond) -> None:
    frame = client.snapshot("pond", pin_s=60).frame
    watched = client.watch_for("a fish", stream="pond", box=box_around(pond, frame), frame=frame).watch
    with looking(browser, address) as page:
        page.wait_for_selector("#watched .name:text-is('a fish')")
        client.stop_watching(watched)
        app(page, "app.refresh()")
        page.wait_for_selector("#no-watched")


def test_a_stream_that_is_removed_while_it_is_frozen(address: str, browser: Any, client: Client) -> None:
    """The page says so, and shows another one."""
    with looking(browser, f"{address}s/zz-other") as page:
        page.keyboard.press("f")
        page.click("#zone-polygon")
        client.remove_stream("zz-other")
        page.wait_for_selector(".toast:has-text('the stream zz-other was removed')")
        until(page, "app.selected === 'pond' && !app.hold.held && app.zones.draft === null")
        assert page.is_hidden("#zone-form")
        assert page.url == address
        page.wait_for_selector("#view[data-frame]")


def test_long_names_fit_a_narrow_phone(address: str, browser: Any, client: Client, pond: Pond) -> None:
    frame = client.snapshot("pond", pin_s=60).frame
    client.add("pond", frame=frame, points=[pond.inside(frame, 1)], label="W" * 256)
    client.set_zone("pond", "w" * 64, ZoneConfig(polygon=[(20, 20), (200, 20), (200, 200)]))
    with looking(browser, f"{address}s/pond", viewport={"width": 320, "height": 700}) as page:
        page.wait_for_selector("#zones li")
        page.wait_for_selector(".object .name:has-text('WWW')")
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
        assert page.locator(".object").bounding_box()["height"] < 300
    client.remove_zone("pond", "w" * 64)
