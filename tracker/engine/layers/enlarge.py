"""A tracked mask at a quarter of the image's size, without shuffling what lies between.

A transposed convolution of size and stride 2 is a linear layer that makes four pixels of one; these stay where they
are, and only the chosen mask's pixels are put in order.
"""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from tracker.engine.layers.linear import Linear, by_onednn


class Enlarge:
    """`MaskDecoder.output_upscaling` and the product with the chosen mask's weights."""

    def __init__(self, decoder: Any, dtype: torch.dtype) -> None:
        first, self._norm, _, second, _ = decoder.output_upscaling
        self._first, self._second = _four_of_one(first, dtype), _four_of_one(second, dtype)
        self._dtype = dtype

    def __call__(
        self, keys_btc: Tensor, fine_nchw: Tensor, middle_nchw: Tensor, image_b: Tensor, weights_bk: Tensor
    ) -> Tensor:
        """[b, h4, w4]. On a CPU object by object, so that what lies between stays in the cache."""
        middle_nxc = _by_four(middle_nchw)
        fine_nxc = _by_sixteen(fine_nchw)
        together = 1 if by_onednn(keys_btc.device) else len(keys_btc)
        parts = (torch.split(of_all, together) for of_all in (keys_btc, image_b, weights_bk))
        logits = [
            self._logits(part_btc, middle_nxc[part_b], fine_nxc[part_b], part_bk)
            for part_btc, part_b, part_bk in zip(*parts, strict=True)
        ]
        return _in_order(torch.cat(logits), side=middle_nchw.shape[-1] // 2)

    def _logits(self, keys_btc: Tensor, middle_bxc: Tensor, fine_bxc: Tensor, weights_bk: Tensor) -> Tensor:
        """[b, 16 * t, 1], in the order in which positions were enlarged."""
        x_bxc = self._enlarged(self._first, keys_btc, middle_bxc)
        x_bxc = self._normed(x_bxc + middle_bxc)
        x_bxc = self._enlarged(self._second, F.gelu(x_bxc), fine_bxc)
        x_bxc = F.gelu(x_bxc + fine_bxc)
        return torch.bmm(x_bxc, weights_bk[..., None])

    def _enlarged(self, four_of_one: Linear, x_bxc: Tensor, like_bxc: Tensor) -> Tensor:
        """Four pixels of each, side by side, with as many channels as `like_bxc`: [b, 4 * x, c]."""
        pixels = four_of_one(x_bxc.to(self._dtype)).float()
        return pixels.reshape(len(x_bxc), -1, like_bxc.shape[-1])

    def _normed(self, x_bxc: Tensor) -> Tensor:
        norm = self._norm
        return F.layer_norm(x_bxc, norm.weight.shape, norm.weight, norm.bias, norm.eps)


def _by_four(middle_nchw: Tensor) -> Tensor:
    """Pixels in the order in which one position makes four of itself: float32 [n, h * w, c]."""
    n, c, side = middle_nchw.shape[0], middle_nchw.shape[1], middle_nchw.shape[2] // 2
    split = middle_nchw.reshape(n, c, side, 2, side, 2)
    return split.permute(0, 2, 4, 3, 5, 1).flatten(1, 4).float()


def _by_sixteen(fine_nchw: Tensor) -> Tensor:
    """Pixels in the order in which one position makes four of itself, twice: float32 [n, h * w, c]."""
    n, c, side = fine_nchw.shape[0], fine_nchw.shape[1], fine_nchw.shape[2] // 4
    split = fine_nchw.reshape(n, c, side, 2, 2, side, 2, 2)
    return split.permute(0, 2, 5, 3, 6, 4, 7, 1).flatten(1, 6).float()


def _in_order(logits_bx1: Tensor, side: int) -> Tensor:
    """What was made of `side * side` positions by enlarging them twice, row by row: [b, h4, w4]."""
    split = logits_bx1.reshape(-1, side, side, 2, 2, 2, 2)
    return split.permute(0, 1, 3, 5, 2, 4, 6).reshape(-1, 4 * side, 4 * side)


def _four_of_one(conv: Any, dtype: torch.dtype) -> Linear:
    """A transposed convolution of size and stride 2: [i] -> four pixels, row by row, of [o]."""
    weight = conv.weight.detach().permute(2, 3, 1, 0).flatten(0, 2)
    return Linear(weight.to(dtype), conv.bias.detach().repeat(4).to(dtype))
