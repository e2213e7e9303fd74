"""Three boxes with nano at 96 pixels and one thread each, six streams over them, an acknowledged object on each."""

import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from helpers.fleets import TestFleet, running
from helpers.listeners import Ear, ear
from tracker.client import Client
from tracker.fleet.settings import WantedStream
from tracker.images.video_writer import VideoWriter

BOXES = ["a", "b", "c"]
STREAMS = [f"cam{i}" for i in range(6)]
SIZE_WH = (160, 120)
FPS = 5
OBJECT_XYXY = (110, 80, 130, 100)


@dataclass(frozen=True, slots=True)
class Three:
    fleet: TestFleet
    client: Client
    source: Path
    objects: dict[str, int]  # stream -> the object that was acknowledged

    def owners(self) -> dict[str, str | None]:
        return {placed.stream: placed.owner for placed in self.fleet.state().streams}

    def on(self, box: str) -> list[str]:
        """The streams of a box."""
        return [stream for stream, there in self.fleet.live().items() if there == box]

    def are_elsewhere(self, box: str) -> None:
        """Wait until every stream is live, and none on this box."""
        self.fleet.wait_for(lambda live: len(live) == len(STREAMS) and box not in live.values())

    @contextmanager
    def heard(self) -> Iterator[dict[str, Ear]]:
        """All streams, by clients of the fleet. Fails where a token or a frame number does not grow."""
        with ExitStack() as stack:
            yield {stream: stack.enter_context(ear(self.fleet.nats.url, stream)) for stream in STREAMS}


@contextmanager
def three_boxes() -> Iterator[Three]:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        source = film(folder / "film.mp4")
        with running(folder, BOXES, folder) as fleet, Client(fleet=fleet.nats.url) as client:
            fleet.apply({stream: WantedStream(url=str(source), loop=True) for stream in STREAMS})
            fleet.wait_for(lambda live: len(live) == len(STREAMS))
            yield Three(fleet, client, source, {stream: acknowledged(client, stream) for stream in STREAMS})


def acknowledged(client: Client, stream: str) -> int:
    """A new object that the fleet says it has stored."""
    added = client.add(stream, box=OBJECT_XYXY)
    assert added.durable, "the fleet did not store it"
    return added.object


def film(path: Path) -> Path:
    """A bright square at rest, in sight in every frame."""
    rng = np.random.default_rng(0)
    with VideoWriter(path, SIZE_WH, FPS) as video:
        for _ in range(10 * FPS):
            picture = rng.integers(50, 70, (SIZE_WH[1], SIZE_WH[0], 3)).astype(np.uint8)
            cv2.rectangle(picture, OBJECT_XYXY[:2], OBJECT_XYXY[2:], (230, 230, 230), -1)
            video.write(picture)
    return path
