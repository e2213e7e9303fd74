"""Objects of real frames: cut out by GrabCut, and followed by optical flow for as long as the two agree."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from opencv import remapped, resized
from training.textures import Bank, Picture, Track, load_clips

PATCH_PX = 160
FRAMES_MAX = 32


def load_bank(folder: Path | None, cache: Path, seed: int = 0, cutouts: int = 800, tracks: int = 400) -> Bank:
    """The clips under `folder` with the objects found in them: `cutouts` and `tracks` are how often to try."""
    if folder is None:
        return Bank()
    clips = load_clips(folder, cache)
    followed = _cached_tracks(clips, cache, seed, tracks)
    moving = [track for track in followed if _moves(track, clips[track.clip])]
    return Bank(clips, _cached_cutouts(clips, cache, seed, cutouts), moving)


def _moves(track: Track, clip_nhwc: Picture) -> bool:
    """Whether it changes more than what is around it: a wall is easy to follow and teaches nothing."""
    ratios = []
    for i in range(0, len(track.masks_thw) - 2, 4):
        change_hw = cv2.absdiff(clip_nhwc[track.start + i], clip_nhwc[track.start + i + 2]).max(axis=2)
        mask_hw = track.masks_thw[i]
        ratios.append((change_hw[mask_hw].mean() + 1) / (change_hw[~mask_hw].mean() + 1))
    return float(np.mean(ratios)) > 1.5


def _cached_cutouts(clips: Sequence[Picture], cache: Path, seed: int, count: int) -> list[NDArray[np.uint8]]:
    stored = cache / f"cutouts-{seed}-{count}.npz"
    if not stored.exists():
        rng = np.random.default_rng(seed)
        found = [cutout for _ in range(count) if (cutout := cut_out(rng, clips)) is not None]
        np.savez(stored, *found)
    with np.load(stored) as loaded:
        return [loaded[name] for name in loaded.files]


def _cached_tracks(clips: Sequence[Picture], cache: Path, seed: int, count: int) -> list[Track]:
    stored = cache / f"tracks-{seed}-{count}.npz"
    if not stored.exists():
        rng = np.random.default_rng(seed)
        found = [track for _ in range(count) if (track := follow(rng, clips)) is not None]
        named: dict[str, Any] = {}
        for i, track in enumerate(found):
            named[f"{i}-{track.clip}-{track.start}"] = np.packbits(track.masks_thw, axis=2)
        np.savez(stored, **named)
    with np.load(stored) as loaded:
        return [_unpacked(name, loaded[name], clips) for name in loaded.files]


def _unpacked(name: str, packed_thw: NDArray[np.uint8], clips: Sequence[Picture]) -> Track:
    _, clip, start = (int(number) for number in name.split("-"))
    return Track(clip, start, np.unpackbits(packed_thw, axis=2, count=clips[clip].shape[2]).astype(bool))


def follow(rng: np.random.Generator, clips: Sequence[Picture], shortest: int = 8) -> Track | None:
    """A moving thing, followed by flow and GrabCut for as long as both say the same; None if soon lost."""
    number = int(rng.integers(len(clips)))
    clip_nhwc = clips[number]
    start = int(rng.integers(max(len(clip_nhwc) - shortest, 1)))
    mask_hw = _whole_mask(rng, clip_nhwc, start) if len(clip_nhwc) > shortest else None
    if mask_hw is None:
        return None
    masks = [mask_hw]
    for index in range(start + 1, min(start + FRAMES_MAX, len(clip_nhwc))):
        moved_hw = _moved(masks[-1], clip_nhwc[index - 1], clip_nhwc[index])
        mask_hw = _refined(np.asarray(clip_nhwc[index]), moved_hw)
        if mask_hw is None or not _agree(mask_hw, moved_hw, masks[0]):
            break
        masks.append(mask_hw)
    return Track(number, start, np.stack(masks)) if len(masks) >= shortest else None


def _whole_mask(rng: np.random.Generator, clip_nhwc: Picture, index: int) -> NDArray[np.bool_] | None:
    frame = np.asarray(clip_nhwc[index])
    box = _moving_box(rng, clip_nhwc, index) if rng.random() < 0.8 else _random_box(rng, frame)
    if box is None:
        return None
    x0, y0, x1, y1 = box
    found_hw = _grab(resized(frame[y0:y1, x0:x1], (PATCH_PX, PATCH_PX), cv2.INTER_AREA))
    if found_hw is None:
        return None
    mask_hw = np.zeros(frame.shape[:2], bool)
    mask_hw[y0:y1, x0:x1] = cv2.resize(found_hw, (x1 - x0, y1 - y0), interpolation=cv2.INTER_LINEAR) > 127
    return mask_hw


def _moved(mask_hw: NDArray[np.bool_], before: Picture, after: Picture) -> NDArray[np.bool_]:
    """The mask carried along the optical flow, looked up backwards (after -> before)."""
    grey = [cv2.cvtColor(np.asarray(picture), cv2.COLOR_RGB2GRAY) for picture in (after, before)]
    height, width = mask_hw.shape
    flow_hw2 = np.zeros((height, width, 2), np.float32)
    cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_FAST).calc(grey[0], grey[1], flow_hw2)
    grid_hw2 = np.stack(np.meshgrid(np.arange(width), np.arange(height)), -1).astype(np.float32)
    return remapped(mask_hw.astype(np.float32), grid_hw2 + flow_hw2) > 0.5


def _refined(frame: Picture, mask_hw: NDArray[np.bool_]) -> NDArray[np.bool_] | None:
    """GrabCut in a band around the mask's edge."""
    x, y, w, h = cv2.boundingRect(mask_hw.astype(np.uint8))
    if w < 8 or h < 8:
        return None
    pad = 10
    rows, columns = slice(max(y - pad, 0), y + h + pad), slice(max(x - pad, 0), x + w + pad)
    inside = mask_hw[rows, columns].astype(np.uint8)
    labels_hw = np.full(inside.shape, cv2.GC_BGD, np.uint8)
    labels_hw[cv2.dilate(inside, np.ones((9, 9), np.uint8)) > 0] = cv2.GC_PR_BGD
    labels_hw[inside > 0] = cv2.GC_PR_FGD
    labels_hw[cv2.erode(inside, np.ones((9, 9), np.uint8), borderValue=0) > 0] = cv2.GC_FGD
    models = np.zeros((1, 65)), np.zeros((1, 65))
    cv2.setRNGSeed(0)
    anywhere = (0, 0, 0, 0)  # the labels say where
    patch = np.ascontiguousarray(frame[rows, columns])
    cv2.grabCut(patch, labels_hw, anywhere, *models, 2, cv2.GC_INIT_WITH_MASK)
    refined_hw = np.zeros_like(mask_hw)
    refined_hw[rows, columns] = _smooth((labels_hw == cv2.GC_FGD) | (labels_hw == cv2.GC_PR_FGD))
    return refined_hw


