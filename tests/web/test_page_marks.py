"""Marks belong to the picture that is seen, whatever is done while they stand: steps, a search, a correction, a box
by keys. The daemon is real; what the model would answer is said in the page, so that it can be told when."""

from collections.abc import Iterator
from typing import Any

import pytest

from helpers.pages import app, at, open_page, page_server, until
from helpers.tracking import Talk, blobs, configuration, serving, wait_until

pytestmark = pytest.mark.browser

RESTING_XY = (120, 90)  # the middle of a blob that does not move
BUFFERED = 12  # so many frames are there to step through

# A square around the resting blob, whose first x says on which frame it was asked for; `app.later` answers wait.
MODEL = """(() => {
    const real = app.link.call.bind(app.link);
    const square = (frame) => [[[frame, 80, 130, 80, 130, 100, frame, 100]]];
    const answers = {
        "segment.prompt": ({ frame }) => ({
            candidates: [0.9, 0.5].map((score) => ({ outline: square(frame), score })),
        }),
        "segment.all": () => ({ masks: [{ outline: square(110), area: 400 }] }),
        "segment.cancel": () => ({}),
        "objects.add": ({ frame }) => ({ object: 1, frame }),
    };
    Object.assign(app, { asked: [], late: [], later: new Set() });
    app.link.call = (op, args, late) => {
        if (!(op in answers)) return real(op, args, late);
        app.asked.push({ op, ...args });
        if (!app.later.has(op)) return Promise.resolve(answers[op](args));
        return new Promise((resolve) => app.late.push(() => resolve(answers[op](args))));
    };
})()"""
STEPS = {
    "key": lambda page: page.keyboard.press(","),
    "button": lambda page: page.click("#back"),
    "slider": lambda page: page.locator("#buffer").evaluate(
        "(slider) => { slider.value -= 1; slider.dispatchEvent(new Event('input')); }"
    ),
}


@pytest.fixture(scope="module")
def talk(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Talk]:
    film = blobs(tmp_path_factory.mktemp("film") / "film.mp4")
    with serving(configuration(streams={"cam": {"url": str(film), "loop": True, "fps": 5}})) as talk:
        yield talk


@pytest.fixture(scope="module")
def address(talk: Talk) -> Iterator[str]:
    with page_server(talk.daemon.control.endpoint) as address:
        yield address


@pytest.fixture
def page(address: str, browser: Any) -> Iterator[Any]:
    with open_page(browser, f"{address}s/cam") as page:
        page.wait_for_selector("#view[data-frame]")
        until(page, f"app.view.picture.frame > {BUFFERED}")
        app(page, MODEL)
        yield page


def marked(page: Any) -> int:
    """A point on the resting blob, and two candidates; the frame that they are of."""
    page.mouse.click(*at(page, *RESTING_XY))
    until(page, "!app.prompt.waiting && app.prompt.candidates.length === 2")
    return int(app(page, "app.hold.frame"))


def frames_asked(page: Any, op: str) -> list[int]:
    frames: list[int] = app(page, f"app.asked.filter((asked) => asked.op === '{op}').map(({{ frame }}) => frame)")
    return frames


def answer(page: Any) -> None:
    """What was asked for is answered now, and what comes from now on at once."""
    app(page, "(app.later.clear(), app.late.splice(0).forEach((tell) => tell()))")


@pytest.mark.parametrize("way", STEPS)
def test_marks_are_asked_about_again_on_the_frame_that_is_stepped_to(page: Any, way: str) -> None:
    frame = marked(page)
    STEPS[way](page)
    until(page, f"app.view.picture.frame === {frame - 1}")
    until(page, "!app.prompt.waiting && app.prompt.candidates.length === 2")
    assert frames_asked(page, "segment.prompt") == [frame, frame - 1]
    page.keyboard.press("2")
    page.locator("#accept").click()
    until(page, "app.prompt.added && !app.hold.held")
    (tracked,) = app(page, "app.asked.filter(({ op }) => op === 'objects.add')")
    assert (tracked["stream"], tracked["frame"]) == ("cam", frame - 1)
    assert tracked["drawing"]["outline"][0][0][0] == frame - 1  # as it was seen there


