"""One object marked or corrected on one picture, by the official modules."""

import torch
from torch import Tensor

from tracker.engine import forward, prompts
from tracker.engine.forward import Features, Masks
from tracker.engine.memory import FrameMemory, ObjectMemory
from tracker.engine.models.build import Model
from tracker.engine.postprocess import fill_holes
from tracker.engine.prompts import Points
from tracker.errors import FrameGone, FrameMarked
from tracker.protocol.prompt import Prompt
from tracker.protocol.prompts import checked

CLAMP = 32.0  # of the logits that a correction starts from, as upstream


class Prompter:
    """Call it in inference mode.

    Args:
        position_tm: where each token of a memory lies.
        fill_hole_area: the largest hole of a mask that is filled, in its own pixels.
    """

    def __init__(self, model: Model, position_tm: Tensor, fill_hole_area: int) -> None:
        self._model = model
        self._net = model.net
        self._position_tm = position_tm
        self._fill_hole_area = fill_hole_area

    def __call__(
        self, track: ObjectMemory, features: Features, frame: int, prompt: Prompt, size_wh: tuple[int, int]
    ) -> FrameMemory:
        """What the frame leaves in the object's memory; the prompt is a `checked_prompt`."""
        found = track.find(frame)
        net, device = self._net, self._model.device
        points: Points | None = None
        if prompt.mask_hw is not None:
            mask_b1hw = prompts.model_mask(prompt.mask_hw, self._model.image_size).to(device)
            masks = forward.take_mask(net, features, mask_b1hw)
        else:
            points = prompts.model_points(prompt, size_wh, self._model.image_size)
            if found is not None and found.points is not None and not prompt.replace:
                points = points.after(found.points)
            masks = self._clicked(track, features, found, points)
        # What was prompted is remembered as the user saw it: with its holes filled.
        seen_hw = fill_holes(masks.logits_b1hw[0, 0].float().cpu().numpy(), self._fill_hole_area)
        logits_hw = torch.from_numpy(seen_hw)
        full_b1hw = forward.full_size(net, logits_hw[None, None].to(device))
        memory_btm = forward.encode_memory(net, features, full_b1hw, masks.presence_b, prompted=True)
        return FrameMemory(
            frame=frame,
            step=track.step_for(frame),
            memory_tm=memory_btm[0],
            pointer_c=masks.pointer_bc[0].float(),
            logits_hw=logits_hw,
            score=float(masks.score_b[0]),
            presence=float(masks.presence_b[0]),
            tracked=found is not None and found.tracked,
            points=points,
        )

    def _clicked(self, track: ObjectMemory, features: Features, found: FrameMemory | None, points: Points) -> Masks:
        """Points, the mask so far if any, and memory if the object has tracked this frame; as upstream decides
        between a prompt and a correction."""
        net, device = self._net, self._model.device
        if found is not None and found.tracked:
            bank = track.bank(found.frame, found.step)
            coarse_bchw = forward.remember_bank(net, self._position_tm, bank, features)
        else:
            coarse_bchw = forward.no_memory(net, features)
        before_b1hw = None
        if found is not None and found.logits_hw is not None:
            before_b1hw = found.logits_hw[None, None].to(device).clamp(-CLAMP, CLAMP)
        return forward.segment(
            net,
            features,
            coarse_bchw,
            first=found is None or not found.tracked,
            points=points.as_batch(device),
            logits_b1hw=before_b1hw,
        )


def checked_prompt(track: ObjectMemory, frame: int, prompt: Prompt, size_wh: tuple[int, int]) -> Prompt:
    """The prompt, if an object can take it on `frame`. Raises BadPrompt, FrameMarked, FrameGone."""
    found = track.find(frame)
    _check_correctable(track, frame, found)
    prompt = checked(prompt, size_wh, correction=track.last_frame is not None)
    marked = found is not None and found.points is not None
    if marked and prompt.box_xyxy is not None and not prompt.replace:
        raise FrameMarked("box: the object is marked on this frame already, and a box comes before points")
    return prompt


def _check_correctable(track: ObjectMemory, frame: int, found: FrameMemory | None) -> None:
    """Raise FrameGone for a frame whose mask the object's memory has no more, or not yet."""
    gone = track.is_past(frame) if found is None else found.logits_hw is None
    if gone or track.to_come(frame):
        known = ", ".join(map(str, track.frames))
        raise FrameGone(f"frame: the object has no mask of frame {frame}; it can be corrected on {known}")
