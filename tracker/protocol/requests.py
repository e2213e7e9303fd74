"""What each operation takes, one frozen struct each; `tracker.protocol.operations` has the table.

Requests refuse keys that they do not know; `tracker.protocol.codec` turns bytes into structs and
`tracker.protocol.prompts` makes prompts of them. `docs/protocol.md` is the contract in prose: what is not described
there is a bug.
"""

from typing import Annotated, Any

import msgspec
from msgspec import UNSET, Meta, Struct, UnsetType

from tracker.config import (
    PLAIN_TEXT,
    PRED_IOU_THRESH,
    STABILITY_SCORE_THRESH,
    NonNegative,
    PointsPerSide,
    Positive,
    StreamConfig,
    Unit,
    ZoneConfig,
    ZoneName,
)
from tracker.errors import TooLarge
from tracker.protocol.fields import (
    MAX_CHUNK_BYTES,
    MAX_ITEMS,
    MAX_META_BYTES,
    MAX_PICTURE_BYTES,
    MAX_PIN_S,
    FrameIndex,
    ImageFormat,
    Label,
    ObjectId,
    Owner,
    Rle,
    StreamId,
)
from tracker.protocol.replies import MovedObject


class Args(Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True, kw_only=True):
    """Base of what an operation takes. Errors that concern several fields are found in `__post_init__`."""


class Prompted(Args, frozen=True, kw_only=True):
    """The fields that mark an object; `tracker.protocol.prompts.prompt_of` checks them against a frame."""

    points: list[tuple[float, float]] | None = None
    labels: list[int] | None = None
    box: tuple[float, float, float, float] | None = None
    mask: Rle | None = None


class ServerInfoArgs(Args, frozen=True, kw_only=True):
    pass


class ServerNote(Args, frozen=True, kw_only=True):
    """What a program beside the daemon wants people to know; nil: it is well again."""

    name: Annotated[str, Meta(pattern=r"^[a-z][a-z0-9_-]{0,31}\Z")]
    message: Annotated[str, Meta(min_length=1, max_length=256, pattern=PLAIN_TEXT)] | None = None


class StreamsListArgs(Args, frozen=True, kw_only=True):
    pass


class StreamsAdd(StreamConfig, frozen=True, omit_defaults=True, kw_only=True):
    """A stream's name and everything that the configuration says of a stream."""

    stream: StreamId
    first_frame: Annotated[int, Meta(ge=0, le=2**52)] = 0
    epoch: Annotated[int, Meta(ge=0, le=2**52)] = 0
    first_object: ObjectId = 1
    owner: Owner | None = None

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
    pin_s: Annotated[float, Meta(gt=0, le=MAX_PIN_S)] | None = None


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


class SegmentPrompt(Prompted, frozen=True, kw_only=True):
    stream: StreamId
    frame: FrameIndex | None = None
    ref: str | None = None
    multimask: bool = False

    def __post_init__(self) -> None:
        if self.mask is not None and self.ref is not None:
            raise ValueError("mask and ref exclude each other: both are the previous mask")


class SearchOptions(Args, frozen=True, kw_only=True):
    """The knobs of SAM 2's automatic mask generator under their official names, as `SAM2AutomaticMaskGenerator`
    explains them; areas in pixels of the source."""

    points_per_side: PointsPerSide = 32
    points_per_batch: Annotated[int, Meta(ge=1, le=1024)] = 64
    pred_iou_thresh: Unit = PRED_IOU_THRESH
    stability_score_thresh: Unit = STABILITY_SCORE_THRESH
    stability_score_offset: NonNegative = 1.0
    box_nms_thresh: Unit = 0.7
    crop_n_layers: Annotated[int, Meta(ge=0, le=3)] = 0
    crop_nms_thresh: Unit = 0.7
    crop_overlap_ratio: Annotated[float, Meta(ge=0, lt=1)] = 512 / 1500
    crop_n_points_downscale_factor: Annotated[int, Meta(ge=1, le=8)] = 1
    min_mask_region_area: Annotated[int, Meta(ge=0)] = 0
    multimask: bool = True


