"""Masks to geometry at source size, and back: outlines along pixel edges, boxes, areas.

Everything happens inside the crop that can be positive, so that the cost follows the object and not the picture.
"""

from collections.abc import Sequence
from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from tracker.masks.enlargement import Enlargement, bounds_of
from tracker.masks.rle import rle_encode
from tracker.masks.types import F32, U8, Bool, Shape

Outline = list[list[list[int]]]
_Ring = NDArray[np.int32]  # [n, 2] vertices, closed without repeating the first


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
    part = Enlargement.of(logits_hw, size_wh)
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
    corner_xy = np.maximum(vertices.min(0), 0)
    left, top = corner_xy
    right, bottom = np.minimum(vertices.max(0), size_wh)
    if left < right and top < bottom:
        shifted = [ring - corner_xy for ring in rings]
        inside_hw = mask_hw[top:bottom, left:right]
        inside_hw[:] = _filled(shifted, inside_hw.shape)
    return mask_hw


def _rings(outline: Sequence[Sequence[Sequence[int]]]) -> list[_Ring]:
    """All rings of an outline, int32 [n, 2] each."""
    flat = (ring for polygon in outline for ring in polygon)
    return [np.reshape(np.asarray(ring, np.int32), (-1, 2)) for ring in flat]


def _filled(rings: list[_Ring], size_hw: tuple[int, ...]) -> U8:
    """1 inside the rings, uint8 [h, w]. fillPoly also paints the rings themselves: with coordinates doubled they
    lie on even rows and columns."""
    height, width = size_hw
    twice_hw = np.zeros((2 * height + 1, 2 * width + 1), np.uint8)
    twice_as_large = [2 * ring for ring in rings]
    cv2.fillPoly(twice_hw, twice_as_large, 1)
    return twice_hw[1::2, 1::2]


def _positive(logits_hw: F32, size_wh: tuple[int, int]) -> tuple[Bool, tuple[int, int]]:
    """Where `upsample` is above 0, to the last bit: a part of the mask, and where its top-left pixel lies."""
    part = Enlargement.of(logits_hw, size_wh)
    if part is None:
        return np.zeros((0, 0), np.bool_), (0, 0)
    return part.rows_joined(np.greater, np.bool_), (part.x, part.y)


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
    bounds = bounds_of(mask_hw)
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
