"""Follow many objects of many streams in few passes: the fast path beside the plain one in `engine.py`, which it is
tested against.

Objects that look back at equally many memories and pointers go through attention, decoder and memory encoder as one
batch, whichever picture each of them is on.
"""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from sam2.modeling.sam2_base import NO_OBJ_SCORE, SAM2Base
from torch import Tensor

from tracker.engine import forward, fuse
from tracker.engine.attention import Attention
from tracker.engine.forward import Features, Masks
from tracker.engine.pool import Pool
from tracker.engine.track import Bank, Track

MAX_OBJECTS = 16  # in one pass; more of them gain nothing and take memory


@dataclass(frozen=True, slots=True, eq=False)
class Move:
    """An object on its way to a frame, which is picture `i` of the features."""

    track: Track
    i: int
    frame: int
    bank: Bank

    @property
    def spatial(self) -> list[tuple[int, Tensor]]:
        """Memories with the index of their temporal encoding: conditioning frames have the last one."""
        last = len(self.bank.conditioning) * [-1]
        agos = [*last, *(ago - 1 for ago, _ in self.bank.memories)]
        entries = [*self.bank.conditioning, *(e for _, e in self.bank.memories)]
        return [(ago, e.memory_tm) for ago, e in zip(agos, entries, strict=True) if e.memory_tm is not None]


@dataclass(frozen=True, slots=True, eq=False)
class Step:
    """What b objects gave: masks, and their new memories, bfloat16 [b, h * w, m]."""

    masks: Masks
    memory_btm: Tensor


def groups(moves: Sequence[Move]) -> list[list[int]]:
    """Indices of moves that can go together: of the same depth, at most MAX_OBJECTS."""
    by_depth: dict[tuple[int, int], list[int]] = defaultdict(list)
    for k, move in enumerate(moves):
        by_depth[len(move.spatial), len(move.bank.pointers)].append(k)
    return [g[k : k + MAX_OBJECTS] for g in by_depth.values() for k in range(0, len(g), MAX_OBJECTS)]


