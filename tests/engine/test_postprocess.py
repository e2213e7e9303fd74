"""Holes are what the official CUDA kernel says they are: 8-connected background of at most so many pixels."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from tracker.engine.postprocess import FILLED, fill_holes
from tracker.masks.types import Bool

NEIGHBOURS = [(dy, dx) for dy in (-1, 0, 1) for dx in (-1, 0, 1) if (dy, dx) != (0, 0)]


def component_areas(background_hw: Bool) -> np.ndarray:
    """For every background pixel the size of its component, by flood fill."""
    areas = np.zeros(background_hw.shape, int)
    for start in zip(*np.nonzero(background_hw), strict=True):
        if areas[start]:
            continue
        component, todo = {start}, [start]
        while todo:
            y, x = todo.pop()
            near = {(y + dy, x + dx) for dy, dx in NEIGHBOURS}
            near = {p for p in near if 0 <= p[0] < background_hw.shape[0] and 0 <= p[1] < background_hw.shape[1]}
            new = {p for p in near if background_hw[p]} - component
            component |= new
            todo += new
        for p in component:
            areas[p] = len(component)
    return areas


@given(
    hnp.arrays(np.float32, st.tuples(st.integers(1, 12), st.integers(1, 12)), elements=st.sampled_from([-3, 0, 2])),
    st.integers(1, 12),
)
def test_the_definition_of_the_official_kernel(logits_hw: np.ndarray, max_area: int) -> None:
    before = logits_hw.copy()
    areas = component_areas(logits_hw <= 0)
    expected = np.where((areas > 0) & (areas <= max_area), np.float32(FILLED), logits_hw)
    np.testing.assert_array_equal(fill_holes(logits_hw, max_area), expected)
    np.testing.assert_array_equal(logits_hw, before)


@pytest.mark.parametrize(
    ("picture", "max_area", "filled"),
    [
        (["###", "#.#", "###"], 1, 1),
        (["####", "#..#", "####"], 1, 0),
        (["####", "#..#", "####"], 2, 2),
        (["####", "#.##", "##.#", "####"], 1, 0),  # touching by a corner is one hole of two pixels
        ([".##", "###", "###"], 1, 1),  # the border is no exception
        (["...", "...", "..."], 8, 0),
        (["...", "...", "..."], 9, 9),  # as upstream: an empty mask of few pixels is one big hole
        (["###", "#.#", "###"], 0, 0),  # off
    ],
)
def test_cases(picture: list[str], max_area: int, filled: int) -> None:
    logits_hw = np.array([[1.0 if c == "#" else -1.0 for c in row] for row in picture], np.float32)
    changed = fill_holes(logits_hw, max_area) != logits_hw
    assert changed.sum() == filled
    assert (fill_holes(logits_hw, max_area)[changed] == np.float32(FILLED)).all()
