"""The automatic mask generator: equal to the official one, in steps, bounded, each pixel to one mask if wanted."""

import dataclasses
import tracemalloc
from typing import Any
from unittest.mock import Mock

import numpy as np
import pytest
import torch
from msgspec.structs import asdict, replace
from sam2.automatic_mask_generator import SAM2AutomaticMaskGenerator
from sam2.utils.amg import MaskData, batched_mask_to_box, mask_to_rle_pytorch, remove_small_regions, rle_to_mask
from torch.utils._python_dispatch import TorchDispatchMode
from torchvision.ops import nms

from helpers import stills
from helpers.sides import random_network
from helpers.stills import at_any_size, picture
from tracker.config import EngineConfig
from tracker.engine import automatic, found_masks
from tracker.engine.automatic import search, searched
from tracker.engine.engine import Engine
from tracker.engine.found_masks import Found, chosen, distinct, exclusive, without_small_regions
from tracker.engine.models.build import Model
from tracker.engine.slices import whole
from tracker.errors import AtCapacity
from tracker.masks.rle import rle_decode, rle_encode
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
    return Engine(Model(name, stills.network(name, side)), EngineConfig(fill_hole_area=0, edges="model"))


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
    return Engine(Model("nano", net), EngineConfig(fill_hole_area=0, edges="model"))


def found_in(engine: Engine, options: SearchOptions) -> list[Found]:
    *_, last = search(engine, picture(), options)
    assert last is not None
    assert last.found is not None
    return list(last.found)


def found_of(mask_hw: np.ndarray) -> Found:
    box_xyxy = tuple(batched_mask_to_box(torch.from_numpy(mask_hw)).tolist())
    height, width = mask_hw.shape
    counts, area = rle_encode(mask_hw), int(mask_hw.sum())
    return Found(counts, (height, width), 0.9, 0.9, box_xyxy, (1.0, 1.0), (0, 0, width, height), area)


def boxes_and_scores(n: int) -> tuple[torch.Tensor, list[float]]:
    """Some alike, some empty, some of one score."""
    random = np.random.default_rng(n)
    corners_n2, sizes_n2 = random.integers(0, 60, (n, 2)), random.integers(0, 40, (n, 2))
    scores = random.integers(0, 50, n).astype(float).tolist()
    return torch.from_numpy(np.hstack([corners_n2, corners_n2 + sizes_n2])), scores


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


@pytest.mark.parametrize("area", [1, 12, 60, 900, 5000])
def test_a_mask_cleaned_where_it_is_is_as_one_cleaned_in_the_whole_picture(area):
    """Also at the picture's edges, where what is around a mask may be small."""
    random = np.random.default_rng(area)
    changed = 0
    for _ in range(60):
        height, width = random.integers(20, 70, 2)
        y, x = np.sort(random.integers(0, height, 2)), np.sort(random.integers(0, width, 2))
        mask_hw = np.zeros((height, width), bool)
        inside = mask_hw[y[0] : y[1] + 1, x[0] : x[1] + 1]
        inside[:] = random.random(inside.shape) < random.choice([0.1, 0.4, 0.7, 1.0])
        one = found_of(mask_hw)
        (ours,) = whole(without_small_regions([one], replace(OPTIONS, min_mask_region_area=area)))
        expected_hw, filled = remove_small_regions(mask_hw, area, "holes")
        expected_hw, cut = remove_small_regions(expected_hw, area, "islands")
        changed += filled or cut
        assert np.array_equal(ours.mask_hw, expected_hw)
        assert list(ours.box_xyxy) == batched_mask_to_box(torch.from_numpy(expected_hw)).tolist()
        assert ours.area == expected_hw.sum()
    assert changed > 20 or area == 1


@pytest.mark.parametrize("iou_thresh", [0.0, 0.3, 0.7, 1.0])
def test_what_is_distinct_is_what_torchvision_keeps(iou_thresh):
    boxes_n4, scores = boxes_and_scores(700)
    found = [dataclasses.replace(found_of(np.ones((1, 1), bool)), box_xyxy=tuple(b)) for b in boxes_n4.tolist()]
    kept = whole(distinct(found, scores, iou_thresh))
    expected = nms(boxes_n4.float(), torch.tensor(scores, dtype=torch.float32), iou_thresh)
    assert [one.box_xyxy for one in kept] == [tuple(boxes_n4[i].tolist()) for i in expected]


def test_boxes_are_compared_without_a_table_of_each_against_each():
    """Twelve thousand of one crop would take gigabytes."""

    class Largest(TorchDispatchMode):
        numbers = 0

        def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            given = func(*args, **(kwargs or {}))
            if isinstance(given, torch.Tensor):
                self.numbers = max(self.numbers, given.nelement())
            return given

    boxes_n4, scores = boxes_and_scores(300)
    found = [dataclasses.replace(found_of(np.ones((1, 1), bool)), box_xyxy=tuple(b)) for b in boxes_n4.tolist()]
    with Largest() as largest:
        assert whole(distinct(found, scores, 1.0))
    assert 300 <= largest.numbers <= 4 * 300