def test_no_candidate_of_another_frame_can_be_tracked_while_the_model_is_asked(page: Any) -> None:
    frame = marked(page)
    page.keyboard.press("2")
    app(page, "(app.later.add('segment.prompt'), 0)")
    page.keyboard.press(",")
    until(page, f"app.view.picture.frame === {frame - 1}")
    assert app(page, "[app.prompt.candidates.length, app.prompt.points.length]") == [0, 1]
    assert page.text_content("#hint") == "Asking the model…"
    page.keyboard.press("2")  # there is none to choose
    page.keyboard.press("Enter")
    until(page, "app.prompt.added")
    tracked = app(page, "app.asked.at(-1)")
    assert (tracked["frame"], "drawing" in tracked) == (frame - 1, False)


@pytest.mark.parametrize(("steps", "last"), [((-1, -1, -1), -3), ((-1, -1, 1), -1)])
def test_of_frames_that_pass_by_only_the_last_is_asked_about(page: Any, steps: tuple[int, ...], last: int) -> None:
    """Also where it is the one whose answer is awaited: that one was given up."""
    frame = marked(page)
    app(page, "(app.later.add('segment.prompt'), 0)")
    shown = frame
    for step in steps:
        app(page, f"(app.hold.step({step}), 0)")
        shown += step
        until(page, f"app.view.picture.frame === {shown} && app.hold.target === null")
    answer(page)
    until(page, "!app.prompt.waiting && app.prompt.candidates.length === 2")
    assert frames_asked(page, "segment.prompt") == [frame, frame - 1, frame + last]
    assert app(page, "app.prompt.candidates[0].outline[0][0][0]") == frame + last


def test_a_step_while_an_object_is_added_leaves_no_marks_to_add_it_again(page: Any) -> None:
    frame = marked(page)
    app(page, "(app.later.add('objects.add'), 0)")
    page.keyboard.press("Enter")
    page.keyboard.press(",")
    until(page, f"app.view.picture.frame === {frame - 1}")
    answer(page)
    until(page, "!app.prompt.active && !app.hold.held")


@pytest.mark.parametrize("way", STEPS)
def test_what_was_found_in_a_picture_goes_with_it(page: Any, way: str) -> None:
    page.keyboard.press("a")
    until(page, "app.everything.masks.length")
    page.mouse.click(*at(page, *RESTING_XY))
    assert page.text_content("#accept") == "Track 1"
    frame = app(page, "app.hold.frame")
    STEPS[way](page)
    until(page, f"app.view.picture.frame === {frame - 1}")
    assert app(page, "[app.everything.active, app.everything.picked.size, app.hold.held]") == [False, 0, True]
    assert page.is_disabled("#accept")


def test_a_search_ends_with_the_picture_that_it_is_of(page: Any) -> None:
    app(page, "(app.later.add('segment.all'), 0)")
    page.keyboard.press("a")
    until(page, "app.everything.job !== null")
    frame = app(page, "app.hold.frame")
    page.keyboard.press(",")
    until(page, f"app.view.picture.frame === {frame - 1}")
    answer(page)
    until(page, "app.asked.at(-1).op === 'segment.cancel'")
    assert app(page, "[app.everything.active, app.hold.held]") == [False, True]


def test_a_search_drops_open_marks_and_what_is_picked_is_tracked_on_its_frame(page: Any) -> None:
    frame = marked(page)
    page.keyboard.press("a")
    until(page, "app.everything.masks.length")
    assert app(page, "[app.prompt.active, app.hold.frame]") == [False, frame]
    page.mouse.click(*at(page, *RESTING_XY))
    assert page.text_content("#accept") == "Track 1"
    page.keyboard.press("Enter")
    until(page, "!app.everything.active && !app.hold.held")
    (tracked,) = app(page, "app.asked.filter(({ op }) => op === 'objects.add')")
    assert (tracked["stream"], tracked["frame"], "drawing" in tracked) == ("cam", frame, True)


def test_no_box_is_begun_by_key_over_what_was_found(page: Any) -> None:
    page.keyboard.press("a")
    until(page, "app.everything.masks.length")
    page.focus("#view")
    for key in ("ArrowRight", "b", "ArrowDown", "ArrowRight", "b"):
        page.keyboard.press(key)
    assert app(page, "[app.prompt.active, app.prompt.corner, app.everything.active]") == [False, None, True]


