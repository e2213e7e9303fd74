"""Build `nano`, keep its running average, save and load checkpoints."""

import copy
import ctypes
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from hydra.utils import instantiate
from omegaconf import OmegaConf
from safetensors.torch import load_file
from sam2.modeling.sam import transformer
from sam2.modeling.sam2_base import SAM2Base
from sam2.modeling.sam2_utils import LayerNorm2d
from torch import Tensor, nn

from tracker.engine.layers.lite_trunk import InvertedResidual

CONFIG = Path(__file__).parents[2] / "tracker" / "models" / "nano.yaml"
TRUNK, NECK = "image_encoder.trunk.", "image_encoder.neck."
TRUNK_PACE, NECK_PACE = 1 / 3, 5 / 3
SCORE_BIAS = 4.0
"""Upstream overwrites a mask where the object score is negative; near 0, as it starts, nothing would be learnt."""


CONV_TRUNK = {
    "_target_": "tracker.engine.layers.conv_trunk.ConvTrunk",
    "channels": [32, 64, 128, 256],
    "depths": [2, 3, 3, 2],
}
"""What `nano` had before."""


def build(image_px: int = 256, trunk: dict[str, Any] | None = None) -> SAM2Base:
    """A new `nano` for square images of `image_px`; the weights have the same shapes at every size."""
    config = OmegaConf.load(CONFIG)
    config.model.image_size = image_px
    if trunk is not None:
        config.model.image_encoder.trunk = trunk
        config.model.image_encoder.neck.backbone_channel_list = trunk["channels"][::-1]
    model: SAM2Base = instantiate(config.model)
    nn.init.constant_(model.sam_mask_decoder.pred_obj_score_head.layers[-1].bias, SCORE_BIAS)
    return model.to(memory_format=torch.channels_last)


@dataclass
class Run:
    """All that a training is, apart from its data: what a checkpoint holds."""

    model: SAM2Base
    average: SAM2Base
    optimiser: torch.optim.Optimizer
    stage: int = 0
    step: int = 0

    def save(self, path: Path) -> None:
        """Write beside `path`, then rename: an interrupted save leaves the last one whole."""
        state = {
            "model": self.model.state_dict(),
            "average": self.average.state_dict(),
            "optimiser": self.optimiser.state_dict(),
            "stage": self.stage,
            "step": self.step,
        }
        partial = path.with_suffix(".partial")
        torch.save(state, partial)
        partial.replace(path)

    def load(self, path: Path) -> None:
        """Go on from `path`."""
        state: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
        self.model.load_state_dict(state["model"])
        self.average.load_state_dict(state["average"])
        self.optimiser.load_state_dict(state["optimiser"])
        self.stage, self.step = state["stage"], state["step"]


def attend(query: Tensor, key: Tensor, value: Tensor, dropout_p: float = 0.0) -> Tensor:
    """Attention as two products: in bfloat16 on a CPU that takes a third of the fused kernel's time."""
    weights = (query * query.shape[-1] ** -0.5) @ key.transpose(-1, -2)
    return F.dropout(weights.softmax(-1), dropout_p) @ value.to(weights.dtype)


plain_norm = LayerNorm2d.forward


def fused_norm(self: LayerNorm2d, x_nchw: Tensor) -> Tensor:
    """`LayerNorm2d.forward` by the fused kernel, in a quarter of the time with its gradient; not for few channels,
    where that kernel is the slower one."""
    if x_nchw.shape[1] < 16:
        normed_nchw: Tensor = plain_norm(self, x_nchw)
        return normed_nchw
    x_nhwc = x_nchw.permute(0, 2, 3, 1).contiguous()
    normed_nhwc = F.layer_norm(x_nhwc, x_nhwc.shape[-1:], self.weight, self.bias, self.eps)
    return normed_nhwc.permute(0, 3, 1, 2)


plain_block = InvertedResidual.forward


def quick_block(self: InvertedResidual, x_nchw: Tensor) -> Tensor:
    """`InvertedResidual.forward` with its 1x1 products in bfloat16, which takes three quarters of the time.

    Depthwise convolutions stay in float32: their bfloat16 gradients are the slow ones.
    """
    inner_nchw = x_nchw if self.expand is None else F.relu6(_at_each_pixel(self.expand, x_nchw), inplace=True)
    out_nchw = _at_each_pixel(self.project, F.relu6(self.depthwise(inner_nchw), inplace=True))
    return out_nchw + x_nchw if self.kept else out_nchw


def _at_each_pixel(conv: nn.Conv2d, x_nchw: Tensor) -> Tensor:
    x_nhwc, bias_o = x_nchw.permute(0, 2, 3, 1).bfloat16(), None if conv.bias is None else conv.bias.bfloat16()
    return F.linear(x_nhwc, conv.weight[:, :, 0, 0].bfloat16(), bias_o).float().permute(0, 3, 1, 2)


def keep_memory() -> None:
    """Have the C library keep what is freed: to give pages back and fault them in again is a quarter of a step."""
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)  # glibc's
    if mallopt is not None:
        trim_threshold, top_pad, mmap_max = -1, -2, -4
        for name, value in ((mmap_max, 0), (trim_threshold, -1), (top_pad, 2**28)):
            mallopt(name, value)


def new_run(device: torch.device, seed: int, weights: Path | None = None) -> Run:
    """A model with its average and AdamW: fresh, or from exported `weights`."""
    torch.manual_seed(seed)
    model = build().to(device)
    if weights is not None:
        model.load_state_dict(load_file(weights, str(device)))
    if device.type == "cpu":
        transformer.F.scaled_dot_product_attention = attend
        LayerNorm2d.forward = fused_norm
        InvertedResidual.forward = quick_block  # type: ignore[method-assign]
        keep_memory()
    optimiser = torch.optim.AdamW(groups(model), lr=1e-3, betas=(0.9, 0.99), fused=True)
    return Run(model, copy.deepcopy(model).eval().requires_grad_(False), optimiser)


def groups(model: nn.Module) -> list[dict[str, Any]]:
    """The optimiser's: `pace` multiplies a stage's rate. The trunk has learnt already, the neck is new to it."""
    parts: dict[tuple[float, float], list[nn.Parameter]] = {}
    for name, parameter in model.named_parameters():
        pace = TRUNK_PACE if name.startswith(TRUNK) else NECK_PACE if name.startswith(NECK) else 1.0
        decay = 0.02 if parameter.ndim > 1 and not name.startswith(TRUNK) else 0.0
        parts.setdefault((pace, decay), []).append(parameter)
    return [{"params": members, "weight_decay": decay, "pace": pace} for (pace, decay), members in parts.items()]


def resize(model: SAM2Base, image_px: int) -> None:
    """Let `model` take square images of `image_px`: nothing but bookkeeping depends on the size."""
    side = image_px // 16
    model.image_size, model.sam_image_embedding_size = image_px, side
    encoder = model.sam_prompt_encoder
    encoder.input_image_size, encoder.image_embedding_size = (image_px, image_px), (side, side)
    encoder.mask_input_size = (4 * side, 4 * side)


@torch.no_grad()
def follow(average: nn.Module, model: nn.Module, step: int, decay: float = 0.995) -> None:
    """Move the running average towards `model`, faster in the first steps."""
    decay = min(decay, (1 + step) / (10 + step))
    averages: list[Tensor] = [value for value in average.state_dict().values() if value.is_floating_point()]
    values: list[Tensor] = [value for value in model.state_dict().values() if value.is_floating_point()]
    torch._foreach_lerp_(averages, values, 1 - decay)
