"""Pointing at things on the page: clicks, boxes, candidates, corrections, the past, touch and keys."""

from typing import Any

import numpy as np
import pytest

from helpers.pages import app, at, until
from helpers.pond_page import Pond, added, click, frozen, iou, looking, previewed, visible
from pond.scene import HEIGHT, WIDTH
from tracker.client import Client, mask_of
from tracker.protocol.replies import ObjectRecord

# IoU with the truth: the page points where the person did. How well the model outlines a fish, its card says; it
# depends on the frame that the person happened to stop at.
ON_IT = 0.3

pytestmark = [pytest.mark.browser, pytest.mark.usefixtures("client")]


def test_the_picture_moves_and_the_tile_says_so(address: str, browser: Any) -> None:
    with looking(browser, address) as page:
        before = app(page, "app.view.picture.frame")
        until(page, f"app.view.picture.frame > {before} + 5")
        until(page, "app.tiles.tiles.get('pond').rate() > 2")
        assert page.text_content(".tile .state") == "live"


def test_a_click_makes_an_outline_on_the_object(address: str, browser: Any, pond: Pond) -> None:
    with looking(browser, address) as page:
        frame = frozen(page, pond, 1)
        click(page, pond.inside(frame, 1))
        previewed(page)
        outline = app(page, "app.prompt.candidates[0].outline")
        preview = ObjectRecord(object=1, state="visible", outline=outline)
        assert iou(preview, pond.truth(frame, 1)) >= ON_IT
        page.keyboard.press("Enter")
        assert iou(added(page), pond.truth(frame, 1)) >= ON_IT
        visible(page)
        page.wait_for_selector("#events li:has-text('object added')")


def test_a_box_by_dragging(address: str, browser: Any, pond: Pond) -> None:
    with looking(browser, address) as page:
        frame = frozen(page, pond, 2)
        rows, columns = np.nonzero(pond.truth(frame, 2))
        page.mouse.move(*at(page, columns.min(), rows.min()))
        page.mouse.down()
        page.mouse.move(*at(page, columns.mean(), rows.mean()))
        page.mouse.move(*at(page, columns.max() + 1, rows.max() + 1))
        page.mouse.up()
        previewed(page)
        page.keyboard.press("Enter")
        assert iou(added(page), pond.truth(frame, 2)) >= ON_IT
        visible(page)


def test_a_candidate_is_chosen_by_key_and_that_very_mask_is_tracked(
    address: str, browser: Any, client: Client, pond: Pond
) -> None:
    with looking(browser, address) as page:
        frame = frozen(page, pond, 1)
        click(page, pond.inside(frame, 1))
        previewed(page, 3)
        page.keyboard.press("2")
        assert page.get_attribute("#candidates button >> nth=1", "aria-checked") == "true"
        outline = app(page, "app.prompt.candidates[1].outline")
        page.keyboard.press("Enter")
        page.wait_for_selector(".object[data-object]")
        wanted = mask_of(ObjectRecord(object=1, state="visible", outline=outline), (WIDTH, HEIGHT))
        (entry,) = client.objects("pond").objects
        again = client.refine("pond", entry.object, frame=frame, points=[pond.inside(frame, 1)])
        assert iou(again, wanted) > 0.3  # it began from that mask, on that frame


def test_a_correction_changes_the_object_on_the_frame_that_is_seen(
    address: str, browser: Any, client: Client, pond: Pond
) -> None:
    with looking(browser, address) as page:
        frame = frozen(page, pond, 1)
        added = client.add("pond", frame=frame, points=[pond.inside(frame, 2)])
        page.keyboard.press("Escape")
        page.wait_for_selector(f".object[data-object='{added.object}']")
        visible(page)
        page.click(".object button:has-text('Correct')")
        held = app(page, "app.hold.frame")
        click(page, pond.inside(held, 1))
        event = page.wait_for_selector("#events li:has-text('object refined')")
        assert f" {added.object}" in event.text_content()
        page.keyboard.press("Enter")
        until(page, "!app.hold.held && app.prompt.correcting === null")


