"""Masks that end where the picture's colours change: a guided filter (He, Sun and Tang 2010; in its fast form arXiv
1505.00996).

A mask has a sixteenth of the pixels of the model's image, so that an outline of few cells is a guess between them.
In each small window the mask is taken for a linear function of the picture's colour, fitted at its own size and
used where the picture is finer; where colours do not tell its two sides apart, the mask stays. Only what is shown
goes through here: what an object remembers stays the model's own.
"""

import cv2
import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from tracker.masks.types import F32, Bool

RADIUS = 3  # of a window, in the mask's cells
SOFTNESS = 2e-3  # variance, of normalised pictures, below which a window has no edge
ENOUGH = 1 / 3  # share of a mask's variance that colours must explain to be believed; with less, in proportion
FINER = 2  # cells that come out for each that goes in, each way
SURE = 0.9  # of 1: where a mask is as sure throughout, colours make no hole
REACH = 2 * RADIUS + 1  # cells beyond a mask where its windows end: further away it has nothing
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
        inside_hw = logits_hw > 0
        if not inside_hw.any():
            return logits_hw
        if i not in self._guides:
            self._guides[i] = _Guide.of(self._pictures_nchw[i].float().cpu().numpy(), len(logits_hw))
        guide = self._guides[i]
        near, seen = _around(inside_hw, REACH), _around(inside_hw, 2 * REACH)  # at the rim of what is seen it errs
        guided_hw = guide.part(seen).filtered(np.tanh(logits_hw[seen] / 2))  # the probability, from -1 to 1
        guided_hw = guided_hw[_finer(_within(near, seen))]
        lost = np.count_nonzero(guided_hw > 0) < KEPT * np.count_nonzero(inside_hw) * FINER**2
        if lost:
            return logits_hw
        shown_hw = guide.finer(logits_hw)
        sureness_hw = np.sqrt(np.abs(shown_hw[_finer(near)]).clip(min=1))  # the root: else edges lean outwards
        shown_hw[_finer(near)] = guided_hw * sureness_hw
        return shown_hw


Part = tuple[slice, slice]  # rows and columns


def _around(inside_hw: Bool, cells: int) -> Part:
    """What is at most so many cells away from a mask's box."""
    x, y, w, h = cv2.boundingRect(inside_hw.view(np.uint8))
    return slice(max(0, y - cells), y + h + cells), slice(max(0, x - cells), x + w + cells)


def _within(part: Part, whole: Part) -> Part:
    (rows, columns), (top, left) = part, (whole[0].start, whole[1].start)
    return slice(rows.start - top, rows.stop - top), slice(columns.start - left, columns.stop - left)


def _finer(part: Part) -> Part:
    rows, columns = part
    return slice(FINER * rows.start, FINER * rows.stop), slice(FINER * columns.start, FINER * columns.stop)


