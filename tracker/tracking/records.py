"""What the daemon says of its streams and objects: bookkeeping and masks in, protocol records out."""

import time
from dataclasses import dataclass
from typing import Any, Self

from msgspec import UNSET

from tracker.masks.geometry import shape_of
from tracker.protocol.fields import EventName, Rle
from tracker.protocol.replies import BufferRecord, Event, FrameMessage, ObjectRecord, StreamRecord, Tracks
from tracker.streams.stream import Stream
from tracker.tracking.state import TrackedObject, TrackedStream
from tracker.types import Frame, ObjectMask, Shape


@dataclass(frozen=True, slots=True, eq=False)
class ObjectSnapshot:
    """An object as it was on one frame: the engine goes on and changes it while this is made into a record."""

    object: TrackedObject
    mask: ObjectMask
    age: int
    behind: int | None  # frames; None: at the live edge

    @classmethod
    def of(cls, obj: TrackedObject) -> Self:
        behind = max(0, obj.tracked.processed - obj.frame) if obj.pending else None
        return cls(obj, obj.mask, obj.age, behind)


@dataclass(frozen=True, slots=True)
class ShapeOptions:
    """How much of a mask's geometry is wanted."""

    tolerance_px: float = 1.0
    outline: bool = True
    rle: bool = False

    def shape(self, mask: ObjectMask, size_wh: tuple[int, int]) -> Shape:
        """The geometry at source size; empty where the model says that the object is not there."""
        if mask.presence <= 0:
            return Shape(size_wh)
        return shape_of(mask.logits_hw, size_wh, tolerance_px=self.tolerance_px, outline=self.outline, rle=self.rle)


def object_record(seen: ObjectSnapshot, shape: Shape) -> ObjectRecord:
    """The record of an object whose mask has the geometry `shape`, which is not looked at while it is pending."""
    pending = seen.behind is not None
    if pending:
        shape = Shape(shape.size_wh)
    visible = shape.area > 0
    width, height = shape.size_wh
    return ObjectRecord(
        object=seen.object.id,
        state="pending" if pending else "visible" if visible else "lost",
        score=round(seen.mask.score, 4),
        presence=round(seen.mask.presence, 3),
        box=shape.box_xyxy,
        area=shape.area,
        outline=shape.outline,
        age=seen.age,
        label=seen.object.label,
        meta=seen.object.meta,
        guess=seen.object.guess,
        behind=seen.behind if seen.behind is not None else UNSET,
        mask=Rle((height, width), shape.rle_counts) if shape.rle_counts is not None else UNSET,
    )


def tracks_message(
    tracked: TrackedStream,
    frame: Frame,
    step: int,
    dropped: int,
    model_mono_ns: tuple[int, int] | None,
    objects: list[ObjectRecord],
) -> Tracks:
    return Tracks(
        stream=tracked.name,
        frame=frame.index,
        step=step,
        epoch=frame.epoch,
        pts=frame.pts,
        time=frame.time,
        camera_time=frame.camera_time,
        mono_ns=frame.mono_ns,
        model_mono_ns=model_mono_ns,
        size=frame.size_wh,
        dropped=dropped,
        objects=objects,
    )


def frame_message(frame: Frame) -> FrameMessage:
    """What goes before a JPEG of the frame."""
    return FrameMessage(stream=frame.stream, frame=frame.index, time=frame.time, size=frame.size_wh, format="jpeg")


def event(stream: Stream, name: EventName, frame: int | None, **more: Any) -> Event:
    """An event of a stream; `more` are the fields that go with it."""
    return Event(event=name, stream=stream.name, frame=frame, epoch=stream.epoch, time=time.time(), **more)


def object_event(obj: TrackedObject, name: EventName, frame: int) -> Event:
    return event(obj.tracked.stream, name, frame, object=obj.id, label=obj.label)


def stream_record(tracked: TrackedStream) -> StreamRecord:
    stream, buffer = tracked.stream, tracked.stream.buffer
    newest = buffer.newest().index if len(buffer) else None
    oldest = buffer.oldest().index if len(buffer) else None
    return StreamRecord(
        stream=tracked.name,
        url=stream.url,
        state=stream.state,
        size=stream.size_wh,
        fps=stream.fps,
        frame=newest,
        step=tracked.step,
        epoch=stream.epoch,
        buffer=BufferRecord(oldest=oldest, newest=newest, seconds=buffer.seconds, bytes=buffer.nbytes),
        decoded=stream.decoded,
        dropped=tracked.dropped,
        corrupt=stream.corrupt,
        reconnects=stream.reconnects,
        objects=len(tracked.objects),
        error=stream.error,
    )
