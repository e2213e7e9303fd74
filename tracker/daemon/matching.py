"""Matching of masks: detections and found masks against tracked objects."""

from collections.abc import Generator, Iterable

import cv2
import numpy as np

from tracker.images.types import Frame
from tracker.masks.geometry import mask_of
from tracker.masks.types import F32, Bool, ObjectMask
from tracker.tracking.state import TrackedObject, TrackedStream

# Masks are compared at this size whatever the video's: every object against every detection at 1080p would take
# longer than tracking them.
COMPARED_WH = (256, 256)
LEAST_IOU = 1e-6  # masks that do not touch are never the same thing
SAME_IOU = 0.5  # what is found and overlaps a tracked object that much is that object


def matched(found: list[Bool], tracked: list[Bool], min_iou: float) -> dict[int, tuple[int, float]]:
    """Pairs of `found` and `tracked` that are the same thing: best pairs first, each mask in one pair only.

    All masks are bool [h, w] of one size. Gives {place in found: (place in tracked, IoU)}.
    """
    if not found or not tracked:
        return {}
    iou_nm = _iou(np.stack(found), np.stack(tracked))
    least = max(min_iou, LEAST_IOU)
    pairs: dict[int, tuple[int, float]] = {}
    while iou_nm.max() >= least:
        n, m = divmod(int(iou_nm.argmax()), len(tracked))
        iou = float(iou_nm[n, m])
        pairs[n] = m, iou
        iou_nm[n, :] = 0
        iou_nm[:, m] = 0
    return pairs


def _iou(found_nhw: Bool, tracked_mhw: Bool) -> F32:
    """float32 [n, m]; 0 where both masks are empty."""
    found_np = found_nhw.reshape(len(found_nhw), -1).astype(np.float32)
    tracked_mp = tracked_mhw.reshape(len(tracked_mhw), -1).astype(np.float32)
    both_nm = found_np @ tracked_mp.T
    areas_n1, areas_m = found_np.sum(1, keepdims=True), tracked_mp.sum(1)
    either_nm = areas_n1 + areas_m - both_nm
    iou_nm: F32 = both_nm / np.maximum(either_nm, 1)
    return iou_nm


def small(mask: ObjectMask) -> Bool:
    """A mask of the engine's at the size of comparison."""
    if mask.presence <= 0:
        return np.zeros(COMPARED_WH[::-1], np.bool_)
    return mask_of(mask.logits_hw, COMPARED_WH)


def near(obj: TrackedObject, frame: Frame) -> ObjectMask:
    """The object on the frame itself where its memory still has it, else where it was last seen."""
    return obj.memory.mask_on(frame.index) or obj.mask


def small_mask(mask_hw: Bool) -> Bool:
    """A mask at source size, at the size of comparison."""
    return cv2.resize(mask_hw.astype(np.uint8), COMPARED_WH, interpolation=cv2.INTER_AREA) > 0


def already_tracked(
    stream: TrackedStream, frame: Frame, masks: Iterable[Bool]
) -> Generator[None, None, dict[int, TrackedObject]]:
    """The objects of the stream that `masks`, at source size, show; by the masks' places. A slice for each mask."""
    found = []
    for mask_hw in masks:
        found.append(small_mask(mask_hw))
        yield
    objects = list(stream.objects.values())
    tracked = [small(near(obj, frame)) for obj in objects]
    pairs = matched(found, tracked, SAME_IOU)
    return {i: objects[column] for i, (column, _) in pairs.items()}
