"""Outlines back to masks, in numpy alone so that clients need nothing else."""

import numpy as np
from numpy.typing import NDArray


def fill_outline(outline: list[list[list[int]]], size_wh: tuple[int, int]) -> NDArray[np.bool_]:
    """The bool mask [h, w] that an even-odd fill of all rings gives at the pixels' centres.

    `outline` is a list of polygons of rings of flat vertices [x0, y0, x1, y1, …] inside a frame of `size_wh`. With
    `publish.outline_tolerance_px: 0` this is exactly the mask that the outline was made from.
    """
    width, height = size_wh
    crossings_hw = np.zeros((height, width + 1), np.uint8)
    for ring in (ring for polygon in outline for ring in polygon):
        _cross(crossings_hw, np.array(ring, np.int64).reshape(-1, 2))
    return np.bitwise_xor.accumulate(crossings_hw[:, :width], axis=1).astype(bool)


def _cross(crossings_hw: NDArray[np.uint8], ring_xy: NDArray[np.int64]) -> None:
    """Flip, in each row that an edge crosses, the first pixel whose centre is not left of the crossing."""
    upper, lower = ring_xy, np.roll(ring_xy, -1, axis=0)
    flipped = upper[:, 1] > lower[:, 1]
    upper, lower = np.where(flipped[:, None], lower, upper), np.where(flipped[:, None], upper, lower)
    counts = lower[:, 1] - upper[:, 1]  # rows whose centre lies between an edge's two ends
    edges = np.repeat(np.arange(len(counts)), counts)
    rows = np.arange(edges.size) - np.repeat(np.cumsum(counts) - counts, counts) + upper[edges, 1]
    # The edge crosses y = row + 1/2 at x = upper_x + (dx / dy) (row + 1/2 - upper_y); that is column + 1/2.
    dx, dy = (lower - upper)[edges].T
    columns = upper[edges, 0] + -((dy - dx * (2 * (rows - upper[edges, 1]) + 1)) // (2 * dy))
    np.bitwise_xor.at(crossings_hw, (rows, columns), 1)
