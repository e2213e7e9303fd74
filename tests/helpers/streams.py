"""A stream under test, with everything it said."""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from tracker.config import StreamConfig
from tracker.images.types import Frame
from tracker.streams.stream import Stream


class Watched:
    """Runs one stream and keeps its frames and events. With `consume`, it takes every frame as the engine would."""

    def __init__(self, url: str, consume: bool = True, **settings: Any) -> None:
        self.frames: list[Frame] = []
        self.events: list[tuple[str, dict[str, Any]]] = []
        self.moments: list[tuple[float, str]] = []  # time.monotonic() of each event
        self._consume = consume
        self._changed = threading.Condition()
        self.stream = Stream("cam", StreamConfig(url=str(url), **settings), self._on_frame, self._on_event)

    def _on_frame(self, frame: Frame) -> None:
        with self._changed:
            self.frames.append(frame)
            self._changed.notify_all()
        if self._consume:
            self.stream.buffer.consumed(frame.index)

    def _on_event(self, stream: Stream, event: str, details: dict[str, Any]) -> None:
        assert stream is self.stream
        with self._changed:
            self.events.append((event, details))
            self.moments.append((time.monotonic(), event))
            self._changed.notify_all()

    def names(self) -> list[str]:
        return [event for event, _ in self.events]

    def wait(self, condition: Callable[[], bool], timeout_s: float = 30) -> None:
        """Wait until `condition`, looked at whenever something happens. Fails with what happened instead."""
        deadline_s = time.monotonic() + timeout_s
        with self._changed:
            while not condition():
                left_s = deadline_s - time.monotonic()
                assert left_s > 0, f"{self.stream.state}, {self.events}, {len(self.frames)} frames"
                self._changed.wait(min(left_s, 0.1))

    def wait_frames(self, count: int, timeout_s: float = 30) -> None:
        self.wait(lambda: len(self.frames) >= count, timeout_s)

    def wait_event(self, event: str, count: int = 1, timeout_s: float = 30) -> dict[str, Any]:
        self.wait(lambda: self.names().count(event) >= count, timeout_s)
        return [details for name, details in self.events if name == event][count - 1]


@contextmanager
def running(url: object, **settings: Any) -> Iterator[Watched]:
    watched = Watched(str(url), **settings)
    watched.stream.start()
    try:
        yield watched
    finally:
        assert watched.stream.stop(timeout_s=30)
