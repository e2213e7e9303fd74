"""Weights for the package: the running average, rounded to fp16. The rounded weights are the model."""

from pathlib import Path

import torch
from safetensors.torch import save_file


def export(checkpoint: Path, target: Path) -> str:
    """Write `target` from the average kept in `checkpoint`; returns a line about it."""
    state = torch.load(checkpoint, map_location="cpu", weights_only=True)
    halves = {name: value.half().contiguous() for name, value in state["average"].items()}
    save_file(halves, target, metadata={"model": "nano", "stage": str(state["stage"]), "step": str(state["step"])})
    count, size_mb = sum(value.numel() for value in halves.values()), target.stat().st_size / 1e6
    return f"{target}: {count} parameters, {size_mb:.2f} MB, stage {state['stage']}, step {state['step']}"
