"""Masks to geometry at source size, and back: outlines along pixel edges, boxes, areas.

Everything happens inside the crop that can be positive, so that the cost follows the object and not the picture.
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import NamedTuple

import cv2
import numpy as np

from tracker.masks.enlargement import Enlargement, bounds_of
from tracker.masks.rle import rle_encode
from tracker.masks.sheet import Ring, Sheet, sheets
from tracker.masks.simplification import simplified
from tracker.masks.types import F32, U8, Bool, Shape

Outline = list[list[list[int]]]


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
    if part is None:
        return None
    values_hw = np.empty(part.size_hw, np.float32)
    part.join_rows(np.subtract, values_hw)
    return Crop(values_hw, part.x, part.y)


def mask_of(logits_hw: F32, size_wh: tuple[int, int]) -> Bool:
    """Low-resolution logits -> bool [h, w] at source size."""
    mask_hw = np.zeros((size_wh[1], size_wh[0]), np.bool_)
    part = Enlargement.of(logits_hw, size_wh)
    if part is not None:
        h, w = part.size_hw
        part.join_rows(np.greater, mask_hw[part.y : part.y + h, part.x : part.x + w])
    return mask_hw


class TightMask(NamedTuple):
    """The part of a mask that all of it is in, bool [h, w], whose top-left pixel is (x, y)."""

    mask_hw: Bool
    x: int
    y: int


def tight_mask(logits_hw: F32, size_wh: tuple[int, int]) -> TightMask | None:
    """The mask of low-resolution logits at source size, inside its box; None where it is empty."""
    part = Enlargement.of(logits_hw, size_wh)
    if part is None:
        return None
    mask_hw = np.empty(part.size_hw, np.bool_)
    part.join_rows(np.greater, mask_hw)
    bounds = bounds_of(mask_hw)
    if bounds is None:
        return None
    left, top, right, bottom = bounds
    return TightMask(mask_hw[top:bottom, left:right], part.x + left, part.y + top)


def shapes_of(
    logits: Sequence[F32],
    size_wh: tuple[int, int],
    *,
    tolerance_px: float,
    outline: bool = True,
    rle: bool = False,
) -> list[Shape]:
    """Low-resolution logits of a picture's objects -> box, area, outline and RLE of each at source size `(w, h)`.

    Rings run along pixel edges; outer borders have a positive shoelace sum, holes a negative one. With
    `tolerance_px` 0 the outline says exactly what the mask is; above 0 it is simplified to within that distance.
    """
    parts: list[_Part | None] = []
    for logits_hw in logits:
        enlarged = Enlargement.of(logits_hw, size_wh)
        parts.append(
            enlarged and _Part(enlarged.size_hw, enlarged.x, enlarged.y, partial(enlarged.join_rows, np.greater))
        )
    return _shapes(parts, size_wh, tolerance_px, outline, rle)


def shape_of(
    logits_hw: F32, size_wh: tuple[int, int], *, tolerance_px: float, outline: bool = True, rle: bool = False
) -> Shape:
    """The same of one object."""
    return shapes_of([logits_hw], size_wh, tolerance_px=tolerance_px, outline=outline, rle=rle)[0]


def shape_of_mask(mask_hw: Bool, *, tolerance_px: float, outline: bool = True, rle: bool = False) -> Shape:
    """The same of a mask at source size, bool [h, w]."""
    size_wh = (mask_hw.shape[1], mask_hw.shape[0])
    bounds = bounds_of(mask_hw)
    part = None
    if bounds is not None:
        left, top, right, bottom = bounds
        tight_hw = mask_hw[top:bottom, left:right]
        part = _Part(tight_hw.shape, left, top, lambda to_hw: np.copyto(to_hw, tight_hw))
    return _shapes([part], size_wh, tolerance_px, outline, rle)[0]


def fill(outline: Sequence[Sequence[Sequence[int]]], size_wh: tuple[int, int]) -> Bool:
    """Polygons of rings -> bool [h, w]: the even-odd rule at pixel centres. The inverse of an exact outline."""
    width, height = size_wh
    mask_hw = np.zeros((height, width), np.bool_)
    rings = rings_of(outline)
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


def rings_of(outline: Sequence[Sequence[Sequence[int]]]) -> list[Ring]:
    """All rings of an outline, int32 [n, 2] each."""
    flat = (ring for polygon in outline for ring in polygon)
    return [np.reshape(np.asarray(ring, np.int32), (-1, 2)) for ring in flat]


def _filled(rings: list[Ring], size_hw: tuple[int, ...]) -> U8:
    """1 inside the rings, uint8 [h, w]. fillPoly also paints the rings themselves: with coordinates doubled they
    lie on even rows and columns."""
    height, width = size_hw
    twice_hw = np.zeros((2 * height + 1, 2 * width + 1), np.uint8)
    twice_as_large = [2 * ring for ring in rings]
    cv2.fillPoly(twice_hw, twice_as_large, 1)
    return twice_hw[1::2, 1::2]


def _paste(part_hw: Bool, origin_xy: tuple[int, int], size_wh: tuple[int, int]) -> Bool:
    whole_hw = np.zeros((size_wh[1], size_wh[0]), np.bool_)
    (x, y), (h, w) = origin_xy, part_hw.shape
    whole_hw[y : y + h, x : x + w] = part_hw
    return whole_hw


class _Part(NamedTuple):
    """A part of a picture that holds all of a mask: its top-left pixel is (x, y), and `draw` writes the mask into a
    bool [h, w]."""

    size_hw: tuple[int, int]
    x: int
    y: int
    draw: Callable[[Bool], None]


def _shapes(
    parts: Sequence[_Part | None], size_wh: tuple[int, int], tolerance_px: float, outline: bool, rle: bool
) -> list[Shape]:
    """Geometry of masks of one picture; None: nothing is in it."""
    nothing = rle_encode(np.zeros((size_wh[1], size_wh[0]), np.bool_)) if rle and None in parts else None
    shapes = [Shape(size_wh, rle_counts=nothing) for _ in parts]
    there = [k for k, part in enumerate(parts) if part is not None]
    drawn = [part for part in parts if part is not None]
    for together in sheets([part.size_hw for part in drawn]):
        on_it = [drawn[i] for i in together]
        sheet = Sheet([part.size_hw for part in on_it])
        for place, part in enumerate(on_it):
            part.draw(sheet.part(place))
        outlines = _outlines(sheet, on_it, tolerance_px) if outline else [[] for _ in on_it]
        for place, i in enumerate(together):
            part = on_it[place]
            counts = rle_encode(_paste(sheet.part(place), (part.x, part.y), size_wh)) if rle else None
            shapes[there[i]] = _shape(sheet.part(place), part, size_wh, outlines[place], counts)
    return shapes


def _shape(
    mask_hw: Bool, part: _Part, size_wh: tuple[int, int], outline: Outline, rle_counts: bytes | None
) -> Shape:
    bounds = bounds_of(mask_hw)
    if bounds is None:
        return Shape(size_wh, rle_counts=rle_counts)
    left, top, right, bottom = bounds
    box_xyxy = (part.x + left, part.y + top, part.x + right, part.y + bottom)
    area = int(np.count_nonzero(mask_hw[top:bottom, left:right]))
    return Shape(size_wh, box_xyxy, area, outline, rle_counts)


def _outlines(sheet: Sheet, parts: Sequence[_Part], tolerance_px: float) -> list[Outline]:
    """The outline of each mask on a sheet, in pixels of the picture."""
    traced = sheet.traced()
    fewer = iter(simplified([ring for of_mask in traced for ring in of_mask.rings], tolerance_px))
    outlines = []
    for of_mask, part, top in zip(traced, parts, sheet.tops, strict=False):
        origin_xy = np.array([part.x, part.y - top], np.int32)
        # Backwards, so that outer borders come out positive.
        rings = [(next(fewer)[::-1] + origin_xy).ravel().tolist() for _ in of_mask.rings]
        outlines.append(_polygons(rings, of_mask.around))
    return outlines


def _polygons(rings: Sequence[list[int]], around: Sequence[int]) -> Outline:
    """Each outer border with its holes."""
    holes: dict[int, list[list[int]]] = {}
    for ring, outer in zip(rings, around, strict=True):
        if outer >= 0:
            holes.setdefault(outer, []).append(ring)
    return [[ring, *holes.get(i, ())] for i, ring in enumerate(rings) if around[i] < 0]
