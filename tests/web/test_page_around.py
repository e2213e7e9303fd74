"""Around the picture: objects, streams, several browsers, and what happens when a server goes away."""

import socket
from contextlib import ExitStack
from typing import Any

import pytest
from websockets.sync.client import connect
from websockets.typing import Origin

from helpers.pages import app, open_page, page_server, until
from helpers.pond_page import Pond, click, frozen, looking, previewed, visible
from helpers.tracking import PATIENCE_S, wait_until
from tracker.client import Client
from tracker.web.app import MAX_VIEWERS

pytestmark = [pytest.mark.browser, pytest.mark.usefixtures("preloaded", "client")]

HOSTILE = '<img src=x onerror="document.title=1">'


@pytest.fixture
def unused_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as bound:
        port: int = bound.getsockname()[1]
    return port


def test_rename_and_remove_and_a_hostile_name_is_text(
    address: str, browser: Any, client: Client, pond: Pond
) -> None:
    with looking(browser, address) as page:
        frame = client.snapshot("pond").frame
        added = client.add("pond", frame=frame, points=[pond.inside(frame, 1)])
        page.click(f"[aria-label='Rename object {added.object}']")
        page.keyboard.type(HOSTILE)
        page.keyboard.press("Enter")
        wait_until(lambda: client.objects("pond").objects[0].label == HOSTILE)
        page.wait_for_selector(f".name:text-is('{added.object} {HOSTILE}')")
        assert page.query_selector("#objects img, #events img") is None
        assert page.title() == "pond · tracker"
        page.click(f"[aria-label='Remove object {added.object}']")
        page.wait_for_selector("#no-objects")
        assert client.objects("pond").objects == []
        page.wait_for_selector("#events li:has-text('object removed')")
        assert page.query_selector("#events img") is None


def test_two_browsers_see_the_same(address: str, browser: Any, pond: Pond) -> None:
    with looking(browser, address) as one, looking(browser, f"{address}s/pond") as other:
        frame = frozen(one, pond, 1)
        click(one, pond.inside(frame, 1))
        previewed(one)
        one.keyboard.press("Enter")
        other.wait_for_selector(".object[data-object]")
        assert visible(other) == visible(one)


def test_streams_are_paused_and_refusals_are_shown_as_worded(address: str, browser: Any) -> None:
    with looking(browser, address) as page:
        page.click("#pause")
        page.wait_for_selector(".state[data-state='paused']")
        page.click("#pause:has-text('Resume')")
        page.wait_for_selector(".state[data-state='live']")
        page.click("#add-stream")
        page.fill("#stream-form [name=name]", "other")
        page.fill("#stream-form [name=url]", "rtsp://127.0.0.1:1/x")
        page.click("#stream-form .main")
        page.wait_for_selector("#stream-form .refusal:has-text('allow_sources')")
        page.keyboard.press("Escape")


def test_words_without_clip_say_what_is_missing_and_where_it_is_named(address: str, browser: Any) -> None:
    with looking(browser, address) as page:
        page.fill("#similar-text", "a fish")
        page.keyboard.press("Enter")
        page.wait_for_selector("#similar-status:has-text('labels.model')")
        said = page.inner_text("#similar-status")
        assert said.startswith("words cannot")  # and not with a request's field, which nobody typed
        for words in ("a model that compares words with pictures", "configuration file", "start it again"):
            assert words in said


def test_a_link_to_a_stream_that_is_not_there_says_so(address: str, browser: Any) -> None:
    with open_page(browser, f"{address}s/nope") as page:
        page.wait_for_selector("#no-streams:has-text('There is no stream nope')")
        page.click(".tile")
        page.wait_for_selector("#view[data-frame]")
        page.wait_for_selector("#no-streams", state="hidden")


def test_an_address_that_is_no_page_leads_back(address: str, browser: Any) -> None:
    with open_page(browser, f"{address}nowhere") as page:
        page.wait_for_selector("h2:has-text('There is no page at this address')")
        page.keyboard.press("Tab")
        page.keyboard.press("Enter")
        page.wait_for_selector("#view[data-frame]")


