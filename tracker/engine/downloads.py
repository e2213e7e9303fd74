"""What steps say, on its way from a device to the host."""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from tracker.masks.types import F32


class Said(NamedTuple):
    """What a step says of b objects: logits [b, h4, w4], predicted IoU and object score [b] in a row each."""

    logits_bhw: Tensor
    scores_2b: Tensor


class Seen(NamedTuple):
    """The same on the host."""

    logits_bhw: F32
    scores: list[float]
    presences: list[float]


class Download:
    """Copies on their way to pinned memory from the moment this is made. What is launched on the device afterwards
    is not waited for."""

    def __init__(self, steps: Sequence[Said]) -> None:
        self._staged = [Said(_staged(step.logits_bhw), _staged(step.scores_2b)) for step in steps]
        self._arrived: torch.cuda.Event | None = None
        if steps and steps[0].logits_bhw.device.type == "cuda":
            self._arrived = torch.cuda.Event()  # type: ignore[no-untyped-call]
            self._arrived.record()

    def wait(self) -> list[Seen]:
        """What every step said, once it is here."""
        if self._arrived is not None:
            self._arrived.synchronize()
        return [_seen(staged) for staged in self._staged]


def _staged(values: Tensor) -> Tensor:
    """A copy on its way to pinned memory; on a CPU the tensor itself."""
    if values.device.type == "cpu":
        return values
    return torch.empty_like(values, device="cpu", pin_memory=True).copy_(values, non_blocking=True)


def _seen(staged: Said) -> Seen:
    scores, presences = staged.scores_2b.tolist()
    # Masks are kept for long, and pinned memory is scarce.
    pinned = staged.logits_bhw.is_pinned()
    logits_bhw = staged.logits_bhw.clone() if pinned else staged.logits_bhw
    return Seen(logits_bhw.numpy(), scores, presences)