class SegmentAll(SearchOptions, frozen=True, kw_only=True):
    stream: StreamId
    frame: FrameIndex | None = None
    max_masks: Annotated[int, Meta(ge=1, le=MAX_ITEMS)] = 256
    exclusive: bool = False
    track: bool = False


class SegmentCancel(Args, frozen=True, kw_only=True):
    """`id` is the `id` of the `segment.all` request."""

    id: Any


class ObjectsDescribe(Args, frozen=True, kw_only=True):
    stream: StreamId
    object: ObjectId
    question: Annotated[str, Meta(min_length=1, max_length=2000)] | None = None


class LookMarks(Prompted, frozen=True, kw_only=True):
    """A look: an object's (`stream` and `object`), or that of what is marked on a frame or on a picture file."""

    stream: StreamId | None = None
    object: ObjectId | None = None
    frame: FrameIndex | None = None
    picture: Annotated[bytes, Meta(max_length=MAX_PICTURE_BYTES)] | None = None

    def __post_init__(self) -> None:
        marked = any(mark is not None for mark in (self.points, self.box, self.mask))
        if (self.picture is None) == (self.stream is None):
            raise ValueError("give either stream, with an object or marks, or picture, with marks")
        if (self.object is None) != marked:
            raise ValueError("give either object or marks (points, box or mask), so that it is clear what is meant")
        if self.object is not None and (self.picture is not None or self.frame is not None):
            raise ValueError("object: its looks are kept already; leave frame and picture out")
        if self.picture is not None and self.frame is not None:
            raise ValueError("frame: a picture has none")


class SearchSimilar(LookMarks, frozen=True, kw_only=True):
    text: Annotated[str, Meta(min_length=1, max_length=256, pattern=PLAIN_TEXT)] | None = None  # instead of a look
    on: StreamId | None = None  # only what was seen there
    since: float | None = None  # Unix seconds
    until: float | None = None
    label: Label | None = None
    limit: Annotated[int, Meta(ge=1, le=100)] = 20

    def __post_init__(self) -> None:
        if self.text is None:
            super().__post_init__()
            return
        others = (self.stream, self.object, self.frame, self.picture, self.points, self.labels, self.box, self.mask)
        if any(other is not None for other in others):
            raise ValueError("text: it is what is looked for; leave stream, object, frame, picture and marks out")


class WatchAdd(LookMarks, frozen=True, kw_only=True):
    name: Annotated[str, Meta(min_length=1, max_length=256, pattern=PLAIN_TEXT)]
    threshold: Unit = 0.9


class WatchListArgs(Args, frozen=True, kw_only=True):
    pass


class WatchRemove(Args, frozen=True, kw_only=True):
    watch: Annotated[int, Meta(ge=1)]


class ZonesSet(ZoneConfig, frozen=True, omit_defaults=True, kw_only=True):
    """A zone's name and everything that the configuration says of a zone."""

    stream: StreamId
    zone: ZoneName

    def config(self) -> ZoneConfig:
        fields = ZoneConfig.__struct_fields__
        return ZoneConfig(**{name: getattr(self, name) for name in fields})


class ZonesRemove(Args, frozen=True, kw_only=True):
    stream: StreamId
    zone: ZoneName


class ZonesList(Args, frozen=True, kw_only=True):
    stream: StreamId | None = None


class HistoryList(Args, frozen=True, kw_only=True):
    stream: StreamId | None = None
    object: ObjectId | None = None
    since: float | None = None  # Unix seconds
    limit: Annotated[int, Meta(ge=1, le=MAX_ITEMS)] = 100

    def __post_init__(self) -> None:
        if self.object is not None and self.stream is None:
            raise ValueError("object: an id means nothing without its stream; give both")


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
