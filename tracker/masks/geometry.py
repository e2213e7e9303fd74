"""Masks to geometry at source size, and back: outlines along pixel edges, boxes, areas.

Everything happens inside the crop that can be positive, so that the cost follows the object and not the picture.
"""

from collections.abc import Sequence
from functools import lru_cache
from typing import Any, NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from tracker.masks.rle import rle_encode
from tracker.types import F32, U8, Bool, Shape

Outline = list[list[list[int]]]
_Ring = NDArray[np.int32]  # [n, 2] vertices, closed without repeating the first

# Rows enlarged at a time. Whole crops at once take up to four times as long: what lies between is then so big
# that the C library gives its memory back to the system each time.
_BAND_ROWS = 64


class Crop(NamedTuple):
    """A part of a picture: values [h, w] whose top-left pixel is (x, y)."""

    values_hw: F32
    x: int
    y: int


def upsample(logits_hw: F32, size_wh: tuple[int, int]) -> Crop | None:
    """Low-resolution logits at source size, only where they can be above 0; None where they nowhere can.

    The same numbers as `F.interpolate(logits, (h, w), mode="bilinear", align_corners=False)` (what
    `SAM2VideoPredictor._get_orig_video_res_output` does) up to float32 rounding, and without a phase error from
    the crop: its part of the whole picture's weights is used as it is.
    """
    part = _Enlargement.of(logits_hw, size_wh)
    return part and Crop(part.rows_joined(np.subtract, np.float32), part.x, part.y)


def mask_of(logits_hw: F32, size_wh: tuple[int, int]) -> Bool:
    """Low-resolution logits -> bool [h, w] at source size."""
    return _paste(*_positive(logits_hw, size_wh), size_wh)


def shape_of(
    logits_hw: F32, size_wh: tuple[int, int], *, tolerance_px: float, outline: bool = True, rle: bool = False
) -> Shape:
    """Low-resolution logits -> box, area, outline and RLE at source size `(w, h)`.

    Rings run along pixel edges; outer borders have a positive shoelace sum, holes a negative one. With
    `tolerance_px` 0 the outline says exactly what the mask is; above 0 it is simplified to within that distance.
    """
    return _shape(*_positive(logits_hw, size_wh), size_wh, tolerance_px, outline, rle)


def shape_of_mask(mask_hw: Bool, *, tolerance_px: float, outline: bool = True, rle: bool = False) -> Shape:
    """The same of a mask at source size, bool [h, w]."""
    size_wh = (mask_hw.shape[1], mask_hw.shape[0])
    return _shape(mask_hw, (0, 0), size_wh, tolerance_px, outline, rle)


def fill(outline: Sequence[Sequence[Sequence[int]]], size_wh: tuple[int, int]) -> Bool:
    """Polygons of rings -> bool [h, w]: the even-odd rule at pixel centres. The inverse of an exact outline."""
    width, height = size_wh
    mask_hw = np.zeros((height, width), np.bool_)
    rings = _rings(outline)
    if not rings:
        return mask_hw
    vertices = np.concatenate(rings)
    left, top = np.maximum(vertices.min(0), 0)
    right, bottom = np.minimum(vertices.max(0), size_wh)
    if left < right and top < bottom:
        shifted = [ring - (left, top) for ring in rings]
        mask_hw[top:bottom, left:right] = _filled(shifted, right - left, bottom - top)
    return mask_hw


def _rings(outline: Sequence[Sequence[Sequence[int]]]) -> list[_Ring]:
    """All rings of an outline, int32 [n, 2] each."""
    flat = (ring for polygon in outline for ring in polygon)
    return [np.reshape(np.asarray(ring, np.int32), (-1, 2)) for ring in flat]


def _filled(rings: list[_Ring], width: int, height: int) -> U8:
    """1 inside the rings, uint8 [h, w]. fillPoly also paints the rings themselves: with coordinates doubled they
    lie on even rows and columns."""
    twice_hw = np.zeros((2 * height + 1, 2 * width + 1), np.uint8)
    twice_as_large = [2 * ring for ring in rings]
    cv2.fillPoly(twice_hw, twice_as_large, 1)
    return twice_hw[1::2, 1::2]


def _positive(logits_hw: F32, size_wh: tuple[int, int]) -> tuple[Bool, tuple[int, int]]:
    """Where `upsample` is above 0, to the last bit: a part of the mask, and where its top-left pixel lies."""
    part = _Enlargement.of(logits_hw, size_wh)
    if part is None:
        return np.zeros((0, 0), np.bool_), (0, 0)
    return part.rows_joined(np.greater, np.bool_), (part.x, part.y)