def test_a_prompt_on_an_earlier_frame(address: str, browser: Any, client: Client, pond: Pond) -> None:
    with looking(browser, address) as page:
        frame = frozen(page, pond, 1)
        for _ in range(8):
            page.keyboard.press(",")
        until(page, f"app.view.picture.frame === {frame} - 8")
        assert page.text_content("#frame-number") == f"frame {frame - 8}, held"
        click(page, pond.inside(frame - 8, 1))
        previewed(page)
        outline = app(page, "app.prompt.candidates[0].outline")
        assert iou(ObjectRecord(object=1, state="visible", outline=outline), pond.truth(frame - 8, 1)) >= ON_IT
        page.keyboard.press("Enter")
        page.wait_for_selector(".object[data-object]")
        (entry,) = client.objects("pond").objects
        assert entry.age <= 200


def test_a_point_off_the_object_and_leaving(address: str, browser: Any, client: Client, pond: Pond) -> None:
    with looking(browser, address) as page:
        frame = frozen(page, pond, 1, 2)
        page.keyboard.press("Escape")
        click(page, pond.inside(frame, 1), alt=True)  # there is nothing yet that it could be taken from
        page.wait_for_selector(".toast:has-text('begin with a point')")
        until(page, "!app.hold.held")
        frame = frozen(page, pond, 1, 2)
        click(page, pond.inside(frame, 1))
        previewed(page)
        click(page, pond.inside(frame, 2), alt=True)
        assert app(page, "app.prompt.labels") == [1, 0]
        click(page, pond.inside(frame, 2), button="right")
        assert app(page, "app.prompt.labels") == [1, 0, 0]
        page.keyboard.press("Escape")
        until(page, "!app.hold.held && !app.prompt.active")
        assert client.objects("pond").objects == []


def test_everything_is_found_and_what_is_picked_is_tracked(address: str, browser: Any, pond: Pond) -> None:
    with looking(browser, address) as page:
        frozen(page, pond, 1)
        page.keyboard.press("a")
        until(page, "app.everything.masks.length", 120)
        masks = app(page, "app.everything.masks.map((mask) => mask.box)")
        x1, y1, x2, y2 = masks[0]
        for x, y in ((x, y) for x in np.linspace(x1 + 1, x2 - 1, 9) for y in np.linspace(y1 + 1, y2 - 1, 9)):
            if app(page, f"app.everything.at([{x}, {y}])") is not None:
                break
        page.mouse.move(*at(page, x, y))
        assert app(page, "app.everything.hovered") is not None
        click(page, (x, y))
        until(page, "app.everything.picked.size === 1")
        page.keyboard.press("Enter")
        page.wait_for_selector(".object[data-object]")


def test_marks_by_keyboard_alone(address: str, browser: Any) -> None:
    with looking(browser, address) as page:
        page.focus("#view")
        page.keyboard.press("ArrowRight")
        page.keyboard.press("Shift+ArrowUp")
        page.keyboard.press("Space")
        until(page, "app.prompt.active && !app.prompt.waiting")
        assert app(page, "app.prompt.points")[0] == [WIDTH / 2 + WIDTH / 40, HEIGHT / 2 - 1]
        page.keyboard.press("Escape")
        for corner in ("ArrowLeft", "ArrowDown"):
            page.keyboard.press(corner)
            page.keyboard.press("b")
            page.keyboard.press("ArrowRight")
        until(page, "app.prompt.box")


def test_a_tap_and_a_long_press(address: str, browser: Any, pond: Pond) -> None:
    phone = {"viewport": {"width": 390, "height": 844}, "has_touch": True, "is_mobile": True}
    with looking(browser, address, **phone) as page:
        frame = frozen(page, pond, 1, 2)
        page.touchscreen.tap(*at(page, *pond.inside(frame, 1)))
        until(page, "app.prompt.active && !app.prompt.waiting")
        page.tap("#off")
        page.touchscreen.tap(*at(page, *pond.inside(frame, 2)))
        assert app(page, "app.prompt.labels") == [1, 0]
        page.tap("#leave")
        until(page, "!app.hold.held && !app.prompt.active")
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
