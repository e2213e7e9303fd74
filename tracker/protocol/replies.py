"""What each operation answers, one frozen struct each; `tracker.protocol.operations` has the table."""

from typing import Any, Literal

from msgspec import UNSET, UnsetType, field

from tracker.config import ZoneConfig
from tracker.protocol.fields import (
    MAX_BYTES,
    MAX_ITEMS,
    MAX_META_BYTES,
    MAX_NESTING,
    MAX_PARTS,
    MAX_PROMPT_POINTS,
    MAX_VALUES,
    VERSION,
    BoxXyxy,
    ImageFormat,
    Outline,
    SizeWh,
)
from tracker.protocol.messages import Event
from tracker.protocol.records import Description, MovedObject, ObjectRecord, Record, StreamRecord, ZoneCounts


class ObjectEntry(ObjectRecord, frozen=True, kw_only=True):
    """An object's record by itself, outside of its stream's `tracks`."""

    stream: str
    frame: int | None


class UpdatedObject(ObjectEntry, frozen=True, kw_only=True):
    """What `objects.update` answers."""

    durable: bool  # whether the change is on disk


class ObjectResult(ObjectEntry, frozen=True, kw_only=True):
    """What `objects.add` and `objects.refine` answer: the record on the prompted frame."""

    epoch: int
    durable: bool


class Maybe(Record, frozen=True, kw_only=True):
    """An object that was lost of late and looks like one that was added."""

    object: int
    score: float


class AddedObject(ObjectResult, frozen=True, kw_only=True):
    """What `objects.add` answers."""

    maybe: list[Maybe] | UnsetType = UNSET  # best first; absent: none


class DescribedObject(Description, frozen=True, kw_only=True):
    """What `objects.describe` answers."""

    stream: str
    object: int


class WaitingObject(Record, frozen=True, kw_only=True):
    """An object that is kept and not tracked: its stream is not there, or its memory cannot be used."""

    object: int
    stream: str
    frame: int  # the last one that it was tracked on
    label: str | None
    meta: dict[str, Any]


class ObjectList(Record, frozen=True, kw_only=True):
    objects: list[ObjectEntry]
    waiting: list[WaitingObject] | UnsetType = UNSET  # only with `all: true`


class Match(Record, frozen=True, kw_only=True):
    object: int | None  # nil: there was nothing in the box, or it was refused
    added: bool
    iou: float | None  # with the tracked object that it matched; nil where it was added
    refused: str | UnsetType = UNSET  # why the box was not looked at


class AddedMany(Record, frozen=True, kw_only=True):
    stream: str
    frame: int
    objects: list[Match]
    durable: bool = False


class Removed(Record, frozen=True, kw_only=True):
    removed: list[int]
    durable: bool = False


class ExportedChunk(Record, frozen=True, kw_only=True):
    """A part of an object's memory, a safetensors file."""

    token: str
    record: MovedObject
    size: int  # bytes of the whole memory
    offset: int
    data: bytes


class Imported(Record, frozen=True, kw_only=True):
    stream: str
    received: int  # bytes so far
    object: int | None  # once all were received
    durable: bool | UnsetType = False  # with the last chunk: nothing is kept before


class StreamList(Record, frozen=True, kw_only=True):
    streams: list[StreamRecord]


class ModelInfo(Record, frozen=True, kw_only=True):
    name: str
    image_size: int
    device: str
    dtype: str
    sha256: str | None


class Limits(Record, frozen=True, kw_only=True):
    objects: int
    objects_free: int
    history_frames: int
    parts: int = MAX_PARTS
    request_bytes: int = MAX_BYTES
    array_items: int = MAX_ITEMS
    values: int = MAX_VALUES
    nesting: int = MAX_NESTING
    prompt_points: int = MAX_PROMPT_POINTS
    meta_bytes: int = MAX_META_BYTES


class ServerInfo(Record, frozen=True, kw_only=True):
    name: str
    version: str
    pid: int
    uptime_s: float
    model: ModelInfo
    limits: Limits
    publish: str  # the endpoint to subscribe to
    notes: dict[str, str] = field(default_factory=dict)  # what programs beside the daemon say, by their names
    protocol: int = VERSION


class FrameImage(Record, frozen=True, kw_only=True):
    """`size` is the source frame's, in whose pixels everything is measured; `data` may be scaled down."""

    stream: str
    frame: int
    time: float
    size: SizeWh
    pixel_aspect: tuple[int, int] | UnsetType = UNSET  # as in `tracks`
    format: ImageFormat
    data: bytes


class Candidate(Record, frozen=True, kw_only=True):
    score: float
    box: BoxXyxy | None
    area: int
    outline: Outline
    ref: str


class Candidates(Record, frozen=True, kw_only=True):
    stream: str
    frame: int
    candidates: list[Candidate]


class FoundMask(Record, frozen=True, kw_only=True):
    score: float
    stability: float
    box: BoxXyxy
    area: int
    outline: Outline
    object: int | UnsetType = UNSET  # only with `track: true`


class FoundMasks(Record, frozen=True, kw_only=True):
    stream: str
    frame: int
    masks: list[FoundMask]
    durable: bool | UnsetType = UNSET  # only with `track: true`


class Empty(Record, frozen=True, kw_only=True):
    pass


class Reply(Record, frozen=True, kw_only=True):
    id: Any
    result: Any
    instance: str
    ok: Literal[True] = True
    v: int = VERSION


class ErrorBody(Record, frozen=True, kw_only=True):
    code: str
    message: str


class ErrorReply(Record, frozen=True, kw_only=True):
    id: Any
    error: ErrorBody
    instance: str
    ok: Literal[False] = False
    v: int = VERSION


class ZoneRecord(Record, frozen=True, kw_only=True):
    stream: str
    zone: str
    settings: ZoneConfig
    counts: ZoneCounts


class ZoneList(Record, frozen=True, kw_only=True):
    zones: list[ZoneRecord]


class EventList(Record, frozen=True, kw_only=True):
    events: list[Event]