class _Enlargement(NamedTuple):
    """A bilinear resize of which the columns are done and the rows are not.

    Output row i is `step_hw[first[i]] * fraction[i] - minus_hw[first[i]]`.
    """

    step_hw: F32
    minus_hw: F32  # negated, since a sum is above 0 exactly where one part is above the other's negative
    rows: "_Axis"
    x: int
    y: int

    @staticmethod
    def of(logits_hw: F32, size_wh: tuple[int, int]) -> "_Enlargement | None":
        """Of the crop that can be positive; None where nothing can."""
        cells = _bounds(logits_hw > 0)
        if cells is None:
            return None
        left, top, right, bottom = cells
        n_rows, n_columns = logits_hw.shape
        w, h = size_wh
        columns = _Axis.of(n_columns, w).touching(left, right)
        rows = _Axis.of(n_rows, h).touching(top, bottom)
        inner_hw = np.ascontiguousarray(logits_hw[rows.cells, columns.cells], np.float32)
        # Few rows yet: a small matrix product beats gathering columns. Many columns then: rows are gathered whole.
        wide_hw = inner_hw @ columns.weights().T
        step_hw = _steps(wide_hw)
        minus_hw = np.negative(wide_hw, out=wide_hw)
        return _Enlargement(step_hw, minus_hw, rows, columns.start, rows.start)

    def rows_joined(self, join: np.ufunc, dtype: type[np.generic]) -> NDArray[Any]:
        """The output's rows, [h, w] of `dtype`, where `join` takes a row's two parts."""
        first, fraction_h1 = self.rows.first, self.rows.fraction[:, None]
        joined_hw = np.empty((len(first), self.step_hw.shape[1]), dtype)
        for top in range(0, len(first), _BAND_ROWS):
            band = slice(top, top + _BAND_ROWS)
            part_hw = self.step_hw.take(first[band], 0)
            part_hw *= fraction_h1[band]
            join(part_hw, self.minus_hw.take(first[band], 0), out=joined_hw[band])
        return joined_hw


def _steps(rows_hw: F32) -> F32:
    """From each row to the next one; 0 after the last."""
    step_hw = np.zeros_like(rows_hw)
    np.subtract(rows_hw[1:], rows_hw[:-1], out=step_hw[:-1])
    return step_hw


class _Axis(NamedTuple):
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
    def of(n_in: int, n_out: int) -> "_Axis":
        # float32 all the way, as PyTorch's area_pixel_compute_source_index does it.
        scale = np.float32(n_in) / np.float32(n_out)
        centres = np.maximum(scale * (np.arange(n_out, dtype=np.float32) + np.float32(0.5)) - np.float32(0.5), 0)
        first = np.minimum(centres.astype(np.int64), n_in - 1)
        return _Axis(first, np.clip(centres - first.astype(np.float32), 0, 1), 0, slice(0, n_in))

    def touching(self, first_cell: int, end_cell: int) -> "_Axis":
        """The output pixels in which a cell of the half-open range has a part, and the cells they are made of."""
        start = int(self.first.searchsorted(first_cell - 1, "left"))
        stop = int(self.first.searchsorted(end_cell - 1, "right"))
        used = slice(max(first_cell - 1, 0), min(end_cell + 1, self.cells.stop))
        return _Axis(self.first[start:stop] - used.start, self.fraction[start:stop], start, used)

    def weights(self) -> F32:
        """[n_out, n_in]: this part of the resize as a matrix."""
        n_out, n_in = len(self.first), self.cells.stop - self.cells.start
        weights = np.zeros((n_out, n_in), np.float32)
        weights[np.arange(n_out), self.first] = 1 - self.fraction
        weights[np.arange(n_out), np.minimum(self.first + 1, n_in - 1)] += self.fraction
        return weights


def _bounds(mask_hw: Bool) -> tuple[int, int, int, int] | None:
    """The half-open box around what is set, or None."""
    x, y, w, h = cv2.boundingRect(mask_hw.view(np.uint8))
    return (x, y, x + w, y + h) if w else None


def _shape(
    mask_hw: Bool,
    origin_xy: tuple[int, int],
    size_wh: tuple[int, int],
    tolerance_px: float,
    outline: bool,
    rle: bool,
) -> Shape:
    """Geometry of a part of a mask that holds all of it, its top-left pixel at `origin_xy`."""
    counts = rle_encode(_paste(mask_hw, origin_xy, size_wh)) if rle else None
    bounds = _bounds(mask_hw)
    if bounds is None:
        return Shape(size_wh, rle_counts=counts)
    tight_hw = mask_hw[bounds[1] : bounds[3], bounds[0] : bounds[2]]
    x, y = origin_xy[0] + bounds[0], origin_xy[1] + bounds[1]
    return Shape(
        size_wh,
        box_xyxy=(x, y, x + tight_hw.shape[1], y + tight_hw.shape[0]),
        area=int(np.count_nonzero(tight_hw)),
        outline=_outline(tight_hw, (x, y), tolerance_px) if outline else [],
        rle_counts=counts,
    )


