"""The page in a browser, with the real daemon and model on a film whose truth is known."""

import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import yaml
from numpy.typing import NDArray

from helpers.pages import TRACKERD, app, at, chromium, open_page, page_server, until
from helpers.tracking import wait_until
from pond.scene import FPS, FRAMES, HEIGHT, WIDTH, render
from tracker.client import Client, mask_of
from tracker.images.video_writer import VideoWriter
from tracker.protocol.replies import ObjectRecord

pytestmark = [pytest.mark.browser, pytest.mark.usefixtures("client")]

HOSTILE = '<img src=x onerror="document.title=1">'
FISH = (1, 2)
DEEP_PX = 6  # a click is at least so far inside


class Pond:
    """A daemon with a page, a client of it, and the truth of every frame."""

    def __init__(self, folder: Path, truth_nhw: NDArray[np.uint8]) -> None:
        self.folder = folder
        self.truth_nhw = truth_nhw
        self.control = f"ipc://{folder}/control"
        self.config = folder / "trackerd.yaml"
        config = {
            "control": {"endpoint": self.control},
            "publish": {"endpoint": f"ipc://{folder}/publish"},
            "streams": {"pond": {"url": str(folder / "pond.mp4"), "loop": True}},
        }
        self.config.write_text(yaml.safe_dump(config))
        self.process = self.start()

    def start(self) -> "subprocess.Popen[bytes]":
        with (self.folder / "log").open("ab") as log:
            return subprocess.Popen([TRACKERD, "serve", "-c", str(self.config)], stdout=log, stderr=log)

    def stop(self) -> None:
        self.process.terminate()
        self.process.wait(20)

    def truth(self, frame: int, fish: int) -> NDArray[np.bool_]:
        truth_hw: NDArray[np.bool_] = self.truth_nhw[frame % FRAMES] == fish
        return truth_hw

    def inside(self, frame: int, fish: int) -> tuple[float, float]:
        depth_hw = cv2.distanceTransform(self.truth(frame, fish).astype(np.uint8), cv2.DIST_L2, 5)
        y, x = np.unravel_index(int(depth_hw.argmax()), depth_hw.shape)
        return float(x), float(y)

    def whole(self, frame: int, fish: int) -> bool:
        """Whether a click can hit it well on a frame."""
        truth = self.truth(frame, fish)
        depth_hw = cv2.distanceTransform(truth.astype(np.uint8), cv2.DIST_L2, 5)
        return bool(truth.sum() > 2500 and depth_hw.max() > 2 * DEEP_PX)


@pytest.fixture(scope="module")
def pond(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pond]:
    folder = tmp_path_factory.mktemp("pond")
    truth = []
    with VideoWriter(folder / "pond.mp4", (WIDTH, HEIGHT), FPS) as video:
        for picture, truth_hw in render():
            video.write(picture)
            truth.append(truth_hw)
    pond = Pond(folder, np.stack(truth))
    yield pond
    pond.stop()


@pytest.fixture(scope="module")
def address(pond: Pond) -> Iterator[str]:
    with page_server(pond.control) as address:
        yield address


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with chromium() as browser:
        yield browser


@pytest.fixture
def client(pond: Pond) -> Iterator[Client]:
    with Client(pond.control, timeout_s=60) as client:
        client.info()
        yield client
        client.remove("pond", all=True)


@pytest.fixture
def unused_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as bound:
        port: int = bound.getsockname()[1]
    return port


@contextmanager
def looking(browser: Any, address: str, **options: Any) -> Iterator[Any]:
    with open_page(browser, address, **options) as page:
        page.wait_for_selector("#view[data-frame]")
        yield page


def frozen(page: Any, pond: Pond, *fish: int) -> int:
    """Freeze on a frame on which these fish can be clicked; its number."""
    for _ in range(60):
        page.keyboard.press("f")
        frame = int(page.get_attribute("#view", "data-frame"))
        if all(pond.whole(frame, one) for one in fish):
            return frame
        page.keyboard.press("Escape")
        time.sleep(0.3)
    raise AssertionError("no such frame")


