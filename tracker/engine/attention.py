"""Memory attention for many objects at once, equal to the official `MemoryAttention` (`memory_attention.py`).

What the official module does for every object and frame is done once here: keys and values of a memory are
projected and rotated when it is made (temporal encoding and rotation are linear, so the encoding is added
afterwards), rotary tables are computed at the start, and the first self-attention, which sees no memory yet, runs
per image.

Channels of queries and keys are stored halves first, not in interleaved pairs: that leaves every product as it is
and makes the rotation two contiguous halves of real arithmetic.
"""

import math
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from sam2.modeling.position_encoding import compute_axial_cis
from torch import Tensor

from tracker.errors import ModelError

# Scores of attention are written out, where that is faster, up to this many bytes.
MAX_SCORE_BYTES = 256 << 20


@dataclass(frozen=True, slots=True, eq=False)
class Rotary:
    """Rotation of each of t positions, float [t, c / 2] each."""

    cos_tc: Tensor
    sin_tc: Tensor

    def turn(self, x_btc: Tensor) -> Tensor:
        """Rotate [..., t, c], whose channels are halves first (`apply_rotary_enc`, in real numbers)."""
        a, b = x_btc.chunk(2, -1)
        return torch.cat((a * self.cos_tc - b * self.sin_tc, b * self.cos_tc + a * self.sin_tc), -1)


class Layer:
    """One official `MemoryAttentionLayer`, its weights laid out for batches."""

    def __init__(self, layer: Any, dtype: torch.dtype) -> None:
        _check(layer)
        own, cross = layer.self_attn, layer.cross_attn_image
        order = _halves_first(own.internal_dim, own.q_proj.weight.device)
        self._norms = layer.norm1, layer.norm2, layer.norm3
        self._activation = layer.activation
        self._qkv = _stacked([_reordered(own.q_proj, order), _reordered(own.k_proj, order), own.v_proj], dtype)
        self._own_out = _stacked([own.out_proj], dtype)
        self._q = _stacked([_reordered(cross.q_proj, order)], dtype)
        self._cross_out = _stacked([cross.out_proj], dtype)
        self._in = _stacked([layer.linear1], dtype)
        self._out = _stacked([layer.linear2], dtype)
        self.key = _stacked([_reordered(cross.k_proj, order)], torch.float32)
        self.value = _stacked([cross.v_proj], torch.float32)
        self.dtype = dtype

    def look_around(self, x_ntc: Tensor, rotary: Rotary) -> Tensor:
        """Self-attention of each picture's positions."""
        q, k, v = F.linear(self._norm(0, x_ntc), *self._qkv).chunk(3, -1)
        return x_ntc + F.linear(attend(rotary.turn(q), rotary.turn(k), v), *self._own_out)

    def look_back(self, x_btc: Tensor, rotary: Rotary, keys_bsc: Tensor, values_bsc: Tensor) -> Tensor:
        """Attention to the memories, and the two linear layers after it."""
        q_btc = rotary.turn(F.linear(self._norm(1, x_btc), *self._q))
        x_btc = x_btc + F.linear(attend(q_btc, keys_bsc, values_bsc), *self._cross_out)
        hidden = self._activation(F.linear(self._norm(2, x_btc), *self._in))
        return x_btc + F.linear(hidden, *self._out)

    def _norm(self, i: int, x_btc: Tensor) -> Tensor:
        out: Tensor = self._norms[i](x_btc)
        return out.to(self.dtype)


class Attention:
    """The official module's layers and its last norm. `dtype` is that of products; sums stay float32."""

    def __init__(self, module: Any, side: int, dtype: torch.dtype) -> None:
        self.layers = [Layer(layer, dtype) for layer in module.layers]
        self._norm = module.norm
        self.rotary = _rotary(module.layers[0].self_attn, side, module.norm.weight.device)
        self.dtype = dtype

    def __call__(
        self, x_ntc: Tensor, image_b: Tensor, keys_lbsc: list[Tensor], values_lbsc: list[Tensor]
    ) -> Tensor:
        """Pictures [n, t, c] (position encoding added) seen by b objects, each on picture `image_b` with its own
        keys and values: [b, t, c]."""
        rotary = Rotary(self.rotary.cos_tc.to(self.dtype), self.rotary.sin_tc.to(self.dtype))
        x_btc = self.layers[0].look_around(x_ntc, rotary)[image_b]
        for i, layer in enumerate(self.layers):
            if i > 0:
                x_btc = layer.look_around(x_btc, rotary)
            x_btc = layer.look_back(x_btc, rotary, keys_lbsc[i], values_lbsc[i])
        out: Tensor = self._norm(x_btc)
        return out


def attend(q_btc: Tensor, k_bsc: Tensor, v_bsc: Tensor) -> Tensor:
    """One head of attention. On a CPU bfloat16 products are far faster written out than in torch's fused kernel."""
    scores = q_btc.shape[0] * q_btc.shape[1] * k_bsc.shape[1]
    if q_btc.device.type == "cpu" and q_btc.dtype is torch.bfloat16 and scores * 2 <= MAX_SCORE_BYTES:
        weights_bts = torch.bmm(q_btc * (1 / math.sqrt(q_btc.shape[-1])), k_bsc.transpose(1, 2)).softmax(-1)
        return torch.bmm(weights_bts, v_bsc)
    out = F.scaled_dot_product_attention(q_btc[:, None], k_bsc[:, None], v_bsc[:, None])
    return out[:, 0]


def _check(layer: Any) -> None:
    plain = (
        not layer.pos_enc_at_attn and not layer.pos_enc_at_cross_attn_queries and layer.pos_enc_at_cross_attn_keys
    )
    if not plain or layer.self_attn.num_heads != 1 or layer.cross_attn_image.num_heads != 1:
        raise ModelError("memory attention: the engine is made for one head and position encoding at the keys only")


def _halves_first(channels: int, device: torch.device) -> Tensor:
    """Interleaved pairs (0, 1), (2, 3), … -> all first ones, then all second ones."""
    return torch.arange(channels, device=device).reshape(-1, 2).T.reshape(-1)


def _reordered(linear: Any, order: Tensor) -> Any:
    out = torch.nn.Linear(linear.in_features, linear.out_features, device=order.device)
    out.weight.data, out.bias.data = linear.weight.data[order], linear.bias.data[order]
    return out


def _stacked(linears: list[Any], dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """Weight and bias of linear layers on the same input, as one."""
    weight = torch.cat([linear.weight.detach() for linear in linears])
    return weight.to(dtype), torch.cat([linear.bias.detach() for linear in linears]).to(dtype)


def _rotary(attention: Any, side: int, device: torch.device) -> Rotary:
    theta = attention.compute_cis.keywords["theta"]
    turns = compute_axial_cis(attention.internal_dim, side, side, theta).to(device)
    return Rotary(turns.real.contiguous(), turns.imag.contiguous())
