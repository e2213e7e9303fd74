"""Recorded steps give what steps give.

On a CPU "recorded" means: run again into the same outputs, which is what a CUDA graph does with its buffers, so
that padding, indices and copies are really tested. `test_gpu.py` has the graphs.
"""

import logging
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from helpers.sides import SIZE_WH, Pair, video
from tracker.engine import cuda_graphs
from tracker.engine.cuda_graphs import Inputs, Out, Outputs, Replay, Replays
from tracker.engine.engine import Engine
from tracker.engine.forward import Features
from tracker.engine.grouping import MAX_OBJECTS, STEADY
from tracker.engine.layers import linear, memory_attention
from tracker.engine.memory import ObjectMemory
from tracker.protocol.prompt import Prompt

FULL = 16  # steps until the memory is


@dataclass
class Again:
    """A recorder that runs the function again, into the same outputs. Notes what was replayed."""

    replayed: list[int] = field(default_factory=list)

    def __call__(self, function: Callable[[], Out]) -> tuple[Callable[[], None], Out]:
        outputs = function()

        def again() -> None:
            self.replayed.append(len(outputs[0]))
            for held, new in zip(outputs, function(), strict=True):
                held.copy_(new)

        return again, outputs


def test_the_largest_is_recorded_first_and_takes_a_whole_pass() -> None:
    assert sorted(cuda_graphs.SIZES, reverse=True) == cuda_graphs.SIZES
    assert cuda_graphs.SIZES[0] == (MAX_OBJECTS, MAX_OBJECTS)


def inputs(objects: int, pictures: int, value: float) -> Inputs:
    picture = torch.full((pictures, 1, 1, 1), value)
    index = torch.arange(objects)[:, None]
    return Inputs(picture, picture, picture, picture[:1], index, torch.full((objects, 1, 1), value))


def sums(x: Inputs) -> Outputs:
    """Something of every row, in every output."""
    row_b = x.pointers_bpc[:, 0, 0] * 10 + x.index_bk[:, 0] + x.coarse_nchw.flatten()[:1]
    return Outputs(*(row_b + k for k in range(6)))


def test_a_replay_computes_on_what_it_is_given_and_cuts_off_the_rest() -> None:
    replay = Replay(sums, inputs(4, 2, 0.0), Again())
    for objects, pictures, value in ((3, 1, 1.0), (4, 2, 2.0), (1, 1, 3.0)):
        given = inputs(objects, pictures, value)
        for out, expected in zip(replay(given), sums(given), strict=True):
            assert out.tolist() == expected.tolist()


def test_what_a_replay_gave_outlives_the_next_one() -> None:
    replay = Replay(sums, inputs(2, 1, 0.0), Again())
    first = replay(inputs(2, 1, 1.0))
    before = [out.tolist() for out in first[:-1]]
    replay(inputs(2, 1, 5.0))
    assert [out.tolist() for out in first[:-1]] == before
    assert first.projected_bk.tolist() != sums(inputs(2, 1, 1.0)).projected_bk.tolist()  # the one that may


def picked(x: Inputs) -> Outputs:
    """Each object's own picture and pointer: an index that its pictures do not have is an error, as on a device."""
    row_b = x.coarse_nchw[x.index_bk[:, 0], 0, 0, 0] + 100 * x.pointers_bpc[:, 0, 0]
    return Outputs(*(row_b + k for k in range(6)))


def on(objects: int, pictures: int, value: float) -> Inputs:
    """Objects spread over pictures, each picture and each pointer with a number of its own."""
    picture = value + torch.arange(pictures, dtype=torch.float32).reshape(-1, 1, 1, 1)
    pointers = value + torch.arange(objects, dtype=torch.float32).reshape(-1, 1, 1)
    index = (torch.arange(objects) % pictures)[:, None]
    return Inputs(picture, picture, picture, torch.zeros(1, 1, 1, 1), index, pointers)


SIZE = st.integers(1, MAX_OBJECTS).flatmap(lambda objects: st.tuples(st.just(objects), st.integers(1, objects)))


@given(st.lists(SIZE, min_size=2, max_size=12))
def test_whatever_was_replayed_before_a_replay_gives_what_the_step_gives(sizes: list[tuple[int, int]]) -> None:
    replays = Replays(picked)
    blank = on(*cuda_graphs.SIZES[0], value=0.0)
    assert replays.record(STEADY, blank._replace(index_bk=torch.zeros_like(blank.index_bk)), Again()) == []
    for turn, (objects, pictures) in enumerate(sizes):
        step = on(objects, pictures, value=float(turn))
        size = min(s for s in replays.seconds if s.objects >= objects and s.pictures >= pictures)
        for out, expected in zip(replays.run(step, size), picked(step), strict=True):
            assert out.tolist() == expected.tolist()


@pytest.fixture(scope="module")
def pair() -> Pair:
    return Pair.make("sam2.1_hiera_tiny", 64, plain=False, trained=False)


def record(pair: Pair) -> tuple[Engine, Again]:
    engine, again = Engine(pair.engine.model, pair.engine.config), Again()
    engine.record(pair.features.of(0), again)
    return engine, again


