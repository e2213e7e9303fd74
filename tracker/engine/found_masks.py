"""Masks that a search found, and which of them are kept.

There may be thousands, and of a large picture each takes a while and megabytes: whatever looks at all of them goes
in slices, none holds a table of each against each, and all are run lengths but for the one that is looked at.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from sam2.utils.amg import batched_mask_to_box, remove_small_regions
from torch import Tensor

from tracker.engine.slices import Slices
from tracker.masks.enlargement import bounds_of
from tracker.masks.rle import rle_decode, rle_encode
from tracker.masks.types import Bool
from tracker.protocol.requests import SearchOptions

Crop = tuple[int, int, int, int]  # x1, y1, x2, y2


@dataclass(frozen=True, slots=True, eq=False)
class Found:
    """One mask: COCO run lengths at source size (h, w), the predicted IoU, how little the mask depends on the
    threshold, the point and crop that it came from, and how many pixels it has. `box_xyxy` is upstream's: its far
    edges are inclusive."""

    rle_counts: bytes
    size_hw: tuple[int, int]
    score: float
    stability: float
    box_xyxy: tuple[int, int, int, int]
    point_xy: tuple[float, float]
    crop_xyxy: Crop
    area: int

    @property
    def mask_hw(self) -> Bool:
        return rle_decode(self.rle_counts, self.size_hw)


def best_first(found: Sequence[Found]) -> list[Found]:
    return sorted(found, key=lambda one: -one.score)


def chosen(found: Sequence[Found], most: int, *, alone: bool) -> Slices[list[Found]]:
    """Of masks that are sorted the first `most`; with `alone` each pixel stays in one mask only."""
    kept = list(found[:most])
    return (yield from exclusive(kept)) if alone else kept


def exclusive(found: Sequence[Found]) -> Slices[list[Found]]:
    """Each pixel to one mask only: the smaller one, so that parts stay beside their wholes. Masks of which nothing
    is left are dropped; the order stays."""
    if not found:
        return []
    owner_hw = np.full(found[0].size_hw, -1, np.int32)
    for i in sorted(range(len(found)), key=lambda i: -found[i].area):
        owner_hw[found[i].mask_hw] = i
        yield
    owned = []
    for i, one in enumerate(found):
        mask_hw = owner_hw == i
        if (bounds := bounds_of(mask_hw)) is not None:
            owned.append(_cut_down(one, mask_hw, bounds))
        yield
    return owned


def _cut_down(found: Found, mask_hw: Bool, bounds_xyxy: tuple[int, int, int, int]) -> Found:
    """What is left of a mask, and the half-open box around that."""
    left, top, right, bottom = bounds_xyxy
    return replace(
        found,
        rle_counts=rle_encode(mask_hw),
        box_xyxy=(left, top, right - 1, bottom - 1),
        area=int(np.count_nonzero(mask_hw)),
    )


def distinct(found: Sequence[Found], scores: Sequence[float], iou_thresh: float) -> Slices[list[Found]]:
    """Without those whose box covers that of a better one; best first.

    Greedy suppression with `torchvision.ops.nms`'s arithmetic, one kept mask a slice against those after it:
    importing torchvision for this one function takes longer than importing all the rest of the daemon.
    """
    order_n = torch.tensor(scores, dtype=torch.float32).argsort(descending=True, stable=True)
    boxes_n4 = torch.tensor([f.box_xyxy for f in found], dtype=torch.float32).reshape(-1, 4)[order_n]
    covered_n = torch.zeros(len(found), dtype=torch.bool)
    kept = []
    for k, i in enumerate(order_n.tolist()):
        if covered_n[k]:
            continue
        kept.append(found[i])
        covered_n[k + 1 :] |= _box_iou(boxes_n4[k], boxes_n4[k + 1 :]).double() > iou_thresh
        yield
    return kept


def _box_iou(box_4: Tensor, boxes_n4: Tensor) -> Tensor:
    """One box with each of n: [n]."""
    area, area_n = _box_area(box_4), _box_area(boxes_n4)
    far_n2 = torch.minimum(box_4[2:], boxes_n4[:, 2:])
    near_n2 = torch.maximum(box_4[:2], boxes_n4[:, :2])
    both_n = (far_n2 - near_n2).clamp(min=0).prod(-1)
    return both_n / (area + area_n - both_n)


def _box_area(boxes: Tensor) -> Tensor:
    return (boxes[..., 2] - boxes[..., 0]) * (boxes[..., 3] - boxes[..., 1])


def without_small_regions(found: Sequence[Found], options: SearchOptions) -> Slices[list[Found]]:
    """Small holes filled, small islands removed, and what became alike with it
    (`SAM2AutomaticMaskGenerator.postprocess_small_regions`)."""
    cleaned, unchanged = [], []
    for f in found:
        clean = _cleaned(f, options.min_mask_region_area)
        cleaned.append(clean)
        unchanged.append(float(clean is f))
        yield
    return (yield from distinct(cleaned, unchanged, max(options.box_nms_thresh, options.crop_nms_thresh)))


def _cleaned(found: Found, least_area: int) -> Found:
    """The mask without small holes and islands; itself where it has none.

    Looked at are the mask and so much around it that every region outside it is at least so large, or whole.
    """
    x, y = _around(found, least_area)
    mask_hw = found.mask_hw
    part_hw, filled = remove_small_regions(mask_hw[y, x], least_area, "holes")
    part_hw, cut = remove_small_regions(part_hw, least_area, "islands")
    if not filled and not cut:
        return found
    mask_hw[y, x] = part_hw
    left, top, right, bottom = batched_mask_to_box(torch.from_numpy(part_hw)).tolist()
    return replace(
        found,
        rle_counts=rle_encode(mask_hw),
        box_xyxy=(left + x.start, top + y.start, right + x.start, bottom + y.start),
        area=int(np.count_nonzero(part_hw)),
    )


def _around(found: Found, least_area: int) -> tuple[slice, slice]:
    """The part of the picture, x and y, that has the mask's box and on each side a strip of `least_area`."""
    (left, top, right, bottom), (height, width) = found.box_xyxy, found.size_hw
    beside = math.ceil(least_area / (bottom + 1 - top))
    above = math.ceil(least_area / (right + 1 - left))
    x = slice(max(0, left - beside), min(width, right + 1 + beside))
    return x, slice(max(0, top - above), min(height, bottom + 1 + above))
