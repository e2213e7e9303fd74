"""What the host decides before a step: which objects go together, and where each of them looks. Plain Python.

A kernel needs one number of memories and of pointers for all objects of a batch (their `Depth`). Which frames these
are from may differ. Recorded steps exist in a few depths only; an object with less to look at is padded, under a
mask.
"""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

from torch import Tensor

from tracker.engine.memory import CONDITIONING, MEMORIES, POINTERS, MemoryBank, ObjectMemory

MAX_OBJECTS = 16  # in one pass; more of them gain nothing and take memory


class Depth(NamedTuple):
    """How much the objects of a batch look at: spatial memories, and object pointers."""

    memories: int
    pointers: int


# An object with one conditioning frame, as soon as its memory is full: nearly all of the time.
STEADY = Depth(1 + MEMORIES, 1 + POINTERS)


class StepSize(NamedTuple):
    """The size of a recorded step."""

    depth: Depth
    objects: int
    pictures: int


class Group(NamedTuple):
    """Indices of propagations that go in one pass; `size` None: it is not replayed."""

    indices: list[int]
    size: StepSize | None


@dataclass(frozen=True, eq=False)
class Propagation:
    """An object on its way to a frame, which is picture `i` of the features."""

    track: ObjectMemory
    i: int
    frame: int
    bank: MemoryBank

    @cached_property
    def spatial(self) -> list[tuple[int, Tensor]]:
        """Memories with the index of their temporal encoding: conditioning frames have the last one."""
        conditioning = [(-1, entry) for entry in self.bank.conditioning]
        recent = [(ago - 1, entry) for ago, entry in self.bank.memories]
        return [(time, e.memory_tm) for time, e in (*conditioning, *recent) if e.memory_tm is not None]

    @property
    def depth(self) -> Depth:
        return Depth(len(self.spatial), len(self.bank.pointers))

    @property
    def outdated(self) -> Tensor | None:
        """The memory that this one is the first not to look at, unless it is a conditioning frame's."""
        past = self.track.past
        if len(past) <= MEMORIES or past[-MEMORIES - 1].conditioning:
            return None
        return past[-MEMORIES - 1].memory_tm


def depths(conditioning_frames: int = CONDITIONING) -> list[Depth]:
    """Depths that steps are recorded in: the steady one, then those that hold 4, 8 or 16 conditioning frames."""
    held = [count for count in (4, 8, 16) if count <= conditioning_frames]
    return [STEADY, *(Depth(count + MEMORIES, count + POINTERS) for count in held)]


def eager_groups(propagations: Sequence[Propagation]) -> list[Group]:
    """Objects that look at equally much go together, at most MAX_OBJECTS; nothing is padded."""
    alike: dict[Depth, list[int]] = defaultdict(list)
    for k, propagation in enumerate(propagations):
        alike[propagation.depth].append(k)
    return [
        Group(indices[start : start + MAX_OBJECTS], None)
        for indices in alike.values()
        for start in range(0, len(indices), MAX_OBJECTS)
    ]


def replayed_groups(propagations: Sequence[Propagation], seconds: Mapping[StepSize, float]) -> list[Group]:
    """Split objects into recorded steps so that the seconds these take are the least in sum.

    `seconds` is what each recorded size was measured to take. Objects are put in order of depth and picture and cut
    into runs, each replayed in the cheapest size that holds it: the best cut of the first n follows from the best
    cuts of fewer.
    """
    depths_held = [_depth_held(propagation, seconds) for propagation in propagations]
    ordered = sorted(range(len(propagations)), key=lambda k: (depths_held[k], propagations[k].i))
    cheapest: list[tuple[float, list[Group]]] = [(0.0, [])]
    for stop in range(1, len(ordered) + 1):
        cuts = []
        for start in range(max(0, stop - MAX_OBJECTS), stop):
            run = ordered[start:stop]
            size = fitting([propagations[k] for k in run], seconds)
            if size is not None:
                spent_s, groups = cheapest[start]
                cuts.append((spent_s + seconds[size], [*groups, Group(run, size)]))
        if not cuts:
            return eager_groups(propagations)
        cheapest.append(min(cuts, key=lambda cut: cut[0]))
    return cheapest[-1][1]


def fitting(propagations: Sequence[Propagation], seconds: Mapping[StepSize, float]) -> StepSize | None:
    """The cheapest recorded size that holds these; None: there is none."""
    memories = max(p.depth.memories for p in propagations)
    pointers = max(p.depth.pointers for p in propagations)
    pictures = len({p.i for p in propagations})
    # The steady step has no mask, so nothing may be padded in it.
    steady = all(p.depth == STEADY for p in propagations)
    holding = [
        size
        for size in seconds
        if size.objects >= len(propagations)
        and size.pictures >= pictures
        and size.depth.memories >= memories
        and size.depth.pointers >= pointers
        and (steady or size.depth != STEADY)
    ]
    return min(holding, key=lambda size: (seconds[size], size), default=None)


def _depth_held(propagation: Propagation, seconds: Mapping[StepSize, float]) -> Depth:
    """The smallest recorded depth that holds this one alone."""
    size = fitting([propagation], seconds)
    return propagation.depth if size is None else size.depth


class Rows(NamedTuple):
    """Where each object of a batch looks, in plain numbers.

    Each row of `index_bk` is an object's picture, its memories' slots, the indices of these memories' temporal
    encodings, and how many steps ago its pointers are from. `counts` are its own memories and pointers: what lies
    beyond them is padding.
    """

    index_bk: list[list[int]]
    counts: list[Depth]


def rows_of(
    propagations: Sequence[Propagation], pictures: Sequence[int], slots: Sequence[int], depth: Depth
) -> Rows:
    """Lay out objects at a depth, `slots` being those of all their memories in a row. Padding repeats an object's
    first memory, and looks zero steps back."""
    remaining = iter(slots)
    index = []
    for propagation in propagations:
        own_slots = [next(remaining) for _ in propagation.spatial]
        times = [time for time, _ in propagation.spatial]
        ages = [ago for ago, _ in propagation.bank.pointers]
        index.append(
            [
                pictures.index(propagation.i),
                *_padded(own_slots, depth.memories, own_slots[0]),
                *_padded(times, depth.memories, 0),
                *_padded(ages, depth.pointers, 0),
            ]
        )
    return Rows(index, [propagation.depth for propagation in propagations])


def _padded(numbers: list[int], length: int, filler: int) -> list[int]:
    return numbers + [filler] * (length - len(numbers))


def pool_slots(
    max_objects: int, slot_bytes: int, device_bytes: int, conditioning_frames: int = CONDITIONING
) -> int:
    """How many memories to keep projected on a device of so many bytes: all that `max_objects` look at, in at most
    a quarter of the device; but one pass must find all of its own."""
    each = MEMORIES + conditioning_frames
    affordable = device_bytes // 4 // slot_bytes
    return max(MAX_OBJECTS * each, min(max_objects * each, affordable))
