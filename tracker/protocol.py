"""The messages of protocol version 1, one frozen struct each, and the one table of operations.

Requests refuse keys that they do not know; `tracker.wire` turns structs into bytes and back and `tracker.prompts`
makes prompts of them. `docs/protocol.md` is the contract in prose: what is not described there is a bug.
"""

from typing import Annotated, Any, Literal

import msgspec
from msgspec import UNSET, Meta, Struct, UnsetType

from tracker.config import STREAM_NAME, Count, NonNegative, Positive, StreamConfig
from tracker.errors import TooLarge

VERSION = 1
MAX_META_BYTES = 4096
MAX_PROMPT_POINTS = 256
MAX_OBJECT = 2**31 - 1

StreamId = Annotated[str, Meta(pattern=STREAM_NAME)]
ObjectId = Annotated[int, Meta(ge=1, le=MAX_OBJECT)]
FrameIndex = Annotated[int, Meta(ge=0, le=2**53)]
Label = Annotated[str, Meta(max_length=256)]
Unit = Annotated[float, Meta(ge=0, le=1)]
SizeWh = tuple[int, int]
BoxXyxy = tuple[int, int, int, int]
Outline = list[list[list[int]]]
ImageFormat = Literal["jpeg", "png"]
StreamState = Literal["connecting", "live", "stalled", "paused", "ended", "failed"]
ObjectState = Literal["visible", "lost", "pending"]
EventName = Literal[
    "object_added",
    "object_refined",
    "object_caught_up",
    "object_lost",
    "object_found",
    "object_removed",
    "object_expired",
    "stream_added",
    "stream_live",
    "stream_stalled",
    "stream_down",
    "stream_paused",
    "stream_ended",
    "stream_failed",
    "stream_resized",
    "stream_removed",
    "segment_progress",
    "overload",
    "persist_failed",
    "persist_recovered",
    "daemon_stopping",
]


class Rle(Struct, frozen=True, forbid_unknown_fields=True):
    """A mask as COCO's compressed run lengths; `size` is [h, w], unlike every other size here."""

    size: tuple[Count, Count]
    counts: bytes


# ---------------------------------------------------------------------------------------------------- requests


class Args(Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True, kw_only=True):
    """Base of what an operation takes. Errors that concern several fields are found in `__post_init__`."""


class Prompted(Args, frozen=True, kw_only=True):
    """The fields that mark an object; `tracker.prompts.prompt_of` checks them against a frame."""

    points: list[tuple[float, float]] | None = None
    labels: list[int] | None = None
    box: tuple[float, float, float, float] | None = None
    mask: Rle | None = None


class ServerInfoArgs(Args, frozen=True, kw_only=True):
    pass


class StreamsListArgs(Args, frozen=True, kw_only=True):
    pass


class StreamsAdd(StreamConfig, frozen=True, omit_defaults=True, kw_only=True):
    """A stream's name and everything that the configuration says of a stream."""

    stream: StreamId

    def config(self) -> StreamConfig:
        fields = StreamConfig.__struct_fields__
        return StreamConfig(**{name: getattr(self, name) for name in fields})


class StreamName(Args, frozen=True, kw_only=True):
    stream: StreamId


class FramesGet(Args, frozen=True, kw_only=True):
    stream: StreamId
    frame: FrameIndex | None = None
    format: ImageFormat = "jpeg"
    max_width: Annotated[int, Meta(ge=16, le=16384)] | None = None
    overlay: bool = False


class ObjectsAdd(Prompted, frozen=True, kw_only=True):
    stream: StreamId
    frame: FrameIndex | None = None
    time: float | None = None
    object: ObjectId | None = None
    label: Label | None = None
    meta: dict[str, Any] = {}
    expire_s: Positive | None = None

    def __post_init__(self) -> None:
        _frame_or_time(self.frame, self.time)
        _check_meta(self.meta)


class Detection(Args, frozen=True, kw_only=True):
    box: tuple[float, float, float, float]
    label: Label | None = None
    score: Unit | None = None
    meta: dict[str, Any] = {}

    def __post_init__(self) -> None:
        _check_meta(self.meta)


class ObjectsAddMany(Args, frozen=True, kw_only=True):
    stream: StreamId
    detections: Annotated[list[Detection], Meta(min_length=1)]
    frame: FrameIndex | None = None
    time: float | None = None
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


class SegmentPrompt(Prompted, frozen=True, kw_only=True):
    stream: StreamId
    frame: FrameIndex | None = None
    ref: str | None = None
    multimask: bool = False

    def __post_init__(self) -> None:
        if self.mask is not None and self.ref is not None:
            raise ValueError("mask and ref exclude each other: both are the previous mask")


