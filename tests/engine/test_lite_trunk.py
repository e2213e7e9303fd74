"""The EfficientNet-Lite0 trunk: its levels, float32 under autocast, and what it refuses."""

from typing import Any

import pytest
import torch

from tracker.engine.layers.lite_trunk import LiteTrunk


def small() -> LiteTrunk:
    torch.manual_seed(0)
    return LiteTrunk((4, 4, 6, 8, 10, 12, 14), (1, 2, 1, 1, 2, 1, 1), stem=4).eval()


def test_levels_are_at_strides_4_8_16_and_32() -> None:
    levels = small()(torch.randn(2, 3, 64, 96))
    assert [tuple(level.shape) for level in levels] == [
        (2, 4, 16, 24), (2, 6, 8, 12), (2, 10, 4, 6), (2, 14, 2, 3),
    ]  # fmt: skip
    assert small().channel_list == [14, 10, 6, 4]


def test_autocast_changes_no_bit_on_a_cpu() -> None:
    trunk, images_nchw = small(), torch.randn(1, 3, 64, 64)
    plain = trunk(images_nchw)
    with torch.autocast("cpu", torch.bfloat16):
        cast = trunk(images_nchw)
    assert all(torch.equal(a, b) for a, b in zip(plain, cast, strict=True))


def test_pictures_of_a_batch_do_not_see_each_other() -> None:
    trunk, images_nchw = small(), torch.randn(3, 3, 64, 64)
    for whole, single in zip(trunk(images_nchw), trunk(images_nchw[1:2]), strict=True):
        torch.testing.assert_close(whole[1:2], single)


def test_a_block_is_kept_beside_where_its_shape_stays() -> None:
    stages: Any = small().stages
    assert [[block.kept for block in stage] for stage in stages][:3] == [[True], [False, True], [False]]
    assert stages[0][0].expand is None


def test_another_number_of_stages_is_refused() -> None:
    with pytest.raises(ValueError, match="6 stages of channels and 7 of blocks"):
        LiteTrunk((4, 4, 6, 8, 10, 12))
