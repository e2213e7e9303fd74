"""Prompt each object where it is first seen, follow it through the clip by the project's engine, and measure."""

from dataclasses import dataclass, field

import cv2
import numpy as np
from numpy.typing import NDArray

from evaluation.clips import TrueClip
from evaluation.measures import contour_f, region_j
from tracker.engine.engine import Engine
from tracker.engine.memory import ObjectMemory
from tracker.images.types import Rgb
from tracker.masks.types import ObjectMask
from tracker.protocol.prompt import Prompt
from training.prompts import box_of, inner_point


@dataclass
class Result:
    """Measures of one object in one clip, a value per judged frame, and the masks for the contact sheet."""

    clip: str
    number: int
    several: bool = False
    """Whether the clip has other objects that it could be taken for."""
    j_t: list[float] = field(default_factory=list)
    f_t: list[float] = field(default_factory=list)
    score_right_t: list[bool] = field(default_factory=list)
    said_t: list[tuple[float, float]] = field(default_factory=list)
    """Where the model gave a mask: the IoU that it predicted, and the IoU that the mask has."""
    elsewhere_t: list[bool] = field(default_factory=list)
    """Whether most of the mask lies on another labelled object."""
    masks: dict[int, NDArray[np.bool_]] = field(default_factory=dict)

    @property
    def j(self) -> float:
        return float(np.mean(self.j_t))

    @property
    def f(self) -> float:
        return float(np.mean(self.f_t))

    @property
    def score_right(self) -> float:
        """Share of frames on which the object score says rightly whether the object is there."""
        return float(np.mean(self.score_right_t))

    @property
    def elsewhere(self) -> float:
        """Share of frames on which it has become another one."""
        return float(np.mean(self.elsewhere_t))


def first_prompt(mask_hw: NDArray[np.bool_], kind: str) -> Prompt:
    """`box`: the tight box; `point`: one in the thickest part; `mask`: the truth itself, as in DAVIS."""
    if kind == "box":
        return Prompt(box_xyxy=np.array(box_of(mask_hw), np.float32))
    if kind == "point":
        return Prompt(points_xy=inner_point(mask_hw)[None], labels_n=np.ones(1, np.int32))
    return Prompt(mask_hw=mask_hw)


def follow(engine: Engine, clip: TrueClip, kind: str) -> list[Result]:
    """Follow all objects of `clip` together. Judged: after the prompt to the last but one, as DAVIS."""
    several = len(clip.objects) > 1
    results = {number: Result(clip.name, number, several) for number in clip.objects}
    starts = {number: clip.first_seen(number) for number in clip.objects}
    tracks: dict[int, ObjectMemory] = {}
    for time, frame_hwc in enumerate(clip.frames):
        features = engine.encode([Rgb(frame_hwc)])
        size_wh = (frame_hwc.shape[1], frame_hwc.shape[0])
        answers: dict[int, ObjectMask] = {}
        followed = list(tracks)
        for number, (track, mask) in zip(
            followed, engine.propagate([(tracks[n], 0, time) for n in followed], features), strict=True
        ):
            tracks[number], answers[number] = track, mask
        for number in (n for n, start in starts.items() if start == time):
            prompt = first_prompt(clip.mask(time, number), kind)
            tracks[number], answers[number] = engine.prompt(ObjectMemory(), features, 0, time, prompt, size_wh)
        for number, mask_hw in apart(answers, size_wh).items():
            results[number].masks[time] = mask_hw
            if time in clip.labels and starts[number] < time < len(clip.frames) - 1:
                _judge(results[number], mask_hw, answers[number], clip.labels[time])
    return list(results.values())


def first_answer(engine: Engine, clip: TrueClip, number: int, kind: str) -> float:
    """IoU of the answer to a prompt on the frame where object `number` is first seen."""
    time = clip.first_seen(number)
    frame_hwc, truth_hw = clip.frames[time], clip.mask(time, number)
    size_wh = (frame_hwc.shape[1], frame_hwc.shape[0])
    features = engine.encode([Rgb(frame_hwc)])
    _, answer = engine.prompt(ObjectMemory(), features, 0, 0, first_prompt(truth_hw, kind), size_wh)
    return region_j(apart({number: answer}, size_wh)[number], truth_hw)


def apart(answers: dict[int, ObjectMask], size_wh: tuple[int, int]) -> dict[int, NDArray[np.bool_]]:
    """Masks at source size; a pixel claimed by several objects goes to the surest, as in a DAVIS label map."""
    if not answers:
        return {}
    logits_nhw = np.stack(
        [cv2.resize(mask.logits_hw, size_wh, interpolation=cv2.INTER_LINEAR) for mask in answers.values()]
    )
    won_nhw = (logits_nhw > 0) & (logits_nhw == logits_nhw.max(axis=0))
    return dict(zip(answers, won_nhw, strict=True))


def _judge(result: Result, mask_hw: NDArray[np.bool_], answer: ObjectMask, label_hw: NDArray[np.uint8]) -> None:
    truth_hw = label_hw == result.number
    j = region_j(mask_hw, truth_hw)
    result.j_t.append(j)
    result.f_t.append(contour_f(mask_hw, truth_hw))
    result.score_right_t.append((answer.presence > 0) == bool(truth_hw.any()))
    if mask_hw.any():
        result.said_t.append((answer.score, j))
    another_hw = mask_hw & (label_hw > 0) & ~truth_hw
    result.elsewhere_t.append(bool(2 * another_hw.sum() > mask_hw.sum()))
