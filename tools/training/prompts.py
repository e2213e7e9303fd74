"""What a user would give: boxes, points, masks at first, then a click where the answer is most wrong."""

from dataclasses import dataclass

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

BOX_CORNERS = (2, 3)
"""SAM's labels of a box's two corners."""


@dataclass(frozen=True)
class Points:
    """`xy_np2` float32 in pixels of the model's image, `labels_np` int32, for n objects of p points each."""

    xy_np2: Tensor
    labels_np: Tensor

    def as_inputs(self) -> dict[str, Tensor]:
        """The form in which `SAM2Base` wants them."""
        return {"point_coords": self.xy_np2, "point_labels": self.labels_np}

    def with_click(self, click: "Points") -> "Points":
        """These points and one more."""
        xy_np2 = torch.cat([self.xy_np2, click.xy_np2], 1)
        return Points(xy_np2, torch.cat([self.labels_np, click.labels_np], 1))


def box_of(mask_hw: NDArray[np.bool_]) -> tuple[float, float, float, float]:
    """The tight box `x0, y0, x1, y1` around a mask, in pixels."""
    x, y, w, h = cv2.boundingRect(mask_hw.astype(np.uint8))
    return float(x), float(y), float(x + w), float(y + h)


def boxes_of(masks_nhw: Tensor) -> Tensor:
    """`[n, 4]` tight boxes `x0, y0, x1, y1` in pixels, as `box_of`, where the masks are."""

    def ends(seen_ns: Tensor) -> tuple[Tensor, Tensor]:
        length = seen_ns.shape[1]
        return seen_ns.int().argmax(1), length - seen_ns.flip(1).int().argmax(1)

    (x0_n, x1_n), (y0_n, y1_n) = ends(masks_nhw.any(1)), ends(masks_nhw.any(2))
    return torch.stack([x0_n, y0_n, x1_n, y1_n], 1).float()


def jittered_boxes(masks_nhw: Tensor, amount: float) -> Tensor:
    """`[n, 2, 2]` corners, each moved by up to `amount` of the box's sides: people draw loosely."""
    box_n4 = boxes_of(masks_nhw)
    sides_n4 = (box_n4[:, 2:] - box_n4[:, :2]).repeat(1, 2)
    shake_n4 = (2 * torch.rand_like(box_n4) - 1) * amount
    corners_n4 = box_n4 + shake_n4 * sides_n4
    return corners_n4.clamp(0, masks_nhw.shape[-1] - 1).reshape(-1, 2, 2)


def inner_point(mask_hw: NDArray[np.bool_]) -> NDArray[np.float32]:
    """`[2]` x, y: the middle of the mask's thickest place."""
    padded = np.pad(mask_hw.astype(np.uint8), 1)  # the picture's edge is an edge of the mask as well
    depth_hw = cv2.distanceTransform(padded, cv2.DIST_L2, 3)[1:-1, 1:-1]
    y, x = np.unravel_index(int(np.argmax(depth_hw)), depth_hw.shape)
    return np.array([x, y], np.float32)


def fullness(masks_nhw: Tensor) -> Tensor:
    """`[n, h, w]`: how much of its surroundings each pixel is full, near and wide: most in the thickest place."""
    coarse_n1hw = F.avg_pool2d(masks_nhw[:, None].float(), 4)
    around = [F.avg_pool2d(coarse_n1hw, side, 1, side // 2) for side in (3, 7, 13)]
    summed_n1hw = torch.stack(around).sum(0)
    return F.interpolate(summed_n1hw, masks_nhw.shape[-2:])[:, 0]


def some_points(masks_nhw: Tensor) -> Tensor:
    """`[n, 2]` x, y of a pixel of each mask: half of the time in the thickest place, else anywhere."""
    chance_nhw = torch.rand(masks_nhw.shape, device=masks_nhw.device)
    middle_n = torch.rand(len(masks_nhw), device=masks_nhw.device) < 0.5
    wish_nhw = torch.where(middle_n[:, None, None], fullness(masks_nhw), chance_nhw) + 1e-3
    index_n = (wish_nhw * masks_nhw).flatten(1).argmax(1)
    width = masks_nhw.shape[-1]
    return torch.stack([index_n % width, index_n // width], 1).float()


def first_points(masks_nhw: Tensor, kind: str) -> Points:
    """Boxes or single points on n objects; `kind` is `box` or `point`. All on the masks' device: no step waits."""
    count, device = len(masks_nhw), masks_nhw.device
    if kind == "box":
        corners = torch.tensor([BOX_CORNERS], dtype=torch.int32, device=device)
        return Points(jittered_boxes(masks_nhw, 0.06), corners.expand(count, 2))
    ones_n1 = torch.ones(count, 1, dtype=torch.int32, device=device)
    return Points(some_points(masks_nhw)[:, None], ones_n1)


def correction(found_nhw: Tensor, masks_nhw: Tensor) -> Points:
    """One click per object in the larger of what is missing (label 1) and what is too much (label 0).

    Where nothing is wrong the click is padding (label -1).
    """
    missing_nhw, extra_nhw = masks_nhw & ~found_nhw, found_nhw & ~masks_nhw
    misses_n = missing_nhw.sum((1, 2)) >= extra_nhw.sum((1, 2))
    wrong_nhw = torch.where(misses_n[:, None, None], missing_nhw, extra_nhw)
    labels_n = torch.where(wrong_nhw.flatten(1).any(1), misses_n.int(), -1)
    return Points(some_points(wrong_nhw)[:, None], labels_n[:, None].int())
