"""Real pictures with true masks: only what is for training is read, objects stay in view, photos come alive."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from training.data import PhotoRecipe, Recipe, make_batch
from training.living import living
from training.photos import HELD_BACK, Photo, cut_outs, image_of, large_objects, load_sets, together
from training.scenario import Scenario

SIDE = 96
RED = (220, 30, 30)


def write_photo(stem: Path, x: int = 30, y: int = 30) -> Photo:
    """A red square, object 3, on grey; its mask an indexed PNG as in the real sets."""
    picture = np.full((SIDE, SIDE, 3), 120, np.uint8)
    label_hw = np.zeros((SIDE, SIDE), np.uint8)
    picture[y : y + 30, x : x + 30], label_hw[y : y + 30, x : x + 30] = RED, 3
    stem.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(picture).save(stem.with_suffix(".jpg"), quality=95)
    indexed = Image.fromarray(label_hw, "P")
    indexed.putpalette([0, 0, 0, 9, 9, 9, 8, 8, 8, 200, 200, 0])
    indexed.save(stem.with_suffix(".png"))
    return Photo(stem.with_suffix(".jpg"), stem.with_suffix(".png"))


@pytest.fixture
def sets(tmp_path: Path) -> Path:
    for i in range(HELD_BACK):
        write_photo(tmp_path / "images" / "cats" / f"{i:02}")
    for time in range(6):
        frame = write_photo(tmp_path / "film" / f"{time:05}", x=20 + 3 * time)
        for kind, path in (("frames", frame.picture), ("masks", frame.mask)):
            (tmp_path / "videos" / "man" / "walk" / kind).mkdir(parents=True, exist_ok=True)
            path.rename(tmp_path / "videos" / "man" / "walk" / kind / path.name)
    listed = {"images": [f"images/cats/{i:02}" for i in range(HELD_BACK)], "videos": ["videos/man/walk"]}
    judge = {"images": ["images/cats/secret"], "videos": ["videos/man/secret"]}  # not there: reading it would fail
    (tmp_path / "splits.json").write_text(json.dumps({"train": listed, "judge": judge}))
    return tmp_path


def test_what_is_for_training_is_read_and_some_pictures_are_held_back(sets: Path) -> None:
    bank = load_sets(sets)
    assert {name: len(members) for name, members in bank.photos.items()} == {"cats": HELD_BACK - 1, "videos": 2}
    assert len(bank.tracks) == 1
    assert bank.tracks[0].masks_thw.sum((1, 2)).tolist() == [900] * 6
    assert len(bank.cutouts_hwc) == HELD_BACK - 1 + 2
    held = load_sets(sets, held_back=True)
    assert [photo.picture.stem for photo in held.photos["cats"]] == ["07"]


def test_masks_are_numbers_not_colours(tmp_path: Path) -> None:
    picture, label_hw = write_photo(tmp_path / "a").read()
    assert np.unique(label_hw).tolist() == [0, 3]
    assert large_objects(label_hw) == [3]
    assert picture[40, 40, 0] > 180


def test_what_the_edge_cuts_is_not_cut_out(tmp_path: Path) -> None:
    assert [c.shape for c in cut_outs(*write_photo(tmp_path / "a").read())] == [(30, 30, 4)]
    assert not list(cut_outs(*write_photo(tmp_path / "b", x=66).read()))


def test_a_crop_keeps_the_object_in_view(tmp_path: Path) -> None:
    photo = write_photo(tmp_path / "a", x=5, y=60)
    for seed in range(30):
        picture, label_hw = image_of(np.random.default_rng(seed), photo, 64)
        assert picture.shape == (64, 64, 3)
        assert (label_hw == 3).mean() > 0.02


@pytest.mark.parametrize(
    ("gap_px", "found"), [(0, {(1, 2), (1,), (2,)}), (12, {(1, 2)})], ids=["touching", "apart"]
)
def test_things_that_touch_are_sometimes_one(gap_px: int, found: set[tuple[int, ...]]) -> None:
    label_hw = np.zeros((SIDE, SIDE), np.uint8)
    label_hw[20:60, 10:30], label_hw[20:60, 30 + gap_px : 50 + gap_px] = 1, 2
    joined = [together(np.random.default_rng(seed), label_hw) for seed in range(60)]
    assert {tuple(large_objects(label)) for label in joined} == found
    assert all(np.array_equal(label > 0, label_hw > 0) for label in joined)


def test_a_photo_comes_alive_with_its_mask(tmp_path: Path) -> None:
    photos = {"cats": [write_photo(tmp_path / "a")]}
    moved = []
    for seed in range(4):
        alive = living(np.random.default_rng(seed), photos, 8)
        assert alive is not None
        pictures, masks_thw = alive
        moved.append(np.ptp([np.argwhere(mask_hw).mean(0) for mask_hw in masks_thw], axis=0).max())
    assert max(moved) > 3
    for picture, mask_hw in zip(pictures, masks_thw, strict=True):
        red_hw = (picture[..., 0] > 170) & (picture[..., 1] < 75)
        assert (red_hw & mask_hw).sum() / (red_hw | mask_hw).sum() > 0.85


def test_batches_of_photos_and_of_clips_with_them(sets: Path) -> None:
    bank = load_sets(sets)
    batch = make_batch(bank, PhotoRecipe(64, photos=4, targets=2), (0, 0, 0))
    assert batch.frames_tn3hw.shape == (1, 4, 3, 64, 64)
    assert sorted(batch.clip_of_m.tolist()) == [
        0,
        0,
        1,
        1,
        2,
        2,
        3,
        3,
    ]  # each photo has one object, so each is there twice
    assert batch.masks_tmhw.flatten(2).any(2).all()
    recipe = Recipe(Scenario(5, 64, real=1.0, filmed=1.0), clips=2, targets=2, procedural=0.0)
    clips = make_batch(bank, recipe, (1, 0, 0))
    assert clips.frames_tn3hw.shape == (5, 2, 3, 64, 64)
    assert clips.masks_tmhw[0].flatten(1).any(1).all()
