"""Masks to geometry and back: what docs/protocol.md says of units, held on random masks."""

from dataclasses import asdict

import cv2
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from tracker.masks import sheet
from tracker.masks.geometry import fill, mask_of, shape_of, shape_of_mask, shapes_of, upsample
from tracker.masks.rle import rle_decode
from tracker.masks.simplification import distances_px

MASKS = st.tuples(st.integers(1, 14), st.integers(1, 14)).flatmap(lambda hw: arrays(np.bool_, hw))

PICTURES = {
    "nothing": ["...", "..."],
    "one pixel": ["...", ".#.", "..."],
    "the whole frame": ["###", "###"],
    "one pixel is the frame": ["#"],
    "two parts": ["#..#", "#..#"],
    "touching diagonals": ["#.", ".#"],
    "touching anti-diagonals": [".#", "#."],
    "a chessboard": ["#.#.", ".#.#", "#.#."],
    "a hole": ["###", "#.#", "###"],
    "a hole that touches the outside at a corner": ["##.", "#.#", "###"],
    "two holes that touch": ["#####", "#.###", "##.##", "#####"],
    "an island in a hole": ["#####", "#...#", "#.#.#", "#...#", "#####"],
    "corners of the frame": ["#.#", "...", "#.#"],
}


def picture(rows: list[str]) -> np.ndarray:
    return np.array([[cell == "#" for cell in row] for row in rows])


def vertices_of(ring: list[int]) -> np.ndarray:
    return np.reshape(ring, (-1, 2))


def signed_area(ring: list[int]) -> float:
    here = vertices_of(ring)
    there = np.roll(here, -1, 0)
    return float((here[:, 0] * there[:, 1] - there[:, 0] * here[:, 1]).sum()) / 2


def rings_of(shape) -> list[list[int]]:
    return [ring for polygon in shape.outline for ring in polygon]


def blobs(rng: np.random.Generator, h: int, w: int, share: float, smooth: float) -> np.ndarray:
    """Smooth noise above 0 on about `share` of its cells."""
    noise = cv2.GaussianBlur(rng.standard_normal((h, w)), (0, 0), smooth)
    return (noise - np.quantile(noise, 1 - share)).astype(np.float32)


def check_exact(mask_hw: np.ndarray) -> None:
    shape = shape_of_mask(mask_hw, tolerance_px=0, rle=True)
    h, w = mask_hw.shape
    rings = rings_of(shape)
    assert np.array_equal(fill(shape.outline, (w, h)), mask_hw)
    assert shape.size_wh == (w, h)
    assert shape.area == mask_hw.sum() == sum(map(signed_area, rings))
    assert all(signed_area(polygon[0]) > 0 for polygon in shape.outline)
    assert all(signed_area(hole) < 0 for polygon in shape.outline for hole in polygon[1:])
    assert shape.rle_counts is not None
    assert np.array_equal(rle_decode(shape.rle_counts, (h, w)), mask_hw)
    for ring in rings:
        steps = np.diff(vertices_of(ring + ring[:2]), axis=0)
        assert ((steps == 0).sum(1) == 1).all(), "a ring leaves the pixel edges"
    if rings:
        vertices = np.concatenate([vertices_of(ring) for ring in rings])
        assert shape.box_xyxy == (*vertices.min(0), *vertices.max(0))
        ys, xs = np.nonzero(mask_hw)
        assert shape.box_xyxy == (xs.min(), ys.min(), xs.max() + 1, ys.max() + 1)
    else:
        assert shape.box_xyxy is None


@pytest.mark.parametrize("rows", PICTURES.values(), ids=PICTURES)
def test_an_exact_outline_gives_mask_box_and_area_back(rows):
    check_exact(picture(rows))


@given(MASKS)
def test_random_masks_come_back_exactly(mask_hw):
    check_exact(mask_hw)


@pytest.mark.parametrize("seed", range(4))
def test_large_smooth_masks_come_back_exactly(seed):
    rng = np.random.default_rng(seed)
    check_exact(blobs(rng, 211, 173, 0.4, 6) > 0)


@pytest.mark.parametrize(
    ("name", "polygons", "holes"),
    [
        ("nothing", 0, 0),
        ("one pixel", 1, 0),
        ("two parts", 2, 0),
        ("touching diagonals", 1, 0),
        ("a hole", 1, 1),
        ("an island in a hole", 2, 1),
    ],
)
@pytest.mark.parametrize("tolerance_px", [0, 1.0, 5.0])
def test_parts_and_holes_are_kept_at_any_tolerance(name, polygons, holes, tolerance_px):
    shape = shape_of_mask(picture(PICTURES[name]), tolerance_px=tolerance_px)
    assert len(shape.outline) == polygons
    assert sum(len(polygon) - 1 for polygon in shape.outline) == holes
    assert all(abs(signed_area(ring)) > 0 for ring in rings_of(shape))