class _Guide:
    """What one picture [3, s, s] says of all masks of `side` * `side` cells: computed once. Plane by plane and
    without torch: arrays so small are dearer to share between threads than to work through."""

    def __init__(self, fine_chw: F32, coarse_chw: F32, mean_chw: F32, inverse_cchw: F32) -> None:
        self._fine_chw = fine_chw
        self._coarse_chw = coarse_chw
        self._mean_chw = mean_chw  # of the windows' colours
        self._inverse_cchw = inverse_cchw  # of their covariances

    @classmethod
    def of(cls, picture_chw: F32, side: int) -> "_Guide":
        fine_chw = _shrunk(picture_chw, FINER * side)
        coarse_chw = _shrunk(fine_chw, side)
        mean_chw = _window_means(coarse_chw)
        return cls(fine_chw, coarse_chw, mean_chw, _inverted(_covariances(coarse_chw, mean_chw)))

    def part(self, part: Part) -> "_Guide":
        """What it says of some cells alone, which costs less."""
        fine_chw = self._fine_chw[:, *_finer(part)]
        return _Guide(fine_chw, *(a[..., *part] for a in (self._coarse_chw, self._mean_chw, self._inverse_cchw)))

    def filtered(self, mask_hw: F32) -> F32:
        """[h, w] -> [2 h, 2 w]: the mask as far as colours say nothing of it, else what they say."""
        mean_hw = _window_mean(mask_hw)
        with_mask_chw = _window_means(self._coarse_chw * mask_hw) - self._mean_chw * mean_hw
        slope_chw = (self._inverse_cchw * with_mask_chw).sum(1)
        offset_hw = mean_hw - (slope_chw * self._mean_chw).sum(0)
        explained_hw = (slope_chw * with_mask_chw).sum(0)
        variance_hw = _window_mean(mask_hw * mask_hw) - mean_hw * mean_hw
        trust_hw = explained_hw / (ENOUGH * variance_hw.clip(min=1e-6))

        by_colour_hw = self.finer(_window_mean(offset_hw))
        for slope_hw, fine_hw in zip(slope_chw, self._fine_chw, strict=True):
            by_colour_hw += self.finer(_window_mean(slope_hw)) * fine_hw
        own_hw = self.finer(mask_hw)
        guided_hw = own_hw + self.finer(_window_mean(trust_hw.clip(0, 1))) * (by_colour_hw - own_hw)
        guided_hw = _undone(guided_hw, own_hw, guided_hw <= 0, own_hw <= SURE)  # a belt is no hole in who wears it
        return _undone(guided_hw, own_hw, guided_hw > 0, own_hw > 0)

    def finer(self, values_hw: F32) -> F32:
        """[h, w] -> [2 h, 2 w], enlarged without the picture."""
        height, width = self._fine_chw.shape[1:]
        return np.asarray(cv2.resize(values_hw, (width, height), interpolation=cv2.INTER_LINEAR), np.float32)


def _undone(guided_hw: F32, own_hw: F32, parts_hw: Bool, rightly_hw: Bool) -> F32:
    """Without those of the parts that lie nowhere `rightly`: there the mask stays its own."""
    count, part_hw = cv2.connectedComponents(parts_hw.view(np.uint8), connectivity=8)  # 0 is around the parts
    if count <= 2:
        return guided_hw
    wrong_n = np.bincount(part_hw[rightly_hw], minlength=count) == 0
    wrong_n[0] = False
    return np.where(wrong_n[part_hw], own_hw, guided_hw) if wrong_n.any() else guided_hw


def _covariances(coarse_chw: F32, mean_chw: F32) -> NDArray[np.float64]:
    """Of the colours in each window: [3, 3, h, w]; double, for those of a grey picture are all but the same."""
    products_cchw = coarse_chw[:, None] * coarse_chw
    means_cchw = _window_means(products_cchw.reshape(-1, *products_cchw.shape[2:])).reshape(products_cchw.shape)
    return means_cchw - mean_chw[:, None] * mean_chw + SOFTNESS * np.eye(3)[..., None, None]


def _inverted(matrices_cchw: NDArray[np.float64]) -> F32:
    """Of symmetric 3 * 3 matrices: the cross products of their rows, by their determinants."""
    adjugates_cchw = np.cross(matrices_cchw[[1, 2, 0]], matrices_cchw[[2, 0, 1]], axis=1)
    determinants_hw = (matrices_cchw[0] * adjugates_cchw[0]).sum(0)
    inverse_cchw: F32 = (adjugates_cchw / determinants_hw).astype(np.float32)
    return inverse_cchw


def _shrunk(picture_chw: F32, side: int) -> F32:
    planes = [cv2.resize(plane_hw, (side, side), interpolation=cv2.INTER_AREA) for plane_hw in picture_chw]
    return np.asarray(planes, np.float32)


def _window_mean(values_hw: F32) -> F32:
    """Of each cell's window; beyond the border the picture is mirrored."""
    size = (2 * RADIUS + 1, 2 * RADIUS + 1)
    return np.asarray(cv2.boxFilter(values_hw, -1, size, borderType=cv2.BORDER_REFLECT), np.float32)


def _window_means(values_nhw: F32) -> F32:
    return np.stack([_window_mean(values_hw) for values_hw in values_nhw])
