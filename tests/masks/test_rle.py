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
        (b"41", "add up to 5, not to the mask's 2 × 3"),
        (b"N8", "differs from another"),
        (b"O6", "negative"),
        (b"7", "more than the mask's 6 pixels"),
        (b"00000000", "8 runs for a mask of 6 pixels"),
        (b"0" * 50, "50 bytes"),
    ],
)
def test_refusals_say_why(counts: bytes, why: str) -> None:
    with pytest.raises(ValueError, match=why):
        rle_decode(counts, (2, 3))


def compressed(differences: list[int]) -> bytes:
    """COCO's groups of five bits, as an attacker would write them: no check of any kind."""
    out = bytearray()
    for value in differences:
        more = True
        while more:
            group, value = value & 0x1F, value >> 5
            more = value != (-1 if group & 0x10 else 0)
            out.append((group | more << 5) + 48)
    return bytes(out)


def test_runs_that_add_up_to_the_mask_only_by_wrapping_64_bits_are_refused() -> None:
    height, width, big, rising, plateau = 480, 854, 2**34 - 1, 10_000, 20_000
    ramp, top = big * rising * (rising + 1) // 2, big * rising
    flat_n, rest = divmod(2**64 + height * width - ramp, top)
    odd = [big] * rising + [0] * flat_n
    odd[-plateau] += rest // plateau
    odd[-1] += rest % plateau
    counts = compressed([0, *(value for run in odd for value in (run, 0))])
    with pytest.raises(ValueError, match="pixels"):
        rle_decode(counts, (height, width))


@given(st.lists(st.integers(-(2**34), 2**34 - 1), min_size=1, max_size=60), st.integers(1, 9), st.integers(1, 9))
def test_any_differences_are_a_mask_or_a_value_error(differences: list[int], height: int, width: int) -> None:
    try:
        mask_hw = rle_decode(compressed(differences), (height, width))
    except ValueError:
        return
    assert mask_hw.shape == (height, width)


@pytest.mark.parametrize("size_hw", [(0, 4), (-2, -3), (2**20, 2**20)])
def test_sizes_that_no_mask_has_are_refused_before_memory_is_taken(size_hw: tuple[int, int]) -> None:
    with pytest.raises(ValueError, match="a mask of"):
        rle_decode(b"1", size_hw)
