"""Pictures to paint with: procedural ones, frames of any folder of clips, and objects cut out of those frames."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from opencv import frames_of, resized

Picture = NDArray[np.uint8]
"""`[h, w, 3]`, RGB."""

SHORT_SIDE_PX = 288
JUDGES = ("car-shadow", "dogs-jump")
"""Clips with truth: they judge the model, so nothing of them may enter its training."""
VIDEO_SUFFIXES = (".mp4", ".mkv", ".mov", ".webm", ".avi")
IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png")


@dataclass(frozen=True)
class Track:
    """A real object where it was filmed: `masks_thw` (bool) for frames `start`, `start + 1`, … of one clip."""

    clip: int
    start: int
    masks_thw: NDArray[np.bool_]


@dataclass
class Bank:
    """Frames of real clips and what was found in them; empty means that everything is procedural."""

    clips_tnhwc: list[Picture] = field(default_factory=list)
    cutouts_hwc: list[NDArray[np.uint8]] = field(default_factory=list)
    """RGBA."""
    tracks: list[Track] = field(default_factory=list)
    photos: dict[str, list[Any]] = field(default_factory=dict)
    """`training.photos.Photo`s, pictures with true masks, by set."""

    def picture(self, rng: np.random.Generator, size_px: int, real: float = 0.7) -> Picture:
        """A `[size_px, size_px, 3]` texture: with probability `real` a piece of a real frame."""
        if not self.clips_tnhwc or rng.random() > real:
            return procedural(rng, size_px)
        clip_nhwc = self.clips_tnhwc[rng.integers(len(self.clips_tnhwc))]
        return crop(rng, clip_nhwc[rng.integers(len(clip_nhwc))], size_px)

    def stretch(self, rng: np.random.Generator, frames: int) -> list[Picture] | None:
        """`frames` consecutive frames of one real clip, forwards or backwards; None where there is none as long."""
        long_enough = [clip for clip in self.clips_tnhwc if len(clip) >= frames]
        if not long_enough:
            return None
        clip_nhwc = long_enough[rng.integers(len(long_enough))]
        start = int(rng.integers(len(clip_nhwc) - frames + 1))
        pictures = [clip_nhwc[start + i] for i in range(frames)]
        return pictures if rng.random() < 0.5 else pictures[::-1]

    def tracked(self, rng: np.random.Generator, frames: int) -> tuple[list[Picture], NDArray[np.bool_]] | None:
        """`frames` frames of a real clip and `[t, h, w]` where one thing in it is; forwards or backwards."""
        long_enough = [track for track in self.tracks if len(track.masks_thw) >= frames]
        if not long_enough:
            return None
        track = long_enough[rng.integers(len(long_enough))]
        stride = int(rng.integers(1, min(3, len(track.masks_thw) // frames) + 1))
        first = int(rng.integers(len(track.masks_thw) - stride * (frames - 1)))
        index_t = [first + stride * i for i in range(frames)][:: 1 if rng.random() < 0.5 else -1]
        clip_nhwc = self.clips_tnhwc[track.clip]
        return [clip_nhwc[track.start + i] for i in index_t], track.masks_thw[index_t]


def crop(rng: np.random.Generator, picture: Picture, size_px: int) -> Picture:
    """A random square of `picture`, at least a third of its short side, mirrored at random."""
    height, width = picture.shape[:2]
    side = int(min(height, width) * rng.uniform(0.33, 1.0))
    top, left = int(rng.integers(height - side + 1)), int(rng.integers(width - side + 1))
    square = picture[top : top + side, left : left + side]
    square = square[:, ::-1] if rng.random() < 0.5 else square
    return resized(np.ascontiguousarray(square), (size_px, size_px), cv2.INTER_AREA)


def procedural(rng: np.random.Generator, size_px: int) -> Picture:
    """Noise, stripes, checks, cells or a plain gradient between two or three random colours."""
    kind = rng.choice(["noise", "noise", "stripes", "checks", "cells", "gradient", "plain"])
    field_hw = _FIELDS[str(kind)](rng, size_px)
    colours = rng.uniform(0, 255, (3, 3)) * rng.uniform(0.4, 1.0) + rng.uniform(0, 40)
    low_hw, high_hw = np.clip(2 * field_hw, 0, 1), np.clip(2 * field_hw - 1, 0, 1)
    picture = (
        colours[0] + low_hw[..., None] * (colours[1] - colours[0]) + high_hw[..., None] * (colours[2] - colours[1])
    )
    picture += rng.normal(0, rng.uniform(0, 12), (size_px, size_px, 1))
    return np.asarray(np.clip(picture, 0, 255), np.uint8)


def smooth_noise(rng: np.random.Generator, size_px: int, cells: int) -> NDArray[np.float32]:
    """`[size_px, size_px]` in 0..1: random values on a coarse grid, interpolated."""
    grid_hw = rng.random((cells + 1, cells + 1), dtype=np.float32)
    return np.clip(resized(grid_hw, (size_px, size_px), cv2.INTER_CUBIC), 0, 1)


def _noise(rng: np.random.Generator, size_px: int) -> NDArray[np.float32]:
    octaves = [smooth_noise(rng, size_px, 2**level) / level for level in range(1, int(rng.integers(3, 7)))]
    total_hw = np.sum(octaves, axis=0, dtype=np.float32)
    return np.asarray((total_hw - total_hw.min()) / max(float(np.ptp(total_hw)), 1e-6), np.float32)


def _stripes(rng: np.random.Generator, size_px: int) -> NDArray[np.float32]:
    axis_hw = _ramp(rng, size_px) * rng.uniform(4, 40) + smooth_noise(rng, size_px, 3) * rng.uniform(0, 3)
    wave_hw = 0.5 + 0.5 * np.sin(axis_hw)
    return (wave_hw > 0.5).astype(np.float32) if rng.random() < 0.5 else wave_hw.astype(np.float32)


def _checks(rng: np.random.Generator, size_px: int) -> NDArray[np.float32]:
    count = rng.uniform(3, 16)
    across_hw, along_hw = _ramp(rng, size_px), _ramp(rng, size_px)
    cell_hw = np.floor(across_hw * count) + np.floor(along_hw * count)
    return np.asarray(cell_hw % 2, np.float32)


def _cells(rng: np.random.Generator, size_px: int) -> NDArray[np.float32]:
    seeds_hw = np.full((size_px, size_px), 255, np.uint8)
    count = int(rng.integers(8, 80))
    seeds_hw[rng.integers(0, size_px, count), rng.integers(0, size_px, count)] = 0
    distance_hw, labels_hw = cv2.distanceTransformWithLabels(
        seeds_hw, cv2.DIST_L2, 5, labelType=cv2.DIST_LABEL_PIXEL
    )
    if rng.random() < 0.5:
        return np.asarray(distance_hw / max(float(distance_hw.max()), 1e-6), np.float32)
    shade_n: NDArray[np.float32] = rng.random(int(labels_hw.max()) + 1, dtype=np.float32)
    return np.asarray(shade_n[labels_hw])


def _ramp(rng: np.random.Generator, size_px: int) -> NDArray[np.float32]:
    angle = rng.uniform(0, 2 * np.pi)
    y_hw, x_hw = np.mgrid[0:size_px, 0:size_px].astype(np.float32) / size_px
    return np.asarray(x_hw * np.cos(angle) + y_hw * np.sin(angle), np.float32)


def _gradient(rng: np.random.Generator, size_px: int) -> NDArray[np.float32]:
    ramp_hw = _ramp(rng, size_px)
    return np.asarray((ramp_hw - ramp_hw.min()) / float(np.ptp(ramp_hw)), np.float32)


def _plain(rng: np.random.Generator, size_px: int) -> NDArray[np.float32]:
    return np.full((size_px, size_px), rng.random(), np.float32)


_FIELDS = {
    "noise": _noise,
    "stripes": _stripes,
    "checks": _checks,
    "cells": _cells,
    "gradient": _gradient,
    "plain": _plain,
}


def load_clips(folder: Path, cache: Path) -> list[Picture]:
    """Every clip and image under `folder`, judges left out, shrunk and kept in `cache`."""
    cache.mkdir(parents=True, exist_ok=True)
    clips = [_cached_clip(path, cache) for path in _media(folder)]
    if not clips:
        raise FileNotFoundError(
            f"no video or image in {folder}: name a folder that holds some, or leave --textures out"
        )
    return clips


def _media(folder: Path) -> list[Path]:
    paths = (path for path in sorted(folder.rglob("*")) if not set(path.relative_to(folder).parts) & set(JUDGES))
    return [path for path in paths if path.suffix.lower() in VIDEO_SUFFIXES + IMAGE_SUFFIXES]


def _cached_clip(path: Path, cache: Path) -> Picture:
    stored = cache / f"{path.stem}.npy"
    if not stored.exists():
        np.save(stored, np.stack(list(_frames(path))))
    clip: Picture = np.load(stored, mmap_mode="r")  # memory-mapped: every worker reads the same pages
    return clip


def _frames(path: Path, every: int = 2) -> Iterator[Picture]:
    if path.suffix.lower() in IMAGE_SUFFIXES:
        yield _shrunk(np.asarray(cv2.imread(str(path), cv2.IMREAD_COLOR_RGB), np.uint8))
        return
    for index, frame in enumerate(frames_of(path)):
        if index % every == 0:
            yield _shrunk(frame)


def _shrunk(picture: Picture) -> Picture:
    height, width = picture.shape[:2]
    scale = SHORT_SIDE_PX / min(height, width)
    size_wh = (round(width * scale), round(height * scale))
    return resized(picture, size_wh, cv2.INTER_AREA)
