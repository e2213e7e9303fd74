"""Pointing by mouse, fingers and keys where it goes wrong easily: beside the picture, zoomed, on small screens."""

from collections.abc import Iterator
from fractions import Fraction
from typing import Any

import numpy as np
import pytest

from helpers.pages import app, at, open_page, page_server, until
from helpers.tracking import SIZE_WH, Talk, blobs, configuration, serving
from tracker.images.video_writer import VideoWriter

pytestmark = pytest.mark.browser

RESTING_XY = (120, 90)  # the middle of a blob that does not move
PHONE: dict[str, Any] = {"viewport": {"width": 390, "height": 844}, "is_mobile": True, "has_touch": True}
LYING: dict[str, Any] = {"viewport": {"width": 844, "height": 390}, "is_mobile": True, "has_touch": True}
ZOOMED = {"viewport": {"width": 720, "height": 450}}  # a window of 1440 pixels at 200 %
TALL_WH = (90, 160)


@pytest.fixture(scope="module")
def talk(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Talk]:
    folder = tmp_path_factory.mktemp("films")
    with VideoWriter(folder / "tall.mp4", TALL_WH, 10) as video:
        for shade in range(40):
            video.write(np.full((TALL_WH[1], TALL_WH[0], 3), 60 + shade, np.uint8))
    with VideoWriter(folder / "anamorphic.mp4", (64, 72), 10, Fraction(2)) as video:
        video.write(np.full((72, 64, 3), 90, np.uint8))
    urls = {"cam": blobs(folder / "film.mp4")} | {name: folder / f"{name}.mp4" for name in ("tall", "anamorphic")}
    with serving(
        configuration(streams={name: {"url": str(url), "loop": True} for name, url in urls.items()})
    ) as talk:
        yield talk


@pytest.fixture(scope="module")
def address(talk: Talk) -> Iterator[str]:
    with page_server(talk.daemon.control.endpoint) as address:
        yield address


def height(page: Any, selector: str) -> float:
    value: float = page.locator(selector).bounding_box()["height"]
    return value


def test_a_click_beside_the_picture_marks_nothing(address: str, browser: Any) -> None:
    with open_page(browser, f"{address}s/tall") as page:
        page.wait_for_selector("#view[data-frame]")
        box = page.locator("#view").bounding_box()
        page.mouse.click(box["x"] + 5, box["y"] + box["height"] / 2)
        assert app(page, "[app.hold.held, app.prompt.points.length]") == [False, 0]
        page.click("#zone-polygon")
        page.mouse.click(box["x"] + 5, box["y"] + box["height"] / 2)
        assert app(page, "app.zones.draft.points.length") == 0
        page.mouse.click(*at(page, -2, 80))  # so near that the edge is meant
        assert app(page, "app.zones.draft.points") == [[0, pytest.approx(80, abs=1)]]


def test_a_picture_whose_pixels_are_not_square_is_shown_in_shape_and_marked_where_it_is_clicked(
    address: str, browser: Any
) -> None:
    with open_page(browser, f"{address}s/anamorphic", **PHONE) as page:
        page.wait_for_selector("#view[data-frame]")
        box = page.locator("#view").bounding_box()
        assert box["width"] / box["height"] == pytest.approx(128 / 72, rel=0.02)
        assert at(page, 64, 72) == pytest.approx((box["x"] + box["width"], box["y"] + box["height"]), abs=2)
        page.touchscreen.tap(*at(page, 48, 60))
        until(page, "app.prompt.points.length === 1")
        assert app(page, "app.prompt.points[0]") == pytest.approx([48, 60], abs=0.6)


def test_the_middle_button_moves_a_zoomed_picture_and_marks_nothing(address: str, browser: Any) -> None:
    with open_page(browser, f"{address}s/cam") as page:
        page.wait_for_selector("#view[data-frame]")
        page.focus("#view")
        for _ in range(3):
            page.keyboard.press("+")
        before = app(page, "app.view.centre")
        x, y = at(page, SIZE_WH[0] / 2, SIZE_WH[1] / 2)
        page.mouse.move(x, y)
        page.mouse.down(button="middle")
        page.mouse.move(x + 60, y + 30, steps=3)
        page.mouse.up(button="middle")
        after = app(page, "app.view.centre")
        assert after[0] < before[0]
        assert after[1] < before[1]
        assert app(page, "[app.hold.held, app.prompt.points.length]") == [False, 0]


