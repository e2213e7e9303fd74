"""Small forms wait for the daemon: what was typed stays until it has agreed, and a refusal stands beside it."""

import queue
from collections.abc import Iterator
from typing import Any, NamedTuple

import cv2
import numpy as np
import pytest
from msgspec import structs

from helpers.fake_daemon import STREAM, FakeDaemon
from helpers.pages import app, open_page, page_server
from tracker.errors import AtCapacity
from tracker.protocol.records import BufferRecord
from tracker.protocol.replies import FrameImage, StreamList
from tracker.sockets.request import Request
from tracker.web.operations import LATE

pytestmark = pytest.mark.browser

SIZE_WH = (64, 48)
REFUSAL = "the daemon has no room for that now"
ASKED_S = 30
# A daemon that is slow to answer, as on a busy machine, is called silent for a moment: not here.
ALWAYS_ASKED = "(Object.defineProperty(app.link, 'answers', { get: () => true, set: () => {} }), 0)"


class Form(NamedTuple):
    op: str
    opened_by: tuple[str, ...]  # what is clicked on
    place: str
    typed: dict[str, str]  # field -> words


RENAME = Form("objects.update", ("[aria-label='Rename object 7']",), ".rename", {"input": "the white koi"})
ADD = Form("streams.add", ("#add-stream",), "#stream-form", {"[name=name]": "cam9", "[name=url]": "rtsp://cam9/"})
REMOVE = Form("streams.remove", ("#remove-stream",), "#confirm-form", {})
WATCH = Form("watch.add", (".object .choose", "#watch-begin"), "#watch-form", {"[name=look]": "the koi"})
LINE = Form("zones.set", ("#zone-line",), "#zone-form", {"[name=zone]": "inlet", "#zone-points": "1,1 9,9"})
ZONE = Form("zones.set", ("#zone-polygon",), "#zone-form", {"[name=zone]": "reeds", "#zone-points": "1,1 9,1 9,9"})
FORMS = [RENAME, ADD, REMOVE, WATCH, LINE, ZONE]


@pytest.fixture
def daemon() -> Iterator[FakeDaemon]:
    daemon = FakeDaemon()
    picture_hwc = np.full((SIZE_WH[1], SIZE_WH[0], 3), 90, np.uint8)
    data = cv2.imencode(".jpg", picture_hwc)[1].tobytes()
    daemon.answers["frames.get"] = FrameImage(
        stream="cam1", frame=5, time=1.0, size=SIZE_WH, format="jpeg", data=data
    )
    paused = structs.replace(STREAM, state="paused", buffer=BufferRecord(oldest=5, newest=5))
    daemon.answers["streams.list"] = StreamList(streams=[paused])
    yield daemon
    daemon.stop()


@pytest.fixture
def page(daemon: FakeDaemon, browser: Any) -> Iterator[Any]:
    with page_server(daemon.control.endpoint) as address, open_page(browser, f"{address}s/cam1") as page:
        page.wait_for_selector("#view[data-frame]")
        page.wait_for_selector(".object")
        app(page, ALWAYS_ASKED)
        yield page


def filled(page: Any, form: Form) -> None:
    for selector in form.opened_by:
        page.click(selector)
    for field, words in form.typed.items():
        page.fill(f"{form.place} {field}", words)


def submit(page: Any, form: Form) -> None:
    page.click(f"{form.place} button:not([type=button])")


def asked(daemon: FakeDaemon, op: str) -> Request:
    while (request := daemon.asked.get(timeout=ASKED_S)).op != op:
        pass
    return request


def asked_since(daemon: FakeDaemon) -> Iterator[str]:
    while True:
        try:
            yield daemon.asked.get_nowait().op
        except queue.Empty:
            return


def words_in(page: Any, form: Form) -> dict[str, str]:
    return {field: page.input_value(f"{form.place} {field}") for field in form.typed}


def unanswered(daemon: FakeDaemon, page: Any, form: Form) -> tuple[Request, Any]:
    """A form sent to a daemon that has not answered, and what it would answer."""
    agreed, daemon.answers[form.op] = daemon.answers[form.op], None
    filled(page, form)
    submit(page, form)
    return asked(daemon, form.op), agreed


