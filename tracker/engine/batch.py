"""Follow many objects of many streams in few passes: the fast path beside the plain one in `engine.py`, which it is
tested against.

Objects that look back alike go through attention, decoder and memory encoder as one batch, whichever picture each
of them is on. What the host decides (`moves.py`) ends up in `Inputs`; from there on a step is one function of
tensors of fixed shapes, which never waits for a value and never makes a tensor of a list.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from sam2.modeling.sam2_base import NO_OBJ_SCORE, SAM2Base
from torch import Tensor

from tracker.engine import forward, fuse, graphs
from tracker.engine.attention import Attention
from tracker.engine.forward import Features
from tracker.engine.graphs import Inputs, Outputs, Recorder, Replays
from tracker.engine.moves import STEADY, Move, index_rows
from tracker.engine.pool import Pool, whole_numbers


@dataclass(frozen=True, slots=True, eq=False)
class Step:
    """What a step leaves of b objects, as in `Outputs`; each memory bfloat16 [h * w, m]."""

    logits_bhw: Tensor
    score_b: Tensor
    presence_b: Tensor
    pointer_bc: Tensor
    memories: Sequence[Tensor]


class Batch:
    """The network prepared for batches. `dtype` is that of products; `slots` the pool's capacity. Call it in
    inference mode."""

    def __init__(self, net: SAM2Base, dtype: torch.dtype, slots: int | None = None) -> None:
        self._net = net
        self._attention = Attention(net.memory_attention, net.sam_image_embedding_size, dtype)
        layers = self._attention.layers
        self._key = torch.cat([layer.key[0] for layer in layers]), torch.cat([layer.key[1] for layer in layers])
        self._value = (
            torch.cat([layer.value[0] for layer in layers]),
            torch.cat([layer.value[1] for layer in layers]),
        )
        self._position_tm = forward.memory_position(net, dtype)
        times_atm = net.maskmem_tpos_enc[:, 0].expand(-1, len(self._position_tm), -1)
        self._time_altc = self._turned(F.linear(times_atm, self._key[0]))
        self._times: dict[tuple[int, ...], Tensor] = {}  # sent once each
        self._pool = Pool(self._project, slots)
        self._replays = Replays(self._compute)
        self._where_1chw = net.sam_prompt_encoder.get_dense_pe()
        self._sparse_1pc, self._dense_1chw = net.sam_prompt_encoder(
            points=(
                torch.zeros(1, 1, 2, device=net.device),
                -torch.ones(1, 1, dtype=torch.int32, device=net.device),
            ),
            boxes=None,
            masks=None,
        )

    def step(self, moves: Sequence[Move], features: Features) -> Step:
        """One pass for moves that look back alike."""
        inputs, steady = self._inputs(moves, features), moves[0].lookback == STEADY
        out = self._replays.run(inputs) if steady else self._compute(inputs)
        memories = out.memory_btm.unbind()
        for move in moves:
            if (outdated := move.outdated) is not None:
                self._pool.release(outdated)
        self._pool.put(memories, out.projected_bl2tc)
        return Step(out.logits_bhw, out.score_b, out.presence_b, out.pointer_bc, memories)

    def record(self, like: Features, record: Recorder) -> list[str]:
        """Replay steps of full memories from now on, on features like these. Returns what could not be recorded."""
        blank_tm = torch.zeros_like(self._position_tm, dtype=torch.bfloat16)
        self._pool.slots_of([blank_tm])  # from now on the pool lies where it lies
        objects, pictures = graphs.SIZES[0]
        fine, middle, coarse = (
            level_nchw.new_zeros((pictures, *level_nchw.shape[1:]))
            for level_nchw in (like.fine_nchw, like.middle_nchw, like.coarse_nchw)
        )
        times, pointers = STEADY
        index_bk = whole_numbers([[0] * (1 + len(times) + pointers)] * objects, self._net.device)
        pointers_bpc = torch.zeros(objects, pointers, self._net.hidden_dim, device=self._net.device)
        times_m = whole_numbers(times, self._net.device)
        largest = Inputs(fine, middle, coarse, like.position_1chw.clone(), times_m, index_bk, pointers_bpc)
        return self._replays.record(largest, record)

    def _inputs(self, moves: Sequence[Move], features: Features) -> Inputs:
        net = self._net
        pictures = sorted({move.i for move in moves})
        times, _ = moves[0].lookback
        if times not in self._times:
            self._times[times] = whole_numbers(times, net.device)
        slots = self._pool.slots_of([memory for move in moves for _, memory in move.spatial])
        pointers = [e.pointer_c for move in moves for _, e in move.bank.pointers]
        return Inputs(
            _picked(features.fine_nchw, pictures),
            _picked(features.middle_nchw, pictures),
            _picked(features.coarse_nchw, pictures),
            features.position_1chw,
            self._times[times],
            whole_numbers(index_rows(moves, pictures, slots), net.device),
            torch.stack(pointers).reshape(len(moves), -1, net.hidden_dim),
        )

    def _compute(self, x: Inputs) -> Outputs:
        """The device's part of a step."""
        image_b, rest_bk, m = x.index_bk[:, 0], x.index_bk[:, 1:], len(x.times_m)
        coarse_bchw = self._remember(x, image_b, *self._memories(x, rest_bk[:, :m], rest_bk[:, m:]))
        logits_b1hw, score_b, presence_b, pointer_bc = self._segment(coarse_bchw, x, image_b)
        memory_btm = self._encode_memory(logits_b1hw, presence_b, x, image_b)
        return Outputs(logits_b1hw[:, 0], score_b, presence_b, pointer_bc, memory_btm, self._project(memory_btm))

    def _remember(self, x: Inputs, image_b: Tensor, keys_lbsc: list[Tensor], values_lbsc: list[Tensor]) -> Tensor:
        """Coarse features that have looked at the memories: [b, c, h, w]."""
        coarse_nchw = x.coarse_nchw.float()
        x_ntc = (coarse_nchw + 0.1 * x.position_1chw).flatten(2).transpose(1, 2)
        out_btc = self._attention(x_ntc, image_b, keys_lbsc, values_lbsc)
        return out_btc.transpose(1, 2).reshape(-1, *coarse_nchw.shape[1:])

    def _memories(self, x: Inputs, slots_bm: Tensor, agos_bp: Tensor) -> tuple[list[Tensor], list[Tensor]]:
        """Keys and values [b, s, c] of every layer: of the spatial memories first, then of the pointers."""
        pointer_keys, pointer_values = self._pointers(x.pointers_bpc, agos_bp)
        keys, values = [], []
        for i in range(len(self._attention.layers)):
            key_bmtc = self._pool.data[slots_bm, i, 0] + self._time_altc[x.times_m, i]
            keys.append(torch.cat((key_bmtc.flatten(1, 2), pointer_keys[:, i]), 1))
            values.append(torch.cat((self._pool.data[slots_bm, i, 1].flatten(1, 2), pointer_values[:, i]), 1))
        return keys, values

    def _pointers(self, pointers_bpc: Tensor, agos_bp: Tensor) -> tuple[Tensor, Tensor]:
        """Keys and values of the pointers' tokens, [b, layers, p, c]; they are not rotated."""
        net = self._net
        tokens_btm = pointers_bpc.reshape(len(pointers_bpc), -1, net.mem_dim)
        ages_bpm = forward.pointer_ages(net, agos_bp)
        ages_btm = ages_bpm.repeat_interleave(net.hidden_dim // net.mem_dim, dim=1)
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

    def _segment(self, coarse_bchw: Tensor, x: Inputs, image_b: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """`SAM2Base._forward_sam_heads` without a prompt: logits [b, 1, h4, w4], predicted IoU and object score
        [b], pointer [b, c], all float32; nothing is enlarged yet."""
        net, count = self._net, len(image_b)
        multimask = net._use_multimask(False, None)
        logits_bmhw, score_bm, token_bmc, presence_b1 = net.sam_mask_decoder(
            image_embeddings=coarse_bchw,
            image_pe=self._where_1chw,
            sparse_prompt_embeddings=self._sparse_1pc.expand(count, -1, -1),
            dense_prompt_embeddings=self._dense_1chw.expand(count, -1, -1, -1),
            multimask_output=multimask,
            repeat_image=False,
            high_res_features=[x.fine_nchw[image_b], x.middle_nchw[image_b]],
        )
        all_b = torch.arange(count, device=net.device)
        best_b = score_bm.argmax(1)
        token_bc = token_bmc[all_b, best_b if token_bmc.shape[1] > 1 else 0]
        there_b1 = presence_b1 > 0
        logits_b1hw = logits_bmhw[all_b, best_b][:, None].float()
        # Not torch.where: on a GPU it sends the number over, and waits for that.
        logits_b1hw = logits_b1hw.masked_fill(~there_b1[:, None, None], NO_OBJ_SCORE)
        pointer_bc = torch.where(there_b1, net.obj_ptr_proj(token_bc), net.no_obj_ptr)
        return logits_b1hw, score_bm[all_b, best_b].float(), presence_b1[:, 0].float(), pointer_bc.float()

    def _encode_memory(self, logits_b1hw: Tensor, presence_b: Tensor, x: Inputs, image_b: Tensor) -> Tensor:
        """`SAM2Base._encode_new_memory` of tracked masks; the pictures' part of it once for each picture."""
        net, encoder = self._net, self._net.memory_encoder
        mask_b1hw = forward.full_size(net, logits_b1hw).sigmoid()
        mask_b1hw = mask_b1hw * net.sigmoid_scale_for_mem_enc + net.sigmoid_bias_for_mem_enc
        x_bchw = encoder.pix_feat_proj(x.coarse_nchw)[image_b] + fuse.shrink(encoder.mask_downsampler, mask_b1hw)
        return forward.as_memory(net, encoder.out_proj(fuse.fuse(encoder.fuser, x_bchw)), presence_b)


def _picked(level_nchw: Tensor, pictures: Sequence[int]) -> Tensor:
    """The rows of these pictures; no index is sent for it, and where it is all of them nothing is copied."""
    if len(pictures) == len(level_nchw):
        return level_nchw
    return torch.stack([level_nchw[i] for i in pictures])
