"""The model as plain functions of tensors, for any batch of objects. Each names the official method it stands for;
the parts themselves (encoder, attention, decoder) are the official classes.

Letters of shapes: n images, b objects, c channels of the model (256; nano 128), m channels of a memory (64),
h, w the feature map (a sixteenth of the model's image size), h4, w4 the low-resolution mask (a quarter).
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from sam2.modeling.sam2_base import SAM2Base
from sam2.modeling.sam2_utils import get_1d_sine_pe
from torch import Tensor

from tracker.engine.memory import MemoryBank

MEMORY_DTYPE = torch.bfloat16  # as upstream keeps them


@dataclass(frozen=True, slots=True, eq=False)
class Features:
    """Features of n images: `fine_nchw` at stride 4, `middle_nchw` at stride 8, `coarse_nchw` at stride 16, and the
    coarse map's position encoding [1, c, h, w]. `pictures_nchw`: the images themselves, normalised, where
    masks take their edges from them."""

    fine_nchw: Tensor
    middle_nchw: Tensor
    coarse_nchw: Tensor
    position_1chw: Tensor
    pictures_nchw: Tensor | None = None

    def __len__(self) -> int:
        return self.coarse_nchw.shape[0]

    def of(self, i: int) -> "Features":
        """The i-th image's, as a batch of one."""
        one = slice(i, i + 1)
        pictures = None if self.pictures_nchw is None else self.pictures_nchw[one]
        return Features(
            self.fine_nchw[one], self.middle_nchw[one], self.coarse_nchw[one], self.position_1chw, pictures
        )


@dataclass(frozen=True, slots=True, eq=False)
class Masks:
    """What the heads say of b objects: logits float32 [b, 1, h4, w4], the same at the image's size, predicted IoU
    and object-score logit float32 [b], pointer [b, c]."""

    logits_b1hw: Tensor
    full_b1hw: Tensor
    score_b: Tensor
    presence_b: Tensor
    pointer_bc: Tensor


@dataclass(frozen=True, slots=True, eq=False)
class Tokens:
    """One memory bank as attention takes it: [tokens, m] each; the last `pointers` tokens are object pointers."""

    memory_tm: Tensor
    position_tm: Tensor
    pointers: int


def encode_image(net: SAM2Base, images_nchw: Tensor) -> Features:
    """Normalised images [n, 3, s, s] -> features (`SAM2Base.forward_image`)."""
    out = net.forward_image(images_nchw)
    fine, middle, coarse = out["backbone_fpn"][-3:]
    return Features(fine, middle, coarse, out["vision_pos_enc"][-1][:1])


def memory_position(net: SAM2Base, dtype: torch.dtype) -> Tensor:
    """Where each token of a memory lies: float32 [h * w, m], the same for every frame, and as coarse as `dtype`, in
    which the memory encoder computes (`MemoryEncoder.forward`)."""
    side = net.sam_image_embedding_size
    like_1chw = torch.zeros(1, 1, side, side, device=net.device)
    position: Tensor = net.memory_encoder.position_encoding(like_1chw).to(dtype)
    return position[0].flatten(1).T.float().contiguous()


def memory_tokens(net: SAM2Base, position_tm: Tensor, bank: MemoryBank) -> Tokens:
    """Lay out one object's bank (`SAM2Base._prepare_memory_conditioned_features`, step 1)."""
    memories: list[Tensor] = []
    positions: list[Tensor] = []
    conditioning = [(net.num_maskmem, entry) for entry in bank.conditioning]
    for steps_ago, entry in (*conditioning, *bank.memories):
        assert entry.memory_tm is not None
        time_m = net.maskmem_tpos_enc[steps_ago - 1, 0, 0]
        memories.append(entry.memory_tm.float())
        positions.append(position_tm + time_m)
    if bank.pointers:
        pointers_tm, ages_tm = _pointer_tokens(net, bank)
        memories.append(pointers_tm)
        positions.append(ages_tm)
    tokens_per_pointer = net.hidden_dim // net.mem_dim
    return Tokens(torch.cat(memories), torch.cat(positions), len(bank.pointers) * tokens_per_pointer)


