"""The training: stages of single images, then of clips with memory; each step answers, is corrected, learns."""

import json
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
import torch.nn.functional as F
from sam2.modeling.sam2_base import SAM2Base
from torch import Tensor, nn

from training.data import Batch, PhotoRecipe, Recipe, loader
from training.losses import Loss, Weights, answer_loss
from training.model import TRUNK, Run, follow, resize
from training.prompts import Points, correction, first_points
from training.scenario import Scenario
from training.textures import Bank

MEAN_RGB = (0.485, 0.456, 0.406)
STD_RGB = (0.229, 0.224, 0.225)
POINTER_SPAN = 1000
"""A clip's length as a predictor would give it, longer than any clip: upstream scales the pointers' age by it up to
16, and leaves out pointers of later frames."""
SIZE_PX = 352
SAVE_S = 60.0
RECALL = 6
"""Memories of recent frames that the predictor looks at."""

Memory = dict[str, dict[int, dict[str, Any]]]
"""`SAM2Base`'s own: conditioning and other outputs by frame."""


@dataclass(frozen=True)
class Stage:
    """A stretch of the curriculum. The learning rate falls from `rate` to `rate_end` along a half cosine."""

    name: str
    steps: int
    recipes: tuple[Recipe | PhotoRecipe, ...]
    """All of one image size: each step learns from a batch of each."""
    rate: float
    rate_end: float
    kinds: dict[str, float] = field(default_factory=lambda: {"box": 0.5, "point": 0.5})
    correct: float = 0.4
    """Probability of a correction click on a frame that gets one at most."""
    weights: Weights = field(default_factory=Weights)
    warms: bool = False
    """The rate rises over the first 100 steps."""
    taught: int = 0
    """Only the first frame and this many last ones teach; those between are followed as in use. 0: all teach."""
    share: float = 1.0
    """Of the clock, where the training has so many minutes instead of steps."""


def plan(scale: int = 1) -> tuple[Stage, ...]:
    """The curriculum; `scale` multiplies the pictures and clips of a step (a GPU wants 8 or more).

    Pictures until first frames are found; then clips, since the memory was taught on other features; at the end
    clips as long as they are in use, on the grid that is in use. Pictures stay in every step: they are cheap, and
    what is not found on the first frame cannot be followed.
    """
    prompts = {"box": 0.45, "point": 0.33, "mask": 0.22}
    rendered = Recipe(Scenario(4, SIZE_PX, vanish=0.0, pace=6.0), scale, single_images=True)

    def photos(count: int) -> PhotoRecipe:
        return PhotoRecipe(SIZE_PX, count * scale)

    def clips(count: int, frames: int, vanish: float, shortest: int = 0) -> Recipe:
        scenario = Scenario(frames, SIZE_PX, real=0.9, filmed=0.6, vanish=vanish)
        return Recipe(scenario, count * scale, procedural=0.3, shortest=shortest)

    first, strict, last = (Weights(iou=1.0, score=share) for share in (0.2, 0.5, 1.0))
    return (
        Stage(
            "photos",
            500,
            (photos(4), rendered),
            3e-4,
            2.5e-4,
            {"box": 0.55, "point": 0.45},
            weights=first,
            warms=True,
            share=0.24,
        ),
        Stage("clips5", 1000, (clips(2, 5, 0.5), photos(4)), 3e-4, 2.5e-4, prompts, 0.3, strict, share=0.36),
        Stage(
            "rollouts",
            75,
            (clips(2, 20, 0.65, 6), photos(4)),
            2.5e-4,
            2e-4,
            prompts,
            0.3,
            last,
            taught=5,
            share=0.15,
        ),
        # What a clip lacked by then was mostly not found on its first frame.
        Stage("last", 400, (clips(2, 5, 0.65), photos(4)), 2e-4, 1e-6, prompts, 0.3, last, share=0.25),
    )


