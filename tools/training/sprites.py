"""Things that move: textured parts with joints, that deform, swing, turn and change their look."""

from dataclasses import dataclass, field

import cv2
import numpy as np
from numpy.typing import NDArray

from opencv import remapped
from training.textures import Bank, smooth_noise

SPRITE_PX = 128
Alpha = NDArray[np.uint8]
"""`[SPRITE_PX, SPRITE_PX]`, 0 outside."""


@dataclass
class Part:
    """One RGBA piece, drawn in the square of side 1 around the object's origin, swinging about its joint."""

    rgba: NDArray[np.uint8]
    joint_xy: tuple[float, float] = (0.0, 0.0)
    size: float = 1.0
    swing_rad: float = 0.0
    period: float = 20.0
    phase: float = 0.0


@dataclass
class Sprite:
    """Parts from back to front; the first is the body. `bend` and `other_look` change the body over time."""

    parts: list[Part]
    bend_hw2: NDArray[np.float32] | None = None
    other_look: NDArray[np.uint8] | None = None
    period: float = 20.0
    shadow: float = 0.0
    flow: dict[int, NDArray[np.uint8]] = field(default_factory=dict)

    def body(self, time: float) -> NDArray[np.uint8]:
        """The body's RGBA at `time` (frames): deformed and half-way to its other look."""
        rgba = self.parts[0].rgba
        wave = float(np.sin(2 * np.pi * time / self.period))
        if self.other_look is not None:
            rgba = rgba.copy()
            rgba[..., :3] = cv2.addWeighted(rgba[..., :3], 0.5 + wave / 2, self.other_look, 0.5 - wave / 2, 0)
        if self.bend_hw2 is not None:
            maps = _GRID + self.bend_hw2 * wave
            rgba = remapped(rgba, maps)
        return rgba


_GRID = np.stack(np.meshgrid(np.arange(SPRITE_PX), np.arange(SPRITE_PX)), axis=-1).astype(np.float32)


def sprite(rng: np.random.Generator, bank: Bank, real: float) -> Sprite:
    """A random object: a cut-out of a real frame where there are any, a shape, or a jointed body with limbs."""
    if bank.cutouts_hwc and rng.random() < real * 0.75:
        made = Sprite([Part(_from_cutout(rng, bank))])
    elif rng.random() < 0.3:
        made = _jointed(rng, bank, real)
    else:
        made = Sprite([Part(_shape(rng, bank, real))])
    if rng.random() < 0.4:
        made.bend_hw2 = _bend(rng)
    if rng.random() < 0.25:
        made.other_look = bank.picture(rng, SPRITE_PX, real)
    made.period = rng.uniform(8, 50)
    made.shadow = rng.uniform(0.2, 0.6) if rng.random() < 0.35 else 0.0
    return made


def _from_cutout(rng: np.random.Generator, bank: Bank) -> NDArray[np.uint8]:
    cutout = bank.cutouts_hwc[rng.integers(len(bank.cutouts_hwc))]
    scale = SPRITE_PX / max(cutout.shape[:2])
    small = cv2.resize(cutout, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)[:SPRITE_PX, :SPRITE_PX]
    small = small[:, ::-1] if rng.random() < 0.5 else small
    square = np.zeros((SPRITE_PX, SPRITE_PX, 4), np.uint8)
    top, left = (SPRITE_PX - small.shape[0]) // 2, (SPRITE_PX - small.shape[1]) // 2
    square[top : top + small.shape[0], left : left + small.shape[1]] = small
    if rng.random() < 0.4:
        square[..., :3] = _tinted(rng, square[..., :3])
    return square


def _tinted(rng: np.random.Generator, picture: NDArray[np.uint8]) -> NDArray[np.uint8]:
    gain, offset = rng.uniform(0.6, 1.3, 3), rng.uniform(-30, 30, 3)
    return np.clip(picture * gain + offset, 0, 255).astype(np.uint8)


def _shape(rng: np.random.Generator, bank: Bank, real: float) -> NDArray[np.uint8]:
    """A textured, shaded outline; one in three is made of two textures, as a car is of body and windows."""
    alpha_hw = _outline(rng)
    look = bank.picture(rng, SPRITE_PX, real)
    if rng.random() < 0.35:
        inner_hw = (_outline(rng) > 127)[..., None]
        look = np.where(inner_hw, bank.picture(rng, SPRITE_PX, real), look)
    return np.dstack([_shaded(rng, look), alpha_hw])


def _shaded(rng: np.random.Generator, look: NDArray[np.uint8]) -> NDArray[np.uint8]:
    if rng.random() < 0.4:
        return look
    angle = rng.uniform(0, 2 * np.pi)
    ramp_hw = (_GRID[..., 0] * np.cos(angle) + _GRID[..., 1] * np.sin(angle)) / SPRITE_PX
    light_hw = 1.0 + rng.uniform(0.2, 0.8) * (ramp_hw - ramp_hw.mean())
    return np.asarray(np.clip(look * light_hw[..., None], 0, 255), np.uint8)


def _outline(rng: np.random.Generator) -> Alpha:
    kinds = [_blob, _blob, _polygon, _ellipse, _box, _star, _ring, _noise_island]
    alpha_hw = np.zeros((SPRITE_PX, SPRITE_PX), np.uint8)
    kinds[rng.integers(len(kinds))](rng, alpha_hw)
    return alpha_hw


