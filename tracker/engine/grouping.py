"""What the host decides before a step: which objects go together, and where each of them looks. Plain Python."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor

from tracker.engine.memory import CONDITIONING, MEMORIES, POINTERS, MemoryBank, ObjectMemory

MAX_OBJECTS = 16  # in one pass; more of them gain nothing and take memory

Lookback = tuple[tuple[int, ...], int]  # the temporal encoding of each memory, and how many pointers

# An object that was prompted once, as soon as its memory is full: nearly all of the time.
STEADY: Lookback = ((-1, *range(MEMORIES - 1, -1, -1)), 1 + POINTERS)


@dataclass(frozen=True, slots=True, eq=False)
class Propagation:
    """An object on its way to a frame, which is picture `i` of the features."""

    track: ObjectMemory
    i: int
    frame: int
    bank: MemoryBank

    @property
    def spatial(self) -> list[tuple[int, Tensor]]:
        """Memories with the index of their temporal encoding: conditioning frames have the last one."""
        last = len(self.bank.conditioning) * [-1]
        steps_ago = [*last, *(ago - 1 for ago, _ in self.bank.memories)]
        entries = [*self.bank.conditioning, *(e for _, e in self.bank.memories)]
        return [(ago, e.memory_tm) for ago, e in zip(steps_ago, entries, strict=True) if e.memory_tm is not None]

    @property
    def lookback(self) -> Lookback:
        return tuple(ago for ago, _ in self.spatial), len(self.bank.pointers)

    @property
    def outdated(self) -> Tensor | None:
        """The memory that this move is the first one not to look at, unless it is a conditioning frame's."""
        past = self.track.past
        if len(past) <= MEMORIES or past[-MEMORIES - 1].conditioning:
            return None
        return past[-MEMORIES - 1].memory_tm


def groups(moves: Sequence[Propagation]) -> list[list[int]]:
    """Indices of moves that can go together: they look back alike; at most MAX_OBJECTS."""
    alike: dict[Lookback, list[int]] = defaultdict(list)
    for k, move in enumerate(moves):
        alike[move.lookback].append(k)
    return [g[k : k + MAX_OBJECTS] for g in alike.values() for k in range(0, len(g), MAX_OBJECTS)]


def index_rows(moves: Sequence[Propagation], pictures: Sequence[int], slots: Sequence[int]) -> list[list[int]]:
    """Of each move: where its picture is among `pictures`, its memories' slots (given for all moves in a row), and
    how many steps ago its pointers are from."""
    each = len(slots) // len(moves)
    return [
        [pictures.index(move.i), *slots[k * each : (k + 1) * each], *(ago for ago, _ in move.bank.pointers)]
        for k, move in enumerate(moves)
    ]


def pool_slots(max_objects: int, slot_bytes: int, device_bytes: int) -> int:
    """How many memories to keep projected on a device of so many bytes: all that `max_objects` look at, in at most
    a quarter of the device; but one pass must find all of its own."""
    each = MEMORIES + CONDITIONING
    fitting = device_bytes // 4 // slot_bytes
    return max(MAX_OBJECTS * each, min(max_objects * each, fitting))
