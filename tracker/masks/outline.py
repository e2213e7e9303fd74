"""Outlines back to masks, in numpy alone so that clients need nothing else."""

import numpy as np
from numpy.typing import NDArray


def fill_outline(outline: list[list[list[int]]], size_wh: tuple[int, int]) -> NDArray[np.bool_]:
    """The bool mask [h, w] that an even-odd fill of all rings gives at the pixels' centres.

    `outline` is a list of polygons of rings of flat vertices [x0, y0, x1, y1, …] inside a frame of `size_wh`. With
    `publish.outline_tolerance_px: 0` this is exactly the mask that the outline was made from.
    Raises ValueError for vertices that are no pairs, or outside.
    """
    width, height = size_wh
    crossings_hw = np.zeros((height, width + 1), np.uint8)
    for ring in (ring for polygon in outline for ring in polygon):
        _cross(crossings_hw, _ring_in(ring, size_wh))
    return np.bitwise_xor.accumulate(crossings_hw[:, :width], axis=1).astype(bool)


def _ring_in(ring: list[int], size_wh: tuple[int, int]) -> NDArray[np.int64]:
    """A ring's vertices [n, 2]. The bounds are looked at first: the fill writes wherever a vertex says."""
    if len(ring) % 2:
        raise ValueError(f"a ring has {len(ring)} numbers; each vertex is two, x and y")
    for name, values, limit in zip("xy", (ring[::2], ring[1::2]), size_wh, strict=True):
        if values and not (min(values) >= 0 and max(values) <= limit):
            raise ValueError(f"{name} of a vertex is not between 0 and {limit}")
    return np.array(ring, np.int64).reshape(-1, 2)


def _cross(crossings_hw: NDArray[np.uint8], ring_xy: NDArray[np.int64]) -> None:
    """Flip, in each row that an edge crosses, the first pixel whose centre is not left of the crossing."""
    upper_xy, lower_xy = _downwards(ring_xy)
    heights = lower_xy[:, 1] - upper_xy[:, 1]  # so many rows have their centre between the edge's two ends
    rows_down = _counted_from_zero(heights)
    begin_x, begin_y = upper_xy.repeat(heights, axis=0).T
    end_x, end_y = lower_xy.repeat(heights, axis=0).T
    rows = begin_y + rows_down
    dx, dy = end_x - begin_x, end_y - begin_y
    # The edge crosses y = row + 1/2 at x = upper_x + (dx / dy) (rows_down + 1/2); the first pixel whose centre is
    # not left of that is ceil(x - 1/2), in whole numbers:
    halves = dy - dx * (2 * rows_down + 1)
    columns = begin_x - halves // (2 * dy)
    np.bitwise_xor.at(crossings_hw, (rows, columns), 1)


def _downwards(ring_xy: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The upper and the lower end of every edge of a ring, int64 [n, 2] each."""
    next_xy = np.roll(ring_xy, -1, axis=0)
    rises = ring_xy[:, 1] > next_xy[:, 1]
    rises_n1 = rises[:, None]
    upper_xy = np.where(rises_n1, next_xy, ring_xy)
    lower_xy = np.where(rises_n1, ring_xy, next_xy)
    return upper_xy, lower_xy


def _counted_from_zero(counts: NDArray[np.int64]) -> NDArray[np.int64]:
    """0, 1, … up to each count, one after the other: [2, 3] gives [0, 1, 0, 1, 2]."""
    starts = np.cumsum(counts) - counts
    total = int(counts.sum())
    return np.arange(total) - np.repeat(starts, counts)
