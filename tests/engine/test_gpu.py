"""On a CUDA device: replayed steps against plain ones, and the engine against the official predictor."""

from dataclasses import replace
from typing import Literal

import pytest
import torch
from sides import Difference, Official, Ours, Pair, compare
from test_precision import discs_followed

from tracker.engine.engine import Engine
from tracker.engine.graphs import SIZES, CudaRecorder

pytestmark = pytest.mark.gpu

Dtype = Literal["float32", "bfloat16"]
MODELS = [("nano", 256), ("sam2.1_hiera_tiny", 512)]


@pytest.fixture(scope="module", params=MODELS, ids=lambda m: m[0])
def model(request: pytest.FixtureRequest) -> tuple[str, int]:
    found: tuple[str, int] = request.param
    return found


def pair_of(model: tuple[str, int], dtype: Dtype, *, plain: bool = False) -> Pair:
    return Pair.make(*model, plain=plain, trained=model[0] == "nano", dtype=dtype, device="cuda")


def replayed(pair: Pair) -> Pair:
    """The same with an engine of its own, whose steps are recorded."""
    engine = Engine(pair.engine.model, pair.engine.config)
    engine.warm_up()
    return replace(pair, engine=engine)


def difference(ours: Ours | Official, theirs: Ours | Official) -> Difference:
    discs_followed(ours)
    discs_followed(theirs)
    return compare(ours.masks, theirs.masks)


def assert_close(found: Difference, dtype: Dtype) -> None:
    assert found.mixed >= 0.9, found
    if dtype == "float32":
        assert found.of_std <= 1e-3, found
    else:
        assert found.iou >= 0.98, found


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_replayed_steps_give_the_masks_of_eager_ones(model: tuple[str, int], dtype: Dtype) -> None:
    pair = pair_of(model, dtype)
    assert_close(difference(Ours(replayed(pair)), Ours(pair)), dtype)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_one_by_one_on_a_gpu_is_the_official_predictor(model: tuple[str, int], dtype: Dtype) -> None:
    pair = pair_of(model, dtype, plain=True)
    assert_close(difference(Ours(pair), Official(pair)), dtype)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_replayed_steps_give_the_official_masks(model: tuple[str, int], dtype: Dtype) -> None:
    pair = replayed(pair_of(model, dtype))
    assert_close(difference(Ours(pair), Official(pair)), dtype)


def test_every_size_is_recorded(model: tuple[str, int], caplog: pytest.LogCaptureFixture) -> None:
    engine, recorded = pair_of(model, "bfloat16").engine, []
    record = CudaRecorder(engine.model.device)
    blank = engine.encode_tensor(torch.zeros(1, 3, engine.model.image_size, engine.model.image_size))

    def counting(function):  # type: ignore[no-untyped-def]
        recorded.append(record(function))
        return recorded[-1]

    engine.record(blank, counting)
    assert not caplog.records
    assert len(recorded) == len(SIZES)


def test_replayed_steps_keep_device_memory_flat() -> None:
    """A recorded step allocates its buffers once; 50 more frames take nothing more."""
    pair = replayed(pair_of(MODELS[0], "bfloat16"))
    side = Ours(pair)
    discs_followed(side)
    held = []
    for _ in range(50):
        frame = side.tracks[0].past[-1].frame + 1
        for obj, track in side.tracks.items():
            ((side.tracks[obj], _),) = pair.engine.propagate(
                [(track, frame % len(pair.features), frame)], pair.features
            )
        held.append(torch.cuda.memory_allocated())
    assert max(held[40:]) <= 1.01 * max(held[35:40])
