"""What the operations on objects take; `tracker.protocol.requests` has the others."""

from typing import Annotated, Any

import msgspec
from msgspec import UNSET, Meta, UnsetType, field

from tracker.config import (
    Positive,
    Unit,
)
from tracker.errors import TooLarge
from tracker.protocol.fields import (
    MAX_CHUNK_BYTES,
    MAX_META_BYTES,
    FrameIndex,
    Label,
    ObjectId,
    StreamId,
    UnixTime,
)
from tracker.protocol.records import MovedObject
from tracker.protocol.requests import Args, Prompted


class ObjectsAdd(Prompted, frozen=True, kw_only=True):
    stream: StreamId
    frame: FrameIndex | None = None
    time: UnixTime | None = None
    object: ObjectId | None = None
    label: Label | None = None
    meta: dict[str, Any] = field(default_factory=dict)
    expire_s: Positive | None = None

    def __post_init__(self) -> None:
        _frame_or_time(self.frame, self.time)
        _check_meta(self.meta)


class Detection(Args, frozen=True, kw_only=True):
    box: tuple[float, float, float, float]
    label: Label | None = None
    score: Unit | None = None
    meta: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        _check_meta(self.meta)


class ObjectsAddMany(Args, frozen=True, kw_only=True):
    stream: StreamId
    detections: Annotated[list[Detection], Meta(min_length=1)]
    frame: FrameIndex | None = None
    time: UnixTime | None = None
    match_iou: Unit = 0.5

    def __post_init__(self) -> None:
        _frame_or_time(self.frame, self.time)


class ObjectsRefine(Prompted, frozen=True, kw_only=True):
    stream: StreamId
    object: ObjectId
    frame: FrameIndex | None = None
    replace: bool = False


class ObjectsUpdate(Args, frozen=True, kw_only=True):
    """What is absent stays as it is; a nil label or expire_s is taken away."""

    stream: StreamId
    object: ObjectId
    label: Label | UnsetType | None = UNSET
    meta: dict[str, Any] | UnsetType = UNSET
    expire_s: Positive | UnsetType | None = UNSET

    def __post_init__(self) -> None:
        if self.label is UNSET and self.meta is UNSET and self.expire_s is UNSET:
            raise ValueError("nothing to update: give label, meta or expire_s")
        if self.meta is not UNSET:
            _check_meta(self.meta)


class ObjectsRemove(Args, frozen=True, kw_only=True):
    stream: StreamId
    object: ObjectId | None = None
    all: bool = False

    def __post_init__(self) -> None:
        if self.all == (self.object is not None):
            raise ValueError("give either object or all: true")


class ObjectsList(Args, frozen=True, kw_only=True):
    stream: StreamId | None = None
    all: bool = False  # also those that wait


class ObjectsExport(Args, frozen=True, kw_only=True):
    stream: StreamId
    object: ObjectId
    token: Annotated[str, Meta(max_length=64)] | None = None  # of the first chunk's reply
    offset: Annotated[int, Meta(ge=0, le=2**31)] = 0


class ObjectsImport(Args, frozen=True, kw_only=True):
    stream: StreamId
    record: MovedObject
    size: Annotated[int, Meta(ge=1, le=2**31)]  # bytes of the whole memory
    data: Annotated[bytes, Meta(min_length=1, max_length=MAX_CHUNK_BYTES)]
    offset: Annotated[int, Meta(ge=0, le=2**31)] = 0


class ObjectsDescribe(Args, frozen=True, kw_only=True):
    stream: StreamId
    object: ObjectId
    question: Annotated[str, Meta(min_length=1, max_length=2000)] | None = None


def _frame_or_time(frame: int | None, time: float | None) -> None:
    if frame is not None and time is not None:
        raise ValueError("frame and time exclude each other: give one of them")


def _check_meta(meta: dict[str, Any]) -> None:
    try:
        nbytes = len(msgspec.msgpack.encode(meta))
    except OverflowError:
        raise ValueError("meta: a whole number is beyond 64 bits") from None
    if nbytes > MAX_META_BYTES:
        raise TooLarge(f"meta takes {nbytes} bytes as msgpack; at most {MAX_META_BYTES} are kept")
