"""A lesson: which frames of a clip teach, what is remembered between them, and that all ranks see clips as long."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from sam2.modeling.sam2_utils import LayerNorm2d

from tracker.engine.layers.lite_trunk import InvertedResidual
from training.data import Recipe, as_many, make_batch
from training.model import TRUNK, Run, build, fused_norm, groups, plain_block, plain_norm, quick_block, resize
from training.scenario import Scenario
from training.textures import Bank
from training.train import Stage, Trainer, clip_gradients, lesson, stretches

SCENE = Scenario(frames=8, size_px=64, real=0.0, vanish=0.0)
STAGE = Stage("test", 1, (Recipe(SCENE, clips=1, targets=2),), 1e-3, 1e-3, kinds={"box": 1.0}, correct=0.0)


@pytest.mark.parametrize(
    ("frames", "taught", "expected"),
    [
        (8, 0, [(range(8), True)]),
        (6, 2, [(range(1), True), *((range(t, t + 1), False) for t in (1, 2, 3)), (range(4, 6), True)]),
        (3, 1, [(range(1), True), (range(1, 2), False), (range(2, 3), True)]),
        (3, 2, [(range(3), True)]),
        (1, 5, [(range(1), True)]),
    ],
)
def test_stretches(frames: int, taught: int, expected: list[tuple[range, bool]]) -> None:
    assert stretches(frames, taught) == expected


@pytest.mark.parametrize(("taught", "answers"), [(0, 8), (3, 4)])
def test_frames_between_are_followed_but_do_not_teach(taught: int, answers: int) -> None:
    torch.manual_seed(0)
    model = build(64).train()
    resize(model, 64)
    batch = make_batch(Bank(), STAGE.recipes[0], (0, 0, 0, 0, 0))
    losses = lesson(model, batch, replace(STAGE, taught=taught), np.random.default_rng(0))
    assert len(losses) == answers
    torch.stack([loss.total for loss in losses]).sum().backward()
    # No weight that was first used without a gradient is left without one: memory attention is, where some frames
    # do not teach.
    layers = [
        (n, p.grad) for n, p in model.named_parameters() if n.startswith(("memory_attention.", "image_encoder"))
    ]
    idle = [n for n, gradient in layers if gradient is None or not gradient.any()]
    assert len(layers) > 50
    assert idle == []


def recalled(taught: int, seed: int) -> list[int]:
    """How many frames without a prompt each of a clip's 10 frames could look back on."""
    model: Any = build(64).train()
    resize(model, 64)
    counts, step = [], model._track_step

    def counting(*args: Any, **more: Any) -> Any:
        counts.append(len(more["output_dict"]["non_cond_frame_outputs"]))
        return step(*args, **more)

    model._track_step = counting
    batch = make_batch(Bank(), Recipe(replace(SCENE, frames=10), clips=1, targets=1), (0, 0, 0, 0, 0))
    lesson(model, batch, replace(STAGE, taught=taught), np.random.default_rng(seed))
    return counts


def test_the_memory_keeps_six_frames_or_as_many_as_the_lot_says() -> None:
    assert recalled(0, 0) == [0, 0, 1, 2, 3, 4, 5, 6, 6, 6]
    drawn = {max(recalled(3, seed)) for seed in range(5)}
    assert drawn <= set(range(1, 7))
    assert len(drawn) > 1


def test_clips_of_a_step_are_as_long_in_all_ranks() -> None:
    recipe = Recipe(SCENE, clips=1, targets=2, shortest=3)
    frames = [
        [len(make_batch(Bank(), recipe, (0, 0, rank, step, 0)).frames_tn3hw) for rank in range(2)]
        for step in range(8)
    ]
    assert all(first == second for first, second in frames)
    assert {first for first, _ in frames} <= set(range(3, 9))
    assert len({first for first, _ in frames}) > 1


@pytest.mark.parametrize("channels", [4, 16, 64])
def test_the_fused_norm_is_the_plain_one(channels: int) -> None:
    torch.manual_seed(0)
    norm = LayerNorm2d(channels)
    torch.nn.init.normal_(norm.weight)
    x_nchw = 3 * torch.randn(2, channels, 5, 7) + 1
    torch.testing.assert_close(fused_norm(norm, x_nchw), plain_norm(norm, x_nchw))


def test_the_quick_block_is_the_plain_one_but_for_bfloat16() -> None:
    torch.manual_seed(0)
    block, x_nchw = InvertedResidual(8, 8, 6, 5, 1), torch.randn(2, 8, 16, 16)
    plain, quick = plain_block(block, x_nchw), quick_block(block, x_nchw)
    assert (plain - quick).std() / plain.std() < 0.02
    assert not torch.equal(plain, quick)


def test_gradients_of_trunk_and_rest_are_clipped_apart() -> None:
    model = build(64)
    for name, parameter in model.named_parameters():
        parameter.grad = torch.full_like(parameter, 10.0 if name.startswith(TRUNK) else 1e-6)
    norm = clip_gradients(model)
    assert norm > 100
    of_trunk = [p.grad for n, p in model.named_parameters() if n.startswith(TRUNK) and p.grad is not None]
    others = [p.grad for n, p in model.named_parameters() if not n.startswith(TRUNK) and p.grad is not None]
    assert torch.cat([gradient.flatten() for gradient in of_trunk]).norm() == pytest.approx(1, rel=1e-2)
    assert all(torch.equal(gradient, torch.full_like(gradient, 1e-6)) for gradient in others)


def test_trunk_and_neck_learn_at_their_own_pace() -> None:
    model = build(64)
    paces = {round(group["pace"], 2): sum(p.numel() for p in group["params"]) for group in groups(model)}
    assert set(paces) == {0.33, 1.67, 1.0}
    assert sum(len(group["params"]) for group in groups(model)) == len(list(model.parameters()))


def test_stages_end_by_their_steps_or_by_their_shares_of_the_clock(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = Run(torch.nn.Linear(1, 1), torch.nn.Linear(1, 1), torch.optim.SGD(torch.nn.Linear(1, 1).parameters()))
    run.step, stage = 25, replace(STAGE, steps=100)
    assert Trainer(run, Bank(), tmp_path, 0, 0)._progress(stage) == 0.25
    clock, lengths = [1000.0], {}
    monkeypatch.setattr("training.train.time.monotonic", lambda: clock[0])
    trainer = Trainer(run, Bank(), tmp_path, 0, 0, minutes=2)

    def passes(stage: Stage) -> None:
        began = clock[0]
        while trainer._progress(stage) < 1:
            clock[0] += 1
        lengths[stage.name] = clock[0] - began

    monkeypatch.setattr(trainer, "_train_stage", passes)
    monkeypatch.setattr(run, "save", lambda _: None)
    run.stage = 1
    trainer.train(
        tuple(replace(STAGE, name=name, share=share) for name, share in (("done", 5), ("a", 1), ("b", 3)))
    )
    assert lengths == {"a": 30, "b": 90}


@pytest.mark.parametrize(("found", "wanted"), [(3, 8), (8, 3), (4, 4), (1, 2)])
def test_a_step_has_as_many_objects_as_wanted(found: int, wanted: int) -> None:
    chosen = as_many(np.random.default_rng(0), found, wanted)
    times = np.bincount(chosen, minlength=found)
    assert len(chosen) == wanted
    assert times.max() - times.min() <= 1
