"""The one door for marks: what is said to mark an object becomes a `Prompt`, or is refused with the remedy.

The daemon, prompts files, the command line and the engine all come through here, so that none of them takes what
another one refuses.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from tracker.errors import BadPrompt
from tracker.masks.rle import rle_decode
from tracker.masks.types import F32, Bool
from tracker.protocol.fields import MAX_PROMPT_POINTS, Rle
from tracker.protocol.prompt import Prompt
from tracker.protocol.requests import Prompted


def prompt_of(args: Prompted, size_wh: tuple[int, int], *, correction: bool = False) -> Prompt:
    """The marks of a request on a frame of `size_wh`. Raises BadPrompt, which names the field and the remedy.

    `correction`: there is an object or a mask already, so that points off it say something by themselves.
    """
    return _prompt(
        points=args.points or [],
        labels=args.labels,
        box=args.box,
        mask_hw=None if args.mask is None else _mask(args.mask, size_wh),
        replace=getattr(args, "replace", False),
        size_wh=size_wh,
        correction=correction,
    )


def checked(prompt: Prompt, size_wh: tuple[int, int], *, correction: bool = False) -> Prompt:
    """The same for a prompt made by a program; what came through `prompt_of` stays as it is."""
    return _prompt(
        points=prompt.points_xy,
        labels=prompt.labels_n,
        box=prompt.box_xyxy,
        mask_hw=prompt.mask_hw,
        replace=prompt.replace,
        size_wh=size_wh,
        correction=correction,
    )


def box_of(box: Sequence[float] | F32, size_wh: tuple[int, int], name: str = "box") -> F32:
    """A box clipped to the picture, float32 [4]. Raises BadPrompt where less than 1 × 1 pixel is left."""
    box_xyxy = np.asarray(box, np.float64)
    corners = ", ".join(f"{value:g}" for value in box_xyxy)
    text = f"{name}: [{corners}]"
    x1, y1, x2, y2 = box_xyxy
    if not (x1 < x2 and y1 < y2 and np.isfinite(box_xyxy).all()):
        raise BadPrompt(f"{text} is not [x1, y1, x2, y2] with x1 < x2 and y1 < y2")
    width, height = size_wh
    picture = f"the frame of {width} × {height}"
    clipped_xyxy = np.clip(box_xyxy, 0, [width, height, width, height])
    clipped_w, clipped_h = clipped_xyxy[2:] - clipped_xyxy[:2]
    if not clipped_w or not clipped_h:
        raise BadPrompt(f"{text} is outside {picture} pixels")
    if clipped_w < 1 or clipped_h < 1:
        raise BadPrompt(f"{text} covers less than 1 × 1 pixel of {picture}")
    return clipped_xyxy.astype(np.float32)


def _prompt(
    *,
    points: ArrayLike,
    labels: ArrayLike | None,
    box: Sequence[float] | F32 | None,
    mask_hw: Bool | None,
    replace: bool,
    size_wh: tuple[int, int],
    correction: bool,
) -> Prompt:
    points_xy = np.asarray(points, np.float64).reshape(-1, 2)
    labels_n = np.ones(len(points_xy), np.int32) if labels is None else np.asarray(labels)
    if mask_hw is not None:
        if len(points_xy) or (labels is not None and len(labels_n)) or box is not None:
            raise BadPrompt("mask: stands alone; leave out points, labels and box")
        return Prompt(mask_hw=_checked_mask(mask_hw, size_wh), replace=replace)
    if not len(points_xy) and box is None:
        raise BadPrompt("empty prompt: give points, box or mask")
    prompt = Prompt(
        points_xy=_points(points_xy, size_wh),
        labels_n=_labels(labels_n, len(points_xy)),
        box_xyxy=None if box is None else box_of(box, size_wh),
        replace=replace,
    )
    if box is None and not correction and not prompt.labels_n.any():
        raise BadPrompt("labels: all points are off the object (0); give one on it (1), or a box around it")
    return prompt


def _points(points_xy: NDArray[np.float64], size_wh: tuple[int, int]) -> F32:
    """Points on the picture or its border; the right and the lower border count as the last pixel."""
    count = len(points_xy)
    if count > MAX_PROMPT_POINTS:
        raise BadPrompt(f"points: {count} of them; at most {MAX_PROMPT_POINTS} are taken")
    _check_inside(points_xy, size_wh)
    exact_xy = points_xy.astype(np.float32)
    border_xy = np.array(size_wh, np.float32)
    last_xy = border_xy - np.float32(0.5)
    return np.where(exact_xy == border_xy, last_xy, exact_xy)


def _check_inside(points_xy: NDArray[np.float64], size_wh: tuple[int, int]) -> None:
    width, height = size_wh
    for i, (x, y) in enumerate(points_xy):
        if not (0 <= x <= width and 0 <= y <= height):
            raise BadPrompt(f"points[{i}]: ({x:g}, {y:g}) is outside the frame of {width} × {height} pixels")


def _labels(labels_n: NDArray[Any], count: int) -> NDArray[np.int32]:
    if len(labels_n) != count:
        raise BadPrompt(f"labels: {len(labels_n)} for {count} points; give one for each, or none at all")
    for i, label in enumerate(labels_n.tolist()):
        if label not in (0, 1):
            raise BadPrompt(f"labels[{i}]: {label} is neither 1 (on the object) nor 0 (off it)")
    return labels_n.astype(np.int32)


def _mask(rle: Rle, size_wh: tuple[int, int]) -> Bool:
    _check_mask_size(rle.size, size_wh)
    try:
        return rle_decode(rle.counts, rle.size)
    except ValueError as error:
        raise BadPrompt(f"mask.counts: {error}") from None


def _checked_mask(mask_hw: Bool, size_wh: tuple[int, int]) -> Bool:
    _check_mask_size((mask_hw.shape[0], mask_hw.shape[1]), size_wh)
    if not mask_hw.any():
        raise BadPrompt("mask: marks no pixel; give one that marks the object")
    return mask_hw


def _check_mask_size(size_hw: tuple[int, int], size_wh: tuple[int, int]) -> None:
    width, height = size_wh
    if size_hw != (height, width):
        raise BadPrompt(f"mask.size: {list(size_hw)} is not the frame's [h, w], which is [{height}, {width}]")