def click(page: Any, xy: tuple[float, float], **options: Any) -> None:
    page.mouse.move(*at(page, *xy))
    if alt := options.pop("alt", False):
        page.keyboard.down("Alt")
    page.mouse.down(**options)
    page.mouse.up(**options)
    if alt:
        page.keyboard.up("Alt")


def previewed(page: Any, count: int = 1) -> None:
    until(page, f"!app.prompt.waiting && app.prompt.candidates.length >= {count}")


def visible(page: Any) -> tuple[int, ObjectRecord]:
    """The first object, once the picture shows its outline, and the frame of that picture."""
    objects = "app.view.picture?.tracks?.objects.filter((one) => one.state === 'visible')"
    shown = f"{objects}.map((one) => [app.view.picture.frame, one])[0]"
    frame, record = until(page, shown)
    return frame, ObjectRecord(object=record["object"], state="visible", outline=record["outline"])


def iou(record: ObjectRecord, truth_hw: NDArray[np.bool_]) -> float:
    mask_hw = mask_of(record, (WIDTH, HEIGHT))
    return float((mask_hw & truth_hw).sum() / (mask_hw | truth_hw).sum())


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
        assert iou(preview, pond.truth(frame, 1)) >= 0.7
        page.keyboard.press("Enter")
        page.wait_for_selector(".object[data-object]")
        frame, record = visible(page)
        assert iou(record, pond.truth(frame, 1)) >= 0.7
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
        page.wait_for_selector(".object[data-object]")
        frame, record = visible(page)
        assert iou(record, pond.truth(frame, 2)) >= 0.7


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
        assert iou(ObjectRecord(object=1, state="visible", outline=outline), pond.truth(frame - 8, 1)) >= 0.7
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
        assert visible(other)[1].object == visible(one)[1].object


def test_streams_are_paused_and_refusals_are_shown_as_worded(address: str, browser: Any) -> None:
    with looking(browser, address) as page:
        page.click("#pause")
        page.wait_for_selector(".state[data-state='paused']")
        page.click("#pause:has-text('Resume')")
        page.wait_for_selector(".state[data-state='live']")
        page.click("#add-stream")
        page.fill("[name=name]", "other")
        page.fill("[name=url]", "rtsp://127.0.0.1:1/x")
        page.click("#stream-form .main")
        page.wait_for_selector("#stream-refusal:has-text('allow_sources')")
        page.keyboard.press("Escape")


def test_a_kiosk_shows_only_the_picture(address: str, browser: Any) -> None:
    with looking(browser, f"{address}s/pond?kiosk") as page:
        assert not page.is_visible("header")
        assert not page.is_visible("#objects")
        box = page.locator("#view").bounding_box()
        assert (box["width"], box["height"]) == (1280, 800)


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


def test_nothing_serious_for_axe(address: str, browser: Any, client: Client, pond: Pond) -> None:
    from axe_playwright_python.sync_playwright import Axe

    for scheme in ("dark", "light"):
        with looking(browser, address, color_scheme=scheme, bypass_csp=True) as page:
            frame = client.snapshot("pond").frame
            client.add("pond", frame=frame, points=[pond.inside(frame, 1)], label="koi")
            page.wait_for_selector(".object[data-object]")
            page.click("#help")
            violations = Axe().run(page).response["violations"]
            serious = [v for v in violations if v["impact"] in ("serious", "critical")]
            assert not serious, [(v["id"], [node["html"] for node in v["nodes"]]) for v in serious]


def test_the_daemon_is_killed_and_comes_back(address: str, browser: Any, pond: Pond) -> None:
    with looking(browser, address) as page:
        pond.process.kill()
        pond.process.wait()
        page.wait_for_selector("#banner:has-text('does not answer')", timeout=8000)
        assert app(page, "app.view.picture !== null")  # the last picture stays
        pond.process = pond.start()
        page.wait_for_selector("#banner", state="hidden")
        frame = app(page, "app.view.picture.frame")
        until(page, f"app.view.picture.frame > {frame} || app.view.picture.frame < 100")
        moving = app(page, "app.drawnFrames")
        until(page, f"app.drawnFrames > {moving} + 5")


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
