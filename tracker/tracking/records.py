"""Records of streams and objects: bookkeeping and masks in, protocol records out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

from msgspec import UNSET, UnsetType, structs

from tracker.masks.geometry import shapes_of
from tracker.masks.types import ObjectMask, Shape
from tracker.protocol.messages import FrameMessage, Tracks
from tracker.protocol.object_record import object_record
from tracker.protocol.records import BufferRecord, Description, Guess, ObjectRecord, StreamRecord, ZoneCounts
from tracker.tracking.state import TrackedObject, TrackedStream

if TYPE_CHECKING:
    from tracker.images.types import Frame


@dataclass(frozen=True, slots=True, eq=False)
class ObjectSnapshot:
    """An object as it was on one frame: the main loop changes it while another thread makes this into a record."""

    object: TrackedObject  # whom results are about; not to be read
    id: int
    revision: int
    mask: ObjectMask
    age: int
    label: str | None
    meta: dict[str, Any]
    guess: Guess | UnsetType
    description: Description | UnsetType
    behind: int | None  # frames; None: at the live edge

    @classmethod
    def of(cls, obj: TrackedObject) -> Self:
        return cls(
            object=obj,
            id=obj.id,
            revision=obj.revision,
            mask=obj.mask,
            age=obj.age,
            label=obj.label,
            meta=obj.meta,
            guess=obj.guess,
            description=obj.description,
            behind=max(0, obj.stream.processed - obj.frame) if obj.pending else None,
        )


@dataclass(frozen=True, slots=True)
class ShapeOptions:
    """The parts of a mask's geometry that are wanted."""

    tolerance_px: float = 1.0
    outline: bool = True
    rle: bool = False

    def shape(self, mask: ObjectMask, size_wh: tuple[int, int]) -> Shape:
        """The geometry at source size; empty where the model says that the object is not there."""
        return self.shapes([mask], size_wh)[0]

    def shapes(self, masks: Sequence[ObjectMask], size_wh: tuple[int, int]) -> list[Shape]:
        """The same of all objects of a frame, which takes less time than one by one."""
        there = [k for k, mask in enumerate(masks) if mask.presence > 0]
        made = shapes_of(
            [masks[k].logits_hw for k in there],
            size_wh,
            tolerance_px=self.tolerance_px,
            outline=self.outline,
            rle=self.rle,
        )
        shapes = [Shape(size_wh)] * len(masks)
        for k, shape in zip(there, made, strict=True):
            shapes[k] = shape
        return shapes


def snapshot_record(seen: ObjectSnapshot, shape: Shape) -> ObjectRecord:
    """The record of a tracked object; while it is pending, its mask is of an older frame, and is left out."""
    pending = seen.behind is not None
    record = object_record(
        seen.id,
        Shape(shape.size_wh) if pending else shape,
        seen.mask.score,
        seen.mask.presence,
        age=seen.age,
        label=seen.label,
        meta=seen.meta,
        guess=seen.guess,
        description=seen.description,
    )
    return structs.replace(record, state="pending", behind=seen.behind) if pending else record


def tracks_message(
    frame: Frame,
    step: int,
    dropped: int,
    model_mono_ns: tuple[int, int] | None,
    objects: list[ObjectRecord],
    owner: str | UnsetType = UNSET,
    zones: dict[str, ZoneCounts] | UnsetType = UNSET,
) -> Tracks:
    return Tracks(
        stream=frame.stream,
        frame=frame.index,
        step=step,
        epoch=frame.epoch,
        pts=frame.pts,
        time=frame.time,
        camera_time=frame.camera_time,
        mono_ns=frame.mono_ns,
        model_mono_ns=model_mono_ns,
        size=frame.size_wh,
        pixel_aspect=pixel_aspect_of(frame),
        dropped=dropped,
        objects=objects,
        owner=owner,
        zones=zones,
    )


def frame_message(frame: Frame, owner: str | UnsetType = UNSET) -> FrameMessage:
    """The message that goes before a JPEG of the frame."""
    return FrameMessage(
        stream=frame.stream,
        frame=frame.index,
        time=frame.time,
        size=frame.size_wh,
        pixel_aspect=pixel_aspect_of(frame),
        format="jpeg",
        owner=owner,
    )


def pixel_aspect_of(frame: Frame) -> tuple[int, int] | UnsetType:
    """A pixel's width and height; nothing where they are equal."""
    return UNSET if frame.pixel_aspect == 1 else frame.pixel_aspect.as_integer_ratio()


def stream_record(stream: TrackedStream) -> StreamRecord:
    source, buffer = stream.source, stream.source.buffer
    newest = buffer.newest().index if len(buffer) else None
    oldest = buffer.oldest().index if len(buffer) else None
    return StreamRecord(
        stream=stream.name,
        url=source.url,
        state=source.state,
        size=source.size_wh,
        fps=source.fps,
        frame=newest,
        step=stream.step,
        epoch=source.epoch,
        buffer=BufferRecord(oldest=oldest, newest=newest, seconds=buffer.seconds, bytes=buffer.nbytes),
        decoded=source.decoded,
        dropped=stream.dropped,
        corrupt=source.corrupt,
        reconnects=source.reconnects,
        objects=len(stream.objects),
        error=source.error,
        owner=source.owner,
    )
