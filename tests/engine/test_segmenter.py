"""Prompts on pictures: equal to `SAM2ImagePredictor`, ambiguity, corrections, bounded caches."""

from typing import Any

import numpy as np
import pytest
import torch
from sam2.sam2_image_predictor import SAM2ImagePredictor

from helpers import stills
from helpers.stills import SIZE_WH, at_any_size, picture
from tracker.config import EngineConfig
from tracker.engine import segmenter
from tracker.engine.engine import Engine
from tracker.engine.models.build import Model
from tracker.engine.segmenter import Segmenter, mask_logits
from tracker.errors import BadPrompt, RefGone
from tracker.images.types import Rgb
from tracker.protocol.prompt import Prompt

MODELS = [("nano", 128), ("sam2.1_hiera_tiny", 96)]
IMAGE = Rgb(picture())


@pytest.fixture(scope="module", params=MODELS, ids=lambda m: f"{m[0]}-{m[1]}")
def engine(request: pytest.FixtureRequest) -> Engine:
    name, side = request.param
    return Engine(Model(name, stills.network(name, side)), EngineConfig(fill_hole_area=0, edges="model"))


@pytest.fixture
def official(engine: Engine) -> SAM2ImagePredictor:
    predictor = at_any_size(stills.official(SAM2ImagePredictor, engine.model.net))
    predictor.set_image(picture())
    return predictor


def points(*xy: tuple[float, float], labels: tuple[int, ...] = ()) -> dict[str, Any]:
    return {
        "points_xy": np.array(xy, np.float32),
        "labels_n": np.array(labels or [1] * len(xy), np.int32),
    }


BOX = np.array([38, 28, 92, 72], np.float32)
PROMPTS = {
    "a point": Prompt(**points((60, 50))),
    "points with a negative": Prompt(**points((60, 50), (70, 55), (120, 80), labels=(1, 1, 0))),
    "a box": Prompt(box_xyxy=BOX),
    "a box with points": Prompt(**points((60, 50), (5, 5), labels=(1, 0)), box_xyxy=BOX),
}


def assert_equal(candidates, masks, scores, logits) -> None:
    """Ours are sorted, upstream's are not."""
    order = np.argsort(-scores, kind="stable")
    ours = np.stack([c.logits_hw for c in candidates])
    assert np.abs(np.clip(ours, -32, 32) - logits[order]).max() <= 1e-4 * logits.std()
    assert [c.score for c in candidates] == pytest.approx(scores[order].tolist(), abs=1e-5)
    full = torch.nn.functional.interpolate(torch.from_numpy(ours)[:, None], SIZE_WH[::-1], mode="bilinear")[:, 0]
    assert ((full > 0).numpy() == masks[order].astype(bool)).mean() >= 0.9999


@pytest.mark.parametrize("multimask", [False, True], ids=["one", "three"])
@pytest.mark.parametrize("name", PROMPTS)
def test_candidates_equal_the_official_predictor(engine, official, name, multimask):
    prompt = PROMPTS[name]
    candidates = Segmenter(engine).candidates("a", IMAGE, prompt, multimask=multimask)
    expected = official.predict(
        prompt.points_xy if len(prompt.points_xy) else None,
        prompt.labels_n if len(prompt.points_xy) else None,
        prompt.box_xyxy,
        multimask_output=multimask,
    )
    assert len(candidates) == (3 if multimask else 1)
    assert_equal(candidates, *expected)


def test_a_correction_equals_the_official_predictor(engine, official):
    made = Segmenter(engine)
    first = made.candidates("a", IMAGE, PROMPTS["a point"], multimask=True)
    second = made.candidates("a", IMAGE, PROMPTS["points with a negative"], ref=first[1].ref)
    clamped = np.clip(first[1].logits_hw, -32, 32)[None]
    prompt = PROMPTS["points with a negative"]
    expected = official.predict(prompt.points_xy, prompt.labels_n, mask_input=clamped, multimask_output=False)
    assert_equal(second, *expected)
    without = made.candidates("a", IMAGE, prompt)
    assert np.abs(without[0].logits_hw - second[0].logits_hw).max() > 0
    alone = made.candidates("a", IMAGE, Prompt(), ref=first[1].ref)
    assert_equal(alone, *official.predict(mask_input=clamped, multimask_output=False))


def test_a_mask_equals_the_official_predictor(engine, official):
    mask_hw = np.zeros(SIZE_WH[::-1], bool)
    mask_hw[30:70, 40:90] = True
    candidates = Segmenter(engine).candidates("a", IMAGE, Prompt(mask_hw=mask_hw))
    given = mask_logits(mask_hw, engine.model.net.sam_prompt_encoder.mask_input_size)
    assert set(given.unique().tolist()) == {-10.0, 10.0}
    assert_equal(candidates, *official.predict(mask_input=given[0].numpy(), multimask_output=False))


def test_a_second_prompt_on_the_same_picture_costs_the_decoder_only(engine, monkeypatch):
    encoded = []
    monkeypatch.setattr(segmenter, "encode", lambda *args, kept=segmenter.encode: encoded.append(1) or kept(*args))
    made = Segmenter(engine)
    for key in ("a", "a", "b", "a"):
        made.candidates(key, IMAGE, PROMPTS["a point"])
    assert len(encoded) == 2


def test_caches_are_bounded_and_keep_what_was_used_last(engine, monkeypatch):
    monkeypatch.setattr(segmenter, "KEPT_PICTURES", 2)
    monkeypatch.setattr(segmenter, "KEPT_LOGITS", 4)
    made = Segmenter(engine)
    old = made.candidates("a", IMAGE, PROMPTS["a point"])[0].ref
    newer = made.candidates("a", IMAGE, PROMPTS["a point"], multimask=True)[0].ref
    for key in "bc":
        made.candidates(key, IMAGE, PROMPTS["a point"], ref=newer)
    assert list(made._encoded) == ["b", "c"]
    assert len(made._logits) == 4
    with pytest.raises(RefGone, match=r"newest 4 candidates are: prompt again"):
        made.candidates("c", IMAGE, PROMPTS["a point"], ref=old)
    made.candidates("c", IMAGE, PROMPTS["a point"], ref=newer)


@pytest.mark.parametrize(
    ("prompt", "message"),
    [
        (Prompt(), "empty"),
        (Prompt(**points((200, 5))), "outside the frame of 150 × 110 pixels"),
        (Prompt(box_xyxy=np.array([9, 9, 9, 20], np.float32)), "with x1 < x2 and y1 < y2"),
        (Prompt(mask_hw=np.ones((5, 5), bool)), r"\[5, 5\] is not the frame's"),
    ],
)
def test_refusals_cost_nothing(engine, prompt, message):
    made = Segmenter(engine)
    with pytest.raises(BadPrompt, match=message):
        made.candidates("a", IMAGE, prompt)
    assert not made._encoded
