"""Masks to messages, on a thread of its own, while the model works on the next frames."""

import contextlib
import queue
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from msgspec import UNSET, UnsetType

from tracker.daemon.context import Context
from tracker.errors import TrackerError
from tracker.images import imaging
from tracker.images.types import Frame
from tracker.masks.types import Shape
from tracker.protocol.fields import PICTURE_WIDTHS
from tracker.protocol.records import ZoneCounts
from tracker.threads import NamedThread
from tracker.tracking.records import (
    ObjectSnapshot,
    ShapeOptions,
    frame_message,
    snapshot_record,
    tracks_message,
)
from tracker.tracking.state import Sighting

STUCK_S = 30.0  # of waiting for it; then it will not come back
STOP_S = 1.0
MAX_IN_A_ROW = 100  # frames that could not be delivered; then it is not the frames, and the thread ends
WAITING = 4  # frames; when geometry falls further behind, the main loop waits for it


@dataclass(frozen=True, slots=True, eq=False)
class ProcessedFrame:
    """A frame that the model is done with, as the main loop left it."""

    frame: Frame
    step: int
    dropped: int
    model_mono_ns: tuple[int, int] | None  # when the model began and ended; None: there was nothing to follow
    seen: tuple[ObjectSnapshot, ...]
    owner: str | UnsetType = UNSET
    tracked: frozenset[int] = frozenset()  # ids of all objects of the stream, also of those that are not seen


class Delivery:
    """Publishes processed frames, and tells the main loop which objects can be seen on them.

    `wake` is called by delivery's thread when there are new sightings, `delivered(frame, started_ns, ended_ns)`
    after each frame.
    """

    def __init__(
        self,
        context: Context,
        wake: Callable[[], object],
        delivered: Callable[[ProcessedFrame, int, int], None] = lambda *_: None,
    ) -> None:
        self._publisher = context.publisher
        self._config = context.config.publish
        self._zones = context.zones
        self._failures = context.failures
        self._wake = wake
        self._delivered = delivered
        self._queue: queue.Queue[ProcessedFrame | None] = queue.Queue(WAITING)
        # The main loop takes them before it processes the next frame, so there are never many.
        self._sightings: queue.SimpleQueue[Sighting] = queue.SimpleQueue()
        self.busy_since_s: float | None = None  # while it is at a frame
        self._thread = NamedThread(target=self._run, name="delivery", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """Deliver what is waiting, and end; one that is stuck is left behind."""
        with contextlib.suppress(queue.Full):
            self._queue.put(None, timeout=STOP_S)
            self._thread.join(STOP_S)

    def is_alive(self) -> bool:
        return self._thread.is_alive()

    def waiting(self) -> int:
        """Frames."""
        return self._queue.qsize()

    def put(self, processed: ProcessedFrame) -> None:
        """Hand over a frame; waits while WAITING others are to be delivered. Raises TrackerError where none is any
        more."""
        deadline_s = time.monotonic() + STUCK_S
        while True:
            with contextlib.suppress(queue.Full):
                self._queue.put(processed, timeout=0.1)
                return
            if not self._thread.is_alive() or time.monotonic() > deadline_s:
                raise TrackerError("delivery is dead or stuck; the daemon cannot go on")

    def take_sightings(self) -> Iterator[Sighting]:
        """Take the sightings since the last call, in the order of the frames."""
        while not self._sightings.empty():
            yield self._sightings.get()

    # ------------------------------------------------------------------------------------- delivery's own thread

    def _run(self) -> None:
        failed = 0  # in a row: one frame's trouble must not end the stream of all others
        while (processed := self._queue.get()) is not None:
            self.busy_since_s, started_ns = time.monotonic(), time.monotonic_ns()
            try:
                self._deliver(processed)
                self._delivered(processed, started_ns, time.monotonic_ns())
                failed = 0
            except Exception as error:
                self._failures.add("delivery", error)
                failed += 1
                if failed == MAX_IN_A_ROW:
                    raise
            self.busy_since_s = None

    def _deliver(self, processed: ProcessedFrame) -> None:
        frame = processed.frame
        topic = f"tracks/{frame.stream}/"
        wanted = self._publisher.wanted(topic)
        zoned = self._zones.wanted(frame.stream)
        options = ShapeOptions(
            self._config.outline_tolerance_px, outline=wanted or zoned, rle=wanted and self._config.masks == "rle"
        )
        shapes = options.shapes([seen.mask for seen in processed.seen], frame.size_wh)
        self._report(processed, shapes)
        zones = self._count(processed, shapes) if zoned else UNSET
        if wanted:
            records = [snapshot_record(seen, shape) for seen, shape in zip(processed.seen, shapes, strict=True)]
            message = tracks_message(
                frame, processed.step, processed.dropped, processed.model_mono_ns, records, processed.owner, zones
            )
            self._publisher.publish(topic, message)
        self._send_pictures(frame, processed.owner)

    def _count(self, processed: ProcessedFrame, shapes: list[Shape]) -> dict[str, ZoneCounts] | UnsetType:
        """Count the objects in each zone of the stream."""
        seen = list(zip(processed.seen, shapes, strict=True))
        return self._zones.observe(processed.frame, seen, set(processed.tracked))

    def _report(self, processed: ProcessedFrame, shapes: list[Shape]) -> None:
        """Tell the main loop which objects can be seen. Of those that catch up it will learn at the live edge."""
        for seen, shape in zip(processed.seen, shapes, strict=True):
            if seen.behind is None:
                self._sightings.put(Sighting(seen.object, seen.revision, processed.frame.index, shape.area > 0))
        self._wake()

    def _send_pictures(self, frame: Frame, owner: str | UnsetType) -> None:
        for name, max_width in PICTURE_WIDTHS.items():
            topic = f"frames/{frame.stream}/{name}/"
            if self._publisher.wanted(topic):
                jpeg = _jpeg(frame, max_width, self._config.jpeg_quality)
                self._publisher.publish(topic, frame_message(frame, owner), jpeg)


def _jpeg(frame: Frame, max_width: int | None, quality: int) -> bytes:
    return imaging.encode_jpeg(imaging.scaled(imaging.to_rgb(frame.image), max_width), quality)
