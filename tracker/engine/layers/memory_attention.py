"""Memory attention for many objects at once, equal to the official `MemoryAttention` (`memory_attention.py`).

What the official module does for every object and frame is done once here: keys and values of a memory are
projected and rotated when it is made (temporal encoding and rotation are linear, so the encoding is added
afterwards), rotary tables are computed at the start, and the first self-attention, which sees no memory yet, runs
per image.

Channels of queries and keys are stored halves first, not in interleaved pairs: that leaves every product as it is
and makes the rotation two contiguous halves of real arithmetic.
"""

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from sam2.modeling.position_encoding import compute_axial_cis
from torch import Tensor, nn

from tracker.engine.layers.linear import Linear, after, attend, by_onednn, linear
from tracker.errors import ModelError


@dataclass(frozen=True, slots=True, eq=False)
class Rotary:
    """Rotation of each of t positions, float [t, c / 2] each."""

    cos_tc: Tensor
    sin_tc: Tensor

    def rotate(self, x_btc: Tensor) -> Tensor:
        """Rotate [..., t, c], whose channels are halves first (`apply_rotary_enc`, in real numbers): computed in
        float32, and given back in the type that came."""
        a, b = x_btc.float().chunk(2, -1)
        turned_btc = torch.cat((a * self.cos_tc - b * self.sin_tc, b * self.cos_tc + a * self.sin_tc), -1)
        return turned_btc.to(x_btc.dtype)


class Layer:
    """One official `MemoryAttentionLayer`, its weights laid out for batches.

    `narrow`: memories are their own values. What projects them is linear and comes after a mean, so that it is part
    of the layer's output product instead.
    """

    def __init__(self, layer: Any, dtype: torch.dtype, *, narrow: bool) -> None:
        _check(layer)
        own, cross = layer.self_attn, layer.cross_attn_image
        order = _halves_first(own.internal_dim, own.q_proj.weight.device)
        scale = 1 / math.sqrt(own.internal_dim)
        self._norms = layer.norm1, layer.norm2, layer.norm3
        self._qkv = Linear.of(
            _reordered(own.q_proj, order, scale), _reordered(own.k_proj, order), own.v_proj, dtype=dtype
        )
        self._own_out = Linear.of(own.out_proj, dtype=dtype)
        self._q = Linear.of(_reordered(cross.q_proj, order, scale), dtype=dtype)
        self._cross_out = Linear.of(after(cross.v_proj, cross.out_proj) if narrow else cross.out_proj, dtype=dtype)
        self._in = Linear.of(layer.linear1, dtype=dtype)
        self._out = Linear.of(layer.linear2, dtype=dtype)
        self.key = _reordered(cross.k_proj, order)
        self.value = cross.v_proj
        self.dtype = dtype

    def self_attention(self, x_ntc: Tensor, rotary: Rotary) -> Tensor:
        """Self-attention of each picture's positions."""
        q, k, v = self._qkv(self._norm(0, x_ntc)).chunk(3, -1)
        return x_ntc + self._own_out(attend(rotary.rotate(q), rotary.rotate(k), v))

    def cross_attention(
        self, x_btc: Tensor, rotary: Rotary, keys_bsc: Iterable[Tensor], values_bsv: Tensor, mask_bs: Tensor | None
    ) -> Tensor:
        """Attention to the memories, and the two linear layers after it."""
        q_btc = rotary.rotate(self._q(self._norm(1, x_btc)))
        seen_btv = attend(q_btc, keys_bsc, values_bsv, mask_bs)
        x_btc = x_btc + self._cross_out(seen_btv)
        return x_btc + self._out(self._in(self._norm(2, x_btc), "relu"))

    def _norm(self, i: int, x_btc: Tensor) -> Tensor:
        out: Tensor = self._norms[i](x_btc)
        return out.to(self.dtype)


