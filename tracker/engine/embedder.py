"""An object's look as the tracking model sees it: the encoder's features, which are there anyway, in its mask."""

import torch
import torch.nn.functional as F

from tracker.engine.forward import Features
from tracker.masks.types import F32, Bool


@torch.inference_mode()
def pooled(features: Features, i: int, inside_hw: Bool) -> F32:
    """The mean of the i-th image's features at stride 16 inside a mask of any size that covers the
    whole picture, float32 [c]; zeros where it is empty."""
    coarse_chw = features.coarse_nchw[i].float()
    _, height, width = coarse_chw.shape
    mask_hw = torch.from_numpy(inside_hw).to(coarse_chw.device).float()
    share_hw = F.adaptive_avg_pool2d(mask_hw[None], (height, width))[0]
    total = share_hw.sum().clamp(min=1e-6)
    mean_c = (coarse_chw * share_hw).sum((1, 2)) / total
    return mean_c.cpu().numpy()
