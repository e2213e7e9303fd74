"""The measures on masks whose answer is known, the layouts of clips, and the clips that must enter no training."""

from pathlib import Path

import cv2
import numpy as np
import pytest

from evaluation.clips import from_folder, rendered
from evaluation.follow import apart, first_prompt
from evaluation.measures import contour, contour_f, region_j
from tracker.masks.types import ObjectMask
from training.textures import load_clips


def square(x: int, y: int, side: int, size: int = 100) -> np.ndarray:
    mask_hw = np.zeros((size, size), bool)
    mask_hw[y : y + side, x : x + side] = True
    return mask_hw


EMPTY = np.zeros((100, 100), bool)


@pytest.mark.parametrize(
    ("found", "truth", "j", "f"),
    [
        (square(10, 10, 40), square(10, 10, 40), 1.0, 1.0),
        (square(11, 10, 40), square(10, 10, 40), 39 / 41, 1.0),  # within 0.8 % of the diagonal: 2 pixels
        (square(60, 60, 20), square(10, 10, 20), 0.0, 0.0),
        (EMPTY, EMPTY, 1.0, 1.0),
        (EMPTY, square(10, 10, 20), 0.0, 0.0),
        (square(10, 10, 20), EMPTY, 0.0, 0.0),
    ],
)
def test_measures(found: np.ndarray, truth: np.ndarray, j: float, f: float) -> None:
    assert region_j(found, truth) == pytest.approx(j)
    assert contour_f(found, truth) == pytest.approx(f)


def test_f_is_the_harmonic_mean_of_precision_and_recall() -> None:
    truth, found = square(10, 10, 30), square(10, 10, 30) | square(60, 60, 30)
    assert contour(truth).sum() * 2 == contour(found).sum()
    assert contour_f(found, truth) == pytest.approx(2 * 0.5 * 1 / 1.5)


def test_a_folder_of_clips_is_read(tmp_path: Path) -> None:
    for name in ("frames", "masks"):
        (tmp_path / "clip" / name).mkdir(parents=True)
    for time in range(3):
        cv2.imwrite(str(tmp_path / "clip" / "frames" / f"{time:05}.jpg"), np.full((100, 100, 3), 90, np.uint8))
        cv2.imwrite(str(tmp_path / "clip" / "masks" / f"{time:05}.png"), square(10, 10, 9).astype(np.uint8) * 255)
    (clip,) = from_folder(tmp_path)
    assert (clip.name, clip.objects, len(clip.frames)) == ("clip", (1,), 3)
    assert clip.mask(2, 1).sum() == 81
    box_xyxy = first_prompt(clip.mask(0, 1), "box").box_xyxy
    assert box_xyxy is not None
    assert box_xyxy.tolist() == [10, 10, 19, 19]


def test_a_folder_in_the_layout_of_davis_is_read(tmp_path: Path) -> None:
    label_hw = square(10, 10, 9).astype(np.uint8) + 2 * square(50, 50, 9).astype(np.uint8)
    for kind, name, picture in (("JPEGImages", "00000.jpg", label_hw), ("Annotations", "00000.png", label_hw)):
        folder = tmp_path / kind / "480p" / "dogs"
        folder.mkdir(parents=True)
        cv2.imwrite(str(folder / name), picture)
    (clip,) = from_folder(tmp_path, ["dogs"])
    assert clip.objects == (1, 2)


def test_a_folder_without_masks_is_refused(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="no clip with masks"):
        list(from_folder(tmp_path))


def test_a_pixel_belongs_to_one_object() -> None:
    low, high = (ObjectMask(np.full((8, 8), value, np.float32), 1.0, 1.0) for value in (1.0, 2.0))
    masks = apart({1: low, 2: high}, (32, 32))
    assert not masks[1].any()
    assert masks[2].all()


def test_validation_clips_are_the_same_everywhere() -> None:
    (first,), (again,) = (list(rendered(1, 2, vanish=False)) for _ in range(2))
    assert np.array_equal(first.frames[0], again.frames[0])
    assert first.objects == (1,)


def test_judges_enter_no_training(tmp_path: Path) -> None:
    for name in ("car-shadow", "other"):
        (tmp_path / name).mkdir()
        cv2.imwrite(str(tmp_path / name / f"{name}.png"), np.zeros((300, 300, 3), np.uint8))
    assert len(load_clips(tmp_path, tmp_path / "cache")) == 1
    assert not list((tmp_path / "cache").glob("car-shadow*"))