@pytest.fixture(scope="module")
def recorded_once(pair: Pair) -> tuple[Engine, Again]:
    return record(pair)


@pytest.fixture
def recorded(recorded_once: tuple[Engine, Again]) -> tuple[Engine, Again]:
    """Nothing replayed so far."""
    recorded_once[1].replayed.clear()
    return recorded_once


def on_pictures(pair: Pair, frame: int, streams: int) -> Features:
    f, pictures = pair.features, [(frame + 5 * s) % len(pair.features) for s in range(streams)]
    return Features(f.fine_nchw[pictures], f.middle_nchw[pictures], f.coarse_nchw[pictures], f.position_1chw)


def click(k: int) -> Prompt:
    return Prompt(np.array([[30 + 7 * (k % 15), 40 + 3 * k]], np.float32), np.ones(1, np.int32))


def follow(
    engine: Engine, pair: Pair, born: list[int], gone: dict[int, int], frames: int
) -> dict[int, list[Tensor]]:
    """Masks of objects that appear at the frames in `born`, on three streams in turn, and are removed at `gone`."""
    tracks: dict[int, ObjectMemory] = {}
    masks: dict[int, list[Tensor]] = {k: [] for k in range(len(born))}
    for frame in range(frames):
        features = on_pictures(pair, frame, 3)
        tracks = {k: track for k, track in tracks.items() if frame < gone.get(k, frames)}
        items = [(track, k % 3, frame) for k, track in tracks.items()]
        for k, (track, mask) in zip(list(tracks), engine.propagate(items, features), strict=True):
            tracks[k] = track
            masks[k].append(torch.from_numpy(mask.logits_hw))
        for k, start in enumerate(born):
            if start == frame:
                tracks[k], _ = engine.prompt(ObjectMemory(), features, k % 3, frame, click(k), SIZE_WH)
    return masks


def test_objects_that_join_and_leave_are_followed_alike(pair: Pair, recorded: tuple[Engine, Again]) -> None:
    """18 objects at first, so that one pass is not enough; they leave and others grow up."""
    engine, again = recorded
    born = [0] * 18 + [1, 2]
    gone = dict.fromkeys(range(4, 18), FULL + 3) | {0: FULL + 4, 2: FULL + 5}
    frames = FULL + 6
    ours, theirs = (follow(e, pair, born, gone, frames) for e in (engine, pair.engine))
    assert set(again.replayed) <= {16, 8, 4, 2, 1}
    every = torch.cat([torch.stack(masks) for masks in theirs.values()])
    for k, masks in theirs.items():
        assert (torch.stack(ours[k]) - torch.stack(masks)).abs().max() <= 1e-3 * every.std(), k


SIZES_AND_PICTURES = st.lists(st.lists(st.integers(0, 2), min_size=1, max_size=5), min_size=2, max_size=4)


@pytest.fixture(scope="module")
def corrected(pair: Pair) -> list[ObjectMemory]:
    """Objects that come to the same frame with 0 to 3 corrections, and a young one."""
    found = []
    last = FULL + 2
    for corrections in range(4):
        track, _ = pair.engine.prompt(ObjectMemory(), pair.features, 0, 0, click(corrections), SIZE_WH)
        for frame in range(1, last):
            ((track, _),) = pair.engine.propagate([(track, frame % len(pair.features), frame)], pair.features)
            if frame in (4, 7, 10)[:corrections]:
                picture = frame % len(pair.features)
                track, _ = pair.engine.prompt(track, pair.features, picture, frame, click(3), SIZE_WH)
        found.append(track)
    young, _ = pair.engine.prompt(ObjectMemory(), pair.features, 0, last - 1, click(2), SIZE_WH)
    return [*found, young]


@pytest.fixture(scope="module")
def replaying(pair: Pair) -> tuple[Engine, Again]:
    with pytest.MonkeyPatch.context() as patch:
        # Every replay costs the same, so that few are made and rows are padded.
        patch.setattr(cuda_graphs.Replay, "seconds", lambda _: 1.0)
        return record(pair)


@given(SIZES_AND_PICTURES)
@example([[0, 0, 1, 1], [0, 0, 0]])
@settings(max_examples=8, deadline=None, suppress_health_check=list(HealthCheck))
def test_any_sequence_of_sizes_and_pictures_gives_the_masks_of_the_plain_path(
    pair: Pair, corrected: list[ObjectMemory], replaying: tuple[Engine, Again], steps: list[list[int]]
) -> None:
    """A replay reads nothing of the one before it: rows beyond its own objects and pictures too are written."""
    engine, _ = replaying
    frame = FULL + 2
    for pictures in steps:
        features = on_pictures(pair, frame, 1 + max(pictures))
        items = [(corrected[k % len(corrected)], picture, frame) for k, picture in enumerate(pictures)]
        ours, theirs = engine.propagate(items, features), pair.engine.propagate(items, features)
        for (_, a), (_, b) in zip(ours, theirs, strict=True):
            assert np.abs(a.logits_hw - b.logits_hw).max() <= 1e-3 * b.logits_hw.std()


