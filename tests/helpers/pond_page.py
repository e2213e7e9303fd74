"""A pond on the page: the real daemon and model on a film whose truth is known, and what a user does with it."""

import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import yaml
from numpy.typing import NDArray

from helpers.pages import app, at, open_page, until
from helpers.preloaded import Forked, command
from pond.scene import FPS, FRAMES, HEIGHT, WIDTH, render
from tracker.client import mask_of
from tracker.images.video_writer import VideoWriter
from tracker.protocol.records import ObjectRecord

DEEP_PX = 6  # a click is at least so far inside
NEAR_FRAMES = 40  # two seconds of the film: well within the buffer


@dataclass(frozen=True)
class Film:
    """The pond in a file, and the fish seen at each pixel of each frame."""

    path: Path
    truth_nhw: NDArray[np.uint8]


class Pond:
    """A daemon with a page, a client of it, and the truth of every frame."""

    def __init__(self, folder: Path, film: Film, streams: dict[str, Any], **sections: Any) -> None:
        self.folder = folder
        self.truth_nhw = film.truth_nhw
        self.control = f"ipc://{folder}/control"
        self.config = folder / "trackerd.yaml"
        config = {
            "control": {"endpoint": self.control},
            "publish": {"endpoint": f"ipc://{folder}/publish"},
            "streams": {"pond": {"url": str(film.path), "loop": True}, **streams},
            **sections,
        }
        self.config.write_text(yaml.safe_dump(config))
        self.process = self.start()

    def start(self) -> Forked:
        log = self.folder / "log"
        return Forked(command, "tracker.cli.trackerd", "serve", "-c", str(self.config), log=log, cwd=self.folder)

    def stop(self) -> None:
        self.process.send_signal(signal.SIGTERM)
        self.process.wait(20)

    def truth(self, frame: int, fish: int) -> NDArray[np.bool_]:
        truth_hw: NDArray[np.bool_] = self.truth_nhw[frame % FRAMES] == fish
        return truth_hw

    def inside(self, frame: int, fish: int) -> tuple[float, float]:
        return deepest(self.truth(frame, fish))[0]

    def whole(self, frame: int, fish: int) -> bool:
        """Whether a click can hit it well on a frame."""
        truth = self.truth(frame, fish)
        return bool(truth.sum() > 2500 and deepest(truth)[1] > 2 * DEEP_PX)


def deepest(mask_hw: NDArray[np.bool_]) -> tuple[tuple[float, float], float]:
    """The pixel of a mask that is farthest from its edge, and how far, in pixels."""
    depth_hw = cv2.distanceTransform(mask_hw.astype(np.uint8), cv2.DIST_L2, 5)
    y, x = np.unravel_index(int(depth_hw.argmax()), depth_hw.shape)
    return (float(x), float(y)), float(depth_hw.max())


def filmed(path: Path) -> Film:
    """Rendered anew, which takes ten seconds."""
    truth = []
    with VideoWriter(path, (WIDTH, HEIGHT), FPS) as video:
        for picture, truth_hw in render():
            video.write(picture)
            truth.append(truth_hw)
    return Film(path, np.stack(truth))


@contextmanager
def pond_daemon(folder: Path, film: Film, streams: dict[str, Any] | None = None, **sections: Any) -> Iterator[Pond]:
    """The film again and again, as from a camera; further streams beside it."""
    pond = Pond(folder, film, streams or {}, **sections)
    try:
        yield pond
    finally:
        pond.stop()


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


def frozen_on(page: Any, index: int) -> int:
    """Freeze on frame `index` of the film, stepping back to it; its number in the stream."""
    for _ in range(20):
        until(page, f"(app.view.picture.frame + {FRAMES} - {index}) % {FRAMES} <= {NEAR_FRAMES}")
        page.keyboard.press("f")
        held = int(page.get_attribute("#view", "data-frame"))
        back = (held - index) % FRAMES
        if back <= 2 * NEAR_FRAMES:
            app(page, f"app.hold.goTo({held - back})")
            until(page, f"app.view.picture.frame === {held - back}")
            return held - back
        page.keyboard.press("Escape")
    raise AssertionError(f"the picture never stood still near frame {index} of the film")


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


def added(page: Any) -> ObjectRecord:
    """What the daemon answered when the page registered an object: it on the frame of its marks."""
    record = until(page, "app.prompt.added")
    return ObjectRecord(object=record["object"], state="visible", outline=record["outline"])


def visible(page: Any) -> int:
    """The object whose outline a picture showed: any of those that came, not just the one shown now. On a slow
    machine the model sees few frames of a fast film and may lose a fish soon after it was added."""
    seen = "app.tracks.kept.get('pond')?.flatMap(({ objects }) => objects).find(({ state }) => state === 'visible')"
    return int(until(page, seen)["object"])


def iou(record: ObjectRecord, truth_hw: NDArray[np.bool_]) -> float:
    mask_hw = mask_of(record, (WIDTH, HEIGHT))
    return float((mask_hw & truth_hw).sum() / (mask_hw | truth_hw).sum())
