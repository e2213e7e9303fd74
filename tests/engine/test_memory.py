"""A track remembers what the model asks for and what a correction needs, and stays that size for ever."""

from dataclasses import replace

import pytest
import torch

from helpers.sides import random_network, video
from tracker.config import EngineConfig
from tracker.engine.engine import Engine
from tracker.engine.memory import CONDITIONING, MEMORIES, POINTERS, FrameMemory, ObjectMemory, nbytes
from tracker.engine.models.build import Model
from tracker.protocol.prompt import Prompt

HISTORY = 8


def entry(frame: int, step: int) -> FrameMemory:
    memory, logits = torch.zeros(4, 2, dtype=torch.bfloat16), torch.zeros(4, 4)
    return FrameMemory(frame, step, memory, torch.zeros(3), logits, score=0.5, presence=1.0)


def prompted(track: ObjectMemory, frame: int) -> ObjectMemory:
    return track.with_prompt(entry(frame, track.step_for(frame)))


def followed(track: ObjectMemory, *frames: int) -> ObjectMemory:
    for frame in frames:
        track = track.passing(frame)
        if track.last_frame != frame:
            track = track.advanced(entry(frame, track.next_step()), HISTORY)
    return track


def seen(track: ObjectMemory, frame: int) -> tuple[list[int], list[tuple[int, int]], list[tuple[int, int]]]:
    """What a new frame looks at: conditioning frames, and (steps ago, frame) of memories and of pointers."""
    track = track.passing(frame)
    bank = track.bank(frame, track.next_step())
    return (
        [e.frame for e in bank.conditioning],
        [(ago, e.frame) for ago, e in bank.memories],
        [(ago, e.frame) for ago, e in bank.pointers],
    )


def test_steps_count_processed_frames_so_that_dropped_ones_leave_no_hole() -> None:
    track = followed(prompted(ObjectMemory(), 100), 103, 107, 120)
    assert seen(track, 130) == (
        [100],
        [(3, 103), (2, 107), (1, 120)],
        [(4, 100), (1, 120), (2, 107), (3, 103)],
    )


def test_six_memories_and_fifteen_pointers_before_the_frame() -> None:
    track = followed(prompted(ObjectMemory(), 0), *range(1, 40))
    conditioning, memories, pointers = seen(track, 40)
    assert conditioning == [0]
    assert memories == [(ago, 40 - ago) for ago in range(6, 0, -1)]
    assert pointers == [(40, 0), *((ago, 40 - ago) for ago in range(1, 16))]


def test_a_correction_sees_the_frames_before_it_and_not_what_is_staged() -> None:
    track = followed(prompted(ObjectMemory(), 0), *range(1, 10))
    staged = prompted(track, 9)
    bank = staged.bank(9, staged.step_for(9))
    assert [e.frame for _, e in bank.memories] == [3, 4, 5, 6, 7, 8]
    assert [e.frame for e in bank.conditioning] == [0]
    assert [e.frame for e in staged.committed().bank(10, 10).conditioning] == [0, 9]
    assert [e.frame for e in track.committed().bank(10, 10).conditioning] == [0], "the old track has not changed"


def test_rewind_forgets_what_came_after_and_meets_later_corrections_again() -> None:
    track = followed(prompted(ObjectMemory(), 0), *range(1, 11))
    track = followed(prompted(track, 8).committed(), *range(11, 13))
    back = prompted(track, 5).rewind(5).committed()
    assert back.last_frame == 5
    assert back.frames[-1] == 5
    assert seen(back, 6)[0] == [0, 8, 5]
    assert [f for _, f in seen(back, 6)[2]][:2] == [0, 5], "no pointer of a later frame"
    again = followed(back, 6, 8, 9)  # this time frame 7 was dropped
    assert [e.step for e in again.past if e.frame in (5, 6, 8, 9)] == [5, 6, 7, 8]
    assert [e.frame for e in again.past if e.conditioning] == [0, 5, 8]


def test_a_correction_that_frames_pass_by_is_not_lost() -> None:
    track = followed(prompted(ObjectMemory(), 0), *range(1, 6))
    back = prompted(prompted(track, 5).committed(), 2).rewind(2).committed()
    assert [e.frame for e in back.ahead] == [5]
    assert [e.frame for e in followed(back, 7).past] == [0, 1, 2, 5, 7]


