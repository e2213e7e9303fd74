"""Weights for the package: the running average, rounded to fp16. The rounded weights are the model."""

from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors.torch import save_file

OBJECT_SCORE = "sam_mask_decoder.pred_obj_score_head.layers.2"
MASK_SCORE = "sam_mask_decoder.iou_prediction_head.layers.2"


@dataclass(frozen=True)
class Shift:
    """What is moved in the last layers of the two heads that judge, by what held-back material says."""

    presence: float = 0.0
    """Added to the object-score logit: what was trained with few absences sees the object too often."""
    slope: float = 1.0
    offset: float = 0.0
    """On the logit of the predicted IoU; see `training.calibrate`."""


def export(checkpoint: Path, target: Path, shift: Shift) -> str:
    """Write `target` from the average kept in `checkpoint`, its judgement shifted; returns a line about it."""
    state = torch.load(checkpoint, map_location="cpu", weights_only=True)
    average = state["average"]
    average[f"{OBJECT_SCORE}.bias"] += shift.presence
    for part in ("weight", "bias"):
        average[f"{MASK_SCORE}.{part}"] *= shift.slope
    average[f"{MASK_SCORE}.bias"] += shift.offset
    halves = {name: value.half().contiguous() for name, value in average.items()}
    save_file(halves, target, metadata={"model": "nano", "stage": str(state["stage"]), "step": str(state["step"])})
    target.chmod(0o644)  # safetensors writes for the owner alone
    count, size_mb = sum(value.numel() for value in halves.values()), target.stat().st_size / 1e6
    return f"{target}: {count} parameters, {size_mb:.2f} MB, stage {state['stage']}, step {state['step']}, {shift}"
