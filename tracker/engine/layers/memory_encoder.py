"""The memory encoder's arithmetic with channels last, where its norms and linear layers find them side by side.

The same sums as the official `MemoryEncoder`, `MaskDownSampler`, `Fuser` and `CXBlock` (`memory_encoder.py`), whose
norm over channels is five passes over memory that lies the other way round.
"""

from typing import Any

import torch
import torch.nn.functional as F
from sam2.modeling.sam2_utils import LayerNorm2d
from torch import Tensor, nn

from tracker.engine.layers.linear import Conv, Linear, scaled
from tracker.errors import ModelError

MIN_CHANNELS = 64  # of what is done with channels last; torch's own norm gains nothing on fewer


class MemoryEncoder:
    """The official module, its weights laid out. `dtype` is that of products; sums and norms stay float32."""

    def __init__(self, module: Any, dtype: torch.dtype) -> None:
        if not isinstance(module.fuser.proj, nn.Identity):
            raise ModelError("memory encoder: the engine is made for a fuser without a projection")
        self._picture = Linear.of(module.pix_feat_proj, dtype=dtype)
        self._shrinking = [_laid_out(layer, dtype) for layer in module.mask_downsampler.encoder]
        self._blocks = [Block(layer, dtype) for layer in module.fuser.layers]
        self._out = Linear.of(module.out_proj, dtype=dtype)
        self.dtype = dtype

    def __call__(self, coarse_nchw: Tensor, image_b: Tensor, mask_b1hw: Tensor) -> Tensor:
        """Pictures' features, and b objects' masks at the image's size, each on picture `image_b`: [b, h, w, m]."""
        picture_nhwc = self._picture(coarse_nchw.permute(0, 2, 3, 1).to(self.dtype)).float()
        x_bhwc = picture_nhwc[image_b] + self._shrink(mask_b1hw)
        for block in self._blocks:
            x_bhwc = block(x_bhwc)
        return self._out(x_bhwc.to(self.dtype)).float()

    def _shrink(self, mask_b1hw: Tensor) -> Tensor:
        """[b, 1, 16 h, 16 w] -> [b, h, w, c] (`MaskDownSampler.forward`)."""
        x_bchw = mask_b1hw
        for layer in self._shrinking:
            if isinstance(layer, LayerNorm2d) and x_bchw.shape[1] >= MIN_CHANNELS:
                x_bchw = norm_last(layer, x_bchw.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)
            else:
                x_bchw = layer(x_bchw).float()
        return x_bchw.permute(0, 2, 3, 1)


class Block:
    """`CXBlock`; its scale is part of the last product."""

    def __init__(self, block: Any, dtype: torch.dtype) -> None:
        self._spread = Conv(block.dwconv, dtype)
        self._norm = block.norm
        self._in = Linear.of(block.pwconv1, dtype=dtype)
        self._out = Linear.of(
            block.pwconv2 if block.gamma is None else scaled(block.pwconv2, block.gamma), dtype=dtype
        )
        self._dtype = dtype

    def __call__(self, x_bhwc: Tensor) -> Tensor:
        y_bhwc = self._spread(x_bhwc.permute(0, 3, 1, 2)).float().permute(0, 2, 3, 1)
        y_bhwc = norm_last(self._norm, y_bhwc).to(self._dtype)
        return x_bhwc + self._out(self._in(y_bhwc, "gelu"))


def norm_last(norm: Any, x_bhwc: Tensor) -> Tensor:
    """`LayerNorm2d` of channels that are last."""
    return F.layer_norm(x_bhwc, x_bhwc.shape[-1:], norm.weight, norm.bias, norm.eps)


def _laid_out(layer: nn.Module, dtype: torch.dtype) -> Any:
    if isinstance(layer, nn.Conv2d) and layer.out_channels >= MIN_CHANNELS:
        return Conv(layer, dtype)
    return layer