def _paste(mask_hw: Bool, origin_xy: tuple[int, int], size_wh: tuple[int, int]) -> Bool:
    whole_hw = np.zeros((size_wh[1], size_wh[0]), np.bool_)
    (x, y), (h, w) = origin_xy, mask_hw.shape
    whole_hw[y : y + h, x : x + w] = mask_hw
    return whole_hw


def _outline(mask_hw: Bool, origin_xy: tuple[int, int], tolerance_px: float) -> Outline:
    contours, hierarchy = cv2.findContours(_enlarged_twice(mask_hw), cv2.RETR_CCOMP, cv2.CHAIN_APPROX_SIMPLE)
    rings = [_simplified(_edge_ring(_int32(contour)), tolerance_px) + origin_xy for contour in contours]
    children: dict[int, list[int]] = {}
    for i, (_, _, _, parent) in enumerate(hierarchy[0].tolist()):
        children.setdefault(parent, []).append(i)
    # Backwards, so that outer borders come out positive.
    return [[rings[i][::-1].ravel().tolist() for i in (outer, *children.get(outer, ()))] for outer in children[-1]]


def _enlarged_twice(mask_hw: Bool) -> U8:
    """Nearest neighbour, times two: each pixel is a pair of bytes, each row is written twice."""
    h, w = mask_hw.shape
    pairs = np.empty((h, 2, w), np.uint16)
    np.multiply(mask_hw.view(np.uint8)[:, None, :], np.uint16(0x0101), out=pairs)
    return pairs.view(np.uint8).reshape(2 * h, 2 * w)


def _edge_ring(contour: NDArray[np.int32]) -> _Ring:
    """A contour through the pixels of the enlarged mask -> its ring along pixel edges."""
    vertices = ((contour[:, 0] + 1) >> 1).view(np.int64)  # x and y at once
    fresh = np.empty(len(vertices), np.bool_)
    fresh[0] = vertices[0] != vertices[-1]
    np.not_equal(vertices[1:, 0], vertices[:-1, 0], out=fresh[1:])
    return vertices.compress(fresh, 0).view(np.int32)


def _simplified(ring: _Ring, tolerance_px: float) -> _Ring:
    """The ring within `tolerance_px`; as it was where it would collapse, so that no part and no hole is lost."""
    if tolerance_px == 0 or len(ring) <= 4:
        return ring
    # The clean-up at the end of approxPolyDP can go past its epsilon; seen up to 1.2 times.
    for epsilon_px in (tolerance_px, tolerance_px / 2):
        fewer = _int32(cv2.approxPolyDP(ring, epsilon_px, closed=True))[:, 0]
        if len(fewer) < 3 or cv2.contourArea(fewer) == 0:
            return ring
        if _distance_px(ring, fewer) <= tolerance_px + 1e-3:
            return fewer
    return ring


def _distance_px(ring: _Ring, fewer: _Ring) -> float:
    """How far a vertex of `ring` lies at most from the side of `fewer` that replaces it; infinite where unclear."""
    ring = _beginning_at(ring, fewer[0])
    counts = _replaced(ring, fewer)
    if counts.min() <= 0:  # a ring that touches itself, taken up at the wrong end
        return np.inf
    sides = np.diff(fewer, axis=0, append=fewer[:1]).astype(np.float32)
    lengths = np.hypot(sides[:, 0], sides[:, 1])
    sides /= lengths[:, None]
    along_x, along_y = sides.repeat(counts, 0).T
    away_x, away_y = (ring - fewer.repeat(counts, 0)).T
    distances = np.abs(away_x * along_y - away_y * along_x)
    return float(distances.max())


def _beginning_at(ring: _Ring, vertex: NDArray[np.int32]) -> _Ring:
    """The same ring from one of its vertices on."""
    is_first = _as_numbers(ring) == _as_numbers(vertex[None])
    start = int(np.flatnonzero(is_first)[0])
    return np.concatenate((ring[start:], ring[:start]))


def _replaced(ring: _Ring, fewer: _Ring) -> NDArray[np.int64]:
    """How many vertices of `ring` each side of `fewer` stands for, int64 [len(fewer)]."""
    vertices = _as_numbers(ring)
    order = np.argsort(vertices)
    places = np.searchsorted(vertices, _as_numbers(fewer), sorter=order)
    return np.diff(order[places], append=len(ring))


def _as_numbers(ring: _Ring) -> NDArray[np.int64]:
    """Each vertex as one number, x and y at once."""
    return np.ascontiguousarray(ring).view(np.int64)[:, 0]


def _int32(vertices: object) -> NDArray[np.int32]:
    """For the type checker: what OpenCV makes of int32 vertices are int32 vertices."""
    return np.asarray(vertices, np.int32)
