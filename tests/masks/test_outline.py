"""Outlines filled in numpy: exactly the mask where the outline is exact, what OpenCV fills where it is not."""

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from tracker.masks.geometry import shape_of_mask
from tracker.masks.outline import fill_outline

masks = arrays.arrays(np.bool_, arrays.array_shapes(min_dims=2, max_dims=2, min_side=1, max_side=24))


@given(masks)
def test_an_exact_outline_gives_the_mask_back(mask_hw: np.ndarray) -> None:
    shape = shape_of_mask(mask_hw, tolerance_px=0)
    assert np.array_equal(fill_outline(shape.outline, shape.size_wh), mask_hw)


@given(st.lists(st.lists(st.tuples(st.integers(0, 30), st.integers(0, 20)), min_size=3, max_size=8), max_size=3))
def test_slanted_edges_are_filled_even_odd_at_pixel_centres(rings: list[list[tuple[int, int]]]) -> None:
    filled_hw = fill_outline([[[c for xy in ring for c in xy] for ring in rings]], (30, 20))
    doubtful = cv2.polylines(np.zeros((41, 61), np.uint8), [2 * np.array(r) for r in rings], True, 1)
    expected = np.zeros((41, 61), np.uint8)
    cv2.fillPoly(expected, [2 * np.array(ring) for ring in rings], 1)
    certain_hw = doubtful[1::2, 1::2] == 0  # OpenCV paints the border as well, wherever it runs
    assert np.array_equal(filled_hw[certain_hw], expected[1::2, 1::2].astype(bool)[certain_hw])


@pytest.mark.parametrize("outline", [[], [[]], [[[1, 1, 5, 1]]]])
def test_nothing_to_fill(outline: list[list[list[int]]]) -> None:
    assert not fill_outline(outline, (8, 6)).any()
