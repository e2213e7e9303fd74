"""What a clip is asked to be, and the paths on which things and cameras move."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Affine = NDArray[np.float64]
"""`[3, 3]`, object to canvas or canvas to canvas."""
FILMED = 200
"""The number of an object that is part of the backdrop's film."""
SMALLEST_VISIBLE = 2e-4
"""Share of the picture under which an object counts as gone."""


@dataclass(frozen=True)
class Scenario:
    """What to render; probabilities are per clip."""

    frames: int = 8
    size_px: int = 256
    real: float = 0.7
    """Share of looks and backgrounds taken from the bank, where it holds any."""
    filmed: float = 0.35
    """Share of clips whose lead is a real object where it was filmed, with sprites before it."""
    living: float = 0.7
    """Share of those that are photos come alive, where the bank holds any."""
    vanish: float = 0.3
    lookalike: float = 0.3
    objects_max: int = 5
    pace: float = 1.0


def wander(rng: np.random.Generator, time_t: NDArray[np.int_], drift: float, swing: float) -> NDArray[np.float64]:
    """`[t]`: a straight drift, one slow swing and a little shake, 0 on average over paths."""
    period = rng.uniform(10, 60)
    phase = rng.uniform(0, 2 * np.pi)
    wave_t = np.sin(2 * np.pi * time_t / period + phase) - np.sin(phase)
    shake_t = np.cumsum(rng.normal(0, 0.1 * abs(drift) + 1e-9, len(time_t)))
    drifted_t = rng.normal(0, drift + 1e-9) * time_t
    swung_t = rng.normal(0, swing + 1e-9) * wave_t
    return np.asarray(drifted_t + swung_t + shake_t, np.float64)


def folded(position_t: NDArray[np.float64]) -> NDArray[np.float64]:
    """Reflect a path at 0 and 1, so that most things stay in the picture."""
    return np.abs((position_t + 1) % 2 - 1)


def camera_path(rng: np.random.Generator, scenario: Scenario) -> Affine:
    """`[t, 3, 3]` stage to picture: a third of the cameras stand still, the others pan, zoom and roll."""
    frames, half = scenario.frames, scenario.size_px / 2
    moving = 0.0 if rng.random() < 0.35 else scenario.pace * float(np.exp(rng.uniform(np.log(0.2), np.log(2.0))))
    time_t = np.arange(frames)
    roll_t, zoom_t = (
        wander(rng, time_t, 0.004 * moving, 0.03 * moving),
        np.exp(wander(rng, time_t, 0.004 * moving, 0.05 * moving)),
    )
    pan_t2 = np.stack([wander(rng, time_t, 0.012 * moving, 0.05 * moving) for _ in "xy"], -1) * scenario.size_px
    camera_t33 = np.tile(np.eye(3), (frames, 1, 1))
    cos_t, sin_t = zoom_t * np.cos(roll_t), zoom_t * np.sin(roll_t)
    camera_t33[:, 0] = np.stack([cos_t, -sin_t, half - half * cos_t + half * sin_t + pan_t2[:, 0]], -1)
    camera_t33[:, 1] = np.stack([sin_t, cos_t, half - half * sin_t - half * cos_t + pan_t2[:, 1]], -1)
    return camera_t33
