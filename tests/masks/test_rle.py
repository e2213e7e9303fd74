"""COCO run lengths: the same bytes as pycocotools, and nothing but ValueError from anything else."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from pycocotools import mask as coco

from tracker.masks.rle import rle_decode, rle_encode

masks = arrays.arrays(np.bool_, arrays.array_shapes(min_dims=2, max_dims=2, min_side=1, max_side=40))


@given(masks)
@settings(deadline=None)
def test_the_bytes_are_those_of_pycocotools_and_give_the_mask_back(mask_hw: np.ndarray) -> None:
    counts = rle_encode(mask_hw)
    assert counts == coco.encode(np.asfortranarray(mask_hw, np.uint8))["counts"]
    assert np.array_equal(rle_decode(counts, mask_hw.shape), mask_hw)


@pytest.mark.parametrize("shape_hw", [(1, 1), (1, 700), (700, 1), (1080, 1920)])
def test_large_runs_and_blobs(shape_hw: tuple[int, int]) -> None:
    ys, xs = np.indices(shape_hw)
    for radius in (0, 2, 3.5, 90, 5000):
        mask_hw = (xs - shape_hw[1] / 2) ** 2 + (ys - shape_hw[0] / 3) ** 2 < radius**2
        counts = rle_encode(mask_hw)
        assert counts == coco.encode(np.asfortranarray(mask_hw, np.uint8))["counts"]
        assert np.array_equal(rle_decode(counts, shape_hw), mask_hw)


@given(st.binary(max_size=60) | st.text("0123456789:;<=>?@ABCDEFNOPQRSTUVWXYZ_abcdmno").map(str.encode))
@settings(deadline=None)
def test_any_bytes_are_a_mask_or_a_value_error(counts: bytes) -> None:
    try:
        mask_hw = rle_decode(counts, (6, 7))
    except ValueError:
        return
    assert mask_hw.shape == (6, 7)
    assert mask_hw.dtype == bool


@pytest.mark.parametrize(
    ("counts", "why"),
    [
        (b"", "compressed run lengths"),
        (b"\x00", "compressed run lengths"),
        (b"o", "compressed run lengths"),  # "more follows", and nothing does
        (b"oooooooo0", "more pixels"),
        (b"61", "add up to 7, not to the mask's 2 × 3"),
        (b"N8", "add up to"),  # a negative run
    ],
)
def test_refusals_say_why(counts: bytes, why: str) -> None:
    with pytest.raises(ValueError, match=why):
        rle_decode(counts, (2, 3))
