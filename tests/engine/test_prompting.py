"""Prompts that the engine refuses, and what a refusal or an unwanted answer changes: nothing."""

from collections.abc import Callable

import numpy as np
import pytest
import torch

from helpers.sides import SIZE_WH, random_network, video
from tracker.config import EngineConfig
from tracker.engine import forward
from tracker.engine.engine import Engine
from tracker.engine.memory import ObjectMemory
from tracker.engine.models.build import Model
from tracker.errors import AtCapacity, BadPrompt, FrameGone
from tracker.images.types import Rgb
from tracker.protocol.prompt import Prompt

ONE = np.ones(1, np.int32)
HERE = np.array([[40, 48]], np.float32)
BOX = np.array([10, 10, 60, 60], np.float32)
MASK = np.zeros((SIZE_WH[1], SIZE_WH[0]), bool)
MASK[20:60, 30:70] = True


@pytest.fixture(scope="module")
def engine() -> Engine:
    return Engine(Model("tiny", random_network("sam2.1_hiera_tiny", 64)), EngineConfig(history_frames=4))


def led(engine: Engine, frames: int) -> ObjectMemory:
    features = engine.encode_tensor(video(64))
    track, _ = engine.prompt(ObjectMemory(), features, 0, 0, Prompt(HERE, ONE), SIZE_WH)
    for frame in range(1, frames):
        ((track, _),) = engine.propagate([(track, frame, frame)], features)
    return track


BAD: dict[str, tuple[Prompt, str]] = {
    "nothing": (Prompt(), "empty"),
    "a label too few": (Prompt(np.zeros((2, 2), np.float32), ONE), "labels"),
    "a strange label": (Prompt(HERE, np.array([2], np.int32)), "labels"),
    "not a number": (Prompt(np.array([[np.nan, 1]], np.float32), ONE), "outside"),
    "a point outside": (Prompt(np.array([[161, 1]], np.float32), ONE), "outside"),
    "a point left of it": (Prompt(np.array([[-1, 1]], np.float32), ONE), "outside"),
    "an empty box": (Prompt(box_xyxy=np.array([5, 5, 5, 9], np.float32)), "box"),
    "a box outside": (Prompt(box_xyxy=np.array([200, 5, 230, 9], np.float32)), "outside"),
    "an infinite box": (Prompt(box_xyxy=np.array([0, 0, np.inf, 9], np.float32)), "x1 < x2"),
    "a mask with points": (Prompt(HERE, ONE, mask_hw=MASK), "alone"),
    "a mask with a box": (Prompt(box_xyxy=BOX, mask_hw=MASK), "alone"),
    "an empty mask": (Prompt(mask_hw=np.zeros_like(MASK)), "no pixel"),
    "a mask of another size": (Prompt(mask_hw=MASK[1:]), r"mask\.size: \[119, 160\]"),
    "a box on clicks": (Prompt(box_xyxy=BOX), "marked on this frame already"),
    "half a pixel": (Prompt(box_xyxy=np.array([5, 5, 5.5, 9], np.float32)), "less than 1 × 1"),
}


@pytest.mark.parametrize("name", BAD)
def test_refused(engine: Engine, name: str) -> None:
    prompt, says = BAD[name]
    features = engine.encode_tensor(video(64)[:1])
    track, _ = engine.prompt(ObjectMemory(), features, 0, 0, Prompt(HERE, ONE), SIZE_WH)
    with pytest.raises(BadPrompt, match=says):
        engine.prompt(track, features, 0, 0, prompt, SIZE_WH)


@pytest.mark.parametrize(
    ("make", "frame"),
    [
        (lambda track: track, 2),  # older than the history of 4 frames
        (lambda track: track, 0),  # its first frame, forgotten like any other
        (lambda track: track.rewind(6), 3),
        (lambda track: ObjectMemory(past=track.past[-1:]), 8),  # never tracked
    ],
)
def test_frame_gone(engine: Engine, make: Callable[[ObjectMemory], ObjectMemory], frame: int) -> None:
    track = make(led(engine, 10))
    with pytest.raises(FrameGone, match=f"frame {frame}"):
        engine.prompt(track, engine.encode_tensor(video(64)[:1]), 0, frame, Prompt(HERE, ONE), SIZE_WH)


