"""Small holes in masks are filled, the same way on every machine.

The official code does it with a CUDA extension and, where that is missing, not at all.
"""

import cv2
import numpy as np

from tracker.masks.types import F32

FILLED = 0.1  # the logit that upstream gives a filled pixel


def fill_holes(logits_hw: F32, max_area: int) -> F32:
    """Background components (8-connected, logits ≤ 0) of at most `max_area` pixels become foreground.

    Defined by `fill_holes_in_mask_scores` of the official `utils/misc.py`: the border is no exception. With
    `max_area` 0 nothing changes. The input is never written to.
    """
    if max_area == 0:
        return logits_hw
    background = (logits_hw <= 0).astype(np.uint8)
    count, labels_hw = cv2.connectedComponents(background, connectivity=8)  # its twin with areas is much slower
    hole = np.bincount(labels_hw.ravel(), minlength=count) <= max_area
    hole[0] = False  # label 0 is the foreground
    if count == 1 or not hole.any():
        return logits_hw
    return np.where(hole[labels_hw], np.float32(FILLED), logits_hw)
