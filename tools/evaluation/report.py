"""Tables of figures, and contact sheets to look at: figures alone hide what goes wrong."""

from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from evaluation.clips import TrueClip
from evaluation.follow import Result
from opencv import resized

COLOURS_RGB = [(230, 60, 60), (60, 140, 250), (250, 190, 40), (160, 80, 230), (40, 200, 200), (240, 110, 200)]
TRUTH_RGB = (60, 230, 60)


HEADER = f"{'clip':<24} {'object':>6} {'J':>6} {'F':>6} {'J&F':>6} {'score':>6}"


def line(result: Result) -> str:
    """One clip and object."""
    return f"{result.clip:<24} {result.number:>6} {_figures(result.j, result.f, result.score_right)}"


def mean(results: list[Result]) -> str:
    """The means over objects."""
    j, f, right = (float(np.mean([getattr(r, key) for r in results])) for key in ("j", "f", "score_right"))
    return f"{'mean':<24} {len(results):>6} {_figures(j, f, right)}"


def _figures(j: float, f: float, right: float) -> str:
    return f"{j:6.3f} {f:6.3f} {(j + f) / 2:6.3f} {right:6.1%}"


def write_sheet(path: Path, clip: TrueClip, results: list[Result], columns: int = 8, height_px: int = 160) -> None:
    """A row of frames, evenly spaced: the truth as a green line, what was found as a tint and a line."""
    path.parent.mkdir(parents=True, exist_ok=True)
    times = np.linspace(0, len(clip.frames) - 1, min(columns, len(clip.frames))).round().astype(int)
    cells = [_cell(clip, results, int(time), height_px) for time in times]
    cv2.imwrite(str(path), cv2.cvtColor(np.hstack(cells), cv2.COLOR_RGB2BGR))


def _cell(clip: TrueClip, results: list[Result], time: int, height_px: int) -> NDArray[np.uint8]:
    picture = clip.frames[time].copy()
    thickness = max(1, round(picture.shape[0] / 200))
    for colour, result in zip(COLOURS_RGB * len(results), results, strict=False):
        if time in clip.labels:
            _outline(picture, clip.mask(time, result.number), TRUTH_RGB, thickness)
        found_hw = result.masks.get(time)
        if found_hw is not None:
            picture[found_hw] = (0.6 * picture[found_hw] + 0.4 * np.array(colour)).astype(np.uint8)
            _outline(picture, found_hw, colour, thickness)
    width_px = round(picture.shape[1] * height_px / picture.shape[0])
    return resized(picture, (width_px, height_px), cv2.INTER_AREA)


def _outline(
    picture: NDArray[np.uint8], mask_hw: NDArray[np.bool_], colour: tuple[int, int, int], thickness: int
) -> None:
    outlines, _ = cv2.findContours(mask_hw.astype(np.uint8), cv2.RETR_CCOMP, cv2.CHAIN_APPROX_NONE)
    cv2.drawContours(picture, outlines, -1, colour, thickness)