def test_a_kiosk_shows_only_the_picture(address: str, browser: Any) -> None:
    with looking(browser, f"{address}s/pond?kiosk") as page:
        assert not page.is_visible("header")
        assert not page.is_visible("#objects")
        box = page.locator("#view").bounding_box()
        assert (box["width"], box["height"]) == (1280, 800)


def test_the_daemon_is_killed_and_comes_back(address: str, browser: Any, pond: Pond) -> None:
    with looking(browser, address) as page:
        app(page, "(app.everything.find(), 0)")  # a search that nobody will answer
        pond.process.kill()
        pond.process.wait()
        page.wait_for_selector("#banner:has-text('does not answer')", timeout=8000)
        assert app(page, "app.view.picture !== null")  # the last picture stays
        pond.process = pond.start()
        page.wait_for_selector("#banner", state="hidden")
        until(page, "app.everything.job === null")
        frame = app(page, "app.view.picture.frame")
        until(page, f"app.view.picture.frame > {frame} || app.view.picture.frame < 100")
        moving = app(page, "app.drawnFrames")
        until(page, f"app.drawnFrames > {moving} + 5")


def test_the_pages_server_restarts_and_what_was_marked_is_still_there(
    browser: Any, pond: Pond, unused_port: int
) -> None:
    listen = f"127.0.0.1:{unused_port}"
    with ExitStack() as stack, page_server(pond.control, listen=listen) as address:
        page = stack.enter_context(looking(browser, address))
        frame = frozen(page, pond, 1)
        click(page, pond.inside(frame, 1))
        previewed(page)
        still_open = stack.pop_all()
    with still_open:
        page.wait_for_selector("#banner:has-text('server does not answer')")
        with page_server(pond.control, listen=listen):
            page.wait_for_selector("#banner", state="hidden")
            assert len(app(page, "app.prompt.points")) == 1
            page.keyboard.press("Enter")
            page.wait_for_selector(".object[data-object]")


def test_a_page_too_many_says_why_and_asks_ever_more_rarely(browser: Any, pond: Pond) -> None:
    with page_server(pond.control) as address, ExitStack() as stack:
        place, origin = f"{address.replace('http', 'ws')}ws", Origin(address.rstrip("/"))
        for _ in range(MAX_VIEWERS):
            # Nobody reads what comes: it is kept, so that the library goes on answering.
            other = stack.enter_context(connect(place, origin=origin, proxy=None, max_queue=None))
            other.recv(timeout=PATIENCE_S)  # so it is counted
        with open_page(browser, address) as page:
            page.wait_for_selector(f"#banner:has-text('{MAX_VIEWERS} pages are open already')")
            until(page, "app.link.failures > 3")
            other.close()
            page.wait_for_selector("#banner", state="hidden")
            assert app(page, "app.link.failures") == 0


def test_what_a_page_keeps_is_bounded(address: str, browser: Any) -> None:
    """However long it is open: messages to the user, events that were told, hits of watched looks."""
    many = "Array.from({ length: 3000 }, (_, k) => k)"
    with looking(browser, address) as page:
        page.evaluate(
            "import('/static/dom.js').then(({ toast }) => [1, 2, 3, 4, 5, 5, 6].forEach((k) => toast(`no ${k}`)))"
        )
        assert page.locator(".toast").all_inner_texts() == ["no 3", "no 4", "no 5", "no 6"]
        event = "{ event: 'looks_like', stream: 'pond', object: k, frame: k, time: k, watch: k }"
        app(page, f"(app.watchList.load = () => {{}}, {many}.forEach((k) => app.event({event})))")
        assert app(page, "app.events.list.children.length") <= 200
        assert app(page, "app.events.known.size") <= 2000
        assert app(page, "app.watchList.hits.size") <= 512


def test_a_search_of_a_daemon_that_was_restarted_is_lost(address: str, browser: Any) -> None:
    with looking(browser, address) as page:
        until(page, "app.instance")
        app(page, "(app.everything.job = 'page-1', app.heard({ instance: 'another' }))")
        page.wait_for_selector(".toast:has-text('the search is lost')")
        assert app(page, "app.everything.active") is False
