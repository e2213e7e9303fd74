"""Losses of SAM 2's training (arXiv 2408.00714, appendix D.2.2), with plain BCE for focal loss at first."""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor


@dataclass(frozen=True)
class Weights:
    """Focal loss learns nothing from nothing: start with `bce`, bring `focal` in later."""

    bce: float = 2.0
    focal: float = 0.0
    dice: float = 1.0
    iou: float = 0.5
    score: float = 0.3


@dataclass(frozen=True)
class Loss:
    """`total` has the gradient; the rest is for the log, left where it is: to read it would make a GPU wait."""

    total: Tensor
    mask: Tensor
    iou_error: Tensor
    score: Tensor
    iou_n: Tensor
    """IoU of the chosen mask per object; NaN where the object is not there."""


def answer_loss(
    logits_nmhw: Tensor, ious_nm: Tensor, scores_n: Tensor, truth_nhw: Tensor, weights: Weights
) -> Loss:
    """Loss of one answer of m candidate masks: the best one learns, all learn to rate themselves.

    `truth_nhw` is bool at any multiple of the logits' resolution; objects not there only teach the object score.
    """
    there_n = truth_nhw.flatten(1).any(1)
    soft_nhw = F.interpolate(truth_nhw[:, None].float(), logits_nmhw.shape[-2:], mode="area")[:, 0]
    each_nm = _mask_loss(logits_nmhw, soft_nhw, weights)
    actual_nm = _iou(logits_nmhw.detach(), soft_nhw)
    best_n = each_nm.detach().argmin(1, keepdim=True)
    # Where the object score says "gone" upstream overwrites the mask: no gradient, and a value that swamps the log.
    answered_n = there_n & (logits_nmhw.detach().amax((1, 2, 3)) > -1000)
    mask = _mean(each_nm.gather(1, best_n)[:, 0], answered_n)
    iou_error = _mean((ious_nm.float() - actual_nm).abs().mean(1), answered_n)
    score = F.binary_cross_entropy_with_logits(scores_n.float(), there_n.float())
    chosen_n = actual_nm.gather(1, ious_nm.detach().argmax(1, keepdim=True))[:, 0]
    iou_n = torch.where(there_n, chosen_n, torch.nan)
    total = mask + weights.iou * iou_error + weights.score * score
    return Loss(total, mask.detach(), iou_error.detach(), score.detach(), iou_n)


def _mean(values_n: Tensor, counts_n: Tensor) -> Tensor:
    return torch.where(counts_n, values_n, 0.0).sum() / counts_n.sum().clamp(min=1)


def _mask_loss(logits_nmhw: Tensor, soft_nhw: Tensor, weights: Weights) -> Tensor:
    """`[n, m]`."""
    target = soft_nhw[:, None].expand_as(logits_nmhw)
    bce = F.binary_cross_entropy_with_logits(logits_nmhw, target, reduction="none")
    probability = logits_nmhw.sigmoid()
    loss = weights.dice * _dice(probability, target)
    if weights.bce:
        loss = loss + weights.bce * bce.mean((-2, -1))
    if weights.focal:
        miss = probability * (1 - target) + (1 - probability) * target
        share = 0.25 * target + 0.75 * (1 - target)
        loss = loss + weights.focal * (share * miss**2 * bce).mean((-2, -1))
    return loss


def _dice(probability: Tensor, target: Tensor) -> Tensor:
    shared = (probability * target).sum((-2, -1))
    return 1 - (2 * shared + 1) / (probability.sum((-2, -1)) + target.sum((-2, -1)) + 1)


def _iou(logits_nmhw: Tensor, soft_nhw: Tensor) -> Tensor:
    found, truth = logits_nmhw > 0, (soft_nhw > 0.5)[:, None]
    shared = (found & truth).sum((-2, -1)).float()
    return shared / (found | truth).sum((-2, -1)).clamp(min=1)
