"""Follow many objects of many streams in few passes: the fast path beside the plain one in `engine.py`, which it is
tested against.

Objects that look back alike go through attention, decoder and memory encoder as one batch, whichever picture each
of them is on. What the host decides (`moves.py`) ends up in `Inputs`; from there on a step is one function of
tensors of fixed shapes, which never waits for a value and never makes a tensor of a list.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from sam2.modeling.sam2_base import NO_OBJ_SCORE, SAM2Base
from torch import Tensor
from torch.profiler import record_function as stage  # its name in a profile

from tracker.engine import cuda_graphs, forward
from tracker.engine.cuda_graphs import Inputs, Outputs, Recorder, Replays
from tracker.engine.forward import Features
from tracker.engine.grouping import STEADY, Propagation, index_rows
from tracker.engine.kv_cache import KVCache, to_device_int64
from tracker.engine.layers.mask_decoder import Decoder
from tracker.engine.layers.memory_attention import Attention
from tracker.engine.layers.memory_encoder import MemoryEncoder
from tracker.engine.precision import Precision


@dataclass(frozen=True, slots=True, eq=False)
class Step:
    """What a step leaves of b objects, as in `Outputs`; each memory bfloat16 [h * w, m]."""

    logits_bhw: Tensor
    score_b: Tensor
    presence_b: Tensor
    pointer_bc: Tensor
    memories: Sequence[Tensor]


class Batch:
    """The network prepared for batches. `slots` is the pool's capacity. Call it in
    inference mode."""

    def __init__(self, net: SAM2Base, precision: Precision, slots: int | None = None) -> None:
        self._net = net
        self._position_tm = forward.memory_position(net, precision.everywhere)
        times_am = net.maskmem_tpos_enc[:, 0, 0]
        self._attention = Attention(net.memory_attention, precision.attention, self._position_tm, times_am)
        self._decoder = Decoder(net, precision.decoder)
        self._memory_encoder = MemoryEncoder(net.memory_encoder, precision.memory)
        self._times: dict[tuple[int, ...], Tensor] = {}  # sent once each
        self._pool = KVCache(self._attention.project, slots)
        self._replays = Replays(self._compute)

    def step(self, moves: Sequence[Propagation], features: Features) -> Step:
        """One pass for moves that look back alike."""
        inputs, steady = self._inputs(moves, features), moves[0].lookback == STEADY
        with torch.autocast("cpu", enabled=False):  # there the parts know which of their products are in bfloat16
            out = self._replays.run(inputs) if steady else self._compute(inputs)
        memories = out.memory_btm.unbind()
        for move in moves:
            if (outdated := move.outdated) is not None:
                self._pool.release(outdated)
        self._pool.put(memories, out.projected_bk)
        return Step(out.logits_bhw, out.score_b, out.presence_b, out.pointer_bc, memories)

    def record(self, like: Features, record: Recorder) -> list[str]:
        """Replay steps of full memories from now on, on features like these. Returns what could not be recorded."""
        blank_tm = torch.zeros_like(self._position_tm, dtype=forward.MEMORY_DTYPE)
        self._pool.slots_of([blank_tm])  # from now on the pool lies where it lies
        objects, pictures = cuda_graphs.SIZES[0]
        fine, middle, coarse = (
            level_nchw.new_zeros((pictures, *level_nchw.shape[1:]))
            for level_nchw in (like.fine_nchw, like.middle_nchw, like.coarse_nchw)
        )
        times, pointers = STEADY
        index_bk = to_device_int64([[0] * (1 + len(times) + pointers)] * objects, self._net.device)
        pointers_bpc = torch.zeros(objects, pointers, self._net.hidden_dim, device=self._net.device)
        times_m = to_device_int64(times, self._net.device)
        largest = Inputs(fine, middle, coarse, like.position_1chw.clone(), times_m, index_bk, pointers_bpc)
        return self._replays.record(largest, record)

    def _inputs(self, moves: Sequence[Propagation], features: Features) -> Inputs:
        net = self._net
        pictures = sorted({move.i for move in moves})
        times, _ = moves[0].lookback
        if times not in self._times:
            self._times[times] = to_device_int64(times, net.device)
        slots = self._pool.slots_of([memory for move in moves for _, memory in move.spatial])
        pointers = [e.pointer_c for move in moves for _, e in move.bank.pointers]
        return Inputs(
            _picked(features.fine_nchw, pictures),
            _picked(features.middle_nchw, pictures),
            _picked(features.coarse_nchw, pictures),
            features.position_1chw,
            self._times[times],
            to_device_int64(index_rows(moves, pictures, slots), net.device),
            torch.stack(pointers).reshape(len(moves), -1, net.hidden_dim),
        )

    def _compute(self, x: Inputs) -> Outputs:
        """The device's part of a step."""
        image_b, rest_bk, m = x.index_bk[:, 0], x.index_bk[:, 1:], len(x.times_m)
        with stage("memories"):
            keys, values = self._memories(x, rest_bk[:, :m], rest_bk[:, m:])
        with stage("memory attention"):
            coarse_btc = self._remember(x, image_b, keys, values)
        with stage("mask decoder"):
            logits_b1hw, score_b, presence_b, pointer_bc = self._segment(coarse_btc, x, image_b)
        with stage("memory encoder"):
            memory_btm = self._encode_memory(logits_b1hw, presence_b, x, image_b)
        with stage("memories"):
            projected_bk = self._attention.project(memory_btm)
        return Outputs(logits_b1hw[:, 0], score_b, presence_b, pointer_bc, memory_btm, projected_bk)

    def _remember(self, x: Inputs, image_b: Tensor, keys_lbsc: list[Tensor], values_lbsv: list[Tensor]) -> Tensor:
        """Coarse features that have looked at the memories: [b, h * w, c]."""
        coarse_nchw = x.coarse_nchw.float()
        x_ntc = (coarse_nchw + 0.1 * x.position_1chw).flatten(2).transpose(1, 2)
        return self._attention(x_ntc, image_b, keys_lbsc, values_lbsv)

    def _memories(self, x: Inputs, slots_bm: Tensor, agos_bp: Tensor) -> tuple[list[Tensor], list[Tensor]]:
        """Keys and values [b, s, c] of every layer: of the spatial memories first, then of the pointers."""
        net = self._net
        tokens_btm = x.pointers_bpc.reshape(len(x.pointers_bpc), -1, net.mem_dim)
        ages_bpm = forward.pointer_ages(net, agos_bp)
        ages_btm = ages_bpm.repeat_interleave(net.hidden_dim // net.mem_dim, dim=1)
        return self._attention.look_up(self._pool.data, slots_bm, x.times_m, tokens_btm, ages_btm)

    def _segment(self, coarse_btc: Tensor, x: Inputs, image_b: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """`SAM2Base._forward_sam_heads` without a prompt: logits [b, 1, h4, w4], predicted IoU and object score
        [b], pointer [b, c], all float32; nothing is enlarged yet."""
        net = self._net
        decoded = self._decoder(coarse_btc, x.fine_nchw, x.middle_nchw, image_b)
        there_b1 = decoded.presence_b[:, None] > 0
        # Not torch.where: on a GPU it sends the number over, and waits for that.
        logits_b1hw = decoded.logits_bhw[:, None].masked_fill(~there_b1[:, None, None], NO_OBJ_SCORE)
        pointer_bc = torch.where(there_b1, net.obj_ptr_proj(decoded.token_bc), net.no_obj_ptr)
        return logits_b1hw, decoded.score_b, decoded.presence_b, pointer_bc.float()

    def _encode_memory(self, logits_b1hw: Tensor, presence_b: Tensor, x: Inputs, image_b: Tensor) -> Tensor:
        """`SAM2Base._encode_new_memory` of tracked masks; the pictures' part of it once for each picture."""
        net = self._net
        mask_b1hw = forward.full_size(net, logits_b1hw).sigmoid()
        mask_b1hw = mask_b1hw * net.sigmoid_scale_for_mem_enc + net.sigmoid_bias_for_mem_enc
        out_bhwm = self._memory_encoder(x.coarse_nchw, image_b, mask_b1hw)
        return forward.as_memory(net, out_bhwm.permute(0, 3, 1, 2), presence_b)


def _picked(level_nchw: Tensor, pictures: Sequence[int]) -> Tensor:
    """The rows of these pictures; no index is sent for it, and where it is all of them nothing is copied."""
    if len(pictures) == len(level_nchw):
        return level_nchw
    return torch.stack([level_nchw[i] for i in pictures])