def _fill(alpha_hw: Alpha, radius_n: NDArray[np.float64], angle_n: NDArray[np.float64]) -> None:
    points_n2 = SPRITE_PX / 2 + SPRITE_PX * np.stack([radius_n * np.cos(angle_n), radius_n * np.sin(angle_n)], -1)
    cv2.fillPoly(alpha_hw, [np.round(points_n2 * 16).astype(np.int32)], 255, cv2.LINE_AA, 4)


def _blob(rng: np.random.Generator, alpha_hw: Alpha) -> None:
    angle_n = np.linspace(0, 2 * np.pi, 64, endpoint=False)
    waves = [rng.normal(0, 0.35 / k) * np.cos(k * angle_n + rng.uniform(0, 6.3)) for k in range(1, 7)]
    radius_n = 1 + 0.6 * np.sum(waves, axis=0)
    _fill(alpha_hw, 0.46 * np.clip(radius_n / radius_n.max(), 0.15, 1), angle_n)


def _polygon(rng: np.random.Generator, alpha_hw: Alpha) -> None:
    corners = int(rng.integers(3, 8))
    angle_n = (
        np.sort(rng.uniform(0, 2 * np.pi, corners))
        if rng.random() < 0.5
        else np.arange(corners) * 2 * np.pi / corners
    )
    _fill(alpha_hw, rng.uniform(0.25, 0.46, corners), angle_n)


def _ellipse(rng: np.random.Generator, alpha_hw: Alpha) -> None:
    axes = int(SPRITE_PX * rng.uniform(0.15, 0.46)), int(SPRITE_PX * 0.46)
    cv2.ellipse(alpha_hw, (SPRITE_PX // 2, SPRITE_PX // 2), axes, rng.uniform(0, 180), 0, 360, 255, -1, cv2.LINE_AA)


def _box(rng: np.random.Generator, alpha_hw: Alpha) -> None:
    half_w, half_h = int(SPRITE_PX * 0.42), int(SPRITE_PX * rng.uniform(0.1, 0.42))
    centre, radius = SPRITE_PX // 2, int(rng.integers(1, 12))
    corner, opposite = (centre - half_w, centre - half_h), (centre + half_w, centre + half_h)
    cv2.rectangle(alpha_hw, corner, opposite, 255, -1)
    cv2.GaussianBlur(alpha_hw, (0, 0), radius, dst=alpha_hw)
    alpha_hw[:] = np.clip((alpha_hw.astype(np.int16) - 96) * 4, 0, 255)


def _star(rng: np.random.Generator, alpha_hw: Alpha) -> None:
    tips = int(rng.integers(3, 12))
    radius_n = np.tile([0.46, rng.uniform(0.15, 0.38)], tips)
    _fill(alpha_hw, radius_n, np.arange(2 * tips) * np.pi / tips)


def _ring(rng: np.random.Generator, alpha_hw: Alpha) -> None:
    _blob(rng, alpha_hw)
    hole = (int(SPRITE_PX * rng.uniform(0.4, 0.6)), int(SPRITE_PX * rng.uniform(0.4, 0.6)))
    cv2.circle(alpha_hw, hole, int(SPRITE_PX * rng.uniform(0.08, 0.22)), 0, -1, cv2.LINE_AA)


def _noise_island(rng: np.random.Generator, alpha_hw: Alpha) -> None:
    """The largest island of thresholded noise within a disc: as ragged as animals and plants are."""
    hill_hw = smooth_noise(rng, SPRITE_PX, 6) + 1.2 * np.clip(
        0.6 - np.hypot(*(_GRID / SPRITE_PX - 0.5).T) * 1.6, 0, 1
    )
    edge_hw = np.minimum.reduce(
        [_GRID[..., 0], _GRID[..., 1], SPRITE_PX - _GRID[..., 0], SPRITE_PX - _GRID[..., 1]]
    )
    inside_hw = ((hill_hw > 0.85) & (edge_hw > 3)).astype(np.uint8)
    count, islands_hw, stats, _ = cv2.connectedComponentsWithStats(inside_hw)
    if count < 2 or stats[1:, cv2.CC_STAT_AREA].max() < 400:
        return _blob(rng, alpha_hw)
    largest = 1 + int(np.argmax(stats[1:, cv2.CC_STAT_AREA]))
    alpha_hw[:] = cv2.GaussianBlur((islands_hw == largest).astype(np.uint8) * 255, (5, 5), 0)
    return None


def _jointed(rng: np.random.Generator, bank: Bank, real: float) -> Sprite:
    """A body with one to five limbs, all of one or several looks; limbs swing about where they meet the body."""
    body = Part(_shape(rng, bank, real), size=0.65)
    limbs = [_limb(rng, bank, real) for _ in range(int(rng.integers(1, 6)))]
    return Sprite([body, *limbs])


def _limb(rng: np.random.Generator, bank: Bank, real: float) -> Part:
    angle, reach = rng.uniform(0, 2 * np.pi), rng.uniform(0.1, 0.22)
    return Part(
        _shape(rng, bank, real),
        joint_xy=(reach * float(np.cos(angle)), reach * float(np.sin(angle))),
        size=rng.uniform(0.25, 0.5),
        swing_rad=rng.uniform(0, 0.9),
        period=rng.uniform(6, 40),
        phase=rng.uniform(0, 2 * np.pi),
    )


def _bend(rng: np.random.Generator) -> NDArray[np.float32]:
    amount_px = rng.uniform(2, 14)
    fields = [smooth_noise(rng, SPRITE_PX, int(rng.integers(2, 5))) - 0.5 for _ in range(2)]
    return (2 * amount_px * np.stack(fields, axis=-1)).astype(np.float32)
