"""COCO's compressed run-length encoding of masks, in numpy alone so that clients need nothing else.

Runs of the mask's columns, one below the other, beginning with zeros; from the fourth on as the difference to the
run two before; each in groups of five bits, low group first, bit 5 for "more follows", as characters from 48 on
(`rleToString` and `rleFrString` of pycocotools' `maskApi.c`).
"""

import numpy as np
from numpy.typing import NDArray

_GROUP_BITS = 5
_MORE, _SIGN, _VALUE = 0x20, 0x10, 0x1F
_FIRST_CHARACTER = 48
_MAX_GROUPS = 7  # 35 bits: more than any picture's number of pixels
MAX_MASK_PIXELS = 2**28  # 16384 × 16384; sums of runs that passed their checks stay far below 2**63


def rle_encode(mask_hw: NDArray[np.bool_]) -> bytes:
    """The compressed counts of a bool mask [h, w], both at least 1."""
    return _compress(_runs(np.asarray(mask_hw, bool)))


def rle_decode(counts: bytes, size_hw: tuple[int, int]) -> NDArray[np.bool_]:
    """The bool mask [h, w] of compressed counts. Raises ValueError where they are not of such a mask.

    Counts and size may come from a stranger: every run is known to fit the mask before runs are added up.
    """
    height, width = size_hw
    pixels = height * width
    if height < 1 or width < 1 or pixels > MAX_MASK_PIXELS:
        raise ValueError(f"a mask of {height} × {width} pixels; at least 1 and at most {MAX_MASK_PIXELS} are read")
    runs = _decompress(counts, pixels)
    if runs.sum() != pixels:
        raise ValueError(f"the runs add up to {int(runs.sum())}, not to the mask's {height} × {width} pixels")
    column_major = np.repeat(np.arange(runs.size) % 2 == 1, runs)
    return np.ascontiguousarray(column_major.reshape(width, height).T)


def _runs(mask_hw: NDArray[np.bool_]) -> NDArray[np.int64]:
    """The mask's runs down its columns, zeros first; only columns that hold something are looked at."""
    height, width = mask_hw.shape
    pixels = height * width
    columns = np.flatnonzero(mask_hw.any(axis=0))
    if columns.size == 0:
        return np.array([pixels])
    first, last = int(columns[0]), int(columns[-1]) + 1
    flat = mask_hw[:, first:last].ravel(order="F")
    changes = np.flatnonzero(flat[1:] != flat[:-1])
    begin, end = first * height, last * height
    starts = [0, begin] if flat[0] else [0]
    edges = changes + (begin + 1)
    ends = [end] if flat[-1] else []
    bounds = np.concatenate([starts, edges, ends, [pixels]]).astype(np.int64)
    runs = bounds[1:] - bounds[:-1]
    return runs[:-1] if runs[-1] == 0 else runs


def _compress(runs: NDArray[np.int64]) -> bytes:
    values = runs.copy()
    values[3:] -= runs[1:-2]
    characters, present = [], []
    pending = np.ones(values.size, bool)
    while pending.any():
        group = values & _VALUE
        values >>= _GROUP_BITS
        is_negative = (group & _SIGN).astype(bool)
        rest = np.where(is_negative, -1, 0)  # what is left when all that follows is the sign
        more = pending & (values != rest)
        characters.append(group + more * _MORE + _FIRST_CHARACTER)
        present.append(pending)
        pending = more
    by_value = np.stack(characters, axis=1)
    written: NDArray[np.uint8] = by_value[np.stack(present, axis=1)].astype(np.uint8)
    return written.tobytes()


def _decompress(counts: bytes, pixels: int) -> NDArray[np.int64]:
    """The runs, each from 0 to `pixels`, and not more of them than a mask can have."""
    if len(counts) > _MAX_GROUPS * (pixels + 1):
        raise ValueError(f"{len(counts)} bytes of run lengths for a mask of {pixels} pixels")
    values = _differences(_codes(counts), pixels)
    values[1::2] = np.cumsum(values[1::2])
    values[2::2] = np.cumsum(values[2::2])
    if values.min() < 0 or values.max() > pixels:
        raise ValueError(f"a run that is negative or longer than the mask's {pixels} pixels")
    return values


def _codes(counts: bytes) -> NDArray[np.int64]:
    """The characters as numbers of six bits."""
    codes = np.frombuffer(counts, np.uint8).astype(np.int64)
    codes -= _FIRST_CHARACTER
    if codes.size == 0 or codes.min() < 0 or codes.max() > (_MORE | _VALUE) or codes[-1] & _MORE:
        raise ValueError("not COCO's compressed run lengths")
    return codes


def _differences(codes: NDArray[np.int64], pixels: int) -> NDArray[np.int64]:
    """Groups of bits joined to values, each with its sign and at most `pixels` from 0."""
    last = np.flatnonzero(codes & _MORE == 0)
    first = np.concatenate([[0], last[:-1] + 1])
    lengths = last - first + 1
    if lengths.max() > _MAX_GROUPS:
        raise ValueError("a run of more pixels than any picture has")
    if lengths.size > pixels + 1:
        raise ValueError(f"{lengths.size} runs for a mask of {pixels} pixels")
    places = np.arange(codes.size) - np.repeat(first, lengths)
    groups = (codes & _VALUE) << (_GROUP_BITS * places)
    values = np.add.reduceat(groups, first)
    is_negative = (codes[last] & _SIGN).astype(bool)
    values -= np.where(is_negative, 1 << (_GROUP_BITS * lengths), 0)
    if np.abs(values).max() > pixels:
        raise ValueError(f"a run that differs from another by more than the mask's {pixels} pixels")
    return values