class Trainer:
    """Runs the stages from where `run` stands; saves every few minutes and at the end of each stage."""

    def __init__(
        self, run: Run, bank: Bank, folder: Path, seed: int, workers: int, minutes: float | None = None
    ) -> None:
        self.began_s, self.minutes = time.monotonic(), minutes
        self.due_s = self.began_s
        self.run, self.bank, self.folder, self.seed, self.workers = run, bank, folder, seed, workers
        self.device = next(run.model.parameters()).device
        self.rank = dist.get_rank() if dist.is_initialized() else 0
        self.saved_at = time.monotonic()

    def train(self, stages: tuple[Stage, ...]) -> None:
        """All stages that are still to do."""
        shares = sum(stage.share for stage in stages[self.run.stage :])
        while self.run.stage < len(stages):
            stage = stages[self.run.stage]
            self.began_s = time.monotonic()
            self.due_s += 60 * (self.minutes or 0) * stage.share / shares
            self._train_stage(stage)
            self.run.stage, self.run.step = self.run.stage + 1, 0
            self._save(f"after-{stages[self.run.stage - 1].name}.pt")

    def _train_stage(self, stage: Stage) -> None:
        for model in (self.run.model, self.run.average):
            resize(model, stage.recipes[0].size_px)
        seed = (self.seed, self.run.stage, self.rank)
        batches = loader(self.bank, stage.recipes, seed, self.run.step, self.workers)
        meter = Meter(self.folder / (f"log-{self.rank}.jsonl" if self.rank else "log.jsonl"), stage.name)
        while self._progress(stage) < 1:
            self._step(stage, batches, meter)
            if time.monotonic() - self.saved_at > SAVE_S:
                self._save("last.pt")

    def _progress(self, stage: Stage) -> float:
        """Share of the stage that is done: by its steps, or by the clock where there is one."""
        if self.minutes is None:
            return self.run.step / stage.steps
        return (time.monotonic() - self.began_s) / (self.due_s - self.began_s)

    def _step(self, stage: Stage, batches: Iterator[list[Batch]], meter: "Meter") -> None:
        began = time.monotonic()
        several = next(batches)
        waited = time.monotonic() - began
        rate = _set_rate(self.run.optimiser, stage, self.run.step, self._progress(stage))
        rng = np.random.default_rng((self.seed, 1000 + self.run.stage, self.run.step, self.rank))
        self.run.model.train()
        self.run.optimiser.zero_grad()
        answers: list[Loss] = []
        last: list[Loss] = []
        for batch in several:
            found = lesson(self.run.model, batch, stage, rng)
            (torch.stack([answer.total for answer in found]).mean() / len(several)).backward()
            answers, last = answers or found, found  # the log tells of the first recipe, and of the last's images
        share_gradients(self.run.model)
        norm = clip_gradients(self.run.model)
        if torch.isfinite(norm):
            self.run.optimiser.step()
            follow(self.run.average, self.run.model, self.run.step + 5000 * min(self.run.stage, 1))
        self.run.step += 1
        taken, image = time.monotonic() - began, last[0].iou_n.nanmean()
        meter.add(self.run.step, answers, iou_image=image, rate=rate, norm=norm, wait_s=waited, step_s=taken)

    def _save(self, name: str) -> None:
        self.saved_at = time.monotonic()
        if self.rank:
            return
        self.run.save(self.folder / name)
        if name != "last.pt":
            self.run.save(self.folder / "last.pt")


def share_gradients(model: nn.Module) -> None:
    """The mean of all ranks' gradients; a parameter that one rank did not use counts as 0 there."""
    if not dist.is_initialized():
        return
    gradients = []
    for parameter in model.parameters():
        if parameter.grad is None:
            parameter.grad = torch.zeros_like(parameter)
        gradients.append(parameter.grad)
    flat = torch.cat([gradient.flatten() for gradient in gradients])
    dist.all_reduce(flat)
    flat /= dist.get_world_size()
    for gradient, shared in zip(gradients, flat.split([g.numel() for g in gradients]), strict=True):
        gradient.copy_(shared.view_as(gradient))


def clip_gradients(model: nn.Module, largest: float = 1.0) -> Tensor:
    """Trunk and rest apart: the trunk's gradients are ten times the others' and would drown them. The larger."""
    parts: dict[bool, list[nn.Parameter]] = {True: [], False: []}
    for name, parameter in model.named_parameters():
        parts[name.startswith(TRUNK)].append(parameter)
    return torch.stack([nn.utils.clip_grad_norm_(part, largest) for part in parts.values()]).max()


