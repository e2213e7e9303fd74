"""What a user would give: boxes, points, masks at first, then a click where the answer is most wrong."""

from dataclasses import dataclass

import cv2
import numpy as np
import torch
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


def jittered_box(rng: np.random.Generator, mask_hw: NDArray[np.bool_], amount: float) -> NDArray[np.float32]:
    """`[2, 2]` corners, each moved by up to `amount` of the box's sides: people draw loosely."""
    x0, y0, x1, y1 = box_of(mask_hw)
    sides = np.array([x1 - x0, y1 - y0, x1 - x0, y1 - y0])
    moved = np.array([x0, y0, x1, y1]) + rng.uniform(-amount, amount, 4) * sides
    inside = moved.clip(0, mask_hw.shape[0] - 1)
    return np.asarray(inside.reshape(2, 2), np.float32)


def inner_point(mask_hw: NDArray[np.bool_]) -> NDArray[np.float32]:
    """`[2]` x, y: the middle of the mask's thickest place."""
    padded = np.pad(mask_hw.astype(np.uint8), 1)  # the picture's edge is an edge of the mask as well
    depth_hw = cv2.distanceTransform(padded, cv2.DIST_L2, 3)[1:-1, 1:-1]
    y, x = np.unravel_index(int(np.argmax(depth_hw)), depth_hw.shape)
    return np.array([x, y], np.float32)


def some_point(rng: np.random.Generator, mask_hw: NDArray[np.bool_]) -> NDArray[np.float32]:
    """`[2]`: half of the time the middle, else anywhere on the mask."""
    if rng.random() < 0.5:
        return inner_point(mask_hw)
    rows, columns = np.nonzero(mask_hw)
    index = rng.integers(len(rows))
    return np.array([columns[index], rows[index]], np.float32)


def first_points(rng: np.random.Generator, masks_nhw: NDArray[np.bool_], kind: str) -> Points:
    """Boxes or single points on n objects; `kind` is `box` or `point`."""
    if kind == "box":
        xy_np2 = np.stack([jittered_box(rng, mask_hw, 0.06) for mask_hw in masks_nhw])
        labels_np = np.tile(np.array([BOX_CORNERS], np.int32), (len(masks_nhw), 1))
    else:
        xy_np2 = np.stack([some_point(rng, mask_hw)[None] for mask_hw in masks_nhw])
        labels_np = np.ones((len(masks_nhw), 1), np.int32)
    return Points(torch.from_numpy(xy_np2), torch.from_numpy(labels_np))


def correction(rng: np.random.Generator, found_nhw: NDArray[np.bool_], masks_nhw: NDArray[np.bool_]) -> Points:
    """One click per object in the larger of what is missing (label 1) and what is too much (label 0).

    Where nothing is wrong the click is padding (label -1).
    """
    clicks = [_correction(rng, found, mask) for found, mask in zip(found_nhw, masks_nhw, strict=True)]
    xy_np2 = np.stack([xy for xy, _ in clicks])[:, None]
    labels_np = np.array([[label] for _, label in clicks], np.int32)
    return Points(torch.from_numpy(xy_np2), torch.from_numpy(labels_np))


def _correction(
    rng: np.random.Generator, found_hw: NDArray[np.bool_], mask_hw: NDArray[np.bool_]
) -> tuple[NDArray[np.float32], int]:
    missing_hw, extra_hw = mask_hw & ~found_hw, found_hw & ~mask_hw
    wrong_hw, label = (missing_hw, 1) if missing_hw.sum() >= extra_hw.sum() else (extra_hw, 0)
    if not wrong_hw.any():
        return np.zeros(2, np.float32), -1
    return some_point(rng, wrong_hw), label
