"""The image encoder with less to do: the same weights and sums as the official `forward_image` (`sam2_base.py`).

Of the two finer levels only what the mask decoder makes of them is used, a linear layer after a linear layer: these
become one, and 128 or 256 channels at a quarter of the picture's size are never made. Weights lie in the type of
the products, as their kernels want them.
"""

from copy import deepcopy
from typing import Any

import torch
import torch.nn.functional as F
from sam2.modeling.sam2_base import SAM2Base
from torch import Tensor, nn

from tracker.engine.forward import Features
from tracker.engine.layers.linear import Conv, Linear, after, linear
from tracker.engine.layers.lite_trunk import LEVELS, InvertedResidual, LiteTrunk
from tracker.errors import ModelError

TOP_DOWN = [2, 3]  # the levels of the neck that see coarser ones


class Encoder:
    """The official module's weights, laid out. `dtype` is that of products; the coarse level's sum is float32."""

    def __init__(self, net: SAM2Base, dtype: torch.dtype) -> None:
        encoder, decoder = net.image_encoder, net.sam_mask_decoder
        neck = encoder.neck
        if neck.fpn_top_down_levels != TOP_DOWN or neck.fuse_type != "sum" or encoder.scalp != 1:
            raise ModelError("image encoder: the engine is made for a neck whose two finest levels stand alone")
        self._dtype = dtype
        trunk = encoder.trunk
        self._trunk = LaidOutLite(trunk) if isinstance(trunk, LiteTrunk) else stored(trunk, dtype)
        self._fine = Linear.of(after(_flat(neck.convs[3].conv), _flat(decoder.conv_s0)), dtype=dtype)
        self._middle = Linear.of(after(_flat(neck.convs[2].conv), _flat(decoder.conv_s1)), dtype=dtype)
        self._coarse = Linear.of(neck.convs[1].conv, dtype=dtype)
        self._coarsest = Linear.of(neck.convs[0].conv, dtype=dtype)
        self._enlarge = neck.fpn_interp_model
        side = net.sam_image_embedding_size
        self._position_1chw: Tensor = neck.position_encoding(torch.zeros(1, 1, side, side, device=net.device))

    def __call__(self, images_nchw: Tensor) -> Features:
        """Normalised images [n, 3, s, s] -> features."""
        fine, middle, coarse, coarsest = self._levels(images_nchw)
        align = None if self._enlarge == "nearest" else False
        with torch.autocast(images_nchw.device.type, enabled=False):
            coarsest_nchw = _at_pixels(self._coarsest, coarsest).float()
            above_nchw = F.interpolate(coarsest_nchw, scale_factor=2.0, mode=self._enlarge, align_corners=align)
            return Features(
                _at_pixels(self._fine, fine),
                _at_pixels(self._middle, middle),
                _at_pixels(self._coarse, coarse) + above_nchw,
                self._position_1chw,
            )

    def _levels(self, images_nchw: Tensor) -> list[Tensor]:
        """The trunk's, finest first."""
        casting = isinstance(self._trunk, nn.Module) and self._dtype is not torch.float32
        with torch.autocast(images_nchw.device.type, torch.bfloat16, enabled=casting):
            levels: list[Tensor] = self._trunk(images_nchw)
        return levels


class LaidOutLite:
    """`LiteTrunk`, laid out, and as that one in float32 always."""

    def __init__(self, trunk: LiteTrunk) -> None:
        self._stem = Conv(trunk.stem, activation="relu6")
        stages: Any = trunk.stages
        self._stages = [[LaidOutResidual(block) for block in stage] for stage in stages]

    def __call__(self, images_nchw: Tensor) -> list[Tensor]:
        levels: list[Tensor] = []
        x_nchw = self._stem(images_nchw)
        for index, stage in enumerate(self._stages):
            for block in stage:
                x_nchw = block(x_nchw)
            if index in LEVELS:
                levels.append(x_nchw)
        return levels


class LaidOutResidual:
    """`InvertedResidual`, laid out."""

    def __init__(self, block: InvertedResidual) -> None:
        self._expand = None if block.expand is None else Linear.of(block.expand)
        self._depthwise = Conv(block.depthwise, activation="relu6")
        self._project = Linear.of(block.project)
        self._kept = block.kept

    def __call__(self, x_nchw: Tensor) -> Tensor:
        inner_nchw = x_nchw if self._expand is None else _at_pixels(self._expand, x_nchw, "relu6")
        out_nchw = _at_pixels(self._project, self._depthwise(inner_nchw))
        return out_nchw.add_(x_nchw) if self._kept else out_nchw


def _at_pixels(layer: Linear, x_nchw: Tensor, activation: str = "none") -> Tensor:
    """A linear layer at each pixel, channels last: [n, i, h, w] -> [n, o, h, w]."""
    x_nhwc = x_nchw.permute(0, 2, 3, 1).to(layer.weight_oi.dtype).contiguous()
    return layer(x_nhwc, activation).permute(0, 3, 1, 2)


def stored(module: Any, dtype: torch.dtype) -> Any:
    """A copy whose products have their weights in `dtype`, as autocast would cast them at every call; those of
    convolutions with channels last."""
    if dtype is torch.float32:
        return module
    copied = deepcopy(module)
    for layer in copied.modules():
        if isinstance(layer, nn.Linear | nn.Conv2d):
            layer.to(dtype)
        if isinstance(layer, nn.Conv2d):
            layer.to(memory_format=torch.channels_last)
    return copied


def _flat(conv: nn.Conv2d) -> nn.Linear:
    """A 1x1 convolution as a linear layer."""
    return linear(*Linear.of(conv))
