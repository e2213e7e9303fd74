"""Batch norms folded away, the input mapped, a neck fitted: against the networks that they must equal."""

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from tracker.engine.layers.lite_trunk import LEVELS, LiteTrunk
from training.model import CONV_TRUNK, build
from training.pretrained import EPSILON, MEAN_RGB, STD_RGB, fit_neck, folded, ridge, trunk_weights


def norm(width: int, prefix: str) -> dict[str, torch.Tensor]:
    values = {"weight": torch.rand(width) + 0.5, "bias": torch.randn(width) * 0.1}
    values |= {"running_mean": torch.randn(width) * 0.1, "running_var": torch.rand(width) + 0.5}
    return {f"{prefix}.{name}": value for name, value in values.items()}


def package() -> dict[str, torch.Tensor]:
    """Random weights under the package's names."""
    torch.manual_seed(0)
    trunk: Any = LiteTrunk()
    found = {"_conv_stem.weight": trunk.stem.weight.data} | norm(32, "_bn0")
    blocks: list[Any] = [block for stage in trunk.stages for block in stage]
    for index, block in enumerate(blocks):
        for name, bn in (("expand", "_bn0"), ("depthwise", "_bn1"), ("project", "_bn2")):
            if (conv := getattr(block, name)) is not None:
                found[f"_blocks.{index}._{name}_conv.weight"] = conv.weight.data
                found |= norm(conv.out_channels, f"_blocks.{index}.{bn}")
    return found


def as_taught(found: dict[str, torch.Tensor], bytes_nchw: torch.Tensor) -> list[torch.Tensor]:
    """The network with its batch norms, on (x - 127) / 128."""

    def normed(x: torch.Tensor, prefix: str) -> torch.Tensor:
        mean, var, weight, bias = (
            found[f"{prefix}.{n}"] for n in ("running_mean", "running_var", "weight", "bias")
        )
        return F.batch_norm(x, mean, var, weight, bias, eps=EPSILON)

    x = (bytes_nchw - 127) / 128
    x = F.relu6(normed(F.conv2d(x, found["_conv_stem.weight"], stride=2), "_bn0"))  # no padding, see below
    index, levels = 0, []
    stages: Any = LiteTrunk().stages
    for stage_index, stage in enumerate(stages):
        for block in stage:
            before, name = x, f"_blocks.{index}"
            if block.expand is not None:
                x = F.relu6(normed(F.conv2d(x, found[f"{name}._expand_conv.weight"]), f"{name}._bn0"))
            weight = found[f"{name}._depthwise_conv.weight"]
            conv: Any = block.depthwise
            x = F.relu6(
                normed(F.conv2d(x, weight, None, conv.stride, conv.padding, groups=conv.groups), f"{name}._bn1")
            )
            x = normed(F.conv2d(x, found[f"{name}._project_conv.weight"]), f"{name}._bn2")
            x = x + before if block.kept else x
            index += 1
        levels += [x] if stage_index in LEVELS else []
    return levels


def test_the_folded_trunk_is_the_one_that_was_taught() -> None:
    found = package()
    trunk = LiteTrunk().eval()
    trunk.load_state_dict(trunk_weights(found))
    trunk.stem.padding = (0, 0)  # the border's zeros mean another grey on either side of the mapping
    bytes_nchw = torch.randint(0, 256, (1, 3, 65, 65)).float()
    mean, std = (torch.tensor(v)[:, None, None] for v in (MEAN_RGB, STD_RGB))
    with torch.no_grad():
        ours, theirs = trunk((bytes_nchw / 255 - mean) / std), as_taught(found, bytes_nchw)
    for one, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-3)


def test_a_folded_norm_is_the_norm() -> None:
    torch.manual_seed(0)
    conv = nn.Conv2d(3, 5, 3, bias=False)
    bn: Any = nn.BatchNorm2d(5, eps=EPSILON).eval()
    nn.init.uniform_(bn.running_var, 0.5, 2)
    nn.init.normal_(bn.running_mean)
    nn.init.normal_(bn.weight)
    weight, bias = folded(conv.weight, dict(bn.state_dict()))
    x = torch.randn(1, 3, 8, 8)
    torch.testing.assert_close(F.conv2d(x, weight, bias), bn(conv(x)))


def test_ridge_finds_a_linear_map_and_says_what_it_explains() -> None:
    torch.manual_seed(0)
    weight, bias, inputs = torch.randn(4, 6), torch.randn(4), 100 * torch.randn(500, 6) + 30
    found_weight, found_bias, share = ridge(inputs, inputs @ weight.T + bias)
    torch.testing.assert_close(found_weight, weight, rtol=0, atol=0.01)
    torch.testing.assert_close(found_bias, bias, rtol=0, atol=0.5)
    assert share == pytest.approx(1, abs=1e-4)
    assert ridge(inputs, torch.randn(500, 4))[2] < 0.1


def test_the_neck_is_fitted_to_what_the_former_one_made() -> None:
    torch.manual_seed(0)
    teacher: Any = build(64, CONV_TRUNK).eval().image_encoder
    model: Any = build(64).eval().image_encoder
    before = model.neck.convs[1].conv.weight.clone()
    shares = fit_neck(model.trunk, model.neck, teacher, [torch.randn(1, 3, 64, 64) for _ in range(3)])
    assert len(shares) == 4
    assert all(0 < share <= 1 for share in shares)
    assert not torch.equal(before, model.neck.convs[1].conv.weight)
