"""Clips with truth: rendered ones, and folders as DAVIS and SA-V lay them out or with `masks` beside the frames."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from opencv import frames_of
from training.render import render
from training.scenario import SMALLEST_VISIBLE, Scenario
from training.textures import Bank

VALIDATION_SEED = 715_517
"""Training uses other, shorter seeds: none of these clips is ever trained on."""
VIDEO_SUFFIXES = {".mp4", ".mkv", ".mov", ".webm", ".avi"}


@dataclass(frozen=True)
class TrueClip:
    """Frames uint8 `[h, w, 3]` RGB, and `labels[t]` uint8 `[h, w]` (0: background) where there is truth."""

    name: str
    frames: list[NDArray[np.uint8]]
    labels: dict[int, NDArray[np.uint8]]
    objects: tuple[int, ...]

    def mask(self, time: int, number: int) -> NDArray[np.bool_]:
        """`[h, w]`: where object `number` is on frame `time`."""
        return np.equal(self.labels[time], number)

    def first_seen(self, number: int) -> int:
        """The first frame with truth on which the object is."""
        return min(time for time, label_hw in self.labels.items() if (label_hw == number).any())


def rendered(count: int, frames: int, vanish: bool, seed: int = VALIDATION_SEED) -> Iterator[TrueClip]:
    """The validation set, its leads only: all procedural, so that anyone renders the same clips.

    `vanish`: every lead is hidden, leaves, or is cut away for a while.
    """
    scenario = Scenario(frames=frames, vanish=float(vanish), filmed=0.0, real=0.0)
    for index in range(count):
        clip = render((seed, int(vanish), index), Bank(), scenario)
        target = clip.targets[0]
        seen_thw = clip.mask_thw(target)
        seen_thw &= seen_thw.mean((1, 2), keepdims=True) > SMALLEST_VISIBLE
        labels = dict(enumerate(seen_thw.astype(np.uint8)))
        yield TrueClip(f"rendered-{index:02}", list(clip.frames_thwc), labels, (1,))


def from_folder(folder: Path, only: list[str] | None = None) -> Iterator[TrueClip]:
    """All clips under `folder` that have masks, or those of `only`. Raises FileNotFoundError if there are none."""
    pairs = [
        (frames, masks)
        for frames, masks in _pairs(folder)
        if not only or masks.name in only or frames.name in only or masks.parent.name in only
    ]
    if not pairs:
        raise FileNotFoundError(f"{folder}: no clip with masks; want CLIP/masks/*.png or Annotations/*/CLIP/*.png")
    for frames, masks in pairs:
        yield read_clip(frames, masks)


def unjudged(video: Path, box_xyxy: tuple[int, int, int, int]) -> TrueClip:
    """A clip without truth but for its first frame, on which the object fills a box."""
    frames = _video(video)
    label_hw = np.zeros(frames[0].shape[:2], np.uint8)
    x0, y0, x1, y1 = box_xyxy
    label_hw[y0:y1, x0:x1] = 1
    return TrueClip(video.stem, frames, {0: label_hw}, (1,))


def _pairs(folder: Path) -> Iterator[tuple[Path, Path]]:
    """`(frames, masks)` of each clip; frames are a folder or a video."""
    for masks in sorted(folder.glob("*/masks")) + ([folder / "masks"] if (folder / "masks").is_dir() else []):
        videos = [path for path in sorted(masks.parent.iterdir()) if path.suffix.lower() in VIDEO_SUFFIXES]
        yield (videos[0] if videos else masks.parent / "frames"), masks
    for kind in ("Annotations/480p", "Annotations/Full-Resolution", "Annotations_6fps"):  # DAVIS, SA-V
        pictures = {"Annotations_6fps": "JPEGImages_24fps"}.get(kind, kind.replace("Annotations", "JPEGImages"))
        for masks in sorted((folder / kind).glob("*")):
            if (folder / pictures / masks.name).is_dir():
                yield folder / pictures / masks.name, masks


def read_clip(frames_at: Path, masks_at: Path) -> TrueClip:
    """A clip of a folder or film of frames and a folder of label maps."""
    frames = _video(frames_at) if frames_at.is_file() else _pictures(frames_at)
    name = masks_at.parent.name if masks_at.name == "masks" else masks_at.name
    nested = [path for path in sorted(masks_at.iterdir()) if path.is_dir()]  # SA-V: a folder for each object
    labels = _nested_labels(nested) if nested else _labels(masks_at, len(frames))
    objects = sorted({int(n) for label_hw in labels.values() for n in np.unique(label_hw)} - {0, 255})
    if not objects:  # a single object, drawn in white
        labels = {time: (label_hw == 255).astype(np.uint8) for time, label_hw in labels.items()}
        objects = [1]
    return TrueClip(name, frames, labels, tuple(objects))


def _labels(masks_at: Path, count: int) -> dict[int, NDArray[np.uint8]]:
    paths = sorted(masks_at.glob("*.png"))
    times = [int(path.stem) for path in paths] if all(path.stem.isdigit() for path in paths) else range(len(paths))
    start = min(times) if max(times) >= count else 0  # some count from 1
    return {time - start: np.array(Image.open(path)) for time, path in zip(times, paths, strict=True)}


def _nested_labels(folders: list[Path]) -> dict[int, NDArray[np.uint8]]:
    labels: dict[int, NDArray[np.uint8]] = {}
    for number, folder in enumerate(folders, start=1):
        for path in sorted(folder.glob("*.png")):
            mask_hw = np.array(Image.open(path)) > 0
            label_hw = labels.setdefault(int(path.stem), np.zeros(mask_hw.shape, np.uint8))
            label_hw[mask_hw] = number
    return labels


def _pictures(folder: Path) -> list[NDArray[np.uint8]]:
    paths = sorted(path for path in folder.iterdir() if path.suffix.lower() in (".jpg", ".jpeg", ".png"))
    return [np.array(Image.open(path).convert("RGB")) for path in paths]


def _video(path: Path) -> list[NDArray[np.uint8]]:
    return list(frames_of(path))
