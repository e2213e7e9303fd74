"""Prompt each object where it is first seen, follow it through the clip by the project's engine, and measure."""

from dataclasses import dataclass, field

import cv2
import numpy as np
from numpy.typing import NDArray

from evaluation.clips import TrueClip
from evaluation.measures import contour_f, region_j
from tracker.engine.engine import Engine
from tracker.engine.memory import ObjectMemory
from tracker.types import ObjectMask, Prompt, Rgb
from training.prompts import box_of, inner_point


@dataclass
class Result:
    """Measures of one object in one clip, a value per judged frame, and the masks for the contact sheet."""

    clip: str
    number: int
    j_t: list[float] = field(default_factory=list)
    f_t: list[float] = field(default_factory=list)
    score_right_t: list[bool] = field(default_factory=list)
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


def first_prompt(mask_hw: NDArray[np.bool_], kind: str) -> Prompt:
    """`box`: the tight box; `point`: one in the thickest part; `mask`: the truth itself, as in DAVIS."""
    if kind == "box":
        return Prompt(box_xyxy=np.array(box_of(mask_hw), np.float32))
    if kind == "point":
        return Prompt(points_xy=inner_point(mask_hw)[None], labels_n=np.ones(1, np.int32))
    return Prompt(mask_hw=mask_hw)


def follow(engine: Engine, clip: TrueClip, kind: str) -> list[Result]:
    """Follow all objects of `clip` together. Judged: after the prompt to the last but one, as DAVIS."""
    results = {number: Result(clip.name, number) for number in clip.objects}
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
                _judge(results[number], mask_hw, answers[number].presence, clip.mask(time, number))
    return list(results.values())


def apart(answers: dict[int, ObjectMask], size_wh: tuple[int, int]) -> dict[int, NDArray[np.bool_]]:
    """Masks at source size; a pixel claimed by several objects goes to the surest, as in a DAVIS label map."""
    if not answers:
        return {}
    logits_nhw = np.stack(
        [cv2.resize(mask.logits_hw, size_wh, interpolation=cv2.INTER_LINEAR) for mask in answers.values()]
    )
    won_nhw = (logits_nhw > 0) & (logits_nhw == logits_nhw.max(axis=0))
    return dict(zip(answers, won_nhw, strict=True))


def _judge(result: Result, mask_hw: NDArray[np.bool_], presence: float, truth_hw: NDArray[np.bool_]) -> None:
    result.j_t.append(region_j(mask_hw, truth_hw))
    result.f_t.append(contour_f(mask_hw, truth_hw))
    result.score_right_t.append((presence > 0) == bool(truth_hw.any()))
