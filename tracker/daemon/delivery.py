"""Masks to messages, on a thread of its own, while the model works on the next frames."""

import logging
import queue
import time
from dataclasses import dataclass

from tracker.config import PublishConfig
from tracker.images import imaging
from tracker.sockets.publisher import Publisher
from tracker.threads import NamedThread
from tracker.tracking.records import (
    ObjectSnapshot,
    ShapeOptions,
    frame_message,
    object_event,
    object_record,
    tracks_message,
)
from tracker.tracking.state import TrackedObject, TrackedStream
from tracker.types import Frame

log = logging.getLogger(__name__)

PICTURE_WIDTHS = {"320": 320, "640": 640, "1280": 1280, "full": None}
WAITING = 4  # frames; when geometry falls further behind, the engine waits for it


@dataclass(frozen=True, slots=True, eq=False)
class ProcessedFrame:
    """A frame that the model is done with, as the engine thread left it."""

    tracked: TrackedStream
    frame: Frame
    step: int
    dropped: int
    model_mono_ns: tuple[int, int] | None  # when the model began and ended; None: there was nothing to follow
    seen: tuple[ObjectSnapshot, ...]


class Delivery:
    """Publishes processed frames, and says when objects are lost and found."""

    def __init__(self, publisher: Publisher, config: PublishConfig) -> None:
        self._publisher = publisher
        self._config = config
        self._queue: queue.Queue[ProcessedFrame | None] = queue.Queue(WAITING)
        self._thread = NamedThread(target=self._run, name="delivery")

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """Deliver what is waiting, and end."""
        self._queue.put(None)
        self._thread.join()

    def put(self, processed: ProcessedFrame) -> None:
        self._queue.put(processed)

    def _run(self) -> None:
        while (processed := self._queue.get()) is not None:
            try:
                self._deliver(processed)
            except Exception:  # one frame's trouble must not end the stream of all others
                log.exception("frame %d of %s was not published", processed.frame.index, processed.tracked.name)

    def _deliver(self, done: ProcessedFrame) -> None:
        topic = f"tracks/{done.tracked.name}/"
        wanted = self._publisher.wanted(topic)
        look = ShapeOptions(self._config.outline_tolerance_px, wanted, wanted and self._config.masks == "rle")
        shapes = [look.shape(seen.mask, done.frame.size_wh) for seen in done.seen]
        for seen, shape in zip(done.seen, shapes, strict=True):
            if seen.behind is None and not seen.object.removed:
                self._notice(seen.object, shape.area > 0, done.frame)
        if wanted:
            records = [object_record(seen, shape) for seen, shape in zip(done.seen, shapes, strict=True)]
            message = tracks_message(done.tracked, done.frame, done.step, done.dropped, done.model_mono_ns, records)
            self._publisher.publish(topic, message)

        self._send_pictures(done)

    def _send_pictures(self, done: ProcessedFrame) -> None:
        for name, max_width in PICTURE_WIDTHS.items():
            topic = f"frames/{done.tracked.name}/{name}/"
            if self._publisher.wanted(topic):
                jpeg = _jpeg(done.frame, max_width, self._config.jpeg_quality)
                self._publisher.publish(topic, frame_message(done.frame), jpeg)

    def _notice(self, obj: TrackedObject, visible: bool, frame: Frame) -> None:
        """Say so where an object has just been lost or found."""
        if visible == obj.visible:
            return
        obj.visible = visible
        obj.lost_since_ns = None if visible else time.monotonic_ns()
        message = object_event(obj, "object_found" if visible else "object_lost", frame.index)
        self._publisher.publish(f"events/{obj.tracked.name}/", message)


def _jpeg(frame: Frame, max_width: int | None, quality: int) -> bytes:
    return imaging.encode_jpeg(imaging.scaled(imaging.to_rgb(frame.image), max_width), quality)
