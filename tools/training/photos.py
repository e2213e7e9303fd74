"""Real pictures and clips with true masks: of what `splits.json` lists, all that is for training."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from training.textures import Bank, Picture, Track

CUTOUT_PX = 192
SMALLEST_SHARE = 0.004
"""Of its picture, for an object to be cut out or to choose a crop by."""
SHARES = {"coco128-seg": 0.45, "feral-cat": 0.18, "oxford-pets": 0.15, "ycb-video": 0.06, "videos": 0.16}
"""How often a picture comes from each set: by size alone two of three would be cats."""
COARSE = "intel-preview"
"""Clips whose truth is too coarse to learn outlines from: backgrounds only."""
TOGETHER = 0.25
"""Share of the pictures in which two things that touch are one: a rider is one thing with the bicycle, and a box
around both means both."""
FRAME_STEP = 4
"""Every so manyth frame of a clip is a picture too: neighbours are nearly the same."""

HELD_BACK = 25
"""Of so many pictures one enters no training: scores are calibrated on these."""

Label = NDArray[np.uint8]
"""`[h, w]`, the number of the object at each pixel, 0: none."""


@dataclass(frozen=True)
class Photo:
    """A picture with its objects, read when it is wanted."""

    picture: Path
    mask: Path

    def read(self) -> tuple[Picture, Label]:
        """RGB and label map. Masks are indexed PNGs, whose numbers only PIL gives."""
        return np.array(Image.open(self.picture).convert("RGB")), np.array(Image.open(self.mask))


def load_sets(folder: Path, held_back: bool = False) -> Bank:
    """All training material of `folder`, or the pictures held back from it: nothing of what `splits.json` lists as
    `judge` is opened."""
    names = json.loads((folder / "splits.json").read_text())["train"]
    photos: dict[str, list[Photo]] = {}
    for name in (name for i, name in enumerate(names["images"]) if (i % HELD_BACK == 7) == held_back):
        photo = Photo(folder / f"{name}.jpg", folder / f"{name}.png")
        photos.setdefault(Path(name).parent.name, []).append(photo)
    films = [] if held_back else [_film(folder / name) for name in names["videos"]]
    fine = [film for film in films if COARSE not in film[0].picture.parts]
    photos["videos"] = [photo for film in fine for photo in film[::FRAME_STEP]]
    pictures = [photo.read() for members in photos.values() for photo in members]
    cutouts = [cutout for picture, label_hw in pictures for cutout in cut_outs(picture, label_hw)]
    clips = [np.stack([photo.read()[0] for photo in film]) for film in films]
    starts = [i for i, film in enumerate(films) if film in fine]
    tracks = [track for i in starts for track in _tracks(i, [photo.read()[1] for photo in films[i]])]
    stills = [picture[None] for picture, _ in pictures]
    return Bank([*clips, *stills], cutouts, tracks, {name: members for name, members in photos.items() if members})


def _film(folder: Path) -> list[Photo]:
    masks = {path.stem: path for path in (folder / "masks").iterdir()}
    frames = sorted(path for path in (folder / "frames").iterdir() if path.stem in masks)
    return [Photo(path, masks[path.stem]) for path in frames]


def _tracks(clip: int, labels: list[Label]) -> Iterator[Track]:
    for number in range(1, 1 + max(int(label_hw.max()) for label_hw in labels)):
        masks_thw = np.stack([label_hw == number for label_hw in labels])
        if masks_thw.mean((1, 2)).max() > SMALLEST_SHARE:
            yield Track(clip, 0, masks_thw)


def large_objects(label_hw: Label) -> list[int]:
    """Numbers of the objects that are large enough to look at."""
    share_n = np.bincount(label_hw.ravel(), minlength=2) / label_hw.size
    return [int(number) for number in np.flatnonzero(share_n > SMALLEST_SHARE) if number and number != 255]


def cut_outs(picture: Picture, label_hw: Label) -> Iterator[NDArray[np.uint8]]:
    """The objects that the picture's edge doesn't cut, each as RGBA of at most `CUTOUT_PX`, its rim smoothed."""
    for number in large_objects(label_hw):
        mask_hw = (label_hw == number).astype(np.uint8)
        edge = np.concatenate([mask_hw[0], mask_hw[-1], mask_hw[:, 0], mask_hw[:, -1]])
        if edge.sum() > 0.15 * np.sqrt(mask_hw.sum()):
            continue
        x, y, w, h = cv2.boundingRect(mask_hw)
        rgba = np.dstack([picture, cv2.GaussianBlur(mask_hw * 255, (3, 3), 0)])[y : y + h, x : x + w]
        scale = min(1.0, CUTOUT_PX / max(w, h))
        small = cv2.resize(rgba, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
        yield np.asarray(small, np.uint8)


def any_photo(rng: np.random.Generator, photos: dict[str, list[Photo]]) -> Photo:
    """One of them, its set by `SHARES`."""
    names = list(photos)
    share_n = np.array([SHARES.get(name, 0.1) for name in names])
    members = photos[names[rng.choice(len(names), p=share_n / share_n.sum())]]
    return members[rng.integers(len(members))]


def window(
    rng: np.random.Generator, label_hw: Label, number: int, size_px: int, widest: float = 4.0
) -> NDArray[np.float64]:
    """`[2, 3]`, picture -> square: a crop that keeps object `number` in view, mirrored, squeezed, tilted at random.

    Squeezed, because the model sees every picture as a square, whatever its sides are.
    """
    height, width = label_hw.shape
    x, y, w, h = cv2.boundingRect((label_hw == number).astype(np.uint8))
    aspect = float(np.exp(rng.uniform(-0.25, 0.6)))
    side = max(w / aspect**0.5, h * aspect**0.5, 0.12 * min(height, width)) * float(
        np.exp(rng.uniform(0.05, np.log(widest)))
    )
    wide, high = min(side * aspect**0.5, 1.05 * width), min(side / aspect**0.5, 1.05 * height)
    centre_xy = np.array([x + w / 2, y + h / 2]) + rng.uniform(-0.5, 0.5, 2) * np.maximum((wide - w, high - h), 0)
    half_xy = np.array([wide, high]) / 2
    centre_xy = np.clip(centre_xy, np.minimum(half_xy, (width / 2, height / 2)), None)
    centre_xy = np.minimum(centre_xy, np.maximum(np.array([width, height]) - half_xy, (width / 2, height / 2)))
    tilt = rng.normal(0, 0.12) if rng.random() < 0.5 else 0.0
    mirror = -1.0 if rng.random() < 0.5 else 1.0
    turn_22 = np.array([[np.cos(tilt), -np.sin(tilt)], [np.sin(tilt), np.cos(tilt)]])
    scale_22 = np.diag([mirror * size_px / wide, size_px / high]) @ turn_22
    return np.column_stack([scale_22, np.full(2, size_px / 2) - scale_22 @ centre_xy])


def together(rng: np.random.Generator, label_hw: Label) -> Label:
    """The labels, in some pictures with an object and the one that touches it most under one number."""
    numbers = large_objects(label_hw)
    if len(numbers) < 2 or rng.random() > TOGETHER:
        return label_hw
    number = numbers[rng.integers(len(numbers))]
    around_hw = cv2.dilate((label_hw == number).astype(np.uint8), np.ones((7, 7), np.uint8)) > 0
    touching_n = np.bincount(label_hw[around_hw], minlength=256)
    others = [other for other in numbers if other != number and touching_n[other]]
    if not others:
        return label_hw
    other = max(others, key=lambda other: touching_n[other])
    return np.where(label_hw == other, np.uint8(number), label_hw)


def image_of(rng: np.random.Generator, photo: Photo, size_px: int) -> tuple[Picture, Label]:
    """A square crop of a photo with an object in view, other light, sharpness and compression."""
    picture, label_hw = photo.read()
    label_hw = together(rng, label_hw)
    numbers = large_objects(label_hw)
    number = numbers[rng.integers(len(numbers))] if numbers else 0
    placed_23, size = window(rng, label_hw, number, size_px), (size_px, size_px)
    shown = cv2.warpAffine(
        picture,
        placed_23,
        size,
        flags=cv2.INTER_AREA if _shrinks(placed_23) else cv2.INTER_LINEAR,
        borderMode=cv2.BORDER_REFLECT_101,
    )
    placed_hw = cv2.warpAffine(
        label_hw, placed_23, size, flags=cv2.INTER_NEAREST, borderMode=cv2.BORDER_REFLECT_101
    )
    return spoilt(rng, np.asarray(shown, np.uint8)), np.asarray(placed_hw, np.uint8)


def _shrinks(placed_23: NDArray[np.float64]) -> bool:
    return bool(np.linalg.norm(placed_23[:, 0]) < 0.6)


def spoilt(rng: np.random.Generator, picture: Picture) -> Picture:
    """Light, colour, gamma, blur, noise and JPEG as cameras and streams differ."""
    colours = picture.astype(np.float32)
    if rng.random() < 0.8:
        grey_hw1 = colours.mean(2, keepdims=True)
        colours = grey_hw1 + (colours - grey_hw1) * np.float32(rng.uniform(0.3, 1.5) if rng.random() < 0.6 else 1.0)
        gain = rng.uniform(0.65, 1.35) * rng.uniform(0.92, 1.08, 3)
        colours = colours * gain.astype(np.float32) + np.float32(rng.uniform(-20, 20))
    if rng.random() < 0.25:
        colours = np.asarray(cv2.GaussianBlur(colours, (0, 0), rng.uniform(0.4, 1.6)), np.float32)
    if rng.random() < 0.25:
        colours += np.float32(rng.uniform(0, 9)) * rng.standard_normal(picture.shape[:2], np.float32)[..., None]
    shown = np.clip(colours, 0, 255).astype(np.uint8)
    if rng.random() < 0.04:
        shown = np.repeat(cv2.cvtColor(shown, cv2.COLOR_RGB2GRAY)[..., None], 3, axis=2)
    if rng.random() < 0.4:
        _, coded = cv2.imencode(".jpg", shown, [cv2.IMWRITE_JPEG_QUALITY, int(rng.integers(25, 95))])
        shown = np.asarray(cv2.imdecode(coded, cv2.IMREAD_COLOR), np.uint8)
    return shown
