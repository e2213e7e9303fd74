"""Keys and values of past memories, projected once, in one preallocated tensor.

Projecting a memory for attention gives the same at every frame that looks back at it, so it is done when the
memory is first asked for. A slot is free again once nobody has asked for it in a while; the pool grows only with
what is in use together.
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


class Pool:
    """Slots of what `project` makes of memories.

    Args:
        project: bfloat16 memories [n, h * w, m] -> [n, ...], the same shape and type for each.
    """

    def __init__(self, project: Callable[[Tensor], Tensor]) -> None:
        self._project = project
        self._used: dict[int, _Used] = {}  # by the memory's id, the longest idle first
        self._free: list[int] = []
        self._calls = 0
        self.data: Tensor = torch.empty(0)

    def slots_of(self, memories: Sequence[Tensor]) -> list[int]:
        """Where each memory lies in `data`; those that are new are projected together."""
        self._calls += 1
        new = {id(memory): memory for memory in memories if id(memory) not in self._used}
        if new:
            self._take_in(list(new.values()))
        for memory in memories:
            used = self._used.pop(id(memory))
            self._used[id(memory)] = used._replace(call=self._calls)
        return [self._used[id(memory)].slot for memory in memories]

    def _take_in(self, memories: list[Tensor]) -> None:
        projected = self._project(torch.stack(memories))
        self._make_room(len(memories), projected)
        slots = [self._free.pop() for _ in memories]
        self.data[torch.tensor(slots, device=projected.device)] = projected
        for memory, slot in zip(memories, slots, strict=True):
            self._used[id(memory)] = _Used(memory, slot, self._calls)

    def _make_room(self, count: int, like: Tensor) -> None:
        """Make `count` slots free: idle ones first, then new ones."""
        for key, used in list(self._used.items()):  # the longest idle first
            if self._calls - used.call < IDLE_CALLS:
                break
            self._free.append(used.slot)
            del self._used[key]
        if (lacking := count - len(self._free)) > 0:
            had = len(self.data)
            more = max(lacking, had // 2)
            grown = like.new_empty((had + more, *like.shape[1:]))
            if had:
                grown[:had] = self.data
            self.data = grown
            self._free += range(had + more - 1, had - 1, -1)