class Batch:
    """The network prepared for batches. `dtype` is that of products. Call it in inference mode."""

    def __init__(self, net: SAM2Base, dtype: torch.dtype) -> None:
        self._net = net
        self._attention = Attention(net.memory_attention, net.sam_image_embedding_size, dtype)
        layers = self._attention.layers
        self._key = torch.cat([layer.key[0] for layer in layers]), torch.cat([layer.key[1] for layer in layers])
        self._value = (
            torch.cat([layer.value[0] for layer in layers]),
            torch.cat([layer.value[1] for layer in layers]),
        )
        self._position_tm = forward.memory_position(net)
        times_atm = net.maskmem_tpos_enc[:, 0].expand(-1, len(self._position_tm), -1)
        self._time_altc = self._turned(F.linear(times_atm, self._key[0]))
        self._pool = Pool(self._project)
        self._sparse_1pc, self._dense_1chw = net.sam_prompt_encoder(
            points=(
                torch.zeros(1, 1, 2, device=net.device),
                -torch.ones(1, 1, dtype=torch.int32, device=net.device),
            ),
            boxes=None,
            masks=None,
        )

    def step(self, moves: Sequence[Move], features: Features) -> Step:
        """One pass for moves of the same depth."""
        pictures = sorted({move.i for move in moves})
        used = Features(
            features.fine_nchw[pictures],
            features.middle_nchw[pictures],
            features.coarse_nchw[pictures],
            features.position_1chw,
        )
        image_b = torch.tensor([pictures.index(move.i) for move in moves], device=self._net.device)
        coarse_bchw = self._remember(moves, used, image_b)
        masks = self._segment(coarse_bchw, used, image_b)
        return Step(masks, self._encode_memory(masks, used, image_b))

    def _remember(self, moves: Sequence[Move], features: Features, image_b: Tensor) -> Tensor:
        """Coarse features that have looked at the memories: [b, c, h, w]."""
        coarse = features.coarse_nchw.float()
        x_ntc = (coarse + 0.1 * features.position_1chw).flatten(2).transpose(1, 2)
        keys_lbsc, values_lbsc = self._memories(moves)
        out_btc = self._attention(x_ntc, image_b, keys_lbsc, values_lbsc)
        return out_btc.transpose(1, 2).reshape(-1, *coarse.shape[1:])

    def _memories(self, moves: Sequence[Move]) -> tuple[list[Tensor], list[Tensor]]:
        """Keys and values [b, s, c] of every layer: of the spatial memories first, then of the pointers."""
        net = self._net
        spatial = [move.spatial for move in moves]
        slots = self._pool.slots_of([memory for row in spatial for _, memory in row])
        slots_bn = torch.tensor(slots, device=net.device).reshape(len(moves), -1)
        agos = [[ago for ago, _ in row] for row in spatial]
        ago_bn = torch.tensor(agos[:1] if all(row == agos[0] for row in agos) else agos, device=net.device)
        pointer_keys, pointer_values = self._pointers(moves)
        keys, values = [], []
        for i in range(len(self._attention.layers)):
            times = self._time_altc[ago_bn, i]
            key_bntc = self._pool.data[slots_bn, i, 0] + times
            keys.append(torch.cat((key_bntc.flatten(1, 2), pointer_keys[:, i]), 1))
            values.append(torch.cat((self._pool.data[slots_bn, i, 1].flatten(1, 2), pointer_values[:, i]), 1))
        return keys, values

    def _pointers(self, moves: Sequence[Move]) -> tuple[Tensor, Tensor]:
        """Keys and values of the pointers' tokens, [b, layers, p, c]; they are not rotated."""
        net = self._net
        per_pointer = net.hidden_dim // net.mem_dim
        pointers = [e.pointer_c for move in moves for _, e in move.bank.pointers]
        tokens_btm = torch.stack(pointers).reshape(len(moves), -1, net.mem_dim)
        ages = forward.pointer_ages(net, [ago for move in moves for ago, _ in move.bank.pointers])
        ages_btm = ages.repeat_interleave(per_pointer, dim=0).reshape(tokens_btm.shape)
        keys, values = F.linear(tokens_btm + ages_btm, *self._key), F.linear(tokens_btm, *self._value)
        return self._by_layer(keys), self._by_layer(values)

    def _project(self, memory_ntm: Tensor) -> Tensor:
        """Memories -> keys and values of every layer, without their temporal encoding: [n, layers, 2, t, c]."""
        memory_ntm = memory_ntm.float()
        keys = self._turned(F.linear(memory_ntm + self._position_tm, *self._key))
        values = self._by_layer(F.linear(memory_ntm, *self._value))
        return torch.stack((keys, values), 2)

    def _turned(self, keys_ntk: Tensor) -> Tensor:
        """[n, t, layers * c] -> rotated [n, layers, t, c]."""
        count = len(self._attention.layers)
        keys_nltc = keys_ntk.reshape(*keys_ntk.shape[:2], count, -1).transpose(1, 2)
        return self._attention.rotary.turn(keys_nltc).to(self._attention.dtype)

    def _by_layer(self, x_ntk: Tensor) -> Tensor:
        """[n, t, layers * c] -> [n, layers, t, c]."""
        count = len(self._attention.layers)
        return x_ntk.reshape(*x_ntk.shape[:2], count, -1).transpose(1, 2).to(self._attention.dtype)

    def _segment(self, coarse_bchw: Tensor, features: Features, image_b: Tensor) -> Masks:
        """`SAM2Base._forward_sam_heads` without a prompt; only the chosen mask is enlarged."""
        net, count = self._net, len(image_b)
        multimask = net._use_multimask(False, None)
        logits_bmhw, score_bm, token_bmc, presence_b1 = net.sam_mask_decoder(
            image_embeddings=coarse_bchw,
            image_pe=net.sam_prompt_encoder.get_dense_pe(),
            sparse_prompt_embeddings=self._sparse_1pc.expand(count, -1, -1),
            dense_prompt_embeddings=self._dense_1chw.expand(count, -1, -1, -1),
            multimask_output=multimask,
            repeat_image=False,
            high_res_features=[features.fine_nchw[image_b], features.middle_nchw[image_b]],
        )
        all_b = torch.arange(count, device=net.device)
        best_b = score_bm.argmax(1)
        token_bc = token_bmc[all_b, best_b if token_bmc.shape[1] > 1 else 0]
        there_b1 = presence_b1 > 0
        logits_b1hw = logits_bmhw[all_b, best_b][:, None].float()
        logits_b1hw = torch.where(there_b1[:, None, None], logits_b1hw, NO_OBJ_SCORE)
        pointer_bc = torch.where(there_b1, net.obj_ptr_proj(token_bc), net.no_obj_ptr)
        score_b, presence_b = score_bm[all_b, best_b].float(), presence_b1[:, 0].float()
        return Masks(logits_b1hw, forward.full_size(net, logits_b1hw), score_b, presence_b, pointer_bc.float())

    def _encode_memory(self, masks: Masks, features: Features, image_b: Tensor) -> Tensor:
        """`SAM2Base._encode_new_memory` of tracked masks; the pictures' part of it once for each picture."""
        net, encoder = self._net, self._net.memory_encoder
        mask_b1hw = masks.full_b1hw.sigmoid() * net.sigmoid_scale_for_mem_enc + net.sigmoid_bias_for_mem_enc
        x_bchw = encoder.pix_feat_proj(features.coarse_nchw)[image_b] + fuse.shrink(
            encoder.mask_downsampler, mask_b1hw
        )
        return forward.as_memory(net, encoder.out_proj(fuse.fuse(encoder.fuser, x_bchw)), masks.presence_b)
