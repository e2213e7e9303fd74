"""The automatic mask generator: equal to the official one, in steps, bounded, each pixel to one mask if wanted."""

import dataclasses
from typing import Any
from unittest.mock import Mock

import numpy as np
import pytest
import torch
from msgspec.structs import asdict, replace
from sam2.automatic_mask_generator import SAM2AutomaticMaskGenerator
from sam2.utils.amg import MaskData, mask_to_rle_pytorch, rle_to_mask

from helpers import stills
from helpers.sides import random_network
from helpers.stills import at_any_size, picture
from tracker.config import EngineConfig
from tracker.engine import automatic
from tracker.engine.automatic import search
from tracker.engine.engine import Engine
from tracker.engine.found_masks import Found, exclusive
from tracker.engine.models.build import Model
from tracker.errors import AtCapacity
from tracker.masks.rle import rle_encode
from tracker.protocol.requests import SearchOptions

MODELS = [("nano", 128), ("sam2.1_hiera_tiny", 96)]
OPTIONS = SearchOptions(
    points_per_side=6,
    points_per_batch=10,
    pred_iou_thresh=0.3,
    stability_score_thresh=0.75,
    box_nms_thresh=0.5,
    crop_nms_thresh=0.5,
)


@pytest.fixture(scope="module", params=MODELS, ids=lambda m: f"{m[0]}-{m[1]}")
def plain(request: pytest.FixtureRequest) -> Engine:
    name, side = request.param
    return Engine(Model(name, stills.network(name, side)), EngineConfig(fill_hole_area=0))


@pytest.fixture(scope="module")
def engine() -> Engine:
    """An untrained network's masks cover the whole picture, so that all but one would be duplicates: here they are
    drawn to the points, in three sizes."""
    net = random_network("nano", 64)
    encode, decode = net.sam_prompt_encoder.forward, net.sam_mask_decoder.forward
    clicked: list[torch.Tensor] = []

    def encode_and_note(points: Any, **rest: Any) -> Any:
        clicked[:] = [points[0][:, 0]]
        return encode(points=points, **rest)

    def decode_around_points(**inputs: Any) -> Any:
        logits_bmhw, scores_bm, *rest = decode(**inputs)
        x_b, y_b = clicked[0].T / 4
        side, sizes = logits_bmhw.shape[-1], torch.arange(logits_bmhw.shape[1])
        y_hw, x_hw = torch.meshgrid(torch.arange(side), torch.arange(side), indexing="ij")
        away_bhw = torch.hypot(x_hw - x_b[:, None, None], y_hw - y_b[:, None, None])
        discs_bmhw = (side * (0.1 + 0.13 * sizes))[:, None, None] - away_bhw[:, None]
        noise_bmhw = logits_bmhw / logits_bmhw.std((2, 3), keepdim=True)
        scores_bm = 0.5 + 0.4 * torch.sin(x_b[:, None] * 1.3 + y_b[:, None] * 0.7 + sizes)
        return 4 * discs_bmhw + 8 * noise_bmhw, scores_bm, *rest

    net.sam_prompt_encoder.forward, net.sam_mask_decoder.forward = encode_and_note, decode_around_points
    return Engine(Model("nano", net), EngineConfig(fill_hole_area=0))


def found_in(engine: Engine, options: SearchOptions) -> list[Found]:
    *_, last = search(engine, picture(), options)
    assert last.found is not None
    return list(last.found)


def official(engine: Engine, options: SearchOptions) -> SAM2AutomaticMaskGenerator:
    knobs = asdict(options) | {"multimask_output": options.multimask, "min_mask_region_area": 0}
    generator = stills.official(SAM2AutomaticMaskGenerator, engine.model.net, **knobs)
    at_any_size(generator.predictor)
    return generator


def assert_equal(found: list[Found], records: list[dict[str, Any]]) -> None:
    assert len(found) == len(records)
    for ours, theirs in zip(found, records, strict=True):
        assert (ours.mask_hw == theirs["segmentation"]).mean() >= 0.9999
        x1, y1, x2, y2 = ours.box_xyxy
        assert [x1, y1, x2 - x1, y2 - y1] == theirs["bbox"]
        assert ours.score == pytest.approx(theirs["predicted_iou"], abs=1e-5)
        assert ours.stability == pytest.approx(theirs["stability_score"], abs=1e-3)
        assert [list(ours.point_xy)] == theirs["point_coords"]
        left, top, right, bottom = ours.crop_xyxy
        assert [left, top, right - left, bottom - top] == theirs["crop_box"]


KNOBS = {
    "plain": OPTIONS,
    "one mask a point": replace(OPTIONS, multimask=False, stability_score_thresh=0.3),
    "crops": replace(OPTIONS, crop_n_layers=1, crop_n_points_downscale_factor=2, crop_overlap_ratio=0.4),
    "two layers of crops": replace(OPTIONS, crop_n_layers=2, crop_nms_thresh=0.9),
    "only the best": replace(OPTIONS, pred_iou_thresh=0.7, stability_score_offset=0.5),
    "no thresholds": replace(OPTIONS, pred_iou_thresh=0.0, stability_score_thresh=0.0, points_per_batch=36),
}