def _smooth(mask_hw: NDArray[np.bool_]) -> NDArray[np.bool_]:
    kernel = np.ones((3, 3), np.uint8)
    opened_hw = cv2.morphologyEx(mask_hw.astype(np.uint8), cv2.MORPH_OPEN, kernel)
    return cv2.morphologyEx(opened_hw, cv2.MORPH_CLOSE, kernel) > 0


def _agree(mask_hw: NDArray[np.bool_], moved_hw: NDArray[np.bool_], first_hw: NDArray[np.bool_]) -> bool:
    overlap = (mask_hw & moved_hw).sum() / max((mask_hw | moved_hw).sum(), 1)
    return bool(overlap > 0.82 and 0.4 < mask_hw.sum() / first_hw.sum() < 2.5)


def cut_out(
    rng: np.random.Generator, clips: Sequence[Picture], size_px: int = PATCH_PX
) -> NDArray[np.uint8] | None:
    """An RGBA object found by GrabCut in a random box of a random frame, or None where the box held nothing whole.

    Half of the boxes sit where something moved between two frames: most of what moves is an object.
    """
    clip_nhwc = clips[int(rng.integers(len(clips)))]
    index = int(rng.integers(len(clip_nhwc)))
    frame = np.asarray(clip_nhwc[index])
    box = _moving_box(rng, clip_nhwc, index) if rng.random() < 0.5 else None
    x0, y0, x1, y1 = box or _random_box(rng, frame)
    patch = resized(frame[y0:y1, x0:x1], (size_px, size_px), cv2.INTER_AREA)
    mask_hw = _grab(patch)
    if mask_hw is None:
        return None
    aspect = (x1 - x0) / (y1 - y0)
    rgba = np.dstack([patch, mask_hw])
    width, height = (size_px, round(size_px / aspect)) if aspect > 1 else (round(size_px * aspect), size_px)
    return resized(rgba, (width, height), cv2.INTER_AREA)