def _pointer_tokens(net: SAM2Base, bank: MemoryBank) -> tuple[Tensor, Tensor]:
    """Object pointers cut into tokens as wide as memories, and the encoding of their ages: [tokens, m] each."""
    pointers_pc = torch.stack([entry.pointer_c for _, entry in bank.pointers])
    steps_ago_p = torch.tensor([steps_ago for steps_ago, _ in bank.pointers], device=net.device)
    ages_pm = pointer_ages(net, steps_ago_p)
    ages_tm = ages_pm.repeat_interleave(net.hidden_dim // net.mem_dim, dim=0)
    return pointers_pc.reshape(-1, net.mem_dim).float(), ages_tm


def pointer_ages(net: SAM2Base, steps_ago: Tensor) -> Tensor:
    """Encoding of how many steps ago each pointer is from: [..., m]. Ages are not clamped, as upstream."""
    if not net.add_tpos_enc_to_obj_ptrs:
        return torch.zeros(*steps_ago.shape, net.mem_dim, device=net.device)
    dim = net.hidden_dim if net.proj_tpos_enc_in_obj_ptrs else net.mem_dim
    encoded: Tensor = net.obj_ptr_tpos_proj(get_1d_sine_pe(steps_ago / (net.max_obj_ptrs_in_encoder - 1), dim=dim))
    return encoded


def remember(net: SAM2Base, features: Features, memory_btm: Tensor, position_btm: Tensor, pointers: int) -> Tensor:
    """Coarse features of b objects that have looked at their memories: [b, c, h, w] (the same method, step 2)."""
    coarse = features.coarse_nchw
    out_tbc = net.memory_attention(
        curr=coarse.flatten(2).permute(2, 0, 1),
        curr_pos=features.position_1chw.expand_as(coarse).flatten(2).permute(2, 0, 1),
        memory=memory_btm.transpose(0, 1),
        memory_pos=position_btm.transpose(0, 1),
        num_obj_ptr_tokens=pointers,
    )
    return _map_like(coarse, out_tbc)


def remember_bank(net: SAM2Base, position_tm: Tensor, bank: MemoryBank, features: Features) -> Tensor:
    """Coarse features of one object's picture that have looked at its bank: [1, c, h, w] (both steps)."""
    tokens = memory_tokens(net, position_tm, bank)
    return remember(net, features, tokens.memory_tm[None], tokens.position_tm[None], tokens.pointers)


def no_memory(net: SAM2Base, features: Features) -> Tensor:
    """Coarse features of a frame that is prompted before anything is known: [b, c, h, w]."""
    coarse = features.coarse_nchw
    return _map_like(coarse, coarse.flatten(2).permute(2, 0, 1) + net.no_mem_embed)


def _map_like(coarse_bchw: Tensor, tokens_tbc: Tensor) -> Tensor:
    return tokens_tbc.permute(1, 2, 0).reshape(coarse_bchw.shape)


def segment(
    net: SAM2Base,
    features: Features,
    coarse_bchw: Tensor,
    *,
    first: bool,
    points: dict[str, Tensor] | None = None,
    logits_b1hw: Tensor | None = None,
) -> Masks:
    """Prompt encoder and mask decoder (`SAM2Base._forward_sam_heads`).

    `first`: a prompt on a frame that was not tracked. `points`: `point_coords` float32 [b, p, 2] in pixels of the
    model's image, `point_labels` int32 [b, p]. `logits_b1hw`: the mask that is corrected.
    """
    out = net._forward_sam_heads(
        backbone_features=coarse_bchw,
        point_inputs=points,
        mask_inputs=logits_b1hw,
        high_res_features=[features.fine_nchw, features.middle_nchw],
        multimask_output=net._use_multimask(first, points),
    )
    return _masks(out)


def take_mask(net: SAM2Base, features: Features, mask_b1hw: Tensor) -> Masks:
    """A given mask, 0 or 1 at the image's size, is the output (`SAM2Base._use_mask_as_output`)."""
    high_res = [features.fine_nchw, features.middle_nchw]
    return _masks(net._use_mask_as_output(features.coarse_nchw, high_res, mask_b1hw))


def _masks(out: tuple[Tensor, ...]) -> Masks:
    _, _, ious_bm, low_b1hw, high_b1hw, pointer_bc, presence_b1 = out
    return Masks(low_b1hw, high_b1hw, ious_bm.float().amax(1), presence_b1.float()[:, 0], pointer_bc)


def encode_memory(
    net: SAM2Base, features: Features, full_b1hw: Tensor, presence_b: Tensor, *, prompted: bool
) -> Tensor:
    """Image features and mask -> memory, bfloat16 [b, h * w, m] (`SAM2Base._encode_new_memory`).

    What was prompted is remembered as the user saw it, binary; what was tracked as probabilities.
    """
    if prompted and net.binarize_mask_from_pts_for_mem_enc:
        mask_b1hw = (full_b1hw > 0).float()
    else:
        mask_b1hw = torch.sigmoid(full_b1hw)
    mask_b1hw = mask_b1hw * net.sigmoid_scale_for_mem_enc + net.sigmoid_bias_for_mem_enc
    out: Tensor = net.memory_encoder(features.coarse_nchw, mask_b1hw, skip_mask_sigmoid=True)["vision_features"]
    return as_memory(net, out, presence_b)


def as_memory(net: SAM2Base, out: Tensor, presence_b: Tensor) -> Tensor:
    """What the memory encoder gave [b, m, h, w], marked where no object is: bfloat16 [b, h * w, m]."""
    if net.no_obj_embed_spatial is not None:
        absent_b111 = 1 - (presence_b > 0).float()[:, None, None, None]
        out = out + absent_b111 * net.no_obj_embed_spatial[..., None, None]
    return out.to(MEMORY_DTYPE).flatten(2).transpose(1, 2).contiguous()


def full_size(net: SAM2Base, logits_b1hw: Tensor) -> Tensor:
    """Low-resolution logits at the model's image size (`propagate_in_video_preflight`)."""
    size = (net.image_size, net.image_size)
    return F.interpolate(logits_b1hw, size=size, mode="bilinear", align_corners=False)
