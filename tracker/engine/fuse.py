"""The memory encoder's arithmetic with channels last, where its norms and linear layers find them side by side.

The same sums as the official `MaskDownSampler`, `Fuser` and `CXBlock` (`memory_encoder.py`), whose norm over
channels is five passes over memory that lies the other way round.
"""

from typing import Any

import torch.nn.functional as F
from sam2.modeling.sam2_utils import LayerNorm2d
from torch import Tensor

MIN_CHANNELS = 64  # of a norm that is done with channels last


def shrink(downsampler: Any, mask_b1hw: Tensor) -> Tensor:
    """Masks at the image's size -> [b, c, h / 16, w / 16] (`MaskDownSampler.forward`)."""
    x_bchw = mask_b1hw
    for layer in downsampler.encoder:
        x_bchw = _norm(layer, x_bchw) if isinstance(layer, LayerNorm2d) else layer(x_bchw)
    return x_bchw


def fuse(fuser: Any, x_bchw: Tensor) -> Tensor:
    """`Fuser.forward`."""
    x_bchw = fuser.proj(x_bchw)
    for block in fuser.layers:
        y_bhwc = _norm(block.norm, block.dwconv(x_bchw)).permute(0, 2, 3, 1)
        y_bhwc = block.pwconv2(block.act(block.pwconv1(y_bhwc)))
        if block.gamma is not None:
            y_bhwc = block.gamma * y_bhwc
        x_bchw = x_bchw + y_bhwc.permute(0, 3, 1, 2)
    return x_bchw


def _norm(norm: Any, x_bchw: Tensor) -> Tensor:
    """`LayerNorm2d`; torch's own norm gains nothing on a few channels."""
    if x_bchw.shape[1] < MIN_CHANNELS:
        out: Tensor = norm(x_bchw)
        return out
    x_bhwc = x_bchw.permute(0, 2, 3, 1)
    out_bhwc = F.layer_norm(x_bhwc, x_bhwc.shape[-1:], norm.weight, norm.bias, norm.eps)
    return out_bhwc.permute(0, 3, 1, 2)
