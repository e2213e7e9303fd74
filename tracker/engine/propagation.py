"""Objects led on to their next frames: launched in groups, and read when a device is done with all of them."""

import torch
from torch import Tensor

from tracker.engine import forward
from tracker.engine.batch import Batch, Step
from tracker.engine.downloads import Download, Said, Seen
from tracker.engine.forward import Features
from tracker.engine.grouping import Group, Propagation, StepSize
from tracker.engine.memory import FrameMemory
from tracker.engine.models.build import Model
from tracker.engine.postprocess import fill_holes


class Propagator:
    """Call it in inference mode.

    Args:
        position_tm: where each token of a memory lies.
        batch: None: follow objects one by one with the official modules.
        fill_hole_area: the largest hole of a mask that is filled, in its own pixels.
    """

    def __init__(self, model: Model, position_tm: Tensor, batch: Batch | None, fill_hole_area: int) -> None:
        self._net = model.net
        self._position_tm = position_tm
        self._batch = batch
        self._fill_hole_area = fill_hole_area

    def __call__(self, moves: list[Propagation], features: Features) -> list[FrameMemory]:
        """What each object's next frame leaves behind, in the order of the moves. All groups are launched, and what
        they say is on its way to the host, before the first is waited for."""
        groups = [Group([k], None) for k in range(len(moves))] if self._batch is None else self._batch.groups(moves)
        steps = [self._step([moves[k] for k in indices], features, size) for indices, size in groups]
        download = Download([Said(s.logits_bhw, torch.stack((s.score_b, s.presence_b))) for s in steps])
        made: dict[int, FrameMemory] = {}
        for (indices, _), step, seen in zip(groups, steps, download.wait(), strict=True):
            entries = self._made_of([moves[k] for k in indices], step, seen)
            made.update(zip(indices, entries, strict=True))
        return [made[k] for k in range(len(moves))]

    def _step(self, moves: list[Propagation], features: Features, size: StepSize | None) -> Step:
        if self._batch is not None:
            return self._batch.step(moves, features, size)
        (move,) = moves
        return self._plain_step(move, features.of(move.i))

    def _plain_step(self, move: Propagation, features: Features) -> Step:
        net = self._net
        coarse_bchw = forward.remember_bank(net, self._position_tm, move.bank, features)
        masks = forward.segment(net, features, coarse_bchw, first=False)
        memory_btm = forward.encode_memory(net, features, masks.full_b1hw, masks.presence_b, prompted=False)
        logits_bhw, pointer_bc = masks.logits_b1hw[:, 0].float(), masks.pointer_bc.float()
        return Step(logits_bhw, masks.score_b, masks.presence_b, pointer_bc, memory_btm.unbind())

    def _made_of(self, moves: list[Propagation], step: Step, seen: Seen) -> list[FrameMemory]:
        """Masks stay on the host with their holes filled: only a correction needs them on the device again."""
        made = []
        for k, move in enumerate(moves):
            filled_hw = fill_holes(seen.logits_bhw[k], self._fill_hole_area)
            entry = FrameMemory(
                frame=move.frame,
                step=move.track.next_step(),
                memory_tm=step.memories[k],
                pointer_c=step.pointer_bc[k],
                logits_hw=torch.from_numpy(filled_hw),
                score=seen.scores[k],
                presence=seen.presences[k],
                tracked=True,
            )
            made.append(entry)
        return made
