"""The renderer: the same seed gives the same clip, truth matches what is drawn, what vanishes is gone."""

import numpy as np
import pytest
import torch

from training.data import Recipe, make_batch
from training.losses import Weights, answer_loss
from training.prompts import boxes_of, correction, first_points
from training.render import render
from training.scenario import FILMED, Scenario
from training.textures import Bank, Track, procedural

SMALL = Scenario(frames=4, size_px=64, real=0.0, vanish=0.0)


def test_same_seed_same_clip() -> None:
    first, again, other = (render((seed,), Bank(), SMALL) for seed in (1, 1, 2))
    assert np.array_equal(first.frames_thwc, again.frames_thwc)
    assert np.array_equal(first.labels_thw, again.labels_thw)
    assert not np.array_equal(first.frames_thwc, other.frames_thwc)


def test_targets_are_seen_on_the_first_frame() -> None:
    for seed in range(8):
        clip = render((seed,), Bank(), SMALL)
        assert clip.frames_thwc.shape == (4, 64, 64, 3)
        assert clip.targets
        assert all(clip.mask_thw(target)[0].any() for target in clip.targets)


def test_leads_vanish() -> None:
    scenario = Scenario(frames=12, size_px=64, real=0.0, vanish=1.0)
    gone = [_is_gone_for_a_while(render((seed,), Bank(), scenario).mask_thw(1)) for seed in range(12)]
    assert sum(gone) >= 6  # some covers are too small, some leads are not to be prompted


def _is_gone_for_a_while(mask_thw: np.ndarray) -> bool:
    return bool((mask_thw.mean((1, 2)) < 0.002).any())


def test_a_filmed_object_is_a_target() -> None:
    rng = np.random.default_rng(0)
    film_nhwc = np.stack([procedural(rng, 96) for _ in range(6)])
    masks_thw = np.zeros((6, 96, 96), bool)
    masks_thw[:, 30:60, 40:70] = True
    bank = Bank([film_nhwc], [], [Track(0, 0, masks_thw)])
    clips = [render((seed,), bank, Scenario(frames=4, size_px=64, filmed=1.0)) for seed in range(6)]
    assert any(FILMED in clip.targets for clip in clips)


@pytest.mark.parametrize("single_images", [True, False])
def test_batches_have_masks_of_their_clips(single_images: bool) -> None:
    batch = make_batch(Bank(), Recipe(SMALL, clips=2, targets=2, single_images=single_images), (3,))
    frames, clips = batch.frames_tn3hw.shape[:2]
    assert (frames, clips) == ((1, 8) if single_images else (4, 2))
    assert batch.masks_tmhw.shape[:2] == (frames, len(batch.clip_of_m))
    assert batch.clip_of_m.max() < clips
    assert batch.masks_tmhw[0].flatten(1).any(1).all()


def test_procedural_clips_take_nothing_from_the_bank() -> None:
    bank = Bank([np.full((6, 96, 96, 3), 200, np.uint8)])

    def frames(bank: Bank, share: float) -> torch.Tensor:
        scenario = Scenario(frames=2, size_px=64, real=1.0, vanish=0.0)
        return make_batch(bank, Recipe(scenario, clips=2, targets=1, procedural=share), (3,)).frames_tn3hw

    assert torch.equal(frames(bank, 1.0), frames(Bank(), 1.0))
    assert not torch.equal(frames(bank, 0.0), frames(Bank(), 0.0))


def test_prompts_lie_on_the_object_and_corrections_on_the_error() -> None:
    truth_nhw = torch.zeros(2, 32, 32, dtype=torch.bool)
    truth_nhw[:, 8:20, 4:16] = True
    assert boxes_of(truth_nhw).tolist() == [[4, 8, 16, 20]] * 2
    corners_n22 = first_points(truth_nhw, "box").xy_np2
    assert (corners_n22 - torch.tensor([[4, 8], [16, 20]])).abs().max() <= 0.06 * 12
    points = first_points(truth_nhw, "point")
    assert all(truth_nhw[i, int(y), int(x)] for i, ((x, y),) in enumerate(points.xy_np2.tolist()))
    found_nhw = truth_nhw.clone()
    found_nhw[0, 8:20, 10:16] = False
    click = correction(found_nhw, truth_nhw)
    assert click.labels_np.tolist() == [[1], [-1]]  # missing pixels; nothing wrong
    x, y = click.xy_np2[0, 0].tolist()
    assert 10 <= x < 16
    assert 8 <= y < 20


def test_loss_prefers_the_truth_and_ignores_masks_of_absent_objects() -> None:
    truth_nhw = torch.zeros(2, 32, 32, dtype=torch.bool)
    truth_nhw[0, 8:24, 8:24] = True  # the second object is not there
    right = torch.where(truth_nhw, 8.0, -8.0)[:, None]
    ious_nm, scores_n = torch.ones(2, 1), torch.tensor([8.0, -8.0])
    good = answer_loss(right, ious_nm, scores_n, truth_nhw, Weights())
    bad = answer_loss(-right, ious_nm, scores_n, truth_nhw, Weights())
    assert good.total < 0.1 < bad.total
    assert good.iou_n[0] == 1
    assert good.iou_n[1].isnan()
