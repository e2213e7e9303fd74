"""What goes together in one step, how much is kept projected for it, and for how long."""

import pytest
import torch
from torch import Tensor

from tracker.engine.grouping import MAX_OBJECTS, STEADY, Propagation, groups, index_rows, pool_slots
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
    assert [move(frames).lookback == STEADY for frames in (1, 15, 16, 17, 40)] == [False, False, True, True, True]


@pytest.mark.parametrize(
    ("moves", "expected"),
    [
        ([], []),
        ([move(20), move(30), move(18, picture=2)], [[0, 1, 2]]),
        ([move(20), move(3), move(21), move(3)], [[0, 2], [1, 3]]),
        ([move(20), move(20, corrected=17)], [[0], [1]]),
        ([move(20)] * (MAX_OBJECTS + 1), [list(range(MAX_OBJECTS)), [MAX_OBJECTS]]),
    ],
    ids=["none", "grown up", "two young", "corrected lately", "too many"],
)
def test_what_looks_back_alike_goes_together(moves: list[Propagation], expected: list[list[int]]) -> None:
    assert groups(moves) == expected


def test_where_each_object_looks() -> None:
    first, second = move(2, picture=5), move(2, picture=3)
    assert index_rows([first, second], [3, 5], [7, 8, 9, 6]) == [[1, 7, 8, 2, 1], [0, 9, 6, 2, 1]]


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