class Attention:
    """The official module's layers and its last norm. `dtype` is that of products; sums stay float32.

    Args:
        position_tm: where each token of a memory lies.
        times_am: what tells how many steps ago a memory is from.
    """

    def __init__(self, module: Any, dtype: torch.dtype, position_tm: Tensor, times_am: Tensor) -> None:
        device = position_tm.device
        self._narrow = by_onednn(device)
        self._layers = [Layer(layer, dtype, narrow=self._narrow) for layer in module.layers]
        self._norm = module.norm
        self.dtype = dtype
        self._position_tm = position_tm
        own = module.layers[0].self_attn
        self._rotary = _rotary(own, math.isqrt(len(position_tm)), device)
        self._key = Linear.of(*(layer.key for layer in self._layers))
        self._value = Linear.of(*(layer.value for layer in self._layers), dtype=dtype)
        at_m = F.linear(times_am, self._key.weight_oi)[:, None].expand(-1, len(position_tm), -1)
        self._time_altc = self._rotary.rotate(self._by_layer(at_m)).to(dtype)

    def __call__(
        self,
        x_ntc: Tensor,
        image_b: Tensor,
        keys_lbsc: list[Iterable[Tensor]],
        values_lbsv: list[Tensor],
        mask_bs: Tensor | None = None,
    ) -> Tensor:
        """Pictures [n, t, c] (position encoding added) seen by b objects, each on picture `image_b` with its own
        keys and values: [b, t, c]. `mask_bs` is added to the scores: -inf where there is nothing."""
        mask_bs = None if mask_bs is None else mask_bs.to(self.dtype)
        x_btc = self._layers[0].self_attention(x_ntc, self._rotary)[image_b]
        for i, layer in enumerate(self._layers):
            if i > 0:
                x_btc = layer.self_attention(x_btc, self._rotary)
            x_btc = layer.cross_attention(x_btc, self._rotary, keys_lbsc[i], values_lbsv[i], mask_bs)
        out: Tensor = self._norm(x_btc)
        return out

    def project(self, memory_ntm: Tensor) -> Tensor:
        """Memories -> the keys of every layer without a temporal encoding, then the memory itself: [n, k]."""
        memory_ntm = memory_ntm.float()
        keys_nltc = self._rotary.rotate(self._by_layer(self._key(memory_ntm + self._position_tm)))
        return torch.cat((keys_nltc.flatten(1), memory_ntm.flatten(1)), 1).to(self.dtype)

    def look_up(
        self, projected_nk: Tensor, slots_bm: Tensor, times_bm: Tensor, tokens_bpm: Tensor, ages_bpm: Tensor
    ) -> tuple[list[Iterable[Tensor]], list[Tensor]]:
        """Keys and values [b, s, c] of every layer: of the memories in these slots first, then of the pointers,
        which lie nowhere and are not rotated. On a CPU a layer's keys come one object after the other, once."""
        key_size = self._time_altc[0].numel()
        count = len(projected_nk)
        keys_nltc = projected_nk[:, :key_size].view(count, *self._time_altc.shape[1:])
        memory_ntm = projected_nk[:, key_size:].view(count, *self._position_tm.shape)
        pointer_keys = self._by_layer(self._key(tokens_bpm + ages_bpm)).to(self.dtype)
        layers = range(len(self._layers))
        kept = [(keys_nltc[:, i], self._time_altc[:, i], pointer_keys[:, i]) for i in layers]
        keys: list[Iterable[Tensor]]
        if self._narrow:
            slots, times = slots_bm.tolist(), times_bm.tolist()
            keys = [_keys_in_turn(*of_layer, slots, times) for of_layer in kept]
        else:
            keys = [_joined(k_ntc[slots_bm], pointers, t_atc[times_bm]) for k_ntc, t_atc, pointers in kept]
        return keys, self._values(_joined(memory_ntm[slots_bm], tokens_bpm.to(self.dtype)))

    def _values(self, memory_bsm: Tensor) -> list[Tensor]:
        """What is looked at, as every layer's values: the memories themselves, or all layers' by one product, which
        on a GPU moves a quarter of what looking up kept ones would."""
        count = len(self._layers)
        return [memory_bsm] * count if self._narrow else list(self._value(memory_bsm).chunk(count, -1))

    def _by_layer(self, x_ntk: Tensor) -> Tensor:
        """[n, t, layers * c] -> [n, layers, t, c]."""
        return x_ntk.reshape(*x_ntk.shape[:2], len(self._layers), -1).transpose(1, 2)


def _keys_in_turn(
    keys_ntc: Tensor,
    times_atc: Tensor,
    pointers_bpc: Tensor,
    slots_bm: Sequence[Sequence[int]],
    times_bm: Sequence[Sequence[int]],
) -> Iterator[Tensor]:
    """Each object's keys [m * t + p, c], all in one buffer that stays in the cache: its memories, each with what
    tells its time, then its pointers. One pass over what is kept, and no copy of it for all objects."""
    _, t, c = keys_ntc.shape
    tokens = len(slots_bm[0]) * t
    buffer_sc = keys_ntc.new_empty(tokens + pointers_bpc.shape[1], c)
    places_mtc = buffer_sc[:tokens].view(-1, t, c)
    for slots_m, times_m, pointers_pc in zip(slots_bm, times_bm, pointers_bpc, strict=True):
        for place_tc, slot, time in zip(places_mtc, slots_m, times_m, strict=True):
            torch.add(keys_ntc[slot], times_atc[time], out=place_tc)
        buffer_sc[tokens:] = pointers_pc
        yield buffer_sc


def _joined(memories_bmtc: Tensor, pointers_bpc: Tensor, times_bmtc: Tensor | None = None) -> Tensor:
    """[b, m * t + p, c], each memory with what tells its time; in as few passes as can be."""
    b, m, t, c = memories_bmtc.shape
    out_bsc = memories_bmtc.new_empty(b, m * t + pointers_bpc.shape[1], c)
    place_bmtc = out_bsc[:, : m * t].view(b, m, t, c)
    if times_bmtc is None:
        place_bmtc.copy_(memories_bmtc)
    else:
        torch.add(memories_bmtc, times_bmtc, out=place_bmtc)
    out_bsc[:, m * t :] = pointers_bpc
    return out_bsc


def _check(layer: Any) -> None:
    plain = (
        not layer.pos_enc_at_attn and not layer.pos_enc_at_cross_attn_queries and layer.pos_enc_at_cross_attn_keys
    )
    if not plain or layer.self_attn.num_heads != 1 or layer.cross_attn_image.num_heads != 1:
        raise ModelError("memory attention: the engine is made for one head and position encoding at the keys only")


def _halves_first(channels: int, device: torch.device) -> Tensor:
    """Interleaved pairs (0, 1), (2, 3), … -> all first ones, then all second ones."""
    return torch.arange(channels, device=device).reshape(-1, 2).T.reshape(-1)


def _reordered(layer: Any, order: Tensor, scale: float = 1.0) -> nn.Linear:
    return linear(layer.weight[order] * scale, layer.bias[order] * scale)


def _rotary(attention: Any, side: int, device: torch.device) -> Rotary:
    theta = attention.compute_cis.keywords["theta"]
    turns = compute_axial_cis(attention.internal_dim, side, side, theta).to(device)
    return Rotary(turns.real.contiguous(), turns.imag.contiguous())
