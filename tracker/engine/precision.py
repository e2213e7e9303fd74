"""Which of the network's products are in bfloat16. Sums, norms and softmax are float32 everywhere."""

from typing import NamedTuple

import torch

from tracker.config import EngineConfig


class Precision(NamedTuple):
    """The type of each part's products."""

    encoder: torch.dtype = torch.float32
    attention: torch.dtype = torch.float32
    decoder: torch.dtype = torch.float32
    memory: torch.dtype = torch.float32

    @property
    def lowest(self) -> torch.dtype:
        """The lowest precision of any part."""
        return torch.bfloat16 if torch.bfloat16 in self else torch.float32

    @property
    def everywhere(self) -> torch.dtype:
        """That of the official modules, which prompts run on: bfloat16 only where every part is."""
        return torch.float32 if torch.float32 in self else torch.bfloat16


# What `mode: fast` has in bfloat16 on a CPU; `tools/bench precision` shows what each part gives and takes.
FAST = Precision(attention=torch.bfloat16, memory=torch.bfloat16)


def of_config(config: EngineConfig, device: torch.device) -> Precision:
    """bfloat16 is the reference precision on a GPU; on a CPU it is what `mode: fast` gives up."""
    if config.dtype == "auto" and device.type == "cpu":
        return FAST if config.mode == "fast" else Precision()
    dtype = torch.float32 if config.dtype == "float32" else torch.bfloat16
    return Precision(dtype, dtype, dtype, dtype)