def test_a_later_correction_waits_until_the_object_comes_there_again(engine: Engine) -> None:
    features = engine.encode_tensor(video(64))
    track = led(engine, 10)
    track, _ = engine.prompt(track, features, 9, 9, Prompt(HERE, ONE), SIZE_WH)
    back = track.rewind(7).committed()
    with pytest.raises(FrameGone):
        engine.prompt(back, features, 9, 9, Prompt(HERE, ONE), SIZE_WH)
    for frame in (8, 9):
        ((back, mask),) = engine.propagate([(back, frame, frame)], features)
    np.testing.assert_array_equal(mask.logits_hw, track.staged[0].logits_hw)
    engine.prompt(back, features, 9, 9, Prompt(HERE, ONE), SIZE_WH)


def test_an_answer_that_is_not_wanted_costs_nothing(engine: Engine) -> None:
    features = engine.encode_tensor(video(64))
    track = led(engine, 6)
    ((_, before),) = engine.propagate([(track, 6, 6)], features)
    engine.prompt(track, features, 5, 5, Prompt(box_xyxy=BOX), SIZE_WH)
    ((_, after),) = engine.propagate([(track, 6, 6)], features)
    np.testing.assert_array_equal(before.logits_hw, after.logits_hw)


def test_going_back_without_rewind_is_a_mistake(engine: Engine) -> None:
    track = led(engine, 6)
    with pytest.raises(ValueError, match="rewind"):
        engine.propagate([(track, 0, 3)], engine.encode_tensor(video(64)[:1]))


def test_clicks_add_up_until_they_are_replaced(engine: Engine) -> None:
    features = engine.encode_tensor(video(64)[:1])
    track, _ = engine.prompt(ObjectMemory(), features, 0, 0, Prompt(HERE, ONE), SIZE_WH)
    track, _ = engine.prompt(track, features, 0, 0, Prompt(HERE + 9, ONE), SIZE_WH)
    assert track.staged[0].points is not None
    assert len(track.staged[0].points.labels_n) == 2
    replaced, _ = engine.prompt(track, features, 0, 0, Prompt(HERE, ONE, BOX, replace=True), SIZE_WH)
    assert replaced.staged[0].points is not None
    assert replaced.staged[0].points.labels_n.tolist() == [2, 3, 1]
    masked, mask = engine.prompt(replaced, features, 0, 0, Prompt(mask_hw=MASK), SIZE_WH)
    assert masked.staged[0].points is None
    assert mask.score == 1
    assert mask.presence == 10


def test_pictures_of_any_size_go_in_as_pil_resizes_them(engine: Engine) -> None:
    rng = np.random.default_rng(0)
    pictures = [Rgb(rng.integers(0, 256, (h, w, 3), np.uint8)) for h, w in ((50, 70), (64, 64), (33, 200))]
    together = engine.encode(pictures)
    assert len(together) == 3
    for i, picture in enumerate(pictures):
        alone = engine.encode([picture])
        np.testing.assert_allclose(together.coarse_nchw[i], alone.coarse_nchw[0], atol=1e-4)


@pytest.mark.parametrize("part", ["_encode", "segment"])
def test_want_of_device_memory_is_said_as_such(engine: Engine, monkeypatch: pytest.MonkeyPatch, part: str) -> None:
    def out_of_memory(*_: object, **__: object) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory")

    track = led(engine, 1)
    monkeypatch.setattr(engine if part == "_encode" else forward, part, out_of_memory)
    with pytest.raises(AtCapacity, match=r"choose a smaller model or model\.image_size"):
        engine.prompt(track, engine.encode_tensor(video(64)), 0, 0, Prompt(HERE, ONE), SIZE_WH)
