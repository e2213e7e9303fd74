"""The image encoder with less to do: the same weights and sums as the official `forward_image` (`sam2_base.py`).

Of the two finer levels only what the mask decoder makes of them is used, a linear layer after a linear layer: these
become one, and 128 or 256 channels at a quarter of the picture's size are never made. A trunk of our own runs with
channels last and, on a CPU, with weights as oneDNN wants them.
"""

from typing import Any

import torch
import torch.nn.functional as F
from sam2.modeling.sam2_base import SAM2Base
from torch import Tensor, nn

from tracker.engine.forward import Features
from tracker.engine.layers.conv_trunk import ConvTrunk, ResidualBlock
from tracker.engine.layers.linear import Conv, Linear, after, linear
from tracker.errors import ModelError

TOP_DOWN = [2, 3]  # the levels of the neck that see coarser ones


class Encoder:
    """The official module's weights, laid out. `dtype` is that of a `ConvTrunk`'s products; sums stay float32."""

    def __init__(self, net: SAM2Base, dtype: torch.dtype) -> None:
        encoder, decoder = net.image_encoder, net.sam_mask_decoder
        neck = encoder.neck
        if neck.fpn_top_down_levels != TOP_DOWN or neck.fuse_type != "sum" or encoder.scalp != 1:
            raise ModelError("image encoder: the engine is made for a neck whose two finest levels stand alone")
        trunk = encoder.trunk
        self._trunk = FastTrunk(trunk, dtype) if isinstance(trunk, ConvTrunk) else trunk
        self._fine = Linear.of(after(_flat(neck.convs[3].conv), _flat(decoder.conv_s0)))
        self._middle = Linear.of(after(_flat(neck.convs[2].conv), _flat(decoder.conv_s1)))
        self._coarse, self._coarsest = Linear.of(neck.convs[1].conv), Linear.of(neck.convs[0].conv)
        self._enlarge = neck.fpn_interp_model
        side = net.sam_image_embedding_size
        self._position_1chw: Tensor = neck.position_encoding(torch.zeros(1, 1, side, side, device=net.device))

    def __call__(self, images_nchw: Tensor) -> Features:
        """Normalised images [n, 3, s, s] -> features."""
        fine, middle, coarse, coarsest = self._trunk(images_nchw)
        with torch.autocast("cpu", enabled=False):
            align = None if self._enlarge == "nearest" else False
            above_nchw = F.interpolate(
                _pixels(self._coarsest, coarsest), scale_factor=2.0, mode=self._enlarge, align_corners=align
            )
            coarse_nchw = _pixels(self._coarse, coarse) + above_nchw
            return Features(
                _pixels(self._fine, fine), _pixels(self._middle, middle), coarse_nchw, self._position_1chw
            )


class FastTrunk:
    """`ConvTrunk`, laid out."""

    def __init__(self, trunk: ConvTrunk, dtype: torch.dtype) -> None:
        self._stem = ConvNorm(trunk.stem[0], dtype)
        stages: Any = trunk.stages
        self._stages = [[FastBlock(block, dtype) for block in stage] for stage in stages]

    def __call__(self, images_nchw: Tensor) -> list[Tensor]:
        levels: list[Tensor] = []
        with torch.autocast("cpu", enabled=False):
            x_nchw = self._stem(images_nchw).relu_()
            for stage in self._stages:
                for block in stage:
                    x_nchw = block(x_nchw)
                levels.append(x_nchw)
        return levels


class FastBlock:
    """`ResidualBlock`, laid out."""

    def __init__(self, block: ResidualBlock, dtype: torch.dtype) -> None:
        self._first, self._second = ConvNorm(block.conv1, dtype), ConvNorm(block.conv2, dtype)
        self._shortcut = Conv(block.shortcut, dtype) if isinstance(block.shortcut, nn.Conv2d) else None

    def __call__(self, x_nchw: Tensor) -> Tensor:
        branch_nchw = self._second(self._first(x_nchw).relu_())
        kept_nchw = x_nchw if self._shortcut is None else self._shortcut(x_nchw)
        return branch_nchw.add_(kept_nchw).relu_()


class ConvNorm:
    """A convolution and its group norm."""

    def __init__(self, layers: Any, dtype: torch.dtype) -> None:
        conv, self._norm = layers
        self._conv = Conv(conv, dtype)

    def __call__(self, x_nchw: Tensor) -> Tensor:
        out: Tensor = self._norm(self._conv(x_nchw))
        return out


def _flat(conv: nn.Conv2d) -> nn.Linear:
    """A 1x1 convolution as a linear layer."""
    return linear(*Linear.of(conv))


def _pixels(layer: Linear, x_nchw: Tensor) -> Tensor:
    """A linear layer at each pixel: [n, i, h, w] -> [n, o, h, w]."""
    return layer(x_nchw.permute(0, 2, 3, 1).float().contiguous()).permute(0, 3, 1, 2)
