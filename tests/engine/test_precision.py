"""Precision is what the configuration says: bfloat16 as the official predictor has it under autocast, and float32
without TF32."""

import numpy as np
import torch
from sides import FRAMES, Difference, Official, Ours, Pair, compare

from tracker.config import EngineConfig
from tracker.engine.engine import Engine
from tracker.types import Prompt

DISCS = [(2, 12, 78, 84), (90, 36, 159, 108)]  # of the pictures in `sides.video`, on the first frame


def discs_followed(side: Ours | Official) -> None:
    for k, box in enumerate(DISCS):
        side.prompt(k, 0, Prompt(box_xyxy=np.array(box, np.float32)))
    side.follow(0, FRAMES - 1)


def difference(pair: Pair) -> Difference:
    ours, theirs = Ours(pair), Official(pair)
    discs_followed(ours)
    discs_followed(theirs)
    return compare(ours.masks, theirs.masks)


def test_bfloat16_one_by_one_is_the_official_predictor_under_autocast() -> None:
    found = difference(Pair.make("nano", 256, plain=True, dtype="bfloat16"))
    assert found.mixed >= 0.9, found
    assert found.of_std <= 1e-4, found


def test_float32_is_without_tf32() -> None:
    pair = Pair.make("nano", 96, plain=True, trained=False)
    for backend in (torch.backends.cuda.matmul, torch.backends.cudnn):
        backend.allow_tf32 = True
    Engine(pair.engine.model, EngineConfig(dtype="float32"))
    assert not torch.backends.cuda.matmul.allow_tf32
    assert not torch.backends.cudnn.allow_tf32
