"""Picture and outline belong to the same frame, however fast the object and slow the model; with a fake model."""

import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from helpers.fakes import BlobEngine, Blobs
from helpers.pages import app, chromium, open_page, page_server, until
from helpers.tracking import Talk, configuration, serving
from tracker.engine.memory import ObjectMemory
from tracker.images.video_writer import VideoWriter
from tracker.masks.types import ObjectMask

pytestmark = pytest.mark.browser

SIZE_WH = (320, 240)
SIDE_PX, STEP_PX = 48, 7
DELAY_S = 0.12


class SlowEngine(BlobEngine):
    """Takes three frames' time for a step, so that frames pass by while it works."""

    def propagate(
        self, items: Sequence[tuple[ObjectMemory, int, int]], features: Blobs
    ) -> list[tuple[ObjectMemory, ObjectMask]]:
        time.sleep(DELAY_S)
        return super().propagate(items, features)


def square_x(frame: int) -> int:
    """Left edge of the square: to and fro."""
    way = SIZE_WH[0] - SIDE_PX
    return abs((frame * STEP_PX) % (2 * way) - way)


@pytest.fixture
def talk(tmp_path: Path) -> Iterator[Talk]:
    path = tmp_path / "fast.mp4"
    with VideoWriter(path, SIZE_WH, 25) as video:
        for index in range(1000):
            picture = np.full((SIZE_WH[1], SIZE_WH[0], 3), 60, np.uint8)
            x = square_x(index)
            cv2.rectangle(picture, (x, 90), (x + SIDE_PX - 1, 90 + SIDE_PX - 1), (255, 255, 255), -1)
            video.write(picture)
    with serving(configuration(streams={"cam": {"url": str(path)}}), SlowEngine()) as talk:
        talk.wait_for_frame(2)
        yield talk


DRAWN = """
  app.view.picture.tracks?.objects.length ? (() => {
    const { context, canvas, origin, scale, picture } = app.view;
    const { data } = context.getImageData(0, 0, canvas.width, canvas.height);
    const extent = (test) => {
      let [low, high] = [Infinity, -Infinity];
      for (let i = 0; i < data.length; i += 4) {
        if (!test(data[i], data[i + 1], data[i + 2])) continue;
        const x = (i / 4) % canvas.width;
        low = Math.min(low, x);
        high = Math.max(high, x);
      }
      return [(low - origin[0]) / scale, (high - origin[0]) / scale];
    };
    return {
      frame: picture.frame,
      white: extent((r, g, b) => r > 240 && g > 240 && b > 240),
      outline: extent((r, g, b) => r > 200 && g > 120 && g < 190 && b < 60),
    };
  })() : null
"""


def test_outline_and_picture_are_of_one_frame(talk: Talk) -> None:
    with (
        page_server(talk.daemon.control.endpoint) as address,
        chromium() as browser,
        open_page(browser, address) as page,
    ):
        until(page, "app.view.picture")
        frame = talk.ask("streams.list")["streams"][0]["frame"]
        talk.ask("objects.add", stream="cam", frame=frame, points=[[square_x(frame) + SIDE_PX / 2, 114]])
        until(page, "app.view.picture.tracks?.objects[0]?.state === 'visible'")
        seen: dict[int, Any] = {}
        deadline_s = time.monotonic() + 30
        while len(seen) < 12 and time.monotonic() < deadline_s:
            if drawn := app(page, DRAWN):
                seen[drawn["frame"]] = drawn
        assert len(seen) == 12
        assert talk.ask("streams.list")["streams"][0]["dropped"] > 10  # the delay did its work
        for frame, drawn in seen.items():
            left = square_x(frame)  # the film's own truth of that frame
            assert drawn["white"] == pytest.approx([left, left + SIDE_PX], abs=4)
            assert drawn["outline"] == pytest.approx([left, left + SIDE_PX], abs=6)