def distance_px(vertex: np.ndarray, ring: np.ndarray) -> float:
    """From a vertex to the nearest side of a closed ring."""
    sides = np.roll(ring, -1, 0) - ring
    along = ((vertex - ring) * sides).sum(1) / np.maximum((sides * sides).sum(1), 1e-9)
    nearest = ring + np.clip(along, 0, 1)[:, None] * sides
    return float(np.hypot(*(nearest - vertex).T).min())


@pytest.mark.parametrize("tolerance_px", [0.5, 1.0, 2.5])
@pytest.mark.parametrize("seed", range(5))
def test_simplified_outlines_stay_within_the_tolerance(seed, tolerance_px):
    rng = np.random.default_rng(seed)
    for smooth in (0.7, 2, 5):
        mask_hw = blobs(rng, 50, 60, rng.random(), smooth) > 0
        exact = shape_of_mask(mask_hw, tolerance_px=0)
        fewer = shape_of_mask(mask_hw, tolerance_px=tolerance_px)
        assert (fewer.box_xyxy, fewer.area) == (exact.box_xyxy, exact.area)
        assert [len(polygon) for polygon in fewer.outline] == [len(polygon) for polygon in exact.outline]
        for ring, simple in zip(rings_of(exact), rings_of(fewer), strict=True):
            side = vertices_of(simple).astype(float)
            assert max(distance_px(vertex, side) for vertex in vertices_of(ring)) <= tolerance_px + 1e-3


def test_simplification_saves_most_vertices_of_a_disc():
    y, x = np.mgrid[:300, :300]
    disc_hw = np.hypot(x - 150, y - 150) < 149
    exact = shape_of_mask(disc_hw, tolerance_px=0)
    fewer = shape_of_mask(disc_hw, tolerance_px=1.0)
    assert len(rings_of(fewer)[0]) * 8 < len(rings_of(exact)[0])


@pytest.mark.parametrize("size_wh", [(1920, 1080), (641, 359), (97, 53), (64, 64), (7, 300)])
@pytest.mark.parametrize("cells", [(64, 64), (48, 96), (128, 128)])
@pytest.mark.parametrize("share", [0.005, 0.3, 0.95])
def test_masks_equal_bilinear_interpolation(size_wh, cells, share):
    logits_hw = blobs(np.random.default_rng(7), *cells, share, 4)
    whole = F.interpolate(
        torch.from_numpy(logits_hw)[None, None], size_wh[::-1], mode="bilinear", align_corners=False
    )
    expected_hw = whole[0, 0].numpy()
    crop = upsample(logits_hw, size_wh)
    h, w = crop.values_hw.shape
    inside_hw = expected_hw[crop.y : crop.y + h, crop.x : crop.x + w]
    assert np.abs(crop.values_hw - inside_hw).max() <= 2e-6 * np.abs(logits_hw).max()
    mask_hw = mask_of(logits_hw, size_wh)
    assert np.array_equal(mask_hw[crop.y : crop.y + h, crop.x : crop.x + w], crop.values_hw > 0)
    wrong = mask_hw != (expected_hw > 0)
    assert not (wrong & (np.abs(expected_hw) > 1e-6 * logits_hw.std())).any()


@pytest.mark.parametrize(
    ("y", "x"), [(0, 0), (0, 15), (15, 0), (15, 15), (7, 8)], ids=["tl", "tr", "bl", "br", "inside"]
)
def test_one_positive_cell_anywhere(y, x):
    logits_hw = np.full((16, 16), -1, np.float32)
    logits_hw[y, x] = 3
    whole = F.interpolate(torch.from_numpy(logits_hw)[None, None], (90, 160), mode="bilinear", align_corners=False)
    expected_hw = whole[0, 0].numpy() > 0
    assert expected_hw.any()
    assert np.array_equal(mask_of(logits_hw, (160, 90)), expected_hw)


