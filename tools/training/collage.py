"""Collages: things that others cut out, whole, laid over real pictures as objects of their own."""

from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from training.textures import Picture

LARGEST_PX, SMALLEST_PX = 256, 90
SMALLEST_VISIBLE_PX = 40
"""Pixels under which nothing of a cut-out counts as seen: its centre may lie near the picture's edge."""
FULLEST = 0.97
"""Of its own box, for a cut-out: what fills all of it is a picture, not a thing."""


def read_cutouts(folder: Path) -> dict[str, list[NDArray[np.uint8]]]:
    """RGBA of all `folder/SET/NAME.png` that show a thing before nothing, by set; none where there is no folder."""
    sets: dict[str, list[NDArray[np.uint8]]] = {}
    for file in sorted(folder.glob("*/*.png")):
        if (cutout := _read(file)) is not None:
            sets.setdefault(file.parent.name, []).append(cutout)
    return sets


def _read(file: Path) -> NDArray[np.uint8] | None:
    """Trimmed to what is solid, at most `LARGEST_PX` long; None for what is small, flat or no thing."""
    rgba = np.array(Image.open(file).convert("RGBA"))
    x, y, w, h = cv2.boundingRect((rgba[..., 3] > 127).astype(np.uint8))
    thing = rgba[y : y + h, x : x + w]
    if max(w, h) < SMALLEST_PX or min(w, h) < SMALLEST_PX // 6 or (thing[..., 3] > 127).mean() > FULLEST:
        return None
    scale = min(1.0, LARGEST_PX / max(w, h))
    return np.asarray(cv2.resize(thing, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA), np.uint8)


def paste(
    rng: np.random.Generator, picture: Picture, label_hw: NDArray[np.uint8], cutout: NDArray[np.uint8]
) -> None:
    """Lay an RGBA cut-out over a square picture as the next object of its labels, in place.

    Of any size, mirrored, squeezed and tilted; as sharp and as near to the picture's light as chance has it
    (Ghiasi et al. 2021, arXiv 2012.07177, where no blending at all did as well).
    """
    side_px, (height, width) = len(picture), cutout.shape[:2]
    scale = 1.2 * side_px / float(np.hypot(height, width)) * float(np.exp(rng.uniform(np.log(0.12), np.log(0.9))))
    squeeze, tilt, mirror = float(np.exp(rng.normal(0, 0.15))), rng.normal(0, 0.25), rng.choice((-1.0, 1.0))
    turn_22 = np.array([[np.cos(tilt), -np.sin(tilt)], [np.sin(tilt), np.cos(tilt)]])
    scale_22 = scale * turn_22 @ np.diag([mirror * squeeze, 1 / squeeze])
    centre_xy = rng.uniform(0.08, 0.92, 2) * side_px
    placed_23 = np.column_stack([scale_22, centre_xy - scale_22 @ (width / 2, height / 2)])
    drawn = cv2.warpAffine(_premultiplied(cutout, scale), placed_23, (side_px, side_px))
    if rng.random() < 0.5:
        drawn = cv2.GaussianBlur(drawn, (0, 0), rng.uniform(0.3, 1.0))
    seen_hw = drawn[..., 3] > 0.5
    if seen_hw.sum() < SMALLEST_VISIBLE_PX:
        return
    own, around = drawn[seen_hw][:, :3].mean(), picture[seen_hw].mean()
    drawn[..., :3] *= ((around + 8) / (own + 8)) ** rng.uniform(0, 0.6)
    picture[:] = np.clip(drawn[..., :3] + picture * (1 - drawn[..., 3:]), 0, 255)
    label_hw[seen_hw] = int(label_hw[label_hw < 255].max(initial=0)) + 1


def _premultiplied(cutout: NDArray[np.uint8], scale: float) -> NDArray[np.float32]:
    """`[h, w, 4]`, colours times alpha: what is transparent bleeds nothing in. Blurred to be drawn small."""
    alpha_hw1 = cutout[..., 3:].astype(np.float32) / 255
    rgba = np.dstack([cutout[..., :3] * alpha_hw1, alpha_hw1])
    return np.asarray(cv2.GaussianBlur(rgba, (0, 0), 0.4 / scale) if scale < 0.6 else rgba, np.float32)
