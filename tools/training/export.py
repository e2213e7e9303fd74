"""Weights for the package: the running average, rounded to fp16. The rounded weights are the model."""

from pathlib import Path

import torch
from safetensors.torch import save_file

SCORE_BIAS = "sam_mask_decoder.pred_obj_score_head.layers.2.bias"


def export(checkpoint: Path, target: Path, score_shift: float = 0.0) -> str:
    """Write `target` from the average kept in `checkpoint`; returns a line about it.

    `score_shift` is added to the object-score logit: what was trained with few absences sees the object too often.
    """
    state = torch.load(checkpoint, map_location="cpu", weights_only=True)
    state["average"][SCORE_BIAS] += score_shift
    halves = {name: value.half().contiguous() for name, value in state["average"].items()}
    save_file(halves, target, metadata={"model": "nano", "stage": str(state["stage"]), "step": str(state["step"])})
    target.chmod(0o644)  # safetensors writes for the owner alone
    count, size_mb = sum(value.numel() for value in halves.values()), target.stat().st_size / 1e6
    return f"{target}: {count} parameters, {size_mb:.2f} MB, stage {state['stage']}, step {state['step']}"