@pytest.mark.parametrize(
    ("key", "axis", "sign"), [("i", 1, -1), ("j", 0, -1), ("k", 1, 1), ("l", 0, 1), ("L", 0, 1)]
)
def test_keys_move_a_zoomed_picture_and_leave_the_cursor_where_it_is(
    address: str, browser: Any, key: str, axis: int, sign: int
) -> None:
    with open_page(browser, f"{address}s/cam") as page:
        page.wait_for_selector("#view[data-frame]")
        page.keyboard.press(key)
        assert app(page, "app.view.centre") == [0.5, 0.5]  # all of it is seen
        page.focus("#view")
        page.keyboard.press("ArrowLeft")
        page.keyboard.press("0")
        for _ in range(3):
            page.keyboard.press("+")
        before, cursor = app(page, "[app.view.centre, app.pointing.cursor]")
        page.keyboard.press(key)
        after = app(page, "app.view.centre")
        moved = [now - then for now, then in zip(after, before, strict=True)]
        assert moved[axis] * sign > 0
        assert moved[1 - axis] == 0
        assert app(page, "app.pointing.cursor") == cursor
        assert app(page, "[app.hold.held, app.prompt.points.length]") == [False, 0]
        for _ in range(40):
            page.keyboard.press(key)
        assert app(page, "app.view.centre")[axis] == (sign + 1) / 2  # its edge is in the middle


def test_keys_move_no_picture_while_a_name_is_typed(address: str, browser: Any) -> None:
    with open_page(browser, f"{address}s/cam") as page:
        page.wait_for_selector("#view[data-frame]")
        for _ in range(3):
            page.keyboard.press("+")
        page.click("#similar-text")
        page.keyboard.type("jkil")
        assert app(page, "app.view.centre") == [0.5, 0.5]
        assert page.input_value("#similar-text") == "jkil"


def test_keys_of_the_browser_stay_the_browsers(address: str, browser: Any) -> None:
    with open_page(browser, f"{address}s/cam") as page:
        page.wait_for_selector("#view[data-frame]")
        page.focus("#view")
        page.keyboard.press("ArrowLeft")
        before = app(page, "app.pointing.cursor")
        for keys in ("Control+x", "Control+b", "Alt+ArrowLeft", "Alt+x"):
            page.keyboard.press(keys)
        assert app(page, "[app.pointing.cursor, app.prompt.corner, app.prompt.labels]") == [before, None, []]


def test_an_object_that_somebody_removes_is_corrected_no_longer(address: str, browser: Any, talk: Talk) -> None:
    added = talk.ask("objects.add", stream="cam", points=[RESTING_XY])["object"]
    with open_page(browser, f"{address}s/cam") as page:
        page.click(f".object[data-object='{added}'] button:has-text('Correct')")
        assert app(page, "app.prompt.correcting") == added
        talk.ask("objects.remove", stream="cam", object=added)
        page.wait_for_selector(f".toast:has-text('object {added} was removed')")
        assert app(page, "[app.prompt.correcting, app.hold.held, app.view.selected]") == [None, False, None]
        assert page.is_disabled("#watch-begin")


def test_a_name_has_room_while_it_is_typed(address: str, browser: Any, talk: Talk) -> None:
    added = talk.ask("objects.add", stream="cam", points=[RESTING_XY])["object"]
    with open_page(browser, f"{address}s/cam") as page:
        page.click(f"[aria-label='Rename object {added}']")
        row, field = (page.locator(where).bounding_box()["width"] for where in (".object", ".rename input"))
        assert field > row / 3
    talk.ask("objects.remove", stream="cam", object=added)


@pytest.mark.parametrize("screen", [LYING, ZOOMED])
def test_picture_and_tools_fit_a_low_screen_together(address: str, browser: Any, screen: dict[str, Any]) -> None:
    with open_page(browser, f"{address}s/cam", **screen) as page:
        page.wait_for_selector("#view[data-frame]")
        assert height(page, "#picture") <= 0.61 * screen["viewport"]["height"]


def test_a_tall_picture_is_large_on_a_phone_and_its_tile_is_not(address: str, browser: Any) -> None:
    with open_page(browser, f"{address}s/tall", **PHONE) as page:
        page.wait_for_selector("#view[data-frame]")
        until(page, "app.tiles.tiles.get('tall').filled")
        assert height(page, "#picture") > 0.55 * PHONE["viewport"]["height"]
        assert height(page, "[data-stream=tall] canvas") <= 160