def test_the_first_and_the_newest_conditioning_frames_stay() -> None:
    track = prompted(ObjectMemory(), 0)
    for frame in range(1, 8):
        track = prompted(followed(track, frame), frame)
    conditioning, memories, _ = seen(track, 8)
    assert conditioning == [0, 5, 6, 7]
    assert len(conditioning) == CONDITIONING
    assert (4, 4) in memories, "one that is not kept counts as tracked, as upstream"


def test_clicking_the_first_frame_again_leaves_it_the_first() -> None:
    track = prompted(prompted(ObjectMemory(), 0), 0)
    for frame in range(1, 6):
        track = prompted(followed(track, frame), frame)
    assert seen(track, 6)[0][0] == 0


def test_prompts_before_any_propagation_are_bounded_too() -> None:
    track = ObjectMemory()
    for frame in range(100):
        track = prompted(track, frame)
    assert [e.frame for e in track.staged] == [0, 97, 98, 99]


def test_turned_it_goes_back_with_the_later_frames_as_memory() -> None:
    track = followed(prompted(ObjectMemory(), 10), *range(11, 20)).turned(10)
    assert track.last_frame == 10
    assert seen(track, 9) == (
        [10],
        [(ago, 9 + ago) for ago in range(6, 1, -1)],
        [(1, 10), *((ago, 9 + ago) for ago in range(2, 11))],
    )
    assert followed(track, 9, 8).frames[-2:] == (9, 8)


def test_the_size_of_everything_is_bounded() -> None:
    track = prompted(ObjectMemory(), 0)
    sizes = []
    for frame in range(1, 300):
        track = followed(track, frame)
        if frame % 20 == 0:
            track = prompted(track, frame)
        sizes.append((len(track.past), nbytes([track])))
    assert max(n for n, _ in sizes) <= HISTORY + POINTERS + CONDITIONING + 1
    assert max(sizes[150:]) == max(sizes[200:]), "no growth"
    assert sum(e.logits_hw is not None for e in track.past) <= HISTORY + 1
    tracked = [e for e in track.past if not e.conditioning]
    assert sum(e.memory_tm is not None for e in tracked) <= HISTORY + MEMORIES
    assert track.frames == tuple(range(299 - HISTORY + 1, 300))


def test_every_frame_at_hand_can_be_corrected_with_all_that_it_saw() -> None:
    track = followed(prompted(ObjectMemory(), 0), *range(1, 100))
    for frame in track.frames:
        bank = track.bank(frame, track.step_for(frame))
        assert len(bank.memories) == MEMORIES
        assert all(e.memory_tm is not None for _, e in bank.memories)
        assert len(bank.pointers) == 1 + POINTERS


def test_memory_over_200_frames_of_a_real_model() -> None:
    """Corrected every 20 frames; after the first 120 the bytes of all its tensors do not grow."""
    engine = Engine(Model("tiny", random_network("sam2.1_hiera_tiny", 64)), EngineConfig(history_frames=HISTORY))
    features = engine.encode_tensor(video(64))
    click = Prompt(torch.tensor([[40.0, 48.0]]).numpy(), torch.ones(1, dtype=torch.int32).numpy())
    track, _ = engine.prompt(ObjectMemory(), features, 0, 0, click, (160, 120))
    sizes = []
    for frame in range(1, 200):
        ((track, mask),) = engine.propagate([(track, frame % len(features), frame)], features)
        if frame % 20 == 0:
            track, mask = engine.prompt(track, features, frame % len(features), frame, click, (160, 120))
        sizes.append(nbytes([track]))
    assert mask.logits_hw.shape == (16, 16)
    assert max(sizes[120:]) <= max(sizes[:120])
    per_memory, per_logits, per_pointer = 4 * 4 * 64 * 2, 16 * 16 * 4, 256 * 4
    bound = (
        (HISTORY + MEMORIES + CONDITIONING) * per_memory
        + (HISTORY + 1) * per_logits
        + (HISTORY + POINTERS + CONDITIONING + 1) * per_pointer
    )
    assert max(sizes) <= bound * 1.05  # clicks are a few bytes more


@pytest.mark.parametrize("gone", ["memory_tm", "logits_hw"])
def test_dropping_tensors_never_touches_the_given_track(gone: str) -> None:
    track = followed(prompted(ObjectMemory(), 0), *range(1, 30))
    before = [getattr(e, gone) is None for e in track.past]
    followed(track, *range(30, 60))
    assert [getattr(e, gone) is None for e in track.past] == before
    assert replace(track) is not track
