"""What requests take beside their first arguments, as keywords of their functions."""

from typing import TYPE_CHECKING, Any, TypedDict

if TYPE_CHECKING:
    from numpy.typing import ArrayLike


class Marks(TypedDict, total=False):
    """What marks an object, in pixels of the source frame: x right, y down. Lists, tuples and arrays will do."""

    points: "ArrayLike"  # [n, 2]: x, y
    labels: "ArrayLike"  # [n]: 1 on the object, 0 off it; absent: all 1
    box: "ArrayLike"  # [4]: x1, y1, x2, y2
    mask: "ArrayLike"  # [h, w] at the source's size, not 0 on the object; stands alone


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


class LookOptions(Marks, total=False):
    stream: str
    object: int
    frame: int
    picture: bytes


class SimilarOptions(LookOptions, total=False):
    text: str
    on: str
    since: float
    until: float
    label: str
    limit: int


class WatchOptions(LookOptions, total=False):
    threshold: float
