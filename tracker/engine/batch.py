"""Follow many objects of many streams in few passes: the fast path beside the plain one in `engine.py`, which it is
tested against.

Objects that look at equally much go through attention, decoder and memory encoder as one batch, whichever picture
each of them is on. What the host decides (`grouping.py`) ends up in `Inputs`; from there on a step is one function
of tensors of fixed shapes, which never waits for a value and never makes a tensor of a list.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from sam2.modeling.sam2_base import NO_OBJ_SCORE, SAM2Base
from torch import Tensor
from torch.profiler import record_function as stage  # its name in a profile

from tracker.config import EngineConfig
from tracker.engine import cuda_graphs, forward
from tracker.engine.cuda_graphs import Inputs, Outputs, Recorder, Replays
from tracker.engine.forward import Features
from tracker.engine.grouping import (
    STEADY,
    Depth,
    Group,
    Propagation,
    StepSize,
    depths,
    eager_groups,
    pool_slots,
    replayed_groups,
    rows_of,
)
from tracker.engine.kv_cache import KVCache, to_device
from tracker.engine.layers.mask_decoder import Decoder
from tracker.engine.layers.memory_attention import Attention
from tracker.engine.layers.memory_encoder import MemoryEncoder
from tracker.engine.precision import Precision


@dataclass(frozen=True, slots=True, eq=False)
class Step:
    """Outputs of one step for b objects, as in `Outputs`; each memory bfloat16 [h * w, m]."""

    logits_bhw: Tensor
    score_b: Tensor
    presence_b: Tensor
    pointer_bc: Tensor
    memories: Sequence[Tensor]


class Batch:
    """The network prepared for batches. Call it in inference mode."""

    def __init__(self, net: SAM2Base, precision: Precision, config: EngineConfig) -> None:
        self._net = net
        self._position_tm = forward.memory_position(net, precision.everywhere)
        times_am = net.maskmem_tpos_enc[:, 0, 0]
        with self._uncast():
            self._attention = Attention(net.memory_attention, precision.attention, self._position_tm, times_am)
            self._decoder = Decoder(net, precision.decoder)
            self._memory_encoder = MemoryEncoder(net.memory_encoder, precision.memory)
        self._cache = KVCache(self._attention.project, cache_slots(net, precision, config))
        self._replays = Replays(self._compute)
        self._depths = depths(config.conditioning_frames)

    def groups(self, propagations: Sequence[Propagation]) -> list[Group]:
        """Which objects go together in one step."""
        if not self._replays.seconds:
            return eager_groups(propagations)
        return replayed_groups(propagations, self._replays.seconds)

    def step(self, propagations: Sequence[Propagation], features: Features, size: StepSize | None = None) -> Step:
        """One pass for a group, replayed in `size`. Without one, all have to look at equally much."""
        with self._uncast():
            out = self._replays.run(self._inputs(propagations, features, size), size)
        memories = out.memory_btm.unbind()
        for propagation in propagations:
            if (outdated := propagation.outdated) is not None:
                self._cache.release(outdated)
        self._cache.put(memories, out.projected_bk)
        return Step(out.logits_bhw, out.score_b, out.presence_b, out.pointer_bc, memories)

    def record(self, like: Features, record: Recorder) -> list[str]:
        """Replay steps from now on, on features like these. Returns what could not be recorded."""
        blank_tm = torch.zeros_like(self._position_tm, dtype=forward.MEMORY_DTYPE)
        deepest_first = sorted(self._depths, reverse=True)
        with self._uncast():
            self._cache.slots_of([blank_tm])  # from now on the cache lies where it lies
            failed = [self._replays.record(depth, self._blank(like, depth), record) for depth in deepest_first]
        return [text for texts in failed for text in texts]

    def _uncast(self) -> torch.autocast:
        """Without autocast: the parts know which of their products are in bfloat16, and hold their weights so."""
        return torch.autocast(self._net.device.type, enabled=False)

    def _blank(self, like: Features, depth: Depth) -> Inputs:
        """Inputs of the largest size: all objects on all pictures look at the cache's first slot."""
        objects, pictures = cuda_graphs.SIZES[0]
        device = self._net.device
        fine, middle, coarse = (
            level_nchw.new_zeros((pictures, *level_nchw.shape[1:]))
            for level_nchw in (like.fine_nchw, like.middle_nchw, like.coarse_nchw)
        )
        columns = 1 + 2 * depth.memories + depth.pointers
        index_bk = torch.zeros(objects, columns, dtype=torch.int64, device=device)
        pointers_bpc = torch.zeros(objects, depth.pointers, self._net.hidden_dim, device=device)
        mask_bk = None if depth == STEADY else torch.zeros(objects, sum(depth), device=device)
        return Inputs(fine, middle, coarse, like.position_1chw.clone(), index_bk, pointers_bpc, mask_bk)

    def _inputs(self, propagations: Sequence[Propagation], features: Features, size: StepSize | None) -> Inputs:
        depth = propagations[0].depth if size is None else size.depth
        padded = size is not None and depth != STEADY
        pictures = sorted({propagation.i for propagation in propagations})
        slots = self._cache.slots_of([memory for p in propagations for _, memory in p.spatial])
        rows = rows_of(propagations, pictures, slots, depth)
        return Inputs(
            _picked(features.fine_nchw, pictures),
            _picked(features.middle_nchw, pictures),
            _picked(features.coarse_nchw, pictures),
            features.position_1chw,
            to_device(torch.tensor(rows.index_bk), self._net.device),
            self._pointers(propagations, depth.pointers),
            self._mask(rows.counts, depth) if padded else None,
        )

    def _pointers(self, propagations: Sequence[Propagation], count: int) -> Tensor:
        """Each object's pointers, float32 [b, count, c]; zeros where it has fewer."""
        pointers = []
        blank_c = self._no_pointer_c
        for propagation in propagations:
            own = [entry.pointer_c for _, entry in propagation.bank.pointers]
            pointers += own + [blank_c] * (count - len(own))
        return torch.stack(pointers).reshape(len(propagations), count, -1)

    @cached_property
    def _no_pointer_c(self) -> Tensor:
        return torch.zeros(self._net.hidden_dim, device=self._net.device)

    def _mask(self, counts: Sequence[Depth], depth: Depth) -> Tensor:
        """What each object looks at: float32 [b, m + p], 0, or -inf for padding."""
        mask_bk = torch.zeros(len(counts), sum(depth))
        for row_k, count in zip(mask_bk, counts, strict=True):
            row_k[count.memories : depth.memories] = -torch.inf
            row_k[depth.memories + count.pointers :] = -torch.inf
        return to_device(mask_bk, self._net.device)

    def _compute(self, x: Inputs) -> Outputs:
        """The device's part of a step."""
        image_b = x.index_bk[:, 0]
        with stage("memories"):
            keys, values = self._memories(x)
        with stage("memory attention"):
            coarse_btc = self._remember(x, image_b, keys, values)
        with stage("mask decoder"):
            logits_b1hw, score_b, presence_b, pointer_bc = self._segment(coarse_btc, x, image_b)
        with stage("memory encoder"):
            memory_btm = self._encode_memory(logits_b1hw, presence_b, x, image_b)
        with stage("memories"):
            projected_bk = self._attention.project(memory_btm)
        return Outputs(logits_b1hw[:, 0], score_b, presence_b, pointer_bc, memory_btm, projected_bk)

    def _remember(
        self, x: Inputs, image_b: Tensor, keys_lbsc: list[Iterable[Tensor]], values_lbsv: list[Tensor]
    ) -> Tensor:
        """Coarse features that have looked at the memories: [b, h * w, c]."""
        placed_nchw = x.coarse_nchw.float() + 0.1 * x.position_1chw
        x_ntc = placed_nchw.flatten(2).transpose(1, 2)
        mask_bs = None if x.mask_bk is None else self._token_mask(x.mask_bk, x.memories)
        return self._attention(x_ntc, image_b, keys_lbsc, values_lbsv, mask_bs)

    def _token_mask(self, mask_bk: Tensor, memories: int) -> Tensor:
        """The mask of memories and pointers for each of their tokens: [b, s]."""
        per_memory = len(self._position_tm)
        per_pointer = self._net.hidden_dim // self._net.mem_dim
        of_memories_bs = mask_bk[:, :memories].repeat_interleave(per_memory, dim=1)
        of_pointers_bs = mask_bk[:, memories:].repeat_interleave(per_pointer, dim=1)
        return torch.cat((of_memories_bs, of_pointers_bs), 1)

    def _memories(self, x: Inputs) -> tuple[list[Iterable[Tensor]], list[Tensor]]:
        """Keys and values [b, s, c] of every layer: of the spatial memories first, then of the pointers."""
        net, m = self._net, x.memories
        slots_bm, times_bm, ages_bp = torch.split(x.index_bk[:, 1:], [m, m, x.pointers_bpc.shape[1]], dim=1)
        tokens_btm = x.pointers_bpc.reshape(len(x.pointers_bpc), -1, net.mem_dim)
        ages_bpm = forward.pointer_ages(net, ages_bp)
        ages_btm = ages_bpm.repeat_interleave(net.hidden_dim // net.mem_dim, dim=1)
        return self._attention.look_up(self._cache.data, slots_bm, times_bm, tokens_btm, ages_btm)

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


def cache_slots(net: SAM2Base, precision: Precision, config: EngineConfig) -> int | None:
    """Capacity of the KV cache: fixed on a GPU, because recorded graphs hold its address; None: it grows."""
    if net.device.type != "cuda":
        return None
    channels = len(net.memory_attention.layers) * net.hidden_dim + net.mem_dim
    slot_bytes = net.sam_image_embedding_size**2 * channels * precision.attention.itemsize
    total_bytes = torch.cuda.get_device_properties(net.device).total_memory
    return pool_slots(config.max_objects, slot_bytes, total_bytes, config.conditioning_frames)


def _picked(level_nchw: Tensor, pictures: Sequence[int]) -> Tensor:
    """The rows of these pictures; no index is sent for it, and where it is all of them nothing is copied."""
    if len(pictures) == len(level_nchw):
        return level_nchw
    return torch.stack([level_nchw[i] for i in pictures])
