"""What each operation takes, one frozen struct each; `tracker.protocol.operations` has the table.

Requests refuse keys that they do not know; `tracker.protocol.codec` turns bytes into structs and
`tracker.protocol.prompts` makes prompts of them. `docs/protocol.md` is the contract in prose: what is not described
there is a bug.
"""

from typing import Annotated, Any

from msgspec import Meta, Struct

from tracker.config import (
    PLAIN_TEXT,
    PRED_IOU_THRESH,
    STABILITY_SCORE_THRESH,
    NonNegative,
    PointsPerSide,
    StreamConfig,
    Unit,
    ZoneConfig,
    ZoneName,
)
from tracker.protocol.fields import (
    MAX_ITEMS,
    MAX_PIN_S,
    FrameIndex,
    ImageFormat,
    ObjectId,
    Owner,
    Rle,
    StreamId,
    UnixTime,
)


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
    since: UnixTime | None = None
    limit: Annotated[int, Meta(ge=1, le=MAX_ITEMS)] = 100

    def __post_init__(self) -> None:
        if self.object is not None and self.stream is None:
            raise ValueError("object: an id means nothing without its stream; give both")
