"""A picture of one object, as CLIP is shown it."""

import cv2
import numpy as np

from tracker.types import U8, Bool

MARGIN = 0.1  # of the longer side, on each side: some surroundings help to tell what a thing is
BLUR = 1 / 16  # of the crop's side: what is not the object is colours and rough shapes
GREY = (122, 116, 104)  # CLIP's mean colour, for what lies outside the frame


def masked_crop(rgb_hwc: U8, mask_hw: Bool, side: int) -> U8 | None:
    """The object in a square of `side` pixels, uint8 [side, side, 3], all around it blurred; None: an empty mask.

    Blurring the reverse of the mask is what served CLIP best in "Fine-Grained Visual Prompting" (Yang et al.,
    2023): cut-outs on one colour are unlike all that it was trained on.
    """
    x, y, w, h = cv2.boundingRect(mask_hw.view(np.uint8))
    if not w:
        return None
    size = round(max(w, h) * (1 + 2 * MARGIN))
    left, top = x + (w - size) // 2, y + (h - size) // 2
    picture_hwc = _square(rgb_hwc, left, top, size, side, GREY)
    object_hw1 = _square(mask_hw.astype(np.float32), left, top, size, side, 0)[..., None].clip(0, 1)
    around_hwc = cv2.GaussianBlur(picture_hwc, (0, 0), side * BLUR)
    mixed_hwc = object_hw1 * picture_hwc + (1 - object_hw1) * around_hwc
    return np.asarray(np.rint(mixed_hwc), np.uint8)


def _square(
    values: np.ndarray, left: int, top: int, size: int, side: int, border: int | tuple[int, ...]
) -> np.ndarray:
    """A square of `size` pixels out of `values`, resized to `side`; `border` fills what lies outside."""
    h, w = values.shape[:2]
    right, bottom = left + size, top + size
    inside = values[max(top, 0) : min(bottom, h), max(left, 0) : min(right, w)]
    over = max(-top, 0), max(bottom - h, 0), max(-left, 0), max(right - w, 0)
    whole = cv2.copyMakeBorder(inside, *over, cv2.BORDER_CONSTANT, value=border)
    return cv2.resize(whole, (side, side), interpolation=cv2.INTER_AREA if size > side else cv2.INTER_LINEAR)
