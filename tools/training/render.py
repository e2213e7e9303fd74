"""Clips with truth, rendered from a seed: a background, a camera, things that move, hide and come back."""

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from training.camera import Backdrop, Lens
from training.scenario import FILMED, Affine, Scenario, camera_path, folded, wander
from training.sprites import SPRITE_PX, Part, Sprite, sprite
from training.textures import Bank


@dataclass(frozen=True)
class Clip:
    """`frames_thwc` is RGB uint8; `labels_thw` names the object at each pixel, 0 the background."""

    frames_thwc: NDArray[np.uint8]
    labels_thw: NDArray[np.uint8]
    targets: tuple[int, ...]
    """Objects that can be prompted on the first frame, the lead first."""

    def mask_thw(self, target: int) -> NDArray[np.bool_]:
        """`[t, h, w]`, where `target` is seen."""
        return np.equal(self.labels_thw, target)


@dataclass
class Actor:
    """A sprite and where it is: per frame an affine from its unit square to the stage, and whether it is there."""

    sprite: Sprite
    placed_t33: Affine
    there_t: NDArray[np.bool_]


def render(seed: tuple[int, ...], bank: Bank, scenario: Scenario) -> Clip:
    """The clip of `seed`; scenes in which nothing can be prompted on the first frame are thrown again."""
    for attempt in range(20):
        clip = _render_once(np.random.default_rng((*seed, attempt)), bank, scenario)
        if clip.targets:
            return clip
    raise RuntimeError(f"no scene of seed {seed} shows an object: raise size_px or objects_max")


def _render_once(rng: np.random.Generator, bank: Bank, scenario: Scenario) -> Clip:
    camera_t33 = camera_path(rng, scenario)
    backdrop = Backdrop(rng, bank, scenario)
    actors = _cast(rng, bank, scenario)
    if backdrop.masks_thw is not None:
        actors = actors[: int(rng.integers(0, 4))]
    lens = Lens(rng, scenario)
    pictures, labels = [], []
    for time in range(scenario.frames):
        canvas, label_hw = backdrop.at(time, camera_t33[time])
        for number, actor in enumerate(actors, start=1):
            if actor.there_t[time]:
                _draw(canvas, label_hw, number, actor, time, camera_t33[time])
        pictures.append(lens.shoot(canvas, time))
        labels.append(label_hw)
    labels_thw = np.stack(labels)
    return Clip(np.stack(pictures), labels_thw, _promptable(rng, labels_thw[0]))


def _promptable(rng: np.random.Generator, label_hw: NDArray[np.uint8]) -> tuple[int, ...]:
    """Objects of a sensible size on the first frame: the lead (filmed, or number 1) first, the others shuffled."""
    share_n = np.bincount(label_hw.ravel(), minlength=FILMED + 1) / label_hw.size
    fit = [int(number) for number in np.flatnonzero((share_n > 0.003) & (share_n < 0.6)) if number]
    leads = [number for number in (FILMED, 1) if number in fit]
    others = [number for number in fit if number not in leads]
    rng.shuffle(others)
    return (*leads, *others)


def _cast(rng: np.random.Generator, bank: Bank, scenario: Scenario) -> list[Actor]:
    """The lead first, behind the others; perhaps a look-alike of it and something that hides it."""
    lead = _actor(rng, sprite(rng, bank, scenario.real), scenario)
    actors = [lead]
    if rng.random() < scenario.lookalike:
        actors.append(_actor(rng, lead.sprite, scenario))
    others = range(int(rng.integers(0, scenario.objects_max)))
    actors += [_actor(rng, sprite(rng, bank, scenario.real), scenario) for _ in others]
    if rng.random() < scenario.vanish and scenario.frames > 2:
        _make_vanish(rng, bank, scenario, actors)
    elif rng.random() < 0.5:
        # In front of the others as often as behind them: an object's number says nothing of its depth.
        return _raised(rng, actors)
    return actors


def _raised(rng: np.random.Generator, actors: list[Actor]) -> list[Actor]:
    order = rng.permutation(len(actors))
    return [actors[i] for i in order]


