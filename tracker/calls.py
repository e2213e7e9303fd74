"""One function per operation: Python arguments in, a typed request out. `tracker.client` makes methods of them."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypedDict, TypeVar, Unpack

import numpy as np
from msgspec import Struct, structs
from numpy.typing import NDArray

from tracker import protocol as p
from tracker.config import StreamConfig
from tracker.rle import rle_encode

R = TypeVar("R", bound=Struct)

SEGMENT_ALL_S = 600.0
Point = tuple[float, float]
Box = tuple[float, float, float, float]


@dataclass(frozen=True, slots=True)
class Ask(Generic[R]):
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


def info() -> Ask[p.ServerInfo]:
    """Name, version, model and limits of the daemon."""
    return Ask("server.info", p.ServerInfoArgs(), p.ServerInfo)


def streams() -> Ask[p.StreamList]:
    """Every stream's record."""
    return Ask("streams.list", p.StreamsListArgs(), p.StreamList)


def add_stream(stream: str, config: StreamConfig) -> Ask[p.StreamRecord]:
    """Open a source that the daemon's `control.allow_sources` admits."""
    return Ask("streams.add", p.StreamsAdd(stream=stream, **structs.asdict(config)), p.StreamRecord)


def remove_stream(stream: str) -> Ask[p.StreamRecord]:
    """Close a stream and forget its objects."""
    return Ask("streams.remove", p.StreamName(stream=stream), p.StreamRecord)


def pause_stream(stream: str) -> Ask[p.StreamRecord]:
    """Stop reading a source until it is resumed."""
    return Ask("streams.pause", p.StreamName(stream=stream), p.StreamRecord)


def resume_stream(stream: str) -> Ask[p.StreamRecord]:
    """Read a paused source again."""
    return Ask("streams.resume", p.StreamName(stream=stream), p.StreamRecord)


def snapshot(
    stream: str,
    frame: int | None = None,
    format: p.ImageFormat = "jpeg",
    max_width: int | None = None,
    overlay: bool = False,
) -> Ask[p.FrameImage]:
    """A buffered frame as an image file's bytes; the newest unless `frame` names another."""
    args = p.FramesGet(stream=stream, frame=frame, format=format, max_width=max_width, overlay=overlay)
    return Ask("frames.get", args, p.FrameImage)


def add(stream: str, **options: Unpack[AddOptions]) -> Ask[p.ObjectResult]:
    """Track a new object, marked by points, a box, both, or a mask."""
    return Ask("objects.add", p.ObjectsAdd(stream=stream, **_encoded(options)), p.ObjectResult)


def add_many(
    stream: str,
    detections: Sequence[p.Detection],
    frame: int | None = None,
    time: float | None = None,
    match_iou: float = 0.5,
) -> Ask[p.AddedMany]:
    """Give a detector's boxes: those that match tracked objects are reported, the others are added."""
    args = p.ObjectsAddMany(stream=stream, detections=list(detections), frame=frame, time=time, match_iou=match_iou)
    return Ask("objects.add_many", args, p.AddedMany)


def refine(stream: str, object: int, **options: Unpack[RefineOptions]) -> Ask[p.ObjectResult]:
    """Correct an object on a frame by further points, a box or a mask."""
    args = p.ObjectsRefine(stream=stream, object=object, **_encoded(options))
    return Ask("objects.refine", args, p.ObjectResult)


def update(stream: str, object: int, **options: Unpack[UpdateOptions]) -> Ask[p.ObjectEntry]:
    """Change an object's label, meta or expiry."""
    return Ask("objects.update", p.ObjectsUpdate(stream=stream, object=object, **options), p.ObjectEntry)


def remove(stream: str, object: int | None = None, *, all: bool = False) -> Ask[p.Removed]:
    """Stop tracking one object, or all of a stream's."""
    return Ask("objects.remove", p.ObjectsRemove(stream=stream, object=object, all=all), p.Removed)


def objects(stream: str | None = None) -> Ask[p.ObjectList]:
    """The records of all objects, or of one stream's."""
    return Ask("objects.list", p.ObjectsList(stream=stream), p.ObjectList)


def segment(stream: str, **options: Unpack[SegmentOptions]) -> Ask[p.Candidates]:
    """Masks of what is marked on a frame, best first; nothing is tracked."""
    return Ask("segment.prompt", p.SegmentPrompt(stream=stream, **_encoded(options)), p.Candidates)


def segment_all(
    stream: str, job: str | None = None, timeout_s: float = SEGMENT_ALL_S, **options: Unpack[SegmentAllOptions]
) -> Ask[p.FoundMasks]:
    """Find everything in a frame. `job` is the id by which it can be cancelled."""
    return Ask("segment.all", p.SegmentAll(stream=stream, **options), p.FoundMasks, job, timeout_s)


def cancel_segment_all(job: str) -> Ask[p.Empty]:
    """End a running `segment_all`."""
    return Ask("segment.cancel", p.SegmentCancel(id=job), p.Empty)


def history(
    stream: str | None = None, object: int | None = None, since: float | None = None, limit: int = 100
) -> Ask[p.EventList]:
    """Past events, the newest last."""
    args = p.HistoryList(stream=stream, object=object, since=since, limit=limit)
    return Ask("history.list", args, p.EventList)


def _encoded(options: AddOptions | RefineOptions | SegmentOptions) -> dict[str, Any]:
    fields: dict[str, Any] = dict(options)
    mask_hw = fields.get("mask")
    if mask_hw is not None:
        fields["mask"] = p.Rle(mask_hw.shape, rle_encode(mask_hw))
    return fields
