"""`frames.get`: pictures drawn on and encoded in a thread of their own, while the main loop goes on.

A large PNG takes longer than a step of the model: in the main loop it would hold up everybody's requests.
"""

import queue
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from tracker.daemon.context import Context, frame_of
from tracker.daemon.fairness import FairRequests
from tracker.engine.engine import Engine
from tracker.engine.memory import FrameMemory
from tracker.errors import TrackerError
from tracker.images import imaging, overlay
from tracker.images.types import Frame
from tracker.masks.types import ObjectMask
from tracker.protocol import replies, requests
from tracker.protocol.operations import FRAMES_GET
from tracker.sockets.request import Request
from tracker.threads import TaskThread
from tracker.tracking.records import ShapeOptions, pixel_aspect_of
from tracker.tracking.state import TrackedObject, TrackedStream
from tracker.tracking.zone import vertices_px
from tracker.tracking.zones import count_text

AT_WORK = 2  # pictures handed over; all others wait as requests, which hold no frame


@dataclass(frozen=True, slots=True, eq=False)
class _Marked:
    """An object to be drawn: its mask as it was shown, or what it remembers of the frame."""

    id: int
    label: str | None
    mask: ObjectMask | FrameMemory


@dataclass(frozen=True, slots=True, eq=False)
class _Task:
    """A picture as it is asked for, with all that is drawn on it as the main loop left it."""

    request: Request
    frame: Frame
    objects: tuple[_Marked, ...]
    zones: tuple[replies.ZoneRecord, ...]
    shapes: ShapeOptions
    jpeg_quality: int


class Pictures(TaskThread[_Task]):
    """`answer` and `tick` belong to the main loop; `wake` is called by the thread after each picture."""

    names = frozenset({FRAMES_GET.name})

    def __init__(self, context: Context, wake: Callable[[], None]) -> None:
        super().__init__("pictures", AT_WORK + 1, context.failures)
        self._context = context
        self._wake = wake
        self._requests = FairRequests()
        self._at_work = 0
        self._done: queue.SimpleQueue[tuple[bytes, float]] = queue.SimpleQueue()  # owner, seconds

    def waiting(self) -> int:
        """Number of pictures that wait."""
        return len(self._requests)

    def answer(self, request: Request) -> None:
        self._requests.put(request)

    def tick(self, *, tracking: bool) -> None:
        """Hand over what is next, as far as the thread has its hands free."""
        while not self._done.empty():
            self._requests.spent(*self._done.get())
            self._at_work -= 1
        self._requests.refill(tracking=tracking)
        while self._at_work < AT_WORK and (request := self._requests.take()) is not None:
            try:
                task = self._task(request)
            except TrackerError as error:
                request.fail(error)
                continue
            self._at_work += 1
            self.put(task)

    def _task(self, request: Request) -> _Task:
        """Raises TrackerError where there is no such picture."""
        args: requests.FramesGet = request.args
        stream = self._context.table.stream(args.stream)
        followed = args.overlay and args.frame is None and stream.processed in stream.source.buffer
        frame = frame_of(stream, stream.processed if followed else args.frame)
        if args.pin_s is not None:
            stream.source.buffer.pin(frame.index, args.pin_s, time.monotonic_ns())
        marked = _marked(stream, frame) if args.overlay else ()
        records = tuple(self._context.zones.records(stream.name)) if args.overlay else ()
        quality = self._context.config.publish.jpeg_quality
        return _Task(request, frame, marked, records, self._context.shape_options, quality)

    # ------------------------------------------------------------------------------------------ its own thread

    def _do(self, task: _Task) -> None:
        started_s = time.monotonic()
        try:
            task.request.reply(_picture(self._context.engine, task))
        except Exception as error:
            what = f"frames.get failed inside the daemon: {type(error).__name__}"
            task.request.fail(TrackerError(f"{what}; see its log"))
            raise
        finally:
            self._done.put((task.request.owner, time.monotonic() - started_s))
            self._wake()


def mask_on(obj: TrackedObject, frame: int) -> ObjectMask | None:
    """The object's mask on that very frame, if it was tracked there lately, or prompted."""
    return _at_hand(obj, frame) or obj.memory.mask_on(frame)


def _at_hand(obj: TrackedObject, frame: int) -> ObjectMask | None:
    if obj.frame == frame:
        return obj.mask
    prompted_frame, prompted_mask = obj.prompted
    return prompted_mask if prompted_frame == frame else None


def _marked(stream: TrackedStream, frame: Frame) -> tuple[_Marked, ...]:
    """The objects that have a mask on the frame."""
    known = [(obj, _at_hand(obj, frame.index) or obj.memory.find(frame.index)) for obj in stream.objects.values()]
    return tuple(
        _Marked(obj.id, _label(obj), mask)
        for obj, mask in known
        if isinstance(mask, ObjectMask) or (mask is not None and mask.mask is not None)
    )


def _label(obj: TrackedObject) -> str | None:
    return obj.label or (obj.guess.label if obj.guess else None)


def _picture(engine: Engine, task: _Task) -> replies.FrameImage:
    args: requests.FramesGet = task.request.args
    rgb_hwc = imaging.to_rgb(task.frame.image)
    if args.overlay:
        drawings = [_drawing(marked, mask, task) for marked, mask in _shown(engine, task)]
        drawn = [_zone_drawing(record, task.frame.size_wh) for record in task.zones]
        rgb_hwc = overlay.draw(rgb_hwc, drawings, drawn)
    data = imaging.encode(imaging.scaled(rgb_hwc, args.max_width), args.format, task.jpeg_quality)
    return replies.FrameImage(
        stream=task.frame.stream,
        frame=task.frame.index,
        time=task.frame.time,
        size=task.frame.size_wh,
        pixel_aspect=pixel_aspect_of(task.frame),
        format=args.format,
        data=data,
    )


def _shown(engine: Engine, task: _Task) -> Iterator[tuple[_Marked, ObjectMask]]:
    """With masks as they were shown on the frame."""
    remembered = [marked.mask for marked in task.objects if isinstance(marked.mask, FrameMemory)]
    again = iter(engine.shown(remembered, task.frame.image))
    for marked in task.objects:
        yield marked, marked.mask if isinstance(marked.mask, ObjectMask) else next(again)


def _drawing(marked: _Marked, mask: ObjectMask, task: _Task) -> overlay.Drawing:
    shape = task.shapes.shape(mask, task.frame.size_wh)
    return overlay.Drawing.of(marked.id, shape, marked.label, mask.score)


def _zone_drawing(record: replies.ZoneRecord, size_wh: tuple[int, int]) -> overlay.ZoneDrawing:
    vertices = vertices_px(record.settings, size_wh)
    return overlay.ZoneDrawing(record.zone, vertices, count_text(record.counts))