def _make_vanish(rng: np.random.Generator, bank: Bank, scenario: Scenario, actors: list[Actor]) -> None:
    """The lead is cut away, leaves the picture, or is covered for some frames, and most often comes back."""
    frames = scenario.frames
    start = int(rng.integers(1, max(frames - 1, 2)))
    length = int(rng.integers(1, max(frames // 2, 2)))
    gone_t = (np.arange(frames) >= start) & (np.arange(frames) < start + length)
    lead = actors[0]
    kind = rng.integers(3)
    if kind == 0:
        lead.there_t &= ~gone_t
    elif kind == 1:
        lead.placed_t33[:, :2, 2] += _departure(rng, scenario, start, length)
    else:
        actors.append(_cover(rng, bank, scenario, lead, start + length / 2))


def _departure(rng: np.random.Generator, scenario: Scenario, start: int, length: int) -> NDArray[np.float64]:
    """`[t, 2]` offset that carries an object out of the picture for `length` frames and back."""
    ramp = max(2.0, scenario.frames / rng.uniform(4, 10))
    time_t = np.arange(scenario.frames)
    away_t = np.maximum(start - time_t, time_t - (start + length - 1)).clip(min=0) / ramp
    angle = rng.uniform(0, 2 * np.pi)
    direction = np.array([np.cos(angle), np.sin(angle)]) * 1.5 * scenario.size_px
    return (1 - away_t).clip(0, 1)[:, None] * direction


def _cover(rng: np.random.Generator, bank: Bank, scenario: Scenario, lead: Actor, moment: float) -> Actor:
    """Something larger than the lead that passes over it at `moment`."""
    cover = _actor(rng, sprite(rng, bank, scenario.real), scenario)
    frame = min(int(moment), scenario.frames - 1)
    size = max(np.linalg.norm(lead.placed_t33[frame, :2, 0]), np.linalg.norm(lead.placed_t33[frame, :2, 1]))
    angle = rng.uniform(0, 2 * np.pi)
    step = np.array([np.cos(angle), np.sin(angle)]) * size * rng.uniform(0.1, 0.5)
    cover.placed_t33[:, :2, :2] *= 2.2 * size / np.linalg.norm(cover.placed_t33[frame, :2, 0])
    cover.placed_t33[:, :2, 2] = lead.placed_t33[frame, :2, 2] + np.outer(np.arange(scenario.frames) - moment, step)
    return cover


def _actor(rng: np.random.Generator, made: Sprite, scenario: Scenario) -> Actor:
    """`made` on a random path, straight or swinging, folded back at the edge; turning, growing, squashed."""
    size, time_t = scenario.size_px, np.arange(scenario.frames)
    pace = scenario.pace * float(np.exp(rng.uniform(np.log(0.2), np.log(3.0))))
    x_t, y_t = (size * folded(rng.uniform(0.1, 0.9) + wander(rng, time_t, 0.02 * pace, 0.1 * pace)) for _ in "xy")
    scale_t = size * np.exp(rng.uniform(np.log(0.13), np.log(0.75)) + wander(rng, time_t, 0.01 * pace, 0.15))
    turn_t = rng.uniform(0, 2 * np.pi) * (rng.random() < 0.5) + wander(rng, time_t, 0.03 * pace, 0.25 * pace)
    squash_t = np.exp(wander(rng, time_t, 0.0, 0.25) + rng.normal(0, 0.25))
    cos_t, sin_t = np.cos(turn_t), np.sin(turn_t)
    wide_t, high_t = scale_t * np.sqrt(squash_t), scale_t / np.sqrt(squash_t)
    placed_t33 = np.zeros((scenario.frames, 3, 3))
    placed_t33[:, 0] = np.stack([wide_t * cos_t, -high_t * sin_t, x_t], -1)
    placed_t33[:, 1] = np.stack([wide_t * sin_t, high_t * cos_t, y_t], -1)
    placed_t33[:, 2, 2] = 1
    return Actor(made, placed_t33, np.ones(scenario.frames, bool))


def _draw(
    canvas: NDArray[np.float32],
    label_hw: NDArray[np.uint8],
    number: int,
    actor: Actor,
    time: int,
    camera_33: Affine,
) -> None:
    """Paint all parts of `actor` over `canvas`, and its number into `label_hw` where it is half opaque or more."""
    placed_33 = camera_33 @ actor.placed_t33[time]
    for index, part in enumerate(actor.sprite.parts):
        rgba = actor.sprite.body(time) if index == 0 else part.rgba
        drawn = _warped(rgba, placed_33 @ _jointed(part, time), canvas.shape[0])
        if drawn is None:
            continue
        window, piece = drawn
        alpha_hw1 = np.asarray(piece[..., 3:], np.float32) / np.float32(255)
        if index == 0 and actor.sprite.shadow:
            _cast_shadow(canvas, window, alpha_hw1[..., 0], actor.sprite.shadow)
        canvas[window] += alpha_hw1 * (piece[..., :3] - canvas[window])
        label_hw[window][piece[..., 3] > 127] = number


def _jointed(part: Part, time: float) -> Affine:
    """Sprite pixels -> the object's unit square, swung about the joint."""
    angle = part.swing_rad * np.sin(2 * np.pi * time / part.period + part.phase) + part.phase * (part.swing_rad > 0)
    unit = part.size / SPRITE_PX
    cos, sin = unit * np.cos(angle), unit * np.sin(angle)
    centre = SPRITE_PX / 2
    x, y = part.joint_xy
    return np.array(
        [[cos, -sin, x - cos * centre + sin * centre], [sin, cos, y - sin * centre - cos * centre], [0, 0, 1.0]]
    )


def _warped(
    rgba: NDArray[np.uint8], placed_33: Affine, size_px: int
) -> tuple[tuple[slice, slice], NDArray[np.uint8]] | None:
    """The sprite on the smallest window of the picture that holds it, or None outside."""
    corners = placed_33[:2] @ np.array([[0, SPRITE_PX, 0, SPRITE_PX], [0, 0, SPRITE_PX, SPRITE_PX], [1, 1, 1, 1.0]])
    low = np.floor(corners.min(axis=1)).astype(int).clip(0, size_px)
    high = np.ceil(corners.max(axis=1)).astype(int).clip(0, size_px)
    if (high <= low).any():
        return None
    shifted_23 = placed_33[:2].copy()
    shifted_23[:, 2] -= low
    shrinks = np.linalg.norm(placed_33[:2, 0]) < 0.5
    flags = cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR
    piece = np.asarray(cv2.warpAffine(rgba, shifted_23, tuple(int(v) for v in high - low), flags=flags), np.uint8)
    return (slice(low[1], high[1]), slice(low[0], high[0])), piece


def _cast_shadow(
    canvas: NDArray[np.float32], window: tuple[slice, slice], alpha_hw: NDArray[np.float32], strength: float
) -> None:
    """Darken what lies under the object's lower right: a shadow is not part of the object."""
    rows, columns = window
    shift = max(2, (rows.stop - rows.start) // 6)
    below = slice(min(rows.start + shift, canvas.shape[0]), min(rows.stop + shift, canvas.shape[0]))
    soft_hw = cv2.blur(alpha_hw, (9, 9))[: below.stop - below.start]
    canvas[below, columns] *= 1 - strength * soft_hw[..., None]
