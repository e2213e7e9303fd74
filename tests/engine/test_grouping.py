"""What goes together in one step, how much is kept projected for it, and for how long."""

import pytest
import torch
from torch import Tensor

from tracker.engine.grouping import (
    MAX_OBJECTS,
    STEADY,
    Depth,
    Propagation,
    StepSize,
    depths,
    eager_groups,
    pool_slots,
    replayed_groups,
    rows_of,
)
from tracker.engine.kv_cache import IDLE_CALLS, KVCache
from tracker.engine.memory import FrameMemory, ObjectMemory


def entry(frame: int) -> FrameMemory:
    memory = torch.full((2, 3), float(frame), dtype=torch.bfloat16)
    return FrameMemory(frame, 0, memory, torch.zeros(4), torch.zeros(2, 2), score=1.0, presence=4.0)


def move(frames: int, picture: int = 0, corrected: int | None = None) -> Propagation:
    """Of an object prompted on frame 0, and corrected on a later one, that comes to frame `frames`."""
    track = ObjectMemory().with_prompt(entry(0)).committed()
    for frame in range(1, frames):
        new = entry(frame)
        track = track.advanced(FrameMemory(**{f: getattr(new, f) for f in new.__slots__} | {"step": frame}), 32)
        if frame == corrected:
            track = track.with_prompt(entry(frame)).committed()
    return Propagation(track, picture, frames, track.bank(frames, track.next_step()))


def test_a_full_memory_is_the_steady_state() -> None:
    assert [move(frames).depth == STEADY for frames in (1, 15, 16, 17, 40)] == [False, False, True, True, True]


@pytest.mark.parametrize(
    ("moves", "expected"),
    [
        ([], []),
        ([move(20), move(30), move(18, picture=2)], [[0, 1, 2]]),
        ([move(20), move(3), move(21), move(3)], [[0, 2], [1, 3]]),
        ([move(20), move(20, corrected=17)], [[0, 1]]),
        ([move(20), move(20, corrected=12)], [[0], [1]]),
        ([move(20, corrected=3), move(20, corrected=4)], [[0, 1]]),
        ([move(20)] * (MAX_OBJECTS + 1), [list(range(MAX_OBJECTS)), [MAX_OBJECTS]]),
    ],
    ids=[
        "none",
        "grown up",
        "two young",
        "corrected lately",
        "corrected before",
        "corrected alike",
        "too many",
    ],
)
def test_what_looks_at_equally_much_goes_together(moves: list[Propagation], expected: list[list[int]]) -> None:
    assert [group.indices for group in eager_groups(moves)] == expected


def seconds_per_step(base_s: float, object_s: float) -> dict[StepSize, float]:
    """Every size that is recorded, at a cost for the step and one for each object and memory."""
    return {
        StepSize(depth, objects, pictures): base_s + object_s * objects * depth.memories / STEADY.memories
        for depth in depths()
        for objects in (16, 8, 4, 2, 1)
        for pictures in {objects, 1}
    }


@pytest.mark.parametrize(
    ("moves", "base_s", "object_s", "sizes"),
    [
        ([move(20)] * 9, 0.1, 1.0, [1, 8]),
        ([move(20)] * 9, 9.0, 1.0, [16]),
        ([move(20)] * 3, 0.1, 1.0, [1, 2]),
        ([move(20)] * 3, 1.5, 1.0, [4]),
        ([move(20)] * 33, 0.1, 1.0, [1, 16, 16]),
        ([move(20)] * 8 + [move(20, corrected=12)] * 8, 9.0, 1.0, [16]),
        ([move(20)] * 8 + [move(20, corrected=12)] * 8, 0.1, 1.0, [8, 8]),
        ([move(20), move(3), move(2), move(20, corrected=12)], 9.0, 1.0, [4]),
    ],
)
def test_objects_are_cut_into_the_steps_that_take_least(
    moves: list[Propagation], base_s: float, object_s: float, sizes: list[int]
) -> None:
    groups = replayed_groups(moves, seconds_per_step(base_s, object_s))
    assert sorted(group.size.objects for group in groups if group.size) == sizes
    assert sorted(k for group in groups for k in group.indices) == list(range(len(moves)))