class SegmentAll(Args, frozen=True, kw_only=True):
    """The knobs of SAM 2's automatic mask generator under their official names."""

    stream: StreamId
    frame: FrameIndex | None = None
    points_per_side: Annotated[int, Meta(ge=1, le=64)] = 32
    points_per_batch: Annotated[int, Meta(ge=1, le=1024)] = 64
    pred_iou_thresh: Unit = 0.8
    stability_score_thresh: Unit = 0.95
    stability_score_offset: NonNegative = 1.0
    box_nms_thresh: Unit = 0.7
    crop_n_layers: Annotated[int, Meta(ge=0, le=3)] = 0
    crop_nms_thresh: Unit = 0.7
    crop_overlap_ratio: Annotated[float, Meta(ge=0, lt=1)] = 512 / 1500
    crop_n_points_downscale_factor: Annotated[int, Meta(ge=1, le=8)] = 1
    min_mask_region_area: Annotated[int, Meta(ge=0)] = 0
    multimask: bool = True
    max_masks: Annotated[int, Meta(ge=1, le=4096)] = 256
    exclusive: bool = False
    track: bool = False


class SegmentCancel(Args, frozen=True, kw_only=True):
    """`id` is the `id` of the `segment.all` request."""

    id: Any


class HistoryList(Args, frozen=True, kw_only=True):
    stream: StreamId | None = None
    object: ObjectId | None = None
    since: float | None = None  # Unix seconds
    limit: Annotated[int, Meta(ge=1, le=4096)] = 100


OPERATIONS: dict[str, type[Struct]] = {
    "server.info": ServerInfoArgs,
    "streams.list": StreamsListArgs,
    "streams.add": StreamsAdd,
    "streams.remove": StreamName,
    "streams.pause": StreamName,
    "streams.resume": StreamName,
    "frames.get": FramesGet,
    "objects.add": ObjectsAdd,
    "objects.add_many": ObjectsAddMany,
    "objects.refine": ObjectsRefine,
    "objects.update": ObjectsUpdate,
    "objects.remove": ObjectsRemove,
    "objects.list": ObjectsList,
    "segment.prompt": SegmentPrompt,
    "segment.all": SegmentAll,
    "segment.cancel": SegmentCancel,
    "history.list": HistoryList,
}


def _frame_or_time(frame: int | None, time: float | None) -> None:
    if frame is not None and time is not None:
        raise ValueError("frame and time exclude each other: give one of them")


def _check_meta(meta: dict[str, Any]) -> None:
    nbytes = len(msgspec.msgpack.encode(meta))
    if nbytes > MAX_META_BYTES:
        raise TooLarge(f"meta takes {nbytes} bytes as msgpack; at most {MAX_META_BYTES} are kept")


# ----------------------------------------------------------------------------- records in replies and messages


class Record(Struct, frozen=True, kw_only=True):
    """Base of what the daemon sends. Readers ignore keys they do not know; UNSET fields stay off the wire."""


class Guess(Record, frozen=True, kw_only=True):
    """What CLIP takes an object for, among the texts of its stream."""

    label: str | None  # nil: none is as likely as `labels.min_confidence`
    confidence: float  # of the likeliest text
    runners_up: list[tuple[str, float]]  # the next ones, the likeliest first


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
    behind: int | UnsetType = UNSET  # frames still to catch up; only while pending
    mask: Rle | UnsetType = UNSET  # only with `publish.masks: rle`


class ObjectEntry(ObjectRecord, frozen=True, kw_only=True):
    """An object's record by itself, outside of its stream's `tracks`."""

    stream: str
    frame: int | None


class ObjectResult(ObjectEntry, frozen=True, kw_only=True):
    """What `objects.add` and `objects.refine` answer: the record on the prompted frame."""

    epoch: int
    durable: bool


class ObjectList(Record, frozen=True, kw_only=True):
    objects: list[ObjectEntry]


class Match(Record, frozen=True, kw_only=True):
    object: int | None  # nil: there was nothing in the box
    added: bool
    iou: float | None  # with the tracked object that it matched; nil where it was added


class AddedMany(Record, frozen=True, kw_only=True):
    stream: str
    frame: int
    objects: list[Match]


class Removed(Record, frozen=True, kw_only=True):
    removed: list[int]


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
    parts: int = 8
    request_bytes: int = 2**20
    array_items: int = 4096
    values: int = 65536
    nesting: int = 16
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


# --------------------------------------------------------------------------------------------------- published


class Published(Record, frozen=True, kw_only=True):
    """Base of published messages: the publisher fills in these four."""

    v: int = VERSION
    instance: str = ""
    seq: int = 0
    published_mono_ns: int = 0


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
    id: Any = UNSET
    done: int | UnsetType = UNSET
    total: int | UnsetType = UNSET


class EventList(Record, frozen=True, kw_only=True):
    events: list[Event]


class FrameMessage(Published, frozen=True, kw_only=True):
    """Goes with a third part: the image."""

    stream: str
    frame: int
    time: float
    size: SizeWh  # of the source frame
    format: ImageFormat


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
