"""A picture of one object, as CLIP is shown it."""

from typing import NamedTuple

import cv2
import numpy as np

from tracker.masks.types import U8, Bool

MARGIN = 0.1  # of the longer side, on each side: some surroundings help to tell what a thing is
BLUR = 1 / 16  # of the crop's side: what is not the object is colours and rough shapes
COARSE_PX = 28  # side of the picture that is blurred
GREY = (122, 116, 104)  # CLIP's mean colour, for what lies outside the frame


class _Window(NamedTuple):
    """A square of the frame, which may reach beyond it."""

    left: int
    top: int
    size: int


def masked_crop(rgb_hwc: U8, mask_hw: Bool, side: int) -> U8 | None:
    """The object in a square of `side` pixels, uint8 [side, side, 3], all around it blurred; None: an empty mask.

    Blurring the reverse of the mask is what served CLIP best in "Fine-Grained Visual Prompting" (Yang et al.,
    2023): cut-outs on one colour are unlike all that it was trained on.
    """
    window = _window_around(mask_hw)
    if window is None:
        return None
    picture_hwc = _cut(rgb_hwc, window, side, GREY)
    inside_hw = _cut(mask_hw.astype(np.float32), window, side, 0)
    inside_hw1 = inside_hw.clip(0, 1)[..., None]
    around_hwc = _blurred(picture_hwc)
    mixed_hwc = inside_hw1 * picture_hwc + (1 - inside_hw1) * around_hwc
    return np.asarray(np.rint(mixed_hwc), np.uint8)


def _blurred(picture_hwc: U8) -> U8:
    """Through a small picture, where the same blur is a twentieth of the work."""
    side = picture_hwc.shape[0]
    small = min(side, COARSE_PX)
    coarse_hwc = cv2.resize(picture_hwc, (small, small), interpolation=cv2.INTER_AREA)
    coarse_hwc = cv2.GaussianBlur(coarse_hwc, (0, 0), small * BLUR)
    return np.asarray(cv2.resize(coarse_hwc, (side, side), interpolation=cv2.INTER_LINEAR), np.uint8)


def _window_around(mask_hw: Bool) -> _Window | None:
    """The mask in the middle, with a margin."""
    x, y, w, h = cv2.boundingRect(mask_hw.view(np.uint8))
    if not w:
        return None
    longer = max(w, h)
    size = round(longer * (1 + 2 * MARGIN))
    return _Window(x + (w - size) // 2, y + (h - size) // 2, size)


def _cut(values: np.ndarray, window: _Window, side: int, border: int | tuple[int, ...]) -> np.ndarray:
    """The window out of `values`, resized to `side`; `border` fills what lies outside."""
    left, top, size = window
    h, w = values.shape[:2]
    right, bottom = left + size, top + size
    inside = values[max(top, 0) : min(bottom, h), max(left, 0) : min(right, w)]
    over = max(-top, 0), max(bottom - h, 0), max(-left, 0), max(right - w, 0)
    whole = cv2.copyMakeBorder(inside, *over, cv2.BORDER_CONSTANT, value=border)
    method = cv2.INTER_AREA if size > side else cv2.INTER_LINEAR
    return cv2.resize(whole, (side, side), interpolation=method)