def _set_rate(optimiser: torch.optim.Optimizer, stage: Stage, step: int, progress: float) -> float:
    warm = min(1.0, (step + 1) / 100) if stage.warms else 1.0
    fall = 0.5 + 0.5 * np.cos(np.pi * min(progress, 1.0))
    rate = float(warm * (stage.rate_end + (stage.rate - stage.rate_end) * fall))
    for group in optimiser.param_groups:
        group["lr"] = rate * group["pace"]
    return rate


def normalised(frames_n3hw: Tensor) -> Tensor:
    """uint8 RGB -> what the image encoder takes, channels last for speed on a CPU."""
    mean, std = (torch.tensor(v, device=frames_n3hw.device)[:, None, None] for v in (MEAN_RGB, STD_RGB))
    return ((frames_n3hw.float() / 255 - mean) / std).to(memory_format=torch.channels_last)


def lesson(model: SAM2Base, batch: Batch, stage: Stage, rng: np.random.Generator) -> list[Loss]:
    """Answer a batch frame by frame, as the predictor would, and rate every answer that teaches."""
    batch = batch.to(next(model.parameters()).device)
    frames = len(batch.masks_tmhw)
    kind = str(rng.choice(list(stage.kinds), p=list(stage.kinds.values())))
    if kind == "mask" and frames == 1:
        kind = "box"  # a mask is taken as it is: on a single image there is nothing to learn from it
    corrected = int(rng.integers(frames)) if rng.random() < stage.correct else None
    memory: Memory = {"cond_frame_outputs": {}, "non_cond_frame_outputs": {}}
    recall = int(rng.integers(1, RECALL + 1)) if stage.taught else RECALL
    losses: list[Loss] = []
    # One context for all frames: it casts each weight once and keeps the copy until it ends.
    with torch.autocast(batch.device.type, torch.bfloat16):
        for times, teaches in stretches(frames, stage.taught):
            with torch.set_grad_enabled(teaches):
                features = Features(model, batch.frames_tn3hw[times.start : times.stop], batch.clip_of_m)
                for time_index in times:
                    truth_mhw = batch.masks_tmhw[time_index]
                    inputs = features.at(time_index - times.start)
                    teacher = Teacher(model, inputs, truth_mhw, time_index, memory, stage, frames > 1)
                    found = teacher.first(kind) if time_index == 0 else teacher.track()
                    if time_index == corrected and not (kind == "mask" and time_index == 0):
                        found += teacher.correct()
                    teacher.remember(recall)
                    losses += found if teaches else []
    return losses


def stretches(frames: int, taught: int) -> list[tuple[range, bool]]:
    """A clip's frames as ranges, and whether each teaches: the first frame and the `taught` last ones, or all.

    Those between are encoded one by one: however long the clip is, shapes stay the same.
    """
    if not 0 < taught < frames - 1:
        return [(range(frames), True)]
    between = [(range(time, time + 1), False) for time in range(1, frames - taught)]
    return [(range(1), True), *between, (range(frames - taught, frames), True)]


class Features:
    """The image features of all frames of a batch, encoded at once."""

    def __init__(self, model: SAM2Base, frames_tn3hw: Tensor, clip_of_m: Tensor) -> None:
        self.clips, self.clip_of_m = frames_tn3hw.shape[1], clip_of_m
        encoded = model.forward_image(normalised(frames_tn3hw.flatten(0, 1)))
        _, self.levels, self.positions, self.sizes = model._prepare_backbone_features(encoded)

    def at(self, time_index: int) -> dict[str, Any]:
        """What `SAM2Base._track_step` wants of one frame, a copy per object."""
        index_m = self.clip_of_m + time_index * self.clips
        return {
            "current_vision_feats": [level[:, index_m] for level in self.levels],
            "current_vision_pos_embeds": [position[:, index_m] for position in self.positions],
            "feat_sizes": self.sizes,
        }