def test_fingers_read_of_fingers_and_save_a_line_by_the_main_button(address: str, browser: Any, talk: Talk) -> None:
    with open_page(browser, f"{address}s/cam", **PHONE) as page:
        page.wait_for_selector("#hint:has-text('Tap an object')")
        page.tap("#zone-line")
        page.wait_for_selector("#hint:has-text('Tap both ends of the line, then Save.')")
        page.evaluate("window.scrollTo(0, 0)")
        for xy in ((20, 20), (140, 100)):
            page.touchscreen.tap(*at(page, *xy))
        page.tap("#accept")  # there is no name yet, and the field asks for it
        assert page.evaluate("document.activeElement.name") == "zone"
        page.keyboard.type("gate")
        page.tap("#accept:has-text('Save')")
        page.wait_for_selector("[data-zone=gate]:has-text('0 to the left, 0 to the right')")
        page.tap("[aria-label='Edit zone gate']")
        page.tap("#leave")
        assert app(page, "app.zones.draft") is None
    talk.ask("zones.remove", stream="cam", zone="gate")


def with_corner(page: Any) -> None:
    """A zone is drawn whose first corner is held by the mouse, which is outside of the picture."""
    page.wait_for_selector("#view[data-frame]")
    page.click("#zone-polygon")
    for xy in ((40, 20), (80, 20), (80, 90)):
        page.mouse.click(*at(page, *xy))
    box = page.locator("#view").bounding_box()
    page.mouse.move(*at(page, 40, 20))
    page.mouse.down()
    page.mouse.move(box["x"] - 30, box["y"] + 60, steps=4)


def test_a_zones_corner_that_is_let_go_outside_of_the_picture_is_let_go(address: str, browser: Any) -> None:
    with open_page(browser, f"{address}s/cam") as page:
        with_corner(page)
        page.mouse.up()
        moved = app(page, "app.zones.draft.points[0]")
        assert moved[0] == 0  # it followed as far as it can
        page.mouse.move(*at(page, 100, 100), steps=4)
        assert app(page, "[app.zones.draft.moving, app.zones.draft.points[0]]") == [None, moved]


@pytest.mark.parametrize("kind", ["pointercancel", "pointermove"])
def test_a_zones_corner_is_let_go_where_the_browser_takes_the_pointer_away(
    address: str, browser: Any, kind: str
) -> None:
    """It says so, or a move comes with no button down."""
    with open_page(browser, f"{address}s/cam") as page:
        with_corner(page)
        moved = app(page, "app.zones.draft.points[0]")
        x, y = at(page, 100, 100)
        init = f"{{ clientX: {x}, clientY: {y}, isPrimary: true, button: -1, buttons: 0 }}"
        app(page, f"app.view.canvas.dispatchEvent(new PointerEvent('{kind}', {init}))")
        assert app(page, "[app.zones.draft.moving, app.zones.draft.points[0]]") == [None, moved]
        page.mouse.up()


@pytest.mark.parametrize(("width", "height"), [(800, 480), (390, 844), (1000, 560)])
def test_a_wall_of_any_size_is_full_of_its_picture(address: str, browser: Any, width: int, height: int) -> None:
    with open_page(browser, f"{address}s/cam?kiosk", viewport={"width": width, "height": height}) as page:
        page.wait_for_selector("#view[data-frame]")
        box = page.locator("#view").bounding_box()
        assert (box["x"], box["y"], box["width"], box["height"]) == (0, 0, width, height)
        assert page.evaluate("[document.documentElement.scrollWidth, document.documentElement.scrollHeight]") == [
            width,
            height,
        ]


def test_a_wall_takes_no_keys_and_no_clicks(address: str, browser: Any) -> None:
    with open_page(browser, f"{address}s/cam?kiosk") as page:
        page.wait_for_selector("#view[data-frame]")
        page.mouse.click(640, 400)
        for key in ("f", "a", "Tab", "ArrowRight", "Space", "b", ",", "+"):
            page.keyboard.press(key)
        assert app(page, "[app.hold.held, app.everything.active, app.prompt.active, app.view.zoom]") == [
            False,
            False,
            False,
            1,
        ]
