"""J and F as the DAVIS toolkit defines them (Perazzi et al. 2016; Pont-Tuset et al. 2017)."""

import cv2
import numpy as np
from numpy.typing import NDArray

Mask = NDArray[np.bool_]
BOUND = 0.008
"""Two contours match within this share of the picture's diagonal."""


def region_j(found_hw: Mask, truth_hw: Mask) -> float:
    """Intersection over union; 1 where both are empty."""
    union = int((found_hw | truth_hw).sum())
    return float((found_hw & truth_hw).sum() / union) if union else 1.0


def contour_f(found_hw: Mask, truth_hw: Mask) -> float:
    """F measure of the two contours' precision and recall, matched within `BOUND` of the diagonal.

    An empty side: with both empty 1, else 0, since either precision or recall is.
    """
    found_edge, truth_edge = contour(found_hw), contour(truth_hw)
    if not found_edge.any() or not truth_edge.any():
        return float(found_edge.any() == truth_edge.any())
    disk = _disk(int(np.ceil(BOUND * np.linalg.norm(found_hw.shape))))
    precision = _share_near(found_edge, truth_edge, disk)
    recall = _share_near(truth_edge, found_edge, disk)
    return 2 * precision * recall / (precision + recall) if precision + recall else 0.0


def contour(mask_hw: Mask) -> Mask:
    """Pixels that differ from the one to the right, below, or both: a contour one pixel wide."""
    padded = np.pad(mask_hw, ((0, 1), (0, 1)), mode="edge")
    here, right, below, across = padded[:-1, :-1], padded[:-1, 1:], padded[1:, :-1], padded[1:, 1:]
    differs: Mask = (here != right) | (here != below) | (here != across)
    return differs


def _share_near(edge_hw: Mask, other_hw: Mask, disk: NDArray[np.uint8]) -> float:
    near_hw = cv2.dilate(other_hw.astype(np.uint8), disk) > 0
    return float((edge_hw & near_hw).sum() / edge_hw.sum())


def _disk(radius: int) -> NDArray[np.uint8]:
    y, x = np.mgrid[-radius : radius + 1, -radius : radius + 1]
    inside = x**2 + y**2 <= radius**2
    return np.asarray(inside, np.uint8)
