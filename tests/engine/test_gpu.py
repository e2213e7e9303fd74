"""On a CUDA device: replayed steps against plain ones, and the engine against the official predictor."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Literal

import pytest
import torch

from engine.test_precision import DISCS, difference, followed, shown
from evaluation.clips import rendered
from helpers import sides
from helpers.sides import FRAMES, Official, Ours, Pair, compare, keep_memories_unrounded
from tracker.engine.cuda_graphs import PICTURES, SIZES, CudaRecorder
from tracker.engine.engine import Engine
from tracker.engine.grouping import depths

pytestmark = pytest.mark.gpu

Dtype = Literal["float32", "bfloat16"]
Boxes = Sequence[tuple[float, ...]]
NANO, TINY = ("nano", 256), ("sam2.1_hiera_tiny", 512)  # tiny as initialised: its weights are not in the package


@pytest.fixture
def clip(monkeypatch: pytest.MonkeyPatch) -> Boxes:
    """A clip that nano is sure of, and the box of its object."""
    images, box = shown(next(rendered(1, FRAMES, vanish=False)))
    monkeypatch.setattr(sides, "video", lambda _: images)
    return [box]


def pair_of(model: tuple[str, int], dtype: Dtype, *, plain: bool = False) -> Pair:
    return Pair.make(*model, plain=plain, trained=model is NANO, dtype=dtype, device="cuda")


def replayed(pair: Pair) -> Pair:
    """The same with an engine of its own, whose steps are recorded."""
    engine = Engine(pair.engine.model, pair.engine.config)
    engine.warm_up()
    return replace(pair, engine=engine)


def assert_close(ours: Ours | Official, theirs: Ours | Official, boxes: Boxes, dtype: Dtype) -> None:
    followed(ours, boxes)
    followed(theirs, boxes)
    found = compare(ours.masks, theirs.masks)
    assert found.mixed >= 0.9, found
    assert found.of_std <= 1e-3 if dtype == "float32" else found.iou >= 0.98, found


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_replayed_steps_give_the_masks_of_eager_ones(dtype: Dtype, clip: Boxes) -> None:
    pair = pair_of(NANO, dtype)
    assert_close(Ours(replayed(pair)), Ours(pair), clip, dtype)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_replayed_steps_of_an_official_size_too(dtype: Dtype) -> None:
    pair = pair_of(TINY, dtype)
    assert_close(Ours(replayed(pair)), Ours(pair), DISCS, dtype)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_one_by_one_on_a_gpu_is_the_official_predictor(dtype: Dtype, clip: Boxes) -> None:
    pair = pair_of(NANO, dtype, plain=True)
    assert_close(Ours(pair), Official(pair), clip, dtype)


def test_replayed_steps_give_the_official_masks(clip: Boxes, monkeypatch: pytest.MonkeyPatch) -> None:
    """But for how memories are rounded: what falls the other way goes on from there, as in batches on a CPU."""
    keep_memories_unrounded(monkeypatch)
    pair = replayed(pair_of(NANO, "float32"))
    assert_close(Ours(pair), Official(pair), clip, "float32")


def test_replayed_steps_in_bfloat16_give_nearly_the_official_masks(clip: Boxes) -> None:
    """Single frames can be farther off: where two candidates are nearly as good, a rounding takes the other one."""
    found = difference(replayed(pair_of(NANO, "bfloat16")), *clip)
    assert found.mixed >= 0.9, found
    assert found.mean_iou >= 0.99, found


def test_replayed_steps_of_an_official_size_give_the_official_masks() -> None:
    pair = replayed(pair_of(TINY, "float32"))
    assert_close(Ours(pair), Official(pair), DISCS, "float32")


def test_every_size_is_recorded(caplog: pytest.LogCaptureFixture) -> None:
    engine, recorded = pair_of(TINY, "bfloat16").engine, []
    record = CudaRecorder(engine.model.device)
    blank = engine.encode_tensor(torch.zeros(1, 3, engine.model.image_size, engine.model.image_size))

    def counting(function):
        recorded.append(record(function))
        return recorded[-1]

    engine.record(blank, counting)
    assert not caplog.records
    assert len(recorded) == len(PICTURES) + len(SIZES) * len(depths())


def test_replayed_steps_keep_device_memory_flat() -> None:
    """A recorded step allocates its buffers once; 50 more frames take nothing more."""
    pair = replayed(pair_of(NANO, "bfloat16"))
    side = Ours(pair)
    followed(side, DISCS)
    held = []
    for _ in range(50):
        frame = side.tracks[0].past[-1].frame + 1
        for obj, track in side.tracks.items():
            ((side.tracks[obj], _),) = pair.engine.propagate(
                [(track, frame % len(pair.features), frame)], pair.features
            )
        held.append(torch.cuda.memory_allocated())
    assert max(held[40:]) <= 1.01 * max(held[35:40])