def test_a_correction_drops_what_was_found(page: Any, talk: Talk) -> None:
    added = talk.ask("objects.add", stream="cam", points=[RESTING_XY])["object"]
    page.keyboard.press("a")
    until(page, "app.everything.masks.length")
    frame = app(page, "app.hold.frame")
    page.click(f".object[data-object='{added}'] button:has-text('Correct')")
    assert app(page, "[app.everything.active, app.prompt.correcting, app.hold.frame]") == [False, added, frame]
    talk.ask("objects.remove", stream="cam", object=added)


@pytest.mark.parametrize("left_by", ["Escape", "Enter", "blur"])
def test_a_box_that_is_begun_by_key_goes_with_the_marks(page: Any, left_by: str) -> None:
    marked(page)
    page.focus("#view")
    for key in ("ArrowRight", "b", "ArrowDown"):
        page.keyboard.press(key)
    assert app(page, "app.prompt.dragged") is not None
    if left_by == "blur":
        page.focus("#help")
    else:
        page.keyboard.press(left_by)
        until(page, "!app.hold.held")
    page.focus("#view")
    page.keyboard.press("ArrowDown")
    assert app(page, "[app.prompt.corner, app.prompt.dragged]") == [None, None]


@pytest.mark.parametrize("begun_by", ["click", "a", "f"])
def test_marks_go_where_the_daemon_was_restarted(page: Any, begun_by: str) -> None:
    """It has no frame of before, and may give its number to another picture."""
    if begun_by == "click":
        marked(page)
    else:
        page.keyboard.press(begun_by)
    if begun_by == "a":
        until(page, "app.everything.masks.length")
    until(page, "app.instance !== null && app.hold.held")
    states = "app.prompt.active, app.everything.active, app.hold.held"
    # At one moment: the daemon's own next message says another run again.
    assert app(page, f"(app.heard({{ instance: 'another' }}), [{states}])") == [False, False, False]
    page.wait_for_selector(".toast:has-text('the picture that was held is gone')")


def test_a_frame_that_comes_once_another_picture_is_held_is_not_shown(page: Any) -> None:
    waiting: list[Any] = []
    pinning = "max_width=16"  # these requests show nothing
    page.route(
        "**/frames/cam/*",
        lambda route: route.continue_() if pinning in route.request.url else waiting.append(route),
    )
    page.keyboard.press("f")
    before = app(page, "app.hold.frame")
    page.keyboard.press(",")
    until(page, f"app.hold.target === {before - 1}")
    page.keyboard.press("Escape")
    until(page, f"app.view.picture.frame > {before}")
    page.keyboard.press("f")
    held = app(page, "app.hold.frame")
    wait_until(lambda: app(page, "true") and waiting)
    (late,) = waiting
    late.continue_()
    app(page, "app.hold.steps")  # until it has come
    assert app(page, "[app.hold.frame, app.view.picture.frame]") == [held, held]


def test_a_name_stands_at_the_largest_part_of_an_object_not_at_a_speck(page: Any) -> None:
    outline = [[[4, 2, 6, 2, 6, 4, 4, 4]], [[90, 60, 150, 60, 150, 110, 90, 110]]]
    record = {"object": 1, "label": "koi", "box": [4, 2, 150, 110], "outline": outline}
    app(page, "(app.named = [], app.view.caption = (...given) => app.named.push(given))")
    app(page, f"app.view.drawObject({record}, 1)")
    assert app(page, "app.named[0].slice(0, 3)") == ["1 koi", 90, 60]


@pytest.mark.parametrize("box", [[80, 60, 160, 120], [120, 90, 160, 120], [0, 0, 5, 5]])
def test_an_object_that_is_jumped_to_leaves_no_side_of_the_canvas_empty(page: Any, box: list[int]) -> None:
    app(page, f"(app.view.zoomTo({box}), true)")
    half = 0.5 / app(page, "app.view.zoom")
    assert all(half <= place <= 1 - half for place in app(page, "app.view.centre"))
