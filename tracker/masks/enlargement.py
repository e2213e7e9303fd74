"""A mask's logits enlarged to the picture, only where they can be above 0."""

from functools import lru_cache
from typing import Any, NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from tracker.masks.types import F32, Bool

# Rows enlarged at a time. Whole crops at once take up to four times as long: what lies between is then so big
# that the C library gives its memory back to the system each time.
_BAND_ROWS = 128


class Enlargement(NamedTuple):
    """A bilinear resize of which the columns are done and the rows are not.

    Output row i is `step_hw[first[i]] * fraction[i] - minus_hw[first[i]]`.
    """

    step_hw: F32
    minus_hw: F32  # negated, since a sum is above 0 exactly where one part is above the other's negative
    rows: "Axis"
    x: int
    y: int

    @staticmethod
    def of(logits_hw: F32, size_wh: tuple[int, int]) -> "Enlargement | None":
        """Of the crop that can be positive; None where nothing can."""
        cells = bounds_of(logits_hw > 0)
        if cells is None:
            return None
        left, top, right, bottom = cells
        n_rows, n_columns = logits_hw.shape
        w, h = size_wh
        columns = Axis.of(n_columns, w).touching(left, right)
        rows = Axis.of(n_rows, h).touching(top, bottom)
        inner_hw = np.ascontiguousarray(logits_hw[rows.cells, columns.cells], np.float32)
        # Few rows yet: a small matrix product beats gathering columns. Many columns then: rows are gathered whole.
        wide_hw = inner_hw @ columns.weights(n_columns, w).T
        step_hw = _steps(wide_hw)
        minus_hw = np.negative(wide_hw, out=wide_hw)
        return Enlargement(step_hw, minus_hw, rows, columns.start, rows.start)

    @property
    def size_hw(self) -> tuple[int, int]:
        return len(self.rows.first), self.step_hw.shape[1]

    def join_rows(self, join: np.ufunc, joined_hw: NDArray[Any]) -> None:
        """Write the output's rows, [h, w], where `join` takes a row's two parts."""
        first, fraction_h1 = self.rows.first, self.rows.fraction[:, None]
        for top in range(0, len(first), _BAND_ROWS):
            band = slice(top, top + _BAND_ROWS)
            part_hw = self.step_hw.take(first[band], 0)
            part_hw *= fraction_h1[band]
            join(part_hw, self.minus_hw.take(first[band], 0), out=joined_hw[band])


def _steps(rows_hw: F32) -> F32:
    """From each row to the next one; 0 after the last."""
    step_hw = np.zeros_like(rows_hw)
    np.subtract(rows_hw[1:], rows_hw[:-1], out=step_hw[:-1])
    return step_hw


class Axis(NamedTuple):
    """One axis of a bilinear resize, or a part of it.

    Output pixel `start + i` lies `fraction[i]` of the way from input cell `first[i]` to the next one; `cells` are
    the input cells in use, and `first` counts from the first of them.
    """

    first: NDArray[np.int64]
    fraction: F32
    start: int
    cells: slice

    @staticmethod
    @lru_cache(maxsize=32)
    def of(n_in: int, n_out: int) -> "Axis":
        # float32 all the way, as PyTorch's area_pixel_compute_source_index does it.
        scale = np.float32(n_in) / np.float32(n_out)
        centres = np.maximum(scale * (np.arange(n_out, dtype=np.float32) + np.float32(0.5)) - np.float32(0.5), 0)
        first = np.minimum(centres.astype(np.int64), n_in - 1)
        return Axis(first, np.clip(centres - first.astype(np.float32), 0, 1), 0, slice(0, n_in))

    def touching(self, first_cell: int, end_cell: int) -> "Axis":
        """The output pixels in which a cell of the half-open range has a part, and the cells they are made of."""
        start = int(self.first.searchsorted(first_cell - 1, "left"))
        stop = int(self.first.searchsorted(end_cell - 1, "right"))
        used = slice(max(first_cell - 1, 0), min(end_cell + 1, self.cells.stop))
        return Axis(self.first[start:stop] - used.start, self.fraction[start:stop], start, used)

    def weights(self, n_in: int, n_out: int) -> F32:
        """[n, cells]: this part of the resize from `n_in` to `n_out` as a matrix."""
        return _weights(n_in, n_out)[self.start : self.start + len(self.first), self.cells]


@lru_cache(maxsize=8)
def _weights(n_in: int, n_out: int) -> F32:
    """[n_out, n_in]: a bilinear resize of one axis as a matrix."""
    axis = Axis.of(n_in, n_out)
    weights = np.zeros((n_out, n_in), np.float32)
    weights[np.arange(n_out), axis.first] = 1 - axis.fraction
    weights[np.arange(n_out), np.minimum(axis.first + 1, n_in - 1)] += axis.fraction
    return weights


def bounds_of(mask_hw: Bool) -> tuple[int, int, int, int] | None:
    """The half-open box around what is set, or None."""
    x, y, w, h = cv2.boundingRect(mask_hw.view(np.uint8))
    return (x, y, x + w, y + h) if w else None