def test_the_end_of_a_search_goes_mask_by_mask(engine, monkeypatch):
    """Nobody waits for more than one, whose number only the thresholds bound."""
    at_work = []
    monkeypatch.setattr(found_masks, "rle_decode", lambda *a: at_work.append("decoded") or rle_decode(*a))
    monkeypatch.setattr(automatic, "rle_encode", lambda *a: at_work.append("encoded") or rle_encode(*a))
    options = replace(KNOBS["no thresholds"], box_nms_thresh=1.0, min_mask_region_area=40)
    found, most = (), 0
    for progress in search(engine, picture(), options, slice_s=0.0):
        most = max(most, len(at_work))
        found = () if progress is None else progress.found or ()
        at_work.clear()
    assert len(found) > 50
    assert most == 1
    for work in (chosen(found, 20, alone=False), chosen(found, 20, alone=True)):
        at_work.clear()
        for _ in work:
            assert len(at_work) <= 1
            at_work.clear()


def test_a_search_beside_tracking_tells_each_batch_of_points_once(engine, monkeypatch):
    monkeypatch.setattr(automatic, "SLICE_S", 0.0)
    told, slices = [], 0
    for _ in searched(engine, picture(), replace(OPTIONS, points_per_batch=8), told.append):
        slices += 1
    assert [progress.done for progress in told] == [8, 16, 24, 32, 36]
    assert slices > len(told)


def test_it_goes_in_steps_and_can_be_ended(engine):
    steps = search(engine, picture(), OPTIONS)
    batches = filter(None, steps)
    first, second = next(batches), next(batches)
    assert [(p.done, p.total, p.found) for p in (first, second)] == [(10, 36, None), (20, 36, None)]
    steps.close()
    assert list(steps) == []


def test_progress_counts_the_points_of_all_crops(engine):
    options = replace(OPTIONS, crop_n_layers=1, crop_n_points_downscale_factor=2)
    done = [(p.done, p.total) for p in search(engine, picture(), options) if p is not None]
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


def test_more_masks_than_there_is_room_for_are_refused(engine, monkeypatch):
    """Thresholds bound their number, and a client may set them to 0."""
    nbytes = sum(len(f.rle_counts) for f in found_in(engine, KNOBS["no thresholds"]))
    monkeypatch.setattr(automatic, "MAX_HELD_BYTES", nbytes // 2)
    with pytest.raises(AtCapacity, match=r"masks take 0 MiB; raise pred_iou_thresh or stability_score_thresh"):
        found_in(engine, KNOBS["no thresholds"])


def test_exclusive_gives_each_pixel_to_the_smallest_mask(engine):
    found = found_in(engine, OPTIONS)
    owned = whole(exclusive(found))
    covered_hw = sum(f.mask_hw.astype(int) for f in owned)
    assert covered_hw.max() == 1
    assert np.array_equal(covered_hw > 0, np.logical_or.reduce([f.mask_hw for f in found]))
    before = {(f.point_xy, f.score): f.mask_hw for f in found}
    assert all((f.mask_hw <= before[f.point_xy, f.score]).all() for f in owned)
    for f in owned:
        there = found_of(f.mask_hw)
        assert (f.box_xyxy, f.area) == (there.box_xyxy, there.area)
    smallest = min(found, key=lambda f: f.area)
    assert smallest.rle_counts in [f.rle_counts for f in owned]


@pytest.mark.parametrize("alone", [False, True])
def test_those_that_are_chosen_stay_run_lengths(alone):
    """A whole mask at 4K takes 8 MB, and thousands may be wanted."""
    corner_hw = np.zeros((64, 400, 400), bool)
    for i in range(64):
        corner_hw[i, : 400 - 6 * i, : 400 - 6 * i] = True
    found = [found_of(mask_hw) for mask_hw in corner_hw]
    tracemalloc.start()
    kept = whole(chosen(found, 60, alone=alone))
    _, peak_nbytes = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert len(kept) == 60
    assert peak_nbytes < 8 * found[0].mask_hw.nbytes


def test_exclusive_drops_what_nothing_is_left_of():
    mask_hw = np.zeros((4, 4), bool)
    mask_hw[1:3, 1:3] = True
    found = found_of(mask_hw)
    assert len(whole(exclusive([found, dataclasses.replace(found)]))) == 1
    assert whole(exclusive([])) == []


def test_nothing_to_find(engine):
    assert found_in(engine, replace(OPTIONS, pred_iou_thresh=1.0)) == []
