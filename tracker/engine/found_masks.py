"""Masks that a search found, and which of them are kept."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from sam2.utils.amg import batched_mask_to_box, remove_small_regions
from torch import Tensor

from tracker.masks.rle import rle_decode, rle_encode
from tracker.masks.types import Bool
from tracker.protocol.requests import SearchOptions

Crop = tuple[int, int, int, int]  # x1, y1, x2, y2


@dataclass(frozen=True, slots=True, eq=False)
class Found:
    """One mask: COCO run lengths at source size (h, w), the predicted IoU, how little the mask depends on the
    threshold, and the point and crop that it came from. `box_xyxy` is upstream's: its far edges are inclusive."""

    rle_counts: bytes
    size_hw: tuple[int, int]
    score: float
    stability: float
    box_xyxy: tuple[int, int, int, int]
    point_xy: tuple[float, float]
    crop_xyxy: Crop

    @property
    def mask_hw(self) -> Bool:
        return rle_decode(self.rle_counts, self.size_hw)


def best_first(found: Sequence[Found]) -> list[Found]:
    return sorted(found, key=lambda one: -one.score)


def chosen(found: Sequence[Found], most: int, *, alone: bool) -> list[tuple[Found, Bool]]:
    """Of masks that are sorted the first `most`; with `alone` each pixel stays in one mask only."""
    kept = found[:most]
    if alone:
        return exclusive(kept)
    return [(one, one.mask_hw) for one in kept]


def exclusive(found: Sequence[Found]) -> list[tuple[Found, Bool]]:
    """Each pixel to one mask only: the smaller one, so that parts stay beside their wholes. Masks of which nothing
    is left are dropped; the order stays."""
    if not found:
        return []
    owner_hw = np.full(found[0].size_hw, -1, np.int32)
    by_area = sorted(range(len(found)), key=lambda i: -int(found[i].mask_hw.sum()))
    for i in by_area:
        owner_hw[found[i].mask_hw] = i
    owned = [(f, owner_hw == i) for i, f in enumerate(found)]
    return [(f, mask_hw) for f, mask_hw in owned if mask_hw.any()]


def distinct(found: Sequence[Found], scores: Sequence[float], iou_thresh: float) -> list[Found]:
    """Without those whose box covers that of a better one; best first.

    Greedy suppression with `torchvision.ops.nms`'s arithmetic: importing torchvision for this one function takes
    longer than importing all the rest of the daemon.
    """
    boxes_n4 = torch.tensor([f.box_xyxy for f in found], dtype=torch.float32).reshape(-1, 4)
    iou_nn = _box_iou(boxes_n4)
    covered_n = torch.zeros(len(found), dtype=torch.bool)
    kept = []
    for i in torch.tensor(scores, dtype=torch.float32).argsort(descending=True, stable=True).tolist():
        if not covered_n[i]:
            kept.append(found[i])
            covered_n |= iou_nn[i].double() > iou_thresh
    return kept


def _box_iou(boxes_n4: Tensor) -> Tensor:
    """[n, 4] -> [n, n]."""
    area_n = (boxes_n4[:, 2] - boxes_n4[:, 0]) * (boxes_n4[:, 3] - boxes_n4[:, 1])
    far_nn2 = torch.minimum(boxes_n4[:, None, 2:], boxes_n4[None, :, 2:])
    near_nn2 = torch.maximum(boxes_n4[:, None, :2], boxes_n4[None, :, :2])
    both_nn = (far_nn2 - near_nn2).clamp(min=0).prod(-1)
    return both_nn / (area_n[:, None] + area_n[None, :] - both_nn)


def without_small_regions(found: Sequence[Found], options: SearchOptions) -> list[Found]:
    """Small holes filled, small islands removed, and what became alike with it
    (`SAM2AutomaticMaskGenerator.postprocess_small_regions`)."""
    cleaned, unchanged = [], []
    for f in found:
        mask_hw, filled = remove_small_regions(f.mask_hw, options.min_mask_region_area, "holes")
        mask_hw, cut = remove_small_regions(mask_hw, options.min_mask_region_area, "islands")
        changed = filled or cut
        cleaned.append(_with_mask(f, mask_hw) if changed else f)
        unchanged.append(0.0 if changed else 1.0)
    return distinct(cleaned, unchanged, max(options.box_nms_thresh, options.crop_nms_thresh))


def _with_mask(found: Found, mask_hw: NDArray[np.bool_]) -> Found:
    left, top, right, bottom = batched_mask_to_box(torch.from_numpy(mask_hw)).tolist()
    return replace(found, rle_counts=rle_encode(mask_hw), box_xyxy=(left, top, right, bottom))
