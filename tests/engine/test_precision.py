"""Precision is what the configuration says: bfloat16 as the official predictor has it under autocast, and float32
without TF32."""

from collections.abc import Sequence

import numpy as np
import pytest
import torch

from evaluation.clips import TrueClip, rendered
from helpers import sides
from helpers.sides import FRAMES, SIZE_WH, Difference, Official, Ours, Pair, compare
from tracker.config import EngineConfig
from tracker.engine.engine import Engine
from tracker.engine.preprocess import normalise
from tracker.images import imaging
from tracker.types import Prompt
from training.prompts import box_of

DISCS = [(2, 12, 78, 84), (90, 36, 159, 108)]  # of the pictures in `sides.video`, on the first frame


def followed(side: Ours | Official, boxes: Sequence[tuple[float, ...]]) -> None:
    for k, box in enumerate(boxes):
        side.prompt(k, 0, Prompt(box_xyxy=np.array(box, np.float32)))
    side.follow(0, FRAMES - 1)


def difference(pair: Pair, *boxes: tuple[float, ...]) -> Difference:
    ours, theirs = Ours(pair), Official(pair)
    for side in (ours, theirs):
        followed(side, boxes)
    return compare(ours.masks, theirs.masks)


def test_bfloat16_one_by_one_is_the_official_predictor_under_autocast() -> None:
    found = difference(Pair.make("nano", 256, plain=True, dtype="bfloat16"), *DISCS)
    assert found.mixed >= 0.9, found
    assert found.of_std <= 1e-4, found


def shown(clip: TrueClip) -> tuple[torch.Tensor, tuple[float, ...]]:
    """A clip's frames as the engine takes them at 256 pixels, and its object's box at SIZE_WH."""
    rgb_nhwc = np.stack([imaging.resize_rgb(frame, (256, 256)) for frame in clip.frames])
    height, width = clip.labels[0].shape
    to_source = np.tile(np.array(SIZE_WH) / (width, height), 2)
    return normalise(torch.from_numpy(rgb_nhwc)).contiguous(), tuple(box_of(clip.mask(0, 1)) * to_source)


def test_bfloat16_in_batches_is_as_close_as_bfloat16_is(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the model is sure of itself: on these clips the official predictor's own masks in bfloat16 and in
    float32 agree to an IoU of 0.997 and 0.983 on the worst frame."""
    for clip in rendered(2, FRAMES, vanish=False):
        images, box = shown(clip)
        monkeypatch.setattr(sides, "video", lambda _, images=images: images)
        found = difference(Pair.make("nano", 256, plain=False, dtype="bfloat16"), box)
        assert found.mixed >= 0.9, found
        assert found.iou >= 0.98, found
        assert found.mean_iou >= 0.995, found


def test_float32_is_without_tf32() -> None:
    pair = Pair.make("nano", 96, plain=True, trained=False)
    torch.backends.cuda.matmul.allow_tf32 = True
    torch.backends.cudnn.allow_tf32 = True
    Engine(pair.engine.model, EngineConfig(dtype="float32"))
    assert not torch.backends.cuda.matmul.allow_tf32
    assert not torch.backends.cudnn.allow_tf32