@pytest.mark.parametrize("name", KNOBS)
def test_what_is_found_equals_the_official_generator(engine, name):
    options = KNOBS[name]
    records = [record for record in official(engine, options).generate(picture()) if record["area"]]
    assert len(records) >= 4
    assert_equal(found_in(engine, options), records)


def test_a_plain_network_finds_the_same_as_the_official_generator(plain):
    options = replace(
        OPTIONS, points_per_side=4, stability_score_offset=0.02, stability_score_thresh=0.2, box_nms_thresh=1.0
    )
    records = official(plain, options).generate(picture())
    assert len(records) >= 4
    assert_equal(found_in(plain, options), records)


def test_small_regions_are_removed_as_upstream_does(engine):
    """Upstream's own function, called explicitly: `generate` skips it without the CUDA extension."""
    found = found_in(engine, OPTIONS)
    data = MaskData(
        rles=[mask_to_rle_pytorch(torch.from_numpy(f.mask_hw)[None])[0] for f in found],
        boxes=torch.tensor([f.box_xyxy for f in found]),
        scores=torch.tensor([f.score for f in found]),
    )
    area = 40
    expected = SAM2AutomaticMaskGenerator.postprocess_small_regions(data, area, 0.5)
    cleaned = found_in(engine, replace(OPTIONS, min_mask_region_area=area))
    assert len(cleaned) == len(expected["rles"]) >= 4
    assert any(f.rle_counts not in {g.rle_counts for g in found} for f in cleaned), "nothing was cleaned"
    for ours, rle, box in zip(cleaned, expected["rles"], expected["boxes"], strict=True):
        assert np.array_equal(ours.mask_hw, rle_to_mask(rle))
        assert list(ours.box_xyxy) == box.tolist()


def test_it_goes_in_steps_and_can_be_ended(engine):
    steps = search(engine, picture(), OPTIONS)
    first, second = next(steps), next(steps)
    assert [(p.done, p.total, p.found) for p in (first, second)] == [(10, 36, None), (20, 36, None)]
    steps.close()
    assert list(steps) == []


def test_progress_counts_the_points_of_all_crops(engine):
    options = replace(OPTIONS, crop_n_layers=1, crop_n_points_downscale_factor=2)
    done = [(p.done, p.total) for p in search(engine, picture(), options)]
    assert done[-2:] == [(36 + 4 * 9, 72)] * 2
    assert done == sorted(done)


def test_a_batch_too_large_for_memory_is_halved(engine, monkeypatch):
    expected = [f.rle_counts for f in found_in(engine, OPTIONS)]
    tried = []

    def decode(engine, features, points, *, multimask, real=automatic.decode):
        tried.append(len(points["point_coords"]))
        if tried[-1] > 3:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return real(engine, features, points, multimask=multimask)

    monkeypatch.setattr(automatic, "decode", decode)
    assert [f.rle_counts for f in found_in(engine, OPTIONS)] == expected
    assert tried == [10, 5, *[2] * 18]


def test_one_point_too_large_for_memory_is_refused(engine, monkeypatch):
    monkeypatch.setattr(automatic, "decode", Mock(side_effect=torch.OutOfMemoryError("CUDA out of memory")))
    with pytest.raises(AtCapacity, match=r"one point at a time; free some, or choose a smaller model\.image_size"):
        found_in(engine, OPTIONS)


def test_exclusive_gives_each_pixel_to_the_smallest_mask(engine):
    found = found_in(engine, OPTIONS)
    owned = exclusive(found)
    covered_hw = sum(mask_hw.astype(int) for _, mask_hw in owned)
    assert covered_hw.max() == 1
    assert np.array_equal(covered_hw > 0, np.logical_or.reduce([f.mask_hw for f in found]))
    assert all((mask_hw <= f.mask_hw).all() for f, mask_hw in owned)
    smallest = min(found, key=lambda f: f.mask_hw.sum())
    assert np.array_equal(next(m for f, m in owned if f is smallest), smallest.mask_hw)


def test_exclusive_drops_what_nothing_is_left_of():
    mask_hw = np.zeros((4, 4), bool)
    mask_hw[1:3, 1:3] = True
    found = Found(rle_encode(mask_hw), (4, 4), 0.9, 0.9, (1, 1, 2, 2), (1.0, 1.0), (0, 0, 4, 4))
    assert len(exclusive([found, dataclasses.replace(found)])) == 1
    assert exclusive([]) == []


def test_nothing_to_find(engine):
    assert found_in(engine, replace(OPTIONS, pred_iou_thresh=1.0)) == []
