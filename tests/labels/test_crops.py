"""What CLIP is shown of an object."""

import numpy as np
import pytest

from helpers.clips import SIDE, TEXTS, noise
from tracker.engine.clip import Clip
from tracker.labels.crops import GREY, masked_crop


class TestCrops:
    def test_the_object_stays_sharp_and_its_surroundings_are_blurred(self) -> None:
        picture = noise(1, 100)
        mask = np.zeros((100, 100), np.bool_)
        mask[30:70, 30:70] = True
        crop = masked_crop(picture, mask, 48)  # 40 pixels and a tenth more on each side
        assert crop is not None
        np.testing.assert_array_equal(crop[4:44, 4:44], picture[30:70, 30:70])
        assert crop[:3].std() < picture[26:29, 26:74].std() / 4

    def test_another_mask_is_another_picture(self, clip: Clip) -> None:
        picture = noise(1, 100)
        square, ring = np.zeros((2, 100, 100), np.bool_)
        square[30:70, 30:70] = True
        ring |= square
        ring[35:65, 35:65] = False
        one, other = (masked_crop(picture, mask, SIDE) for mask in (square, ring))
        assert one is not None
        assert other is not None
        first, second = clip.likely([one, other], [TEXTS, TEXTS])
        assert np.abs(first - second).max() > 1e-3

    @pytest.mark.parametrize("side", [16, 64])
    def test_beyond_the_frame_it_is_grey(self, side: int) -> None:
        picture = np.full((30, 40, 3), 255, np.uint8)
        mask = np.zeros((30, 40), np.bool_)
        mask[0:20, 38:40] = True  # in the corner at the right, 20 high
        crop = masked_crop(picture, mask, side)
        assert crop is not None
        assert crop.shape == (side, side, 3)
        np.testing.assert_allclose(crop[side // 2, -1], GREY, atol=2)

    def test_nothing_of_an_empty_mask(self) -> None:
        assert masked_crop(noise(1), np.zeros((SIDE, SIDE), np.bool_), SIDE) is None
