"""A photo comes alive: its object goes its own way, turns, grows and bends, what is around it gives way."""

import cv2
import numpy as np
from numpy.typing import NDArray

from opencv import remapped, resized
from training.photos import Photo, any_photo, large_objects, together
from training.scenario import wander
from training.textures import Picture, smooth_noise

Field = NDArray[np.float32]
"""`[h, w, 2]`, x and y in pixels."""


def living(
    rng: np.random.Generator, photos: dict[str, list[Photo]], frames: int, pace: float = 1.0
) -> tuple[list[Picture], NDArray[np.bool_]] | None:
    """`frames` pictures of one photo and `[t, h, w]` where one of its objects is; None where all are too small."""
    picture, label_hw = any_photo(rng, photos).read()
    label_hw = together(rng, label_hw)
    numbers = large_objects(label_hw)
    if not numbers:
        return None
    mask_hw = (label_hw == numbers[rng.integers(len(numbers))]).astype(np.uint8) * 255
    puppet = Puppet(rng, mask_hw, frames, pace)
    pictures, masks = [], []
    for time in range(frames):
        maps_hw2 = puppet.maps(time)
        pictures.append(remapped(picture, maps_hw2, cv2.BORDER_REFLECT_101))
        masks.append(remapped(mask_hw, maps_hw2) > 127)
    return pictures, np.stack(masks)


class Puppet:
    """Where each pixel of frame `t` is to be looked up in the photo."""

    def __init__(self, rng: np.random.Generator, mask_hw: NDArray[np.uint8], frames: int, pace: float) -> None:
        x, y, w, h = cv2.boundingRect(mask_hw)
        self.centre_xy, self.size_px = np.array([x + w / 2, y + h / 2]), float(np.sqrt(w * h))
        self.soft_hw = _surroundings(mask_hw, 0.25 * self.size_px)
        pace *= float(np.exp(rng.uniform(np.log(0.3), np.log(2.0))))
        time_t = np.arange(frames)
        self.moved_t2 = np.stack([wander(rng, time_t, 0.04 * pace, 0.2 * pace) for _ in "xy"], -1) * self.size_px
        self.turned_t = wander(rng, time_t, 0.01 * pace, 0.1 * pace)
        self.grown_t = np.exp(wander(rng, time_t, 0.008 * pace, 0.06 * pace))
        height, width = mask_hw.shape
        self.grid_hw2 = np.stack(np.meshgrid(np.arange(width), np.arange(height)), -1).astype(np.float32)
        self.bend_hw2 = self._bend(rng, height, width)
        self.period, self.phase = rng.uniform(6, 30), rng.uniform(0, 6.3)

    def _bend(self, rng: np.random.Generator, height: int, width: int) -> Field:
        """Waves of a third of the object or so: arms and tails that swing."""
        cells = int(np.clip(2.5 * max(height, width) / self.size_px, 2, 24))
        fields = [cv2.resize(smooth_noise(rng, 64, cells) - 0.5, (width, height)) for _ in range(2)]
        bend: Field = np.stack(fields, -1) * np.float32(self.size_px * rng.uniform(0, 0.16))
        return bend

    def maps(self, time: int) -> Field:
        """Backwards, as `cv2.remap` wants it: the object's own affine near it, nothing far away."""
        angle, scale = float(self.turned_t[time]), float(self.grown_t[time])
        turn_22 = scale * np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
        forth_23 = np.column_stack([turn_22, self.centre_xy + self.moved_t2[time] - turn_22 @ self.centre_xy])
        back_23 = cv2.invertAffineTransform(forth_23).astype(np.float32)
        soft_hw = cv2.warpAffine(self.soft_hw, forth_23, self.soft_hw.shape[::-1], borderMode=cv2.BORDER_REPLICATE)
        own_hw2 = self.grid_hw2 @ back_23[:, :2].T + back_23[:, 2] - self.grid_hw2
        wave = np.float32(np.sin(2 * np.pi * time / self.period + self.phase) - np.sin(self.phase))
        maps: Field = self.grid_hw2 + soft_hw[..., None] * (own_hw2 + wave * self.bend_hw2)
        return maps


def _surroundings(mask_hw: NDArray[np.uint8], reach_px: float) -> NDArray[np.float32]:
    """1 on the object and a little beyond it, falling to 0 within `reach_px` or so; made at a quarter size."""
    height, width = mask_hw.shape
    small = cv2.resize(mask_hw, (width // 4, height // 4), interpolation=cv2.INTER_AREA)
    side = 1 + 2 * int(np.clip(reach_px / 6, 1, 15))
    grown = cv2.dilate((small > 0).astype(np.float32), np.ones((side, side), np.uint8))
    blurred = np.asarray(cv2.GaussianBlur(grown, (0, 0), max(reach_px / 10, 0.8)), np.float32)
    soft_hw = resized(blurred, (width, height), cv2.INTER_LINEAR)
    return np.maximum(soft_hw, mask_hw.astype(np.float32) / 255)
