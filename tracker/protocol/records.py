"""Records that replies, published messages and requests have in common, one frozen struct each."""

from typing import Annotated, Any

import msgspec
from msgspec import UNSET, Meta, Struct, UnsetType

from tracker.protocol.fields import (
    MAX_META_BYTES,
    BoxXyxy,
    FrameIndex,
    Label,
    ObjectId,
    ObjectState,
    Outline,
    Rle,
    SizeWh,
    StreamState,
)

Side = Annotated[int, Meta(ge=1, le=65535)]


class Record(Struct, frozen=True, kw_only=True):
    """Base of what the daemon sends. Readers ignore keys they do not know; UNSET fields stay off the wire."""


class Guess(Record, frozen=True, kw_only=True):
    """What CLIP takes an object for, among the texts of its stream."""

    label: str | None  # nil: none is as likely as `labels.min_confidence`
    confidence: float  # of the likeliest text
    runners_up: list[tuple[str, float]]  # the next ones, the likeliest first


class Description(Record, frozen=True, kw_only=True):
    """What a model said of an object when it was asked."""

    text: str
    model: str
    time: float


class ObjectRecord(Record, frozen=True, kw_only=True):
    object: int
    state: ObjectState
    score: float | None = None  # nil: not processed yet
    presence: float | None = None
    box: BoxXyxy | None = None
    area: int = 0
    outline: Outline = []
    age: int = 0  # frames processed since the object was added
    label: str | None = None
    meta: dict[str, Any] = {}
    guess: Guess | UnsetType = UNSET  # only with `labels`, once it was looked at
    description: Description | UnsetType = UNSET  # only with `describe`, once it was asked for
    behind: int | UnsetType = UNSET  # frames still to catch up; only while pending
    mask: Rle | UnsetType = UNSET  # only with `publish.masks: rle`


class MovedObject(Record, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What goes with an object's memory from one daemon to another."""

    object: ObjectId
    frame: FrameIndex  # the last one that its memory has seen
    size_wh: tuple[Side, Side]  # of that frame
    label: Label | None
    meta: dict[str, Any]
    expire_s: Annotated[float, Meta(gt=0)] | None
    age: Annotated[int, Meta(ge=0, le=2**52)]
    lost_for_s: Annotated[float, Meta(ge=0, le=1e9)] | None  # nil: it is visible

    def __post_init__(self) -> None:
        if len(msgspec.msgpack.encode(self.meta)) > MAX_META_BYTES:
            raise ValueError(f"meta takes more than {MAX_META_BYTES} bytes")


class BufferRecord(Record, frozen=True, kw_only=True):
    oldest: int | None = None  # frame indices
    newest: int | None = None
    seconds: float = 0.0
    bytes: int = 0


class StreamRecord(Record, frozen=True, kw_only=True):
    stream: str
    url: str  # credentials and query redacted
    state: StreamState
    size: SizeWh | None = None
    fps: float | None = None
    frame: int | None = None  # newest decoded
    step: int = 0
    epoch: int = 0
    buffer: BufferRecord = BufferRecord()
    decoded: int = 0
    dropped: int = 0
    corrupt: int = 0
    reconnects: int = 0
    objects: int = 0
    error: str | None = None
    owner: str | UnsetType = UNSET  # as `streams.add` was given it


class ZoneCounts(Record, frozen=True, kw_only=True):
    """Of a polygon who entered, left and is inside; of a line who crossed it, as one looks along it."""

    entered: int | UnsetType = UNSET
    left: int | UnsetType = UNSET
    inside: list[int] | UnsetType = UNSET  # objects, lost ones included: the zone's occupancy
    to_left: int | UnsetType = UNSET
    to_right: int | UnsetType = UNSET
