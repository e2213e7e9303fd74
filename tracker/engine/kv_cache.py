"""Keys and values of past memories, projected once, in one preallocated tensor.

Projecting a memory for attention gives the same at every frame that looks back at it, so it is done once. It is a
cache: what was given up and is asked for again is projected again.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

IDLE_CALLS = 64  # a slot that was not asked for in so many calls belongs to nobody any more


class _Used(NamedTuple):
    memory: Tensor  # kept, so that its id stays its own
    slot: int
    call: int  # that asked for it last


class KVCache:
    """Slots of what `project` makes of memories.

    Args:
        project: bfloat16 memories [n, h * w, m] -> [n, ...], the same shape and type for each.
        capacity: how many slots there are, all at once, so that `data` never moves: the longest idle one is given
            up for a new one. At least as many as one call asks for. None: as many as are in use together.
    """

    def __init__(self, project: Callable[[Tensor], Tensor], capacity: int | None = None) -> None:
        self._project = project
        self._capacity = capacity
        self._used: dict[int, _Used] = {}  # by the memory's id, the longest idle first
        self._free: list[int] = []
        self._calls = 0
        self.data: Tensor = torch.empty(0)

    def slots_of(self, memories: Sequence[Tensor]) -> list[int]:
        """Where each memory lies in `data`; those that are not there are projected together."""
        self._calls += 1
        missing = {id(memory): memory for memory in memories if id(memory) not in self._used}
        for memory in memories:
            if (used := self._used.pop(id(memory), None)) is not None:
                self._used[id(memory)] = used._replace(call=self._calls)
        if missing:
            self.put(list(missing.values()), self._project(torch.stack(list(missing.values()))))
        return [self._used[id(memory)].slot for memory in memories]

    def put(self, memories: Sequence[Tensor], projected: Tensor) -> None:
        """Take in new memories with what `project` makes of them."""
        self._make_room(len(memories), projected)
        slots = [self._free.pop() for _ in memories]
        self.data[to_device(torch.tensor(slots), projected.device)] = projected
        for memory, slot in zip(memories, slots, strict=True):
            self._used[id(memory)] = _Used(memory, slot, self._calls)

    def release(self, memory: Tensor) -> None:
        """Free its slot."""
        if (used := self._used.pop(id(memory), None)) is not None:
            self._free.append(used.slot)

    def _make_room(self, count: int, like: Tensor) -> None:
        """Make `count` slots free: those idle for long, then new ones, or the longest idle if there are no more."""
        if self._capacity is not None and len(self.data) == 0:
            self._grow(self._capacity, like)
        for used in list(self._used.values()):  # the longest idle first
            full = self._capacity is not None and len(self._free) < count
            if self._calls - used.call < IDLE_CALLS and not full:
                break
            self.release(used.memory)
        if self._capacity is None and (lacking := count - len(self._free)) > 0:
            self._grow(max(lacking, len(self.data) // 2), like)

    def _grow(self, more: int, like: Tensor) -> None:
        had = len(self.data)
        grown = like.new_empty((had + more, *like.shape[1:]))
        if had:
            grown[:had] = self.data
        self.data = grown
        self._free += range(had + more - 1, had - 1, -1)


def to_device(host: Tensor, device: torch.device) -> Tensor:
    """A tensor of the host on the device, sent without waiting for what the device is still at."""
    return host.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else host
