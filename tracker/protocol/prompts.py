"""The prompt fields of a request, checked against the frame that they mark."""

import numpy as np

from tracker.errors import BadPrompt
from tracker.masks.rle import rle_decode
from tracker.protocol.fields import MAX_PROMPT_POINTS, Rle
from tracker.protocol.requests import Prompted
from tracker.types import F32, Bool, Prompt

Point = tuple[float, float]
Box = tuple[float, float, float, float]


def prompt_of(args: Prompted, size_wh: tuple[int, int]) -> Prompt:
    """The prompt in `args` on a frame of `size_wh`. Raises BadPrompt, which names the field and the remedy."""
    if not args.points and args.box is None and args.mask is None:
        raise BadPrompt("empty prompt: give points, box or mask")
    if args.mask is not None and (args.points or args.labels or args.box is not None):
        raise BadPrompt("mask: stands alone; leave out points, labels and box")
    points = args.points or []
    return Prompt(
        points_xy=_points(points, size_wh),
        labels_n=_labels(args.labels, len(points)),
        box_xyxy=None if args.box is None else box_of(args.box, size_wh),
        mask_hw=None if args.mask is None else _mask(args.mask, size_wh),
        replace=getattr(args, "replace", False),
    )


def box_of(box: Box, size_wh: tuple[int, int], name: str = "box") -> F32:
    """A checked box, float32 [4]: at least one pixel wide and high, inside the frame. Raises BadPrompt."""
    x1, y1, x2, y2 = box
    width, height = size_wh
    if not (x1 >= 0 and y1 >= 0 and x2 <= width and y2 <= height):
        raise BadPrompt(f"{name}: {list(box)} is not inside the frame of {width} × {height} pixels")
    if not (x2 - x1 >= 1 and y2 - y1 >= 1):
        raise BadPrompt(f"{name}: {list(box)} is not [x1, y1, x2, y2] with x2 ≥ x1 + 1 and y2 ≥ y1 + 1")
    return np.array(box, np.float32)


def _points(points: list[Point], size_wh: tuple[int, int]) -> F32:
    width, height = size_wh
    if len(points) > MAX_PROMPT_POINTS:
        raise BadPrompt(f"points: {len(points)} of them; at most {MAX_PROMPT_POINTS} are taken")
    for i, (x, y) in enumerate(points):
        if not (0 <= x < width and 0 <= y < height):
            raise BadPrompt(f"points[{i}]: ({x:g}, {y:g}) is outside the frame of {width} × {height} pixels")
    return np.array(points, np.float32).reshape(-1, 2)


def _labels(labels: list[int] | None, count: int) -> np.ndarray[tuple[int], np.dtype[np.int32]]:
    if labels is None:
        return np.ones(count, np.int32)
    if len(labels) != count:
        raise BadPrompt(f"labels: {len(labels)} for {count} points; give one for each, or none at all")
    for i, label in enumerate(labels):
        if label not in (0, 1):
            raise BadPrompt(f"labels[{i}]: {label} is neither 1 (on the object) nor 0 (off it)")
    return np.array(labels, np.int32)


def _mask(rle: Rle, size_wh: tuple[int, int]) -> Bool:
    width, height = size_wh
    if rle.size != (height, width):
        raise BadPrompt(f"mask.size: {list(rle.size)} is not the frame's [h, w], which is [{height}, {width}]")
    try:
        mask_hw = rle_decode(rle.counts, rle.size)
    except ValueError as error:
        raise BadPrompt(f"mask.counts: {error}") from None
    if not mask_hw.any():
        raise BadPrompt("mask: marks no pixel; give one that marks the object")
    return mask_hw
