"""What an object looks like in pixels: its colours, a thumbnail."""

import cv2
import numpy as np

from tracker.images.imaging import encode_jpeg
from tracker.masks.types import F32, U8, Bool

BINS_HSV = (16, 4, 4)
THUMBNAIL_PX = 96  # of the longer side
THUMBNAIL_QUALITY = 70
MARGIN = 0.1  # of the box, around the thumbnail


def colours(rgb_hwc: U8, mask_hw: Bool) -> F32:
    """Hue, saturation and value inside the mask, float32 [256], of length 1: roots, so that no colour drowns all
    others (Hellinger's kernel)."""
    hsv_hwc = cv2.cvtColor(rgb_hwc, cv2.COLOR_RGB2HSV)
    inside_hw = mask_hw.view(np.uint8)
    counts = cv2.calcHist([hsv_hwc], [0, 1, 2], inside_hw, list(BINS_HSV), [0, 180, 0, 256, 0, 256])
    shares = counts.ravel() / max(1.0, float(counts.sum()))
    return np.asarray(np.sqrt(shares), np.float32)


def appearance(pooled_c: F32, colours_c: F32) -> F32:
    """Features and colours as one vector of length 1; the product of two is the mean of both likenesses."""
    both = np.concatenate([_unit(pooled_c), _unit(colours_c)])
    return np.asarray(both / np.sqrt(2), np.float32)


def sharpness_of(rgb_hwc: U8, mask_hw: Bool) -> float:
    """How sharp an object is: second derivatives in and just around its mask, at a thumbnail's scale, against its
    own contrast. Fit to compare looks of one object, not objects: a plain thing has little to be sharp."""
    scale = min(1.0, THUMBNAIL_PX / max(mask_hw.shape))
    height, width = mask_hw.shape
    size_wh = max(1, round(width * scale)), max(1, round(height * scale))
    small_hwc = cv2.resize(rgb_hwc, size_wh, interpolation=cv2.INTER_AREA)
    inside_hw = cv2.resize(mask_hw.view(np.uint8), size_wh, interpolation=cv2.INTER_NEAREST)
    around_hw = cv2.dilate(inside_hw, np.ones((3, 3), np.uint8)) > 0
    grey_hw = cv2.cvtColor(small_hwc, cv2.COLOR_RGB2GRAY).astype(np.float32)
    curvature_hw = cv2.Laplacian(grey_hw, cv2.CV_32F)
    contrast = float(grey_hw[around_hw].var()) + 1.0  # of a plain thing: noise is no sharpness
    return float(np.square(curvature_hw[around_hw]).mean()) / contrast


def thumbnail(rgb_hwc: U8, box_xyxy: tuple[int, int, int, int]) -> bytes:
    """The box with a little around it, as a small JPEG."""
    part_hwc = _surroundings(rgb_hwc, box_xyxy)
    h, w = part_hwc.shape[:2]
    scale = THUMBNAIL_PX / max(h, w)
    if scale < 1:
        size_wh = max(1, round(w * scale)), max(1, round(h * scale))
        part_hwc = np.asarray(cv2.resize(part_hwc, size_wh, interpolation=cv2.INTER_AREA), np.uint8)
    return encode_jpeg(part_hwc, THUMBNAIL_QUALITY)


def _surroundings(rgb_hwc: U8, box_xyxy: tuple[int, int, int, int]) -> U8:
    """The part of the picture inside the box and a margin around it."""
    height, width = rgb_hwc.shape[:2]
    x1, y1, x2, y2 = box_xyxy
    more_x = round(MARGIN * (x2 - x1))
    more_y = round(MARGIN * (y2 - y1))
    left, right = max(0, x1 - more_x), min(width, x2 + more_x)
    top, bottom = max(0, y1 - more_y), min(height, y2 + more_y)
    return np.ascontiguousarray(rgb_hwc[top:bottom, left:right])


def _unit(vector_c: F32) -> F32:
    length = float(np.linalg.norm(vector_c))
    return np.asarray(vector_c / length, np.float32) if length > 0 else vector_c
