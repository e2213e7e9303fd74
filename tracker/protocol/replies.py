"""Records in replies and in published messages, one frozen struct each."""

from typing import Annotated, Any, Literal

import msgspec
from msgspec import UNSET, Meta, Struct, UnsetType

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
    EventName,
    FrameIndex,
    ImageFormat,
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
    notes: dict[str, str] = {}  # what programs beside the daemon say, by their names
    protocol: int = VERSION


class FrameImage(Record, frozen=True, kw_only=True):
    """`size` is the source frame's, in whose pixels everything is measured; `data` may be scaled down."""

    stream: str
    frame: int
    time: float
    size: SizeWh
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


class Published(Record, frozen=True, kw_only=True):
    """Base of published messages: the publisher fills in these four."""

    v: int = VERSION
    instance: str = ""
    seq: int = 0
    published_mono_ns: int = 0


class SimilarHit(Record, frozen=True, kw_only=True):
    """How an object looked at some time, and how much that is like what was asked for."""

    stream: str
    object: int
    frame: int
    time: float
    box: BoxXyxy
    label: str | None
    score: float
    thumbnail: bytes  # JPEG
    kind: str


class SimilarFound(Record, frozen=True, kw_only=True):
    hits: list[SimilarHit]
    left_out: int  # looks of other models, which cannot be compared


class WatchRecord(Record, frozen=True, kw_only=True):
    """A look that is waited for."""

    watch: int
    name: str
    threshold: float
    time: float
    thumbnail: bytes
    durable: bool


class WatchList(Record, frozen=True, kw_only=True):
    watched: list[WatchRecord]


class ZoneCounts(Record, frozen=True, kw_only=True):
    """Of a polygon who entered, left and is inside; of a line who crossed it, as one looks along it."""

    entered: int | UnsetType = UNSET
    left: int | UnsetType = UNSET
    inside: list[int] | UnsetType = UNSET  # objects, lost ones included: the zone's occupancy
    to_left: int | UnsetType = UNSET
    to_right: int | UnsetType = UNSET


class ZoneRecord(Record, frozen=True, kw_only=True):
    stream: str
    zone: str
    settings: ZoneConfig
    counts: ZoneCounts


class ZoneList(Record, frozen=True, kw_only=True):
    zones: list[ZoneRecord]


class Tracks(Published, frozen=True, kw_only=True):
    stream: str
    frame: int
    step: int
    epoch: int
    pts: float | None
    time: float
    camera_time: float | None
    mono_ns: int
    model_mono_ns: tuple[int, int] | None = None  # began, ended
    size: SizeWh
    dropped: int
    objects: list[ObjectRecord]
    zones: dict[str, ZoneCounts] | UnsetType = UNSET  # only where the stream has zones
    owner: str | UnsetType = UNSET


class Event(Published, frozen=True, kw_only=True):
    """Something changed. Which of the UNSET fields an event carries, `docs/protocol.md` says."""

    event: EventName
    stream: str
    frame: int | None
    epoch: int
    time: float
    object: int | UnsetType = UNSET
    label: str | UnsetType | None = UNSET
    message: str | UnsetType = UNSET
    size: SizeWh | UnsetType = UNSET
    watch: int | UnsetType = UNSET
    score: float | UnsetType = UNSET
    zone: str | UnsetType = UNSET
    direction: Literal["to_left", "to_right"] | UnsetType = UNSET
    dwell_s: float | UnsetType = UNSET
    id: Any = UNSET
    done: int | UnsetType = UNSET
    total: int | UnsetType = UNSET
    owner: str | UnsetType = UNSET


class EventList(Record, frozen=True, kw_only=True):
    events: list[Event]


class FrameMessage(Published, frozen=True, kw_only=True):
    """Goes with a third part: the image."""

    stream: str
    frame: int
    time: float
    size: SizeWh  # of the source frame
    format: ImageFormat
    owner: str | UnsetType = UNSET


class DeviceMemory(Record, frozen=True, kw_only=True):
    device: str
    used_bytes: int
    total_bytes: int


class StepTimes(Record, frozen=True, kw_only=True):
    """Milliseconds of the engine's steps since the last status; all 0 where there was none."""

    count: int = 0
    p50_ms: float = 0.0
    p99_ms: float = 0.0
    max_ms: float = 0.0
    cpu_ms: float = 0.0  # processor time of the daemon's main thread in all of them together


class Status(Published, frozen=True, kw_only=True):
    time: float
    streams: list[StreamRecord]
    memory: DeviceMemory
    steps: StepTimes
