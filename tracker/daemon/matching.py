"""Which masks are the same thing: detections and found masks against tracked objects."""

import cv2
import numpy as np

from tracker.masks.geometry import mask_of
from tracker.tracking.state import TrackedObject
from tracker.types import Bool, Frame, ObjectMask

# Masks are compared at this size whatever the video's: every object against every detection at 1080p would take
# longer than tracking them.
COMPARED_WH = (256, 256)
SAME_IOU = 0.5  # what is found and overlaps a tracked object that much is that object


def matched(found: list[Bool], followed: list[Bool], min_iou: float) -> dict[int, tuple[int, float]]:
    """Which of `found` is which of `tracked`, and how well: best pairs first, each mask in one pair only."""
    if not found or not followed:
        return {}
    found_np = np.stack(found).reshape(len(found), -1).astype(np.float32)
    tracked_mp = np.stack(followed).reshape(len(followed), -1).astype(np.float32)
    both_nm = found_np @ tracked_mp.T
    either_nm = found_np.sum(1)[:, None] + tracked_mp.sum(1)[None] - both_nm
    iou_nm = both_nm / np.maximum(either_nm, 1)
    pairs: dict[int, tuple[int, float]] = {}
    for i, j in zip(*np.unravel_index(np.argsort(-iou_nm, axis=None, kind="stable"), iou_nm.shape), strict=True):
        taken = {m for m, _ in pairs.values()}
        if iou_nm[i, j] >= max(min_iou, 1e-6) and i not in pairs and j not in taken:
            pairs[int(i)] = int(j), float(iou_nm[i, j])
    return pairs


def small(mask: ObjectMask) -> Bool:
    """What the engine says, at the size of comparison."""
    if mask.presence <= 0:
        return np.zeros(COMPARED_WH[::-1], np.bool_)
    return mask_of(mask.logits_hw, COMPARED_WH)


def near(obj: TrackedObject, frame: Frame) -> ObjectMask:
    """The object on the frame itself where its memory still has it, else where it was last seen."""
    entry = obj.memory.find(frame.index)
    if entry is None or entry.logits_hw is None:
        return obj.mask
    return ObjectMask(entry.logits_hw.cpu().numpy(), entry.score, entry.presence)


def small_mask(mask_hw: Bool) -> Bool:
    """A mask at source size, at the size of comparison."""
    return cv2.resize(mask_hw.astype(np.uint8), COMPARED_WH, interpolation=cv2.INTER_AREA) > 0