def test_the_steady_step_pads_nothing() -> None:
    (group,) = replayed_groups([move(3)], seconds_per_step(0.1, 1.0))
    assert group.size == StepSize(Depth(10, 19), 1, 1)


def test_what_no_recording_holds_is_not_replayed() -> None:
    assert [group.size for group in replayed_groups([move(20)], {})] == [None]


def test_more_conditioning_frames_are_recorded_deeper() -> None:
    assert depths(4) == [(7, 16), (10, 19)]
    assert depths(16) == [(7, 16), (10, 19), (14, 23), (22, 31)]


def test_where_each_object_looks() -> None:
    first, second = move(2, picture=5), move(2, picture=3)
    rows = rows_of([first, second], [3, 5], [7, 8, 9, 6], Depth(2, 2))
    assert rows.index_bk == [[1, 7, 8, -1, 0, 2, 1], [0, 9, 6, -1, 0, 2, 1]]


def test_padding_repeats_the_first_memory() -> None:
    rows = rows_of([move(2)], [0], [7, 8], Depth(3, 4))
    assert rows.index_bk == [[0, 7, 8, 7, -1, 0, 0, 2, 1, 0, 0]]
    assert rows.counts == [Depth(2, 2)]


def test_a_memory_is_outdated_once_seven_frames_have_passed() -> None:
    def at(frames: int) -> float | None:
        outdated = move(frames).outdated
        return None if outdated is None else float(outdated[0, 0])

    assert [at(frames) for frames in (1, 7, 8, 9)] == [None, None, 1.0, 2.0]  # frame 0 was prompted, and stays


@pytest.mark.parametrize(
    ("objects", "slot", "device", "slots"),
    [
        (64, 1, 1 << 40, 640),
        (64, 16 << 20, 80 << 30, 640),
        (64, 16 << 20, 24 << 30, 384),
        (64, 16 << 20, 4 << 30, 160),
        (1, 1, 1 << 40, 160),
    ],
    ids=["roomy", "80 GiB", "24 GiB", "too little", "one object"],
)
def test_how_many_memories_are_kept_projected(objects: int, slot: int, device: int, slots: int) -> None:
    assert pool_slots(objects, slot, device) == slots


def doubled(memory_ntm: Tensor) -> Tensor:
    return memory_ntm.float() * 2


def memories(count: int) -> list[Tensor]:
    return [torch.full((1, 1), float(k)) for k in range(count)]


@pytest.mark.parametrize("capacity", [None, 4])
def test_a_pool_holds_what_is_asked_for(capacity: int | None) -> None:
    pool, known = KVCache(doubled, capacity), memories(9)
    for start in (0, 2, 5, 0, 5):
        slots = pool.slots_of(known[start : start + 4])
        assert pool.data[slots].flatten().tolist() == [2.0 * k for k in range(start, start + 4)]


def test_a_fixed_pool_never_moves_and_gives_up_the_longest_idle() -> None:
    pool, known = KVCache(doubled, 4), memories(8)
    pool.slots_of(known[:4])
    address = pool.data.data_ptr()
    pool.slots_of(known[1:4])
    pool.put(known[4:5], doubled(known[4][None]))
    slots = pool.slots_of(known[1:5])
    assert pool.data[slots].flatten().tolist() == [2.0, 4.0, 6.0, 8.0]
    for k in range(5):
        pool.slots_of(known[k : k + 4])
    assert (pool.data.data_ptr(), len(pool.data)) == (address, 4)


def test_a_growing_pool_stays_as_large_as_what_is_in_use() -> None:
    pool = KVCache(doubled)
    for k in range(3 * IDLE_CALLS):
        memory = torch.full((1, 1), float(k))
        pool.slots_of([memory])
        if k % 2:
            pool.release(memory)
    assert len(pool.data) <= IDLE_CALLS