def _random_box(rng: np.random.Generator, frame: Picture) -> tuple[int, int, int, int]:
    height, width = frame.shape[:2]
    box_h, box_w = int(height * rng.uniform(0.2, 0.8)), int(height * rng.uniform(0.2, 0.8))
    box_w = min(box_w, width - 1)
    top, left = int(rng.integers(height - box_h)), int(rng.integers(width - box_w))
    return left, top, left + box_w, top + box_h


def _moving_box(rng: np.random.Generator, clip_nhwc: Picture, index: int) -> tuple[int, int, int, int] | None:
    if len(clip_nhwc) < 3:
        return None
    other = clip_nhwc[index - 2] if index >= 2 else clip_nhwc[index + 2]
    change_hw = cv2.absdiff(clip_nhwc[index], other).max(axis=2)
    moved_hw = cv2.dilate(
        (cv2.GaussianBlur(change_hw, (0, 0), 3) > 14).astype(np.uint8), np.ones((15, 15), np.uint8)
    )
    count, _, stats, _ = cv2.connectedComponentsWithStats(moved_hw)
    height, width = change_hw.shape
    boxes = [stats[i] for i in range(1, count) if 0.01 < stats[i, cv2.CC_STAT_AREA] / (height * width) < 0.4]
    if not boxes:
        return None
    x, y, w, h, _ = boxes[rng.integers(len(boxes))]
    pad = 6
    return max(x - pad, 0), max(y - pad, 0), min(x + w + pad, width), min(y + h + pad, height)


def _grab(patch: Picture) -> NDArray[np.uint8] | None:
    """The largest thing inside the patch as 0 or 255, or None where it is empty, everything, or cut off."""
    side = patch.shape[0]
    labels_hw = np.zeros((side, side), np.uint8)
    models = np.zeros((1, 65)), np.zeros((1, 65))
    cv2.setRNGSeed(0)
    cv2.grabCut(patch, labels_hw, (6, 6, side - 12, side - 12), *models, 3, cv2.GC_INIT_WITH_RECT)
    inside_hw = ((labels_hw == cv2.GC_FGD) | (labels_hw == cv2.GC_PR_FGD)).astype(np.uint8)
    inside_hw = cv2.morphologyEx(inside_hw, cv2.MORPH_OPEN, np.ones((5, 5), np.uint8))
    count, parts_hw, stats, _ = cv2.connectedComponentsWithStats(inside_hw)
    if count < 2:
        return None
    largest = 1 + int(np.argmax(stats[1:, cv2.CC_STAT_AREA]))
    mask_hw = (parts_hw == largest).astype(np.uint8) * 255
    mask_hw = np.asarray(cv2.morphologyEx(mask_hw, cv2.MORPH_CLOSE, np.ones((5, 5), np.uint8)), np.uint8)
    area = float((mask_hw > 0).mean())
    x, y, w, h = cv2.boundingRect(mask_hw)
    whole = x > 7 or x + w < side - 7 or y > 7 or y + h < side - 7
    hull = cv2.contourArea(cv2.convexHull(cv2.findNonZero(mask_hw)))
    solid = (mask_hw > 0).sum() / max(hull, 1.0)
    return mask_hw if 0.12 < area < 0.8 and solid > 0.55 and whole else None
