"""Masks that end where the picture's colours change: a guided filter (He, Sun and Tang 2010; in its fast form arXiv
1505.00996).

A mask has a sixteenth of the pixels of the model's image, so that an outline of few cells is a guess between them.
In each small window the mask is taken for a linear function of the picture's colour, fitted at its own size and
used where the picture is finer; where colours do not tell its two sides apart, the mask stays. Only what is shown
goes through here: what an object remembers stays the model's own.
"""

import cv2
import numpy as np
import torch
from torch import Tensor

from tracker.masks.types import F32

RADIUS = 3  # of a window, in the mask's cells
SOFTNESS = 2e-3  # variance, of normalised pictures, below which a window has no edge
ENOUGH = 1 / 3  # share of a mask's variance that colours must explain to be believed; with less, in proportion
FINER = 2  # cells that come out for each that goes in, each way
KEPT = 0.5  # of a mask's area; one that would lose more is smaller than a window, and stays as it is


class Edges:
    """The edges of n pictures, normalised float32 [n, 3, s, s]; with None, masks stay as they are."""

    def __init__(self, pictures_nchw: Tensor | None) -> None:
        self._pictures_nchw = pictures_nchw
        self._guides: dict[int, _Guide] = {}

    def along(self, logits_hw: F32, i: int) -> F32:
        """A mask's logits [h, w] -> [2 h, 2 w], above 0 where the object is, up to an edge of the i-th picture; as
        they are where there are no pictures. The surer of two masks stays so: where they overlap, it wins."""
        if self._pictures_nchw is None:
            return logits_hw
        area = np.count_nonzero(logits_hw > 0)
        if area == 0:
            return logits_hw
        if i not in self._guides:
            self._guides[i] = _Guide(self._pictures_nchw[i].float().cpu().numpy(), len(logits_hw))
        guide = self._guides[i]
        guided_hw = guide.filtered(np.tanh(logits_hw / 2))  # the probability, from -1 to 1
        lost = np.count_nonzero(guided_hw > 0) < KEPT * area * FINER**2
        if lost:
            return logits_hw
        sureness_hw: F32 = np.sqrt(np.abs(guide.finer(logits_hw)).clip(min=1))  # the root: else edges lean outwards
        guided_hw *= sureness_hw
        return guided_hw


class _Guide:
    """What one picture [3, s, s] says of all masks of `side` * `side` cells: computed once."""

    def __init__(self, picture_chw: F32, side: int) -> None:
        picture_hwc = np.ascontiguousarray(picture_chw.transpose(1, 2, 0))
        self._fine_hwc = _shrunk(picture_hwc, FINER * side)
        self._coarse_hwc = _shrunk(picture_hwc, side)
        self._mean_hwc = _window_mean(self._coarse_hwc)
        covariances_hwcc = torch.from_numpy(self._covariances())  # torch inverts many small ones faster than numpy
        self._inverse_hwcc: F32 = torch.linalg.inv(covariances_hwcc).numpy()

    def _covariances(self) -> F32:
        """Of the colours in each window: [h, w, 3, 3]."""
        height, width, channels = self._coarse_hwc.shape
        products_hwcc = self._coarse_hwc[..., None] * self._coarse_hwc[..., None, :]
        mean_hwcc = _window_mean(products_hwcc.reshape(height, width, -1)).reshape(products_hwcc.shape)
        own_hwcc = self._mean_hwc[..., None] * self._mean_hwc[..., None, :]
        covariances_hwcc: F32 = mean_hwcc - own_hwcc + SOFTNESS * np.eye(channels, dtype=np.float32)
        return covariances_hwcc

    def filtered(self, mask_hw: F32) -> F32:
        """[h, w] -> [2 h, 2 w]: the mask as far as colours say nothing of it, else what they say."""
        mean_hw = _window_mean(mask_hw)
        with_mask_hwc = _window_mean(self._coarse_hwc * mask_hw[..., None]) - self._mean_hwc * mean_hw[..., None]
        slope_hwc = np.einsum("hwij,hwj->hwi", self._inverse_hwcc, with_mask_hwc)
        offset_hw = mean_hw - np.einsum("hwi,hwi->hw", slope_hwc, self._mean_hwc)
        explained_hw = np.einsum("hwi,hwi->hw", slope_hwc, with_mask_hwc)
        variance_hw = _window_mean(mask_hw * mask_hw) - mean_hw * mean_hw
        trust_hw = explained_hw / (ENOUGH * variance_hw.clip(min=1e-6))

        lines_hwc = self.finer(_window_mean(np.dstack((slope_hwc, offset_hw))))
        by_colour_hw = np.einsum("hwi,hwi->hw", lines_hwc[..., :3], self._fine_hwc) + lines_hwc[..., 3]
        own_hw = self.finer(mask_hw)
        guided_hw: F32 = own_hw + self.finer(_window_mean(trust_hw.clip(0, 1))) * (by_colour_hw - own_hw)
        return guided_hw

    def finer(self, values: F32) -> F32:
        """[h, w, ...] -> [2 h, 2 w, ...], enlarged without the picture."""
        height, width = self._fine_hwc.shape[:2]
        return np.asarray(cv2.resize(values, (width, height), interpolation=cv2.INTER_LINEAR), np.float32)


def _shrunk(picture_hwc: F32, side: int) -> F32:
    return np.asarray(cv2.resize(picture_hwc, (side, side), interpolation=cv2.INTER_AREA), np.float32)


def _window_mean(values: F32) -> F32:
    """Of each cell's window; beyond the border the picture is mirrored."""
    size = (2 * RADIUS + 1, 2 * RADIUS + 1)
    return np.asarray(cv2.boxFilter(values, -1, size, borderType=cv2.BORDER_REFLECT), np.float32)