def test_objects_with_any_number_of_corrections_go_in_one_replay(
    corrected: list[ObjectMemory], pair: Pair, replaying: tuple[Engine, Again]
) -> None:
    engine, again = replaying
    again.replayed.clear()
    items = [(corrected[k % 4], 0, FULL + 2) for k in range(16)]
    engine.propagate(items, on_pictures(pair, FULL + 2, 1))
    assert again.replayed == [16]


def test_every_row_that_a_recording_reads_is_written() -> None:
    """Four objects on two pictures, then three on one: the fourth row may not name the second picture any more."""
    held = inputs(4, 2, 0.0)
    replay = Replay(sums, held, Again())
    replay(inputs(4, 2, 2.0)._replace(index_bk=torch.tensor([[0], [0], [1], [1]])))
    replay(inputs(3, 1, 1.0)._replace(index_bk=torch.zeros(3, 1, dtype=torch.int64)))
    assert held.index_bk.tolist() == [[0]] * 4
    assert held.coarse_nchw.flatten().tolist() == [1.0, 1.0]
    assert held.pointers_bpc.flatten().tolist() == [1.0] * 4


def test_masks_and_memories_outlive_the_next_replay(pair: Pair, recorded: tuple[Engine, Again]) -> None:
    engine, again = recorded
    track, _ = engine.prompt(ObjectMemory(), pair.features, 0, 0, click(1), SIZE_WH)
    seen = []
    for frame in range(1, FULL + 4):
        ((track, mask),) = engine.propagate([(track, frame % len(pair.features), frame)], pair.features)
        entry = track.past[-1]
        assert entry.memory_tm is not None
        assert entry.logits_hw is not None
        held = torch.from_numpy(mask.logits_hw), entry.logits_hw, entry.memory_tm, entry.pointer_c
        seen.append((held, [part.clone() for part in held]))
    assert len(again.replayed) == FULL + 3
    for held, before in seen:
        assert all(map(torch.equal, held, before))


class Never(TorchDispatchMode):
    """Refuses what makes a GPU's host wait, or sends something over: neither can be recorded."""

    WAITING = ("_local_scalar_dense", "nonzero", "masked_select", "equal", "lift_fresh", "scalar_tensor", "unique")

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        name = func.name().partition("::")[2].partition(".")[0]
        picks = name == "index" and any(t is not None and t.dtype is torch.bool for t in args[1])
        waits = picks or name in self.WAITING
        assert not waits, f"{func.name()} cannot be recorded"
        return func(*args, **(kwargs or {}))


def refusing(function: Callable[[], Out]) -> tuple[Callable[[], None], Out]:
    with Never():
        return lambda: None, function()


def test_a_step_never_waits_for_the_device(
    pair: Pair, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cuda_graphs, "SIZES", [(2, 2)])
    for module in (linear, memory_attention):
        monkeypatch.setattr(module, "by_onednn", lambda _: False)  # a GPU's kernels
    Engine(pair.engine.model, pair.engine.config).record(pair.features.of(0), refusing)
    assert not caplog.records


@pytest.mark.parametrize(
    "wait", [lambda: torch.ones(1).item(), lambda: torch.tensor([1, 2]), lambda: torch.ones(2).nonzero()]
)
def test_waiting_is_noticed(wait: Callable[[], object]) -> None:
    with pytest.raises(AssertionError, match="cannot be recorded"), Never():
        wait()


def test_the_encoder_is_replayed_and_its_features_outlive_the_next_picture(
    pair: Pair, recorded: tuple[Engine, Again]
) -> None:
    engine, again = recorded
    images = video(64)
    eager = [pair.engine.encode_tensor(images[t : t + 2]) for t in (0, 7)]
    replayed = [engine.encode_tensor(images[t : t + 2]) for t in (0, 7)]
    assert again.replayed == [2, 2]
    for ours, theirs in zip(replayed, eager, strict=True):
        for level in ("fine_nchw", "middle_nchw", "coarse_nchw", "position_1chw"):
            torch.testing.assert_close(getattr(ours, level), getattr(theirs, level), msg=level)


def test_a_number_of_pictures_that_was_not_recorded_runs_as_it_is(recorded: tuple[Engine, Again]) -> None:
    engine, again = recorded
    assert len(engine.encode_tensor(video(64)[:3])) == 3
    assert again.replayed == []


def test_what_cannot_be_recorded_is_said_once_and_runs_as_it_is(
    pair: Pair, caplog: pytest.LogCaptureFixture
) -> None:
    def failing(function: Callable[[], Out]) -> tuple[Callable[[], None], Out]:
        if len(function()[0]) > 4:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return Again()(function)

    engine = Engine(pair.engine.model, pair.engine.config)
    with caplog.at_level(logging.WARNING):
        engine.record(pair.features.of(0), failing)
    (said,) = caplog.messages
    assert "8 sizes" in said
    assert "out of memory" in said
    ours, theirs = (follow(e, pair, [0] * 6, {}, FULL + 2) for e in (engine, pair.engine))
    for k, masks in theirs.items():
        assert (torch.stack(ours[k]) - torch.stack(masks)).abs().max() <= 1e-3 * torch.stack(masks).std(), k
