"""What the page says: where a picture is not what happens now, and of events.

On a wall nobody looks at figures: an old picture is never shown as if it were live.
"""

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from helpers.pages import app, open_page, page_server, until
from helpers.tracking import Talk, blobs, configuration, serving

pytestmark = pytest.mark.browser


@pytest.fixture(scope="module")
def film(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return blobs(tmp_path_factory.mktemp("film") / "film.mp4")


@pytest.fixture(scope="module")
def talk(film: Path) -> Iterator[Talk]:
    stream = {"url": str(film), "loop": True}
    allowed = {"allow_sources": [f"{film.parent}/*"]}
    with serving(configuration(streams={"cam": stream, "other": stream}, control=allowed)) as talk:
        yield talk


@pytest.fixture(scope="module")
def address(talk: Talk) -> Iterator[str]:
    with page_server(talk.daemon.control.endpoint) as address:
        yield address


@pytest.fixture(scope="module")
def page(address: str, browser: Any) -> Iterator[Any]:
    """Shared by those who leave it as it was."""
    with open_page(browser, f"{address}s/cam") as page:
        page.wait_for_selector("#view[data-frame]")
        yield page


@pytest.mark.parametrize("query", ["", "?kiosk"])
def test_a_stream_that_is_paused_is_called_so_with_the_age_of_its_picture(
    address: str, browser: Any, talk: Talk, query: str
) -> None:
    with open_page(browser, f"{address}s/cam{query}") as page:
        page.wait_for_selector("#view[data-frame]")
        page.wait_for_selector("#notice", state="hidden")
        talk.ask("streams.pause", stream="cam")
        page.wait_for_selector("#notice:has-text('Paused')")
        page.wait_for_selector("#notice-age:has-text('this picture is')")
        until(page, "!document.querySelector('#title').textContent.includes(' ms')")
        until(page, "!app.tiles.tiles.get('cam').figures.textContent.includes(' ms')")
        talk.ask("streams.resume", stream="cam")
        page.wait_for_selector("#notice", state="hidden")


def test_a_page_that_comes_to_a_paused_stream_knows_how_old_its_picture_is(
    address: str, browser: Any, talk: Talk
) -> None:
    talk.ask("streams.pause", stream="cam")
    with open_page(browser, f"{address}s/cam") as page:
        page.wait_for_selector("#notice-age:has-text(' s old')")
    talk.ask("streams.resume", stream="cam")


def test_a_live_stream_of_which_nothing_comes(address: str, browser: Any) -> None:
    with open_page(browser, f"{address}s/cam?kiosk") as page:
        page.wait_for_selector("#view[data-frame]")
        # Whatever holds them up, and has for a minute.
        app(page, "(app.link.handlers.picture = () => {}, app.notice.shownMs -= 60_000)")
        page.wait_for_selector("#notice:has-text('No new pictures come')")


def test_an_earlier_frame_that_is_held_is_not_called_old(address: str, browser: Any, talk: Talk) -> None:
    with open_page(browser, f"{address}s/cam") as page:
        page.wait_for_selector("#view[data-frame]")
        page.keyboard.press("f")
        talk.ask("streams.pause", stream="cam")
        page.wait_for_selector("[data-stream=cam] .state[data-state=paused]")
        assert not page.is_visible("#notice")
        talk.ask("streams.resume", stream="cam")


def test_a_wall_says_that_its_stream_is_not_there(address: str, browser: Any) -> None:
    with open_page(browser, f"{address}s/nope?kiosk") as page:
        page.wait_for_selector("#no-streams:has-text('There is no stream nope.')")


def test_a_wall_shows_no_other_camera_instead_of_its_own_which_may_come_back(
    address: str, browser: Any, talk: Talk, film: Path
) -> None:
    with open_page(browser, f"{address}s/other?kiosk") as page:
        page.wait_for_selector("#view[data-frame]")
        talk.ask("streams.remove", stream="other")
        page.wait_for_selector("#no-streams:has-text('There is no stream other.')")
        assert page.url.endswith("/s/other?kiosk")
        talk.ask("streams.add", stream="other", url=str(film), loop=True)
        page.wait_for_selector("#view[data-frame]")
        page.wait_for_selector("#no-streams", state="hidden")


@pytest.mark.usefixtures("later")
@pytest.mark.parametrize("query", ["", "?kiosk"])
def test_a_stream_that_never_gave_a_picture_says_why(address: str, browser: Any, query: str) -> None:
    with open_page(browser, f"{address}s/later{query}") as page:
        page.wait_for_selector("#notice-why:has-text('The stream has failed')")
        error = "#notice-error" if query else "#stream-error"
        page.wait_for_selector(f"{error}:has-text('later.mp4: no such file')")


def test_a_stream_that_failed_or_is_over_can_be_started_again(
    address: str, browser: Any, film: Path, later: Path
) -> None:
    with open_page(browser, f"{address}s/later") as page:
        page.wait_for_selector("#pause:has-text('Try again')")
        shutil.copy(film, later)
        page.click("#pause")
        page.click("#pause:has-text('Play again')")
        page.wait_for_selector("[data-stream=later] .state[data-state=live]")


@pytest.fixture
def later(talk: Talk, film: Path) -> Iterator[Path]:
    """The file of the stream `later`, which is not there yet."""
    path = film.with_name("later.mp4")
    talk.ask("streams.add", stream="later", url=str(path))
    yield path
    talk.ask("streams.remove", stream="later")
    path.unlink(missing_ok=True)


def test_an_address_that_is_no_text(address: str, browser: Any) -> None:
    with open_page(browser, f"{address}s/%E0%A4%A") as page:
        page.wait_for_selector("#no-streams:has-text('There is no stream')")


def test_a_message_goes_when_it_is_clicked_on(page: Any) -> None:
    script = """import('/static/dom.js').then(({ toast }) => {
        toast("in the way");
        const notes = [...document.querySelectorAll(".toast")];
        const note = notes.find(({ textContent }) => textContent === "in the way");
        note.click();
        return note.isConnected;
    })"""
    assert page.evaluate(script) is False


AGES = [(0, "0 s"), (89, "89 s"), (90, "2 min"), (3600, "60 min"), (7200, "2 h"), (259_200, "3 days"), (-1, "0 s")]


def test_ages_are_said_in_the_unit_that_fits(page: Any) -> None:
    seconds = [age_s for age_s, _ in AGES]
    said = page.evaluate(f"import('/static/notice.js').then(({{ lasting }}) => {seconds}.map(lasting))")
    assert said == [words for _, words in AGES]


def test_a_delay_is_never_negative(page: Any) -> None:
    said = page.evaluate(
        "import('/static/wording.js').then(({ milliseconds }) => [-0.003, 0.0304].map(milliseconds))"
    )
    assert said == ["0 ms", "30 ms"]


def test_one_frame_is_one(page: Any) -> None:
    said = page.evaluate("import('/static/wording.js').then(({ frames }) => [0, 1, 17].map(frames))")
    assert said == ["0 frames", "1 frame", "17 frames"]


SENTENCES: list[tuple[dict[str, Any], str]] = [
    ({"event": "zone_entered", "object": 1, "label": "koi", "zone": "reeds"}, "1 “koi” entered reeds"),
    ({"event": "zone_left", "object": 1, "label": None, "zone": "reeds", "dwell_s": 4.4}, "1 left reeds after 4 s"),
    ({"event": "loitering", "object": 1, "zone": "reeds", "dwell_s": 60.1}, "1 has been in reeds for 60 s"),
    ({"event": "line_crossed", "object": 2, "zone": "gate", "direction": "to_left"}, "2 crossed gate to the left"),
    (
        {"event": "line_crossed", "object": 2, "zone": "gate", "direction": "to_right"},
        "2 crossed gate to the right",
    ),
    ({"event": "looks_like", "object": 3, "watch": 1, "message": "the koi"}, "3 looks like the koi"),
    ({"event": "object_added", "object": 3, "label": "koi"}, "object added 3 “koi”"),
    ({"event": "stream_down", "message": "nothing listens"}, "stream down: nothing listens"),
]


@pytest.mark.parametrize(("event", "wanted"), SENTENCES)
def test_an_event_is_a_sentence(page: Any, event: dict[str, Any], wanted: str) -> None:
    said = page.evaluate("(event) => import('/static/wording.js').then(({ sentence }) => sentence(event))", event)
    assert said == wanted


def test_an_event_of_another_day_has_its_day(page: Any) -> None:
    script = """import('/static/wording.js').then(({ moment }) => {
        const now = new Date(2026, 10, 26, 9, 0);
        return [new Date(2026, 10, 26, 8, 5, 7), new Date(2026, 10, 25, 8, 5, 7)].map((date) => moment(date, now));
    })"""
    today, yesterday = page.evaluate(script)
    assert "25" not in today
    assert "07" in today
    assert "25" in yesterday


def test_two_zones_that_are_entered_on_one_frame_are_both_told(page: Any) -> None:
    event = "{ event: 'zone_entered', stream: 'cam', object: 1, frame: 4, time: 5, zone }"
    app(page, f"['east', 'west'].forEach((zone) => app.event({event}))")
    told = page.locator("#events li").all_inner_texts()
    assert [zone for zone in ("east", "west") if any(f"entered {zone}" in words for words in told)] == [
        "east",
        "west",
    ]


SILENCED = """(async () => {
    app.daemon({ info: null, message: "away" });
    const places = ["[data-stream=cam] .state", "#notice-why"];
    const words = places.map((place) => document.querySelector(place).textContent);
    const refusal = await app.link.call("streams.list").catch((error) => error.message);
    return [...words, refusal];
})()"""


def test_without_a_daemon_nothing_is_called_live_and_requests_are_refused_at_once(
    address: str, browser: Any
) -> None:
    with open_page(browser, f"{address}s/cam") as page:
        page.wait_for_selector("#view[data-frame]")
        said = app(page, SILENCED)  # at one moment: the true daemon's next status says the opposite
    assert said == ["no connection", "No connection to the daemon", "the daemon does not answer"]
