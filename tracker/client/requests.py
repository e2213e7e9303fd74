"""One function per operation: Python arguments in, a typed request out. `tracker.client` makes methods of them."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypedDict, TypeVar, Unpack

import numpy as np
from msgspec import Struct, structs
from numpy.typing import NDArray

from tracker.config import StreamConfig
from tracker.masks.rle import rle_encode
from tracker.protocol import replies, requests
from tracker.protocol.fields import ImageFormat, Rle

R = TypeVar("R", bound=Struct)

SEGMENT_ALL_S = 600.0
Point = tuple[float, float]
Box = tuple[float, float, float, float]


@dataclass(frozen=True, slots=True)
class Request(Generic[R]):
    """A request, and the record that answers it."""

    op: str
    args: Struct
    result: type[R]
    id: str | None = None
    timeout_s: float | None = None  # None: the client's own


class Marks(TypedDict, total=False):
    """What marks an object, in pixels of the source frame: x right, y down."""

    points: Sequence[Point]
    labels: Sequence[int]  # 1 on the object, 0 off it; absent: all 1
    box: Box  # x1, y1, x2, y2
    mask: NDArray[np.bool_]  # [h, w] at the source's size; stands alone


class AddOptions(Marks, total=False):
    frame: int  # absent: the newest
    time: float  # instead of frame: the buffered one nearest to these Unix seconds
    object: int  # absent: the next free id
    label: str
    meta: dict[str, Any]
    expire_s: float


class RefineOptions(Marks, total=False):
    frame: int
    replace: bool


class UpdateOptions(TypedDict, total=False):
    """What is absent stays; None takes a label or an expiry away."""

    label: str | None
    meta: dict[str, Any]
    expire_s: float | None


class SegmentOptions(Marks, total=False):
    frame: int
    ref: str
    multimask: bool


class SegmentAllOptions(TypedDict, total=False):
    frame: int
    points_per_side: int
    points_per_batch: int
    pred_iou_thresh: float
    stability_score_thresh: float
    stability_score_offset: float
    box_nms_thresh: float
    crop_n_layers: int
    crop_nms_thresh: float
    crop_overlap_ratio: float
    crop_n_points_downscale_factor: int
    min_mask_region_area: int
    multimask: bool
    max_masks: int
    exclusive: bool
    track: bool


def info() -> Request[replies.ServerInfo]:
    """Name, version, model and limits of the daemon."""
    return Request("server.info", requests.ServerInfoArgs(), replies.ServerInfo)


def streams() -> Request[replies.StreamList]:
    """Every stream's record."""
    return Request("streams.list", requests.StreamsListArgs(), replies.StreamList)


def add_stream(stream: str, config: StreamConfig) -> Request[replies.StreamRecord]:
    """Open a source that the daemon's `control.allow_sources` admits."""
    return Request(
        "streams.add", requests.StreamsAdd(stream=stream, **structs.asdict(config)), replies.StreamRecord
    )


def remove_stream(stream: str) -> Request[replies.StreamRecord]:
    """Close a stream and forget its objects."""
    return Request("streams.remove", requests.StreamName(stream=stream), replies.StreamRecord)


def pause_stream(stream: str) -> Request[replies.StreamRecord]:
    """Stop reading a source until it is resumed."""
    return Request("streams.pause", requests.StreamName(stream=stream), replies.StreamRecord)


def resume_stream(stream: str) -> Request[replies.StreamRecord]:
    """Read a paused source again."""
    return Request("streams.resume", requests.StreamName(stream=stream), replies.StreamRecord)


def snapshot(
    stream: str,
    frame: int | None = None,
    format: ImageFormat = "jpeg",
    max_width: int | None = None,
    overlay: bool = False,
) -> Request[replies.FrameImage]:
    """A buffered frame as an image file's bytes; the newest unless `frame` names another."""
    args = requests.FramesGet(stream=stream, frame=frame, format=format, max_width=max_width, overlay=overlay)
    return Request("frames.get", args, replies.FrameImage)


def add(stream: str, **options: Unpack[AddOptions]) -> Request[replies.ObjectResult]:
    """Track a new object, marked by points, a box, both, or a mask."""
    return Request("objects.add", requests.ObjectsAdd(stream=stream, **_encoded(options)), replies.ObjectResult)


def add_many(
    stream: str,
    detections: Sequence[requests.Detection],
    frame: int | None = None,
    time: float | None = None,
    match_iou: float = 0.5,
) -> Request[replies.AddedMany]:
    """Give a detector's boxes: those that match tracked objects are reported, the others are added."""
    args = requests.ObjectsAddMany(
        stream=stream, detections=list(detections), frame=frame, time=time, match_iou=match_iou
    )
    return Request("objects.add_many", args, replies.AddedMany)


def refine(stream: str, object: int, **options: Unpack[RefineOptions]) -> Request[replies.ObjectResult]:
    """Correct an object on a frame by further points, a box or a mask."""
    args = requests.ObjectsRefine(stream=stream, object=object, **_encoded(options))
    return Request("objects.refine", args, replies.ObjectResult)


def update(stream: str, object: int, **options: Unpack[UpdateOptions]) -> Request[replies.ObjectEntry]:
    """Change an object's label, meta or expiry."""
    return Request(
        "objects.update", requests.ObjectsUpdate(stream=stream, object=object, **options), replies.ObjectEntry
    )


def remove(stream: str, object: int | None = None, *, all: bool = False) -> Request[replies.Removed]:
    """Stop tracking one object, or all of a stream's."""
    return Request("objects.remove", requests.ObjectsRemove(stream=stream, object=object, all=all), replies.Removed)


def objects(stream: str | None = None) -> Request[replies.ObjectList]:
    """The records of all objects, or of one stream's."""
    return Request("objects.list", requests.ObjectsList(stream=stream), replies.ObjectList)


def segment(stream: str, **options: Unpack[SegmentOptions]) -> Request[replies.Candidates]:
    """Masks of what is marked on a frame, best first; nothing is tracked."""
    return Request("segment.prompt", requests.SegmentPrompt(stream=stream, **_encoded(options)), replies.Candidates)


def segment_all(
    stream: str, job: str | None = None, timeout_s: float = SEGMENT_ALL_S, **options: Unpack[SegmentAllOptions]
) -> Request[replies.FoundMasks]:
    """Find everything in a frame. `job` is the id by which it can be cancelled."""
    return Request("segment.all", requests.SegmentAll(stream=stream, **options), replies.FoundMasks, job, timeout_s)


def cancel_segment_all(job: str) -> Request[replies.Empty]:
    """End a running `segment_all`."""
    return Request("segment.cancel", requests.SegmentCancel(id=job), replies.Empty)


def history(
    stream: str | None = None, object: int | None = None, since: float | None = None, limit: int = 100
) -> Request[replies.EventList]:
    """Past events, the newest last."""
    args = requests.HistoryList(stream=stream, object=object, since=since, limit=limit)
    return Request("history.list", args, replies.EventList)


def _encoded(options: AddOptions | RefineOptions | SegmentOptions) -> dict[str, Any]:
    fields: dict[str, Any] = dict(options)
    mask_hw = fields.get("mask")
    if mask_hw is not None:
        fields["mask"] = Rle(mask_hw.shape, rle_encode(mask_hw))
    return fields
