"""What the model says of its masks, set right: on pictures held back from the training, come alive as clips."""

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from evaluation.clips import TrueClip
from evaluation.follow import Result, follow
from tracker.engine.engine import Engine
from training.render import render
from training.scenario import Scenario
from training.textures import Bank

SEED = 40_961
FRAMES = 10
ROUNDS = 50


def held_back_results(engine: Engine, bank: Bank, clips: int) -> Iterable[Result]:
    """Objects of `clips` clips made of the `bank`'s pictures, followed from a box."""
    scenario = Scenario(FRAMES, 256, real=1.0, filmed=1.0, living=1.0)
    for index in range(clips):
        clip = render((SEED, index), bank, scenario)
        labels = dict(enumerate(clip.labels_thw))
        yield from follow(
            engine, TrueClip(f"held-{index}", list(clip.frames_thwc), labels, clip.targets[:2]), "box"
        )


def fit(said_n: NDArray[np.float64], true_n: NDArray[np.float64]) -> tuple[float, float]:
    """Slope and offset on the logit of the IoU that was said, by logistic regression on the IoU that is.

    Both, for a model can be too sure and too hopeful. The slope stays above 0.1: the order of candidates is kept.
    """
    logit_n = _logit(said_n)
    design_n2, parameters = np.stack([logit_n, np.ones_like(logit_n)], 1), np.array([1.0, 0.0])
    for _ in range(ROUNDS):  # Newton
        expected_n = 1 / (1 + np.exp(-design_n2 @ parameters))
        weight_n = expected_n * (1 - expected_n)
        hessian = (design_n2 * weight_n[:, None]).T @ design_n2 + 1e-6 * np.eye(2)
        parameters += np.clip(np.linalg.solve(hessian, design_n2.T @ (true_n - expected_n)), -1, 1)
    return max(float(parameters[0]), 0.1), float(parameters[1])


def _logit(share_n: NDArray[np.float64]) -> NDArray[np.float64]:
    clipped_n = np.clip(share_n, 1e-4, 1 - 1e-4)
    logit_n: NDArray[np.float64] = np.log(clipped_n / (1 - clipped_n))
    return logit_n


def calibration(engine: Engine, bank: Bank, clips: int = 80) -> tuple[float, float]:
    """`fit` on what `engine` says of its masks on `bank`'s pictures."""
    pairs = np.array([pair for result in held_back_results(engine, bank, clips) for pair in result.said_t])
    return fit(pairs[:, 0], pairs[:, 1])