@pytest.mark.parametrize("form", FORMS)
def test_a_form_stays_with_what_was_typed_until_the_daemon_agrees(
    daemon: FakeDaemon, page: Any, form: Form
) -> None:
    request, agreed = unanswered(daemon, page, form)
    submit(page, form)  # which asks nothing while an answer is waited for
    assert page.is_visible(form.place)
    request.fail(AtCapacity(REFUSAL))
    page.wait_for_selector(f"{form.place} .refusal:text-is('{REFUSAL}')")
    assert words_in(page, form) == form.typed
    assert form.op not in asked_since(daemon)
    submit(page, form)
    asked(daemon, form.op).reply(agreed)
    page.wait_for_selector(form.place, state="hidden")
    page.click(form.opened_by[-1])
    page.wait_for_selector(form.place)
    assert page.is_hidden(f"{form.place} .refusal")  # of the last time


@pytest.mark.parametrize("form", FORMS)
def test_a_refusal_that_comes_when_the_form_was_left_is_still_said(
    daemon: FakeDaemon, page: Any, form: Form
) -> None:
    request, _ = unanswered(daemon, page, form)
    if form is RENAME:
        page.press(f"{form.place} input", "Escape")
    else:
        page.click(f"{form.place} [type=button]")
    page.wait_for_selector(form.place, state="hidden")
    request.fail(AtCapacity(REFUSAL))
    page.wait_for_selector(f".toast.stays span:text-is('{REFUSAL}')")


BUTTONS = {
    "streams.resume": "#pause",
    "objects.remove": "[aria-label='Remove object 7']",
    "zones.remove": "[aria-label='Remove zone gate']",
    "watch.remove": "[aria-label='Wait no longer for truck']",
}


@pytest.mark.parametrize("op", BUTTONS)
def test_a_button_asks_once_and_its_refusal_stays_until_it_is_closed(
    daemon: FakeDaemon, page: Any, op: str
) -> None:
    daemon.answers[op] = None
    page.clock.install()
    for _ in range(2):
        page.click(BUTTONS[op])
    request = asked(daemon, op)
    assert app(page, "app.link.call('streams.list').then(() => true)")  # what was asked before has arrived
    assert op not in asked_since(daemon)
    request.fail(AtCapacity(REFUSAL))
    note = f".toast:has-text('{REFUSAL}')"
    page.wait_for_selector(note)
    page.clock.run_for(60_000)
    assert page.is_visible(note)
    page.click(f"{note} [aria-label=Close]")
    page.wait_for_selector(note, state="hidden")
    page.click(BUTTONS[op])  # it may be asked again
    asked(daemon, op)


@pytest.mark.parametrize("form", [ADD, RENAME])  # a dialog, and a form in a list
def test_what_is_not_answered_yet_is_called_so_and_the_late_answer_closes_the_form(
    daemon: FakeDaemon, page: Any, form: Form
) -> None:
    request, agreed = unanswered(daemon, page, form)
    page.wait_for_selector(f".refusal:text-is('{LATE}')")
    assert words_in(page, form) == form.typed
    submit(page, form)  # which asks nothing: it may be done still
    request.reply(agreed)
    page.wait_for_selector(form.place, state="hidden")
    assert form.op not in asked_since(daemon)


def test_an_answer_to_a_form_that_was_left_closes_no_other(daemon: FakeDaemon, page: Any) -> None:
    request, agreed = unanswered(daemon, page, ADD)
    page.click("#stream-cancel")
    filled(page, ADD)
    request.fail(AtCapacity(REFUSAL))
    page.wait_for_selector(".toast.alarming")  # the answer is there
    assert words_in(page, ADD) == ADD.typed
    assert page.is_hidden("#stream-form .refusal")
    submit(page, ADD)
    asked(daemon, "streams.add").reply(agreed)
    page.wait_for_selector("#stream-form", state="hidden")
