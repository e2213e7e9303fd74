"""OpenCV calls that keep the element type of what they are given, which OpenCV's own stubs forget."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any, TypeVar

import cv2
import numpy as np
from numpy.typing import NDArray

Scalar = TypeVar("Scalar", bound=np.integer[Any] | np.floating[Any])


def resized(picture: NDArray[Scalar], size_wh: tuple[int, int], interpolation: int) -> NDArray[Scalar]:
    """`picture` at `size_wh`."""
    return np.asarray(cv2.resize(picture, size_wh, interpolation=interpolation), picture.dtype)


def remapped(
    picture: NDArray[Scalar],
    maps_hw2: NDArray[np.float32],
    border: int = cv2.BORDER_CONSTANT,
) -> NDArray[Scalar]:
    """`picture` looked up, bilinearly, at the (x, y) of `maps_hw2`."""
    no_second_map: Any = None  # allowed where the first holds both; the stubs don't know
    looked_up = cv2.remap(picture, maps_hw2, no_second_map, cv2.INTER_LINEAR, borderMode=border)
    return np.asarray(looked_up, picture.dtype)


def frames_of(path: Path) -> Iterator[NDArray[np.uint8]]:
    """The frames of a video, RGB `[h, w, 3]`."""
    video = cv2.VideoCapture(str(path))
    try:
        while (read := video.read())[0]:
            yield np.asarray(cv2.cvtColor(read[1], cv2.COLOR_BGR2RGB), np.uint8)
    finally:
        video.release()
