"""Masks side by side on one sheet, traced together: the rings along the edges of their pixels.

A frame's masks cost a few calls in all instead of many each: beside a busy model a call that lets the interpreter
go waits to get it back.
"""

from collections.abc import Iterator, Sequence
from itertools import accumulate
from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from tracker.masks.types import Bool

Ring = NDArray[np.int32]  # [n, 2] vertices, closed without repeating the first
SHEET_BYTES = 1 << 20  # what stays in a core's cache

# OpenCV follows a border with the background on its right, from pixel to pixel in eight directions. A step is told
# as a number: 3 * dy + dx + 4, so that 4 is a pixel alone.
_STEPS = {"N": 1, "NE": 2, "E": 5, "SE": 8, "S": 7, "SW": 6, "W": 3, "NW": 0}
_ALONE = 4
_CORNERS_XY = np.array([[0, 0], [0, 1], [1, 1], [1, 0]], np.int32)
# The corner of a pixel, in the order above, where the ring comes to it, by the step there; and where it leaves it,
# by the step away.
_ENTERED_AT = {"S": 0, "SE": 0, "E": 1, "NE": 1, "N": 2, "NW": 2, "W": 3, "SW": 3}
_LEFT_AT = {"S": 1, "SW": 1, "E": 2, "SE": 2, "N": 3, "NE": 3, "W": 0, "NW": 0}


class Traced(NamedTuple):
    """The rings of one mask, outer borders with a negative shoelace sum, and the ring around each hole: its index,
    or -1."""

    rings: list[Ring]
    around: list[int]


class Sheet:
    """Room for masks, one below the other with an empty row between."""

    def __init__(self, sizes_hw: Sequence[tuple[int, int]]) -> None:
        self._sizes_hw = sizes_hw
        self.tops = list(accumulate((h + 1 for h, _ in sizes_hw), initial=0))
        widest = max(w for _, w in sizes_hw)
        self._cells_hw = np.zeros((self.tops[-1], widest), np.bool_)

    def part(self, k: int) -> Bool:
        """The k-th mask, to be written."""
        h, w = self._sizes_hw[k]
        return self._cells_hw[self.tops[k] : self.tops[k] + h, :w]

    def traced(self) -> list[Traced]:
        """Each mask's rings; vertices are counted from the sheet's top."""
        cells_hw = self._cells_hw.view(np.uint8)
        contours, hierarchy = cv2.findContours(cells_hw, cv2.RETR_CCOMP, cv2.CHAIN_APPROX_NONE)
        traced = [Traced([], []) for _ in self._sizes_hw]
        if not contours:
            return traced
        around = hierarchy[0, :, 3].tolist()
        rings = edge_rings([np.asarray(contour, np.int32)[:, 0] for contour in contours])
        tops_y = [ring[0, 1] for ring in rings]
        owners = np.searchsorted(self.tops, tops_y, "right") - 1
        places = [0] * len(rings)  # of each ring among those of its mask
        for i, k in enumerate(owners.tolist()):
            places[i] = len(traced[k].rings)
            traced[k].rings.append(rings[i])
        for k, outer in zip(owners.tolist(), around, strict=True):
            traced[k].around.append(-1 if outer < 0 else places[outer])
        return traced


def sheets(sizes_hw: Sequence[tuple[int, int]]) -> Iterator[list[int]]:
    """Which masks go on a sheet together: as many in a row as stay in the cache, and one at least."""
    together: list[int] = []
    rows = columns = 0
    for k, (h, w) in enumerate(sizes_hw):
        rows, columns = rows + h + 1, max(columns, w)
        if together and rows * columns > SHEET_BYTES:
            yield together
            together, rows, columns = [], h + 1, w
        together.append(k)
    if together:
        yield together


def edge_rings(contours: Sequence[Ring]) -> list[Ring]:
    """Contours through all pixels of a border, int32 [n, 2] -> rings along the edges of those pixels, each of whose
    vertices is a corner."""
    lengths = np.array([len(contour) for contour in contours])
    ends = np.cumsum(lengths)
    starts = ends - lengths
    pixels_xy = np.concatenate(contours)
    away = _steps(pixels_xy, starts, ends)
    towards = np.empty_like(away)
    towards[1:] = away[:-1]
    towards[starts] = away[ends - 1]
    turns = 9 * towards + away
    counts = _VERTICES.take(turns)
    last = np.cumsum(counts)
    begun = last - counts
    owners = np.repeat(np.arange(len(pixels_xy)), counts)
    corners = np.arange(len(owners))
    corners += (_FIRST_CORNER.take(turns) - begun).take(owners)
    corners &= 3
    vertices_xy = pixels_xy.take(owners, 0)
    vertices_xy += _CORNERS_XY.take(corners, 0)
    return np.split(vertices_xy, last[ends[:-1] - 1])


def _steps(pixels_xy: NDArray[np.int32], starts: NDArray[np.int64], ends: NDArray[np.int64]) -> NDArray[np.int64]:
    """The step from each pixel of a border to the next one."""
    step_xy = np.empty_like(pixels_xy)
    np.subtract(pixels_xy[1:], pixels_xy[:-1], out=step_xy[:-1])
    step_xy[ends - 1] = pixels_xy[starts] - pixels_xy[ends - 1]
    return (3 * step_xy[:, 1] + step_xy[:, 0] + _ALONE).astype(np.int64)


def _tables() -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """By the step to a pixel and the step away from it: how many vertices the ring has there, and at which corner
    the first of them is."""
    vertices = np.zeros((9, 9), np.int64)
    first_corner = np.zeros((9, 9), np.int64)
    for towards, code_towards in _STEPS.items():
        for away, code_away in _STEPS.items():
            entered = _ENTERED_AT[towards]
            edges = (_LEFT_AT[away] - entered) % 4
            if code_towards + code_away == 2 * _ALONE and edges == 0:  # back where it came from, around the pixel
                edges = 4
            straight_on = len(towards) == 1 and edges > 0  # along the edge of the pixel before: no vertex there
            vertices[code_towards, code_away] = edges - straight_on if edges else 1
            first_corner[code_towards, code_away] = entered + straight_on
    vertices[_ALONE, _ALONE] = 4
    return vertices.ravel(), first_corner.ravel()


_VERTICES, _FIRST_CORNER = _tables()