class Teacher:
    """One frame: prompt or track it, correct it, rate each answer, then put it into the memory."""

    def __init__(
        self,
        model: SAM2Base,
        features: dict[str, Any],
        truth_mhw: Tensor,
        time_index: int,
        memory: Memory,
        stage: Stage,
        remembers: bool,
    ) -> None:
        self.model, self.features, self.truth_mhw, self.time_index = model, features, truth_mhw, time_index
        self.memory, self.stage, self.remembers = memory, stage, remembers
        self.points: Points | None = None
        self.prompted = False

    def first(self, kind: str) -> list[Loss]:
        """A prompt without memory. A mask is taken as it is, so there is nothing to rate."""
        self.prompted = True
        if kind == "mask":
            self._answer(masks=self.truth_mhw[:, None].float())
            return []
        self.points = first_points(self.truth_mhw, kind)
        return [self._answer()]

    def track(self) -> list[Loss]:
        """Nothing is given but the memory."""
        return [self._answer()]

    def correct(self) -> list[Loss]:
        """A click where the last answer was most wrong; it makes the frame a conditioning one."""
        click = correction(self.high_m1hw[:, 0].detach() > 0, self.truth_mhw)
        self.points = click if self.points is None else self.points.with_click(click)
        loss = self._answer(previous=self.low_m1hw.detach().clamp(-32, 32))
        self.prompted = True
        return [loss]

    def remember(self, recall: int) -> None:
        """Encode the last answer into the memory, which keeps no more than `recall` frames without a prompt."""
        if not self.remembers:
            return
        output = {"obj_ptr": self.pointer_mc}
        self.model._encode_memory_in_output(
            self.features["current_vision_feats"],
            self.features["feat_sizes"],
            None,
            True,
            self.high_m1hw,
            self.score_m1,
            output,
        )
        kept = "cond_frame_outputs" if self.prompted else "non_cond_frame_outputs"
        self.memory[kept][self.time_index] = output
        self.memory["non_cond_frame_outputs"].pop(self.time_index - recall, None)

    def _answer(self, masks: Tensor | None = None, previous: Tensor | None = None) -> Loss:
        _, answer, _, _ = self.model._track_step(
            frame_idx=self.time_index,
            is_init_cond_frame=self.time_index == 0,
            **self.features,
            point_inputs=None if self.points is None else self.points.as_inputs(),
            mask_inputs=masks,
            output_dict=self.memory,
            num_frames=POINTER_SPAN,
            track_in_reverse=False,
            prev_sam_mask_logits=previous,
        )
        candidates, _, ious, self.low_m1hw, self.high_m1hw, self.pointer_mc, self.score_m1 = answer
        finer = F.interpolate(candidates.float(), scale_factor=2.0, mode="bilinear", align_corners=False)
        return answer_loss(finer, ious, self.score_m1[:, 0], self.truth_mhw, self.stage.weights)


class Meter:
    """Means over `every` steps, one JSON line each."""

    def __init__(self, path: Path, stage: str, every: int = 25) -> None:
        self.path, self.stage, self.every = path, stage, every
        self.rows: list[dict[str, float | Tensor]] = []

    def add(self, step: int, answers: list[Loss], **more: float | Tensor) -> None:
        """One step's losses: the first answer (prompted) and the last (furthest) apart."""
        row: dict[str, float | Tensor] = {
            "loss": torch.stack([answer.total.detach() for answer in answers]).mean(),
            "mask": torch.stack([answer.mask for answer in answers]).mean(),
            "iou_error": torch.stack([answer.iou_error for answer in answers]).mean(),
            "score": torch.stack([answer.score for answer in answers]).mean(),
            "iou_first": answers[0].iou_n.nanmean(),
            "iou_last": answers[-1].iou_n.nanmean(),
        }
        self.rows.append(row | more)
        if len(self.rows) >= self.every:
            self._write(step)

    def _write(self, step: int) -> None:
        means = {key: round(float(np.nanmean([float(row[key]) for row in self.rows])), 5) for key in self.rows[0]}
        line = {"time": round(time.time()), "stage": self.stage, "step": step} | means
        with self.path.open("a") as log:
            log.write(json.dumps(line) + "\n")
        self.rows.clear()


def describe(stages: tuple[Stage, ...]) -> str:
    """The curriculum as JSON, for the log."""
    return json.dumps([asdict(stage) for stage in stages])
