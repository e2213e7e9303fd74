"""Linear layers, convolutions and attention, each by the kernel that is fastest on its device.

On a CPU torch gives float32 products to MKL, which on other makers' processors uses half the width of their
vectors, and its fused attention does the same. oneDNN, which torch has as well, uses all of it: 90 against 200
GFLOP/s on one core of Zen 5. The sums are the same, in another order.
"""

from collections.abc import Iterable
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

ONEDNN_SIZE = 1 << 14  # numbers that a product must have for oneDNN to be faster
SCORE_BYTES = 8 << 20  # of attention that are written out at a time

_ACTIVATIONS = {"none": lambda x: x, "relu": F.relu, "relu6": F.relu6, "gelu": F.gelu}
# The same as oneDNN has them behind a product: a name, and its bounds.
_ONEDNN: dict[str, tuple[str, list[float]]] = {
    "none": ("none", []), "relu": ("relu", []), "relu6": ("hardtanh", [0.0, 6.0]), "gelu": ("gelu", []),
}  # fmt: skip


def by_onednn(device: torch.device) -> bool:
    """Whether products are oneDNN's there."""
    return device.type == "cpu"


class Linear(NamedTuple):
    """A linear layer's weight [o, i] and bias [o]."""

    weight_oi: Tensor
    bias_o: Tensor | None = None

    @classmethod
    def of(cls, *linears: Any, dtype: torch.dtype = torch.float32) -> "Linear":
        """Linear layers on the same input, as one."""
        weight_oi = torch.cat([linear.weight.detach().flatten(1) for linear in linears])
        return cls(weight_oi.to(dtype), torch.cat([linear.bias.detach() for linear in linears]).to(dtype))

    def __call__(self, x: Tensor, activation: str = "none") -> Tensor:
        """[..., i] -> [..., o], then `none`, `relu`, `relu6` or `gelu`."""
        if by_onednn(x.device) and x.numel() // x.shape[-1] * len(self.weight_oi) >= ONEDNN_SIZE:
            return _onednn(x, self.weight_oi, self.bias_o, activation)
        out: Tensor = _ACTIVATIONS[activation](F.linear(x, self.weight_oi, self.bias_o))
        return out


def _onednn(x: Tensor, weight_oi: Tensor, bias_o: Tensor | None = None, activation: str = "none") -> Tensor:
    name, bounds = _ONEDNN[activation]
    out: Tensor = torch.ops.mkldnn._linear_pointwise(x, weight_oi, bias_o, name, bounds, "none")
    return out


def attend(q_btc: Tensor, k_bsc: Iterable[Tensor], v_bsv: Tensor, mask_bs: Tensor | None = None) -> Tensor:
    """One head of attention, [b, t, v]; queries are scaled already, and `mask_bs` is added to the scores. On a CPU
    values may be narrower than keys, and keys may come one object after the other."""
    if by_onednn(q_btc.device):
        masks = [None] * len(q_btc) if mask_bs is None else mask_bs.unbind()
        seen = []
        for q_tc, k_sc, v_sv, mask_s in zip(q_btc, k_bsc, v_bsv, masks, strict=True):
            # oneDNN takes what is not contiguous too, a thousand times slower.
            seen.append(_attend_one(q_tc.contiguous(), k_sc.contiguous(), v_sv.contiguous(), mask_s))
        return torch.stack(seen)
    assert isinstance(k_bsc, Tensor)
    mask_b1ts = None if mask_bs is None else mask_bs[:, None, None].expand(-1, 1, q_btc.shape[1], -1)
    out_b1tv = F.scaled_dot_product_attention(
        q_btc[:, None], k_bsc[:, None], v_bsv[:, None], attn_mask=mask_b1ts, scale=1.0
    )
    return out_b1tv[:, 0]


def _attend_one(q_tc: Tensor, k_sc: Tensor, v_sv: Tensor, mask_s: Tensor | None) -> Tensor:
    """Written out; each block's scores stay in the cache between products. The mask is the keys' bias."""
    rows = max(1, SCORE_BYTES // (len(k_sc) * q_tc.element_size()))
    blocks = []
    for q_block_tc in torch.split(q_tc, rows):
        weights_ts = _onednn(q_block_tc, k_sc, mask_s).softmax(-1)
        blocks.append(_onednn(weights_ts, v_sv.T))
    return blocks[0] if len(blocks) == 1 else torch.cat(blocks)


class Conv:
    """A convolution and what follows it, its weight laid out: as oneDNN wants it on a CPU, else channels last.

    Args:
        dtype: of products, and of what comes out.
        activation: as of `Linear`.
    """

    def __init__(self, conv: nn.Conv2d, dtype: torch.dtype = torch.float32, activation: str = "none") -> None:
        padding: Any = conv.padding  # of numbers: none here is named "same"
        self._geometry = list(padding), list(conv.stride), list(conv.dilation), conv.groups
        self._dtype = dtype
        self._bias_o = None if conv.bias is None else conv.bias.detach().to(dtype)
        self._weight = conv.weight.detach().to(dtype)
        self._activation = activation
        self._onednn = by_onednn(self._weight.device)
        if self._onednn:
            self._weight = torch._C._nn.mkldnn_reorder_conv2d_weight(self._weight.to_mkldnn(), *self._geometry)
        else:
            self._weight = self._weight.contiguous(memory_format=torch.channels_last)

    def __call__(self, x_nchw: Tensor) -> Tensor:
        """[n, i, h, w] -> [n, o, h', w'], channels last."""
        x_nchw = x_nchw.to(self._dtype).contiguous(memory_format=torch.channels_last)
        padding, stride, dilation, groups = self._geometry
        if self._onednn:
            out: Tensor = torch.ops.mkldnn._convolution_pointwise(
                x_nchw,
                self._weight,
                self._bias_o,
                padding,
                stride,
                dilation,
                groups,
                *_ONEDNN[self._activation],
                "",
            )
            return out
        made = F.conv2d(x_nchw, self._weight, self._bias_o, stride, padding, dilation, groups)
        activated: Tensor = _ACTIVATIONS[self._activation](made)
        return activated


def linear(weight_oi: Tensor, bias_o: Tensor | None) -> nn.Linear:
    """A module of given weights."""
    out = nn.Linear(weight_oi.shape[1], weight_oi.shape[0], device="meta")
    out.weight = nn.Parameter(weight_oi, False)
    out.register_parameter("bias", None if bias_o is None else nn.Parameter(bias_o, False))
    return out


def scaled(layer: Any, by_o: Tensor) -> nn.Linear:
    """A linear layer whose outputs are multiplied."""
    return linear(layer.weight * by_o[:, None], layer.bias * by_o)


def after(first: Any, second: Any) -> nn.Linear:
    """Two linear layers in a row as one."""
    weight = second.weight.double() @ first.weight.double()
    bias = second.weight.double() @ first.bias.double() + second.bias
    return linear(weight.float(), bias.float())
