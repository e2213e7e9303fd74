"""Pictures at the model's size: stills as PIL has them to the bit, video within a few levels on any device."""

import itertools

import numpy as np
import pytest
import torch

from tracker.engine.preprocess import at_size, at_size_on, model_input, normalise
from tracker.images import imaging
from tracker.images.types import I420, Colour, Image, Matrix, Rgb

CPU = torch.device("cpu")
SIZES_WH = [(1920, 1080), (641, 359), (640, 481), (97, 53), (64, 64), (33, 200), (3, 5), (2, 1), (1, 1)]
MATRICES: tuple[Matrix, ...] = ("bt601", "bt709", "bt2020")
COLOURS = [Colour(matrix, full) for matrix, full in itertools.product(MATRICES, (False, True))]
BY_DEVICE = ["cpu", pytest.param("cuda", marks=pytest.mark.gpu)]


def picture(size_wh: tuple[int, int], colour: Colour, kind: str = "scene") -> I420:
    """A smooth scene with a few hard edges, or noise of full contrast, which no camera shows."""
    w, h = size_wh
    rng = np.random.default_rng(w * h)
    shapes = [(h, w), *[((h + 1) // 2, (w + 1) // 2)] * 2]
    if kind == "noise":
        y, u, v = (rng.integers(0, 256, shape, np.uint8) for shape in shapes)
        return I420(y, u, v, colour)
    planes = []
    for k, (rows, columns) in enumerate(shapes):
        y, x = np.mgrid[:rows, :columns] / max(rows, columns)
        waves = 128 + 70 * np.sin(7 * x + k) * np.cos(9 * y - k)
        waves[rows // 3 : rows // 2, columns // 4 : columns // 2] = 40 + 90 * k
        planes.append(waves.clip(0, 255).astype(np.uint8))
    luma, cb, cr = planes
    return I420(luma, cb, cr, colour)


def levels_away(ours_hwc: torch.Tensor, image: I420, side: int) -> tuple[int, float]:
    """The largest and the mean distance from what upstream's loader would make of the picture."""
    reference_hwc = imaging.resize_rgb(imaging.to_rgb(image), (side, side))
    assert ours_hwc.shape == (side, side, 3)
    assert ours_hwc.dtype == torch.uint8
    away = np.abs(ours_hwc.cpu().numpy().astype(int) - reference_hwc)
    return int(away.max()), float(away.mean())


@pytest.mark.parametrize("device", BY_DEVICE)
@pytest.mark.parametrize("how", [at_size, at_size_on])
@pytest.mark.parametrize("side", [64, 256])
@pytest.mark.parametrize("size_wh", SIZES_WH)
def test_any_size(size_wh, side, how, device) -> None:
    for kind in ("scene", "noise"):
        image = picture(size_wh, Colour("bt709"), kind)
        largest, mean = levels_away(how(image, side, torch.device(device)), image, side)
        assert largest <= (2 if min(size_wh) > 30 else 3)
        assert mean <= 0.1


@pytest.mark.parametrize("device", BY_DEVICE)
@pytest.mark.parametrize("how", [at_size, at_size_on])
@pytest.mark.parametrize("colour", COLOURS, ids=str)
def test_any_colour_coding(colour, how, device) -> None:
    for kind in ("scene", "noise"):
        image = picture((97, 53), colour, kind)
        assert levels_away(how(image, 64, torch.device(device)), image, 64)[0] <= 2


@pytest.mark.parametrize("how", [at_size, at_size_on])
def test_another_coding_would_show(how) -> None:
    image = picture((97, 53), Colour("bt709"))
    for wrong in (Colour("bt601"), Colour("bt709", True)):
        other = I420(image.y_hw, image.u_hw, image.v_hw, wrong)
        assert levels_away(how(image, 64, CPU), other, 64)[0] > 5


def test_stills_are_pils_to_the_bit() -> None:
    rgb_hwc = np.random.default_rng(1).integers(0, 256, (53, 97, 3), np.uint8)
    assert np.array_equal(at_size(Rgb(rgb_hwc), 64, CPU).numpy(), imaging.resize_rgb(rgb_hwc, (64, 64)))


@pytest.mark.parametrize("image", [picture((97, 53), Colour()), Rgb(imaging.to_rgb(picture((97, 53), Colour())))])
def test_a_picture_at_the_models_size_stays_as_it_is(image) -> None:
    once = at_size(image, 64, CPU)
    assert torch.equal(at_size(Rgb(once.numpy()), 64, CPU), once)


def test_pictures_together_are_each_as_alone() -> None:
    images: list[Image] = [
        picture((97, 53), Colour()),
        Rgb(imaging.to_rgb(picture((20, 30), Colour()))),
        picture((64, 64), COLOURS[3]),
    ]
    together = model_input(images, 64, CPU)
    assert (together.shape, together.dtype) == ((3, 3, 64, 64), torch.float32)
    for image, one in zip(images, together, strict=True):
        assert torch.equal(one, normalise(at_size(image, 64, CPU)[None])[0])


def test_planes_are_read_as_they_are_strided() -> None:
    """A camera's planes are contiguous; a buffer's need not be."""
    whole = picture((98, 54), Colour())
    part = I420(whole.y_hw[::-1, 2:], whole.u_hw[::-1, 1:], whole.v_hw[::-1, 1:], whole.colour)
    assert levels_away(at_size_on(part, 64, CPU), part, 64)[0] <= 2