@pytest.mark.parametrize("rle", [False, True])
def test_an_empty_mask_has_no_box(rle):
    shape = shape_of(np.full((64, 64), -1024, np.float32), (33, 21), tolerance_px=1.0, rle=rle)
    assert (shape.size_wh, shape.box_xyxy, shape.area, shape.outline) == ((33, 21), None, 0, [])
    assert upsample(np.full((64, 64), -1024, np.float32), (33, 21)) is None
    if rle:
        assert not rle_decode(shape.rle_counts, (21, 33)).any()
    else:
        assert shape.rle_counts is None


def test_logits_and_their_mask_have_the_same_shape():
    logits_hw = blobs(np.random.default_rng(3), 64, 64, 0.2, 3)
    by_logits = shape_of(logits_hw, (320, 180), tolerance_px=0, rle=True)
    by_mask = shape_of_mask(mask_of(logits_hw, (320, 180)), tolerance_px=0, rle=True)
    assert asdict(by_logits) == asdict(by_mask)


def test_nothing_is_computed_that_nobody_asked_for():
    shape = shape_of(np.ones((16, 16), np.float32), (40, 30), tolerance_px=1.0, outline=False)
    assert (shape.box_xyxy, shape.area, shape.outline, shape.rle_counts) == ((0, 0, 40, 30), 1200, [], None)


def test_fill_clips_what_lies_outside():
    assert np.array_equal(fill([[[-5, -5, 2, -5, 2, 9, -5, 9]]], (4, 3)), picture(["##..", "##..", "##.."]))
    assert not fill([[[9, 9, 12, 9, 12, 12]]], (4, 3)).any()
    assert not fill([], (4, 3)).any()


def test_many_masks_on_one_sheet_are_those_of_each_alone(monkeypatch):
    rng = np.random.default_rng(11)
    logits = [blobs(rng, 48, 48, share, 3) for share in (0.02, 0.3, 0.9, 0.1)]
    logits.insert(2, np.full((48, 48), -1024, np.float32))
    size_wh = (320, 180)
    for tolerance_px in (0, 1.0):
        alone = [asdict(shape_of(each_hw, size_wh, tolerance_px=tolerance_px, rle=True)) for each_hw in logits]
        for sheet_bytes in (1, 1 << 14, 1 << 20):
            monkeypatch.setattr(sheet, "SHEET_BYTES", sheet_bytes)
            together = shapes_of(logits, size_wh, tolerance_px=tolerance_px, rle=True)
            assert list(map(asdict, together)) == alone
    assert shapes_of([], size_wh, tolerance_px=1.0) == []


@pytest.mark.parametrize(
    ("sizes_hw", "together"),
    [
        ([], []),
        ([(9, 10)], [[0]]),
        ([(4, 10), (4, 10)], [[0, 1]]),
        ([(4, 10), (5, 10)], [[0], [1]]),
        ([(500, 500), (1, 1), (1, 1)], [[0], [1, 2]]),
        ([(1, 1), (1, 90), (1, 1)], [[0], [1], [2]]),
    ],
)
def test_a_sheet_holds_what_stays_in_the_cache_and_one_mask_at_least(monkeypatch, sizes_hw, together):
    monkeypatch.setattr(sheet, "SHEET_BYTES", 100)
    assert list(sheet.sheets(sizes_hw)) == together


@given(MASKS)
def test_a_ring_turns_at_each_of_its_vertices(mask_hw):
    on_sheet = sheet.Sheet([mask_hw.shape])
    on_sheet.part(0)[:] = mask_hw
    for ring in on_sheet.traced()[0].rings:
        sides = np.roll(ring, -1, 0) - ring
        across = sides[:, 0] != 0
        assert (across != np.roll(across, 1)).all()


RECTANGLE = np.array([[0, 0], [0, 6], [4, 6], [4, 5], [5, 5], [5, 0]], np.int32)


@pytest.mark.parametrize(
    ("fewer", "expected"),
    [
        (RECTANGLE, 0),
        (np.roll(RECTANGLE, 2, 0), 0),
        (RECTANGLE[[5, 0, 1, 2]], np.hypot(1, 1) * np.sin(np.arctan2(6, 1) - np.pi / 4)),
        (RECTANGLE[::-1], np.inf),
        (RECTANGLE[[0, 1, 1, 3]], np.inf),
    ],
    ids=["itself", "begun elsewhere", "without two corners", "backwards", "a corner twice"],
)
def test_how_far_a_simplified_ring_is_off(fewer, expected):
    square = np.array([[9, 9], [9, 12], [12, 12], [12, 9]], np.int32)
    off_px = distances_px([square, RECTANGLE, square], [square, np.ascontiguousarray(fewer), square])
    assert off_px == pytest.approx([0, expected, 0])
