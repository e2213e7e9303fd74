"""Prompts: checked at the door, and turned into what the model takes."""

from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from tracker.errors import BadPrompt
from tracker.types import F32, Bool, Prompt

BOX_LABELS = (2, 3)  # SAM takes a box as two points: its top-left and its bottom-right corner


def check(prompt: Prompt, size_wh: tuple[int, int], has_points: bool) -> None:
    """Raise BadPrompt for what cannot mark an object; `has_points`: the frame was clicked on before."""
    if prompt.mask_hw is not None:
        _check_mask(prompt, size_wh)
        return
    if len(prompt.points_xy) == 0 and prompt.box_xyxy is None:
        raise BadPrompt("the prompt is empty: give points, a box or a mask")
    _check_points(prompt, size_wh)
    if prompt.box_xyxy is not None:
        _check_box(prompt.box_xyxy, size_wh)
        if has_points and not prompt.replace:
            raise BadPrompt("box: this frame has points already, and a box comes before points: say replace: true")


def _check_mask(prompt: Prompt, size_wh: tuple[int, int]) -> None:
    assert prompt.mask_hw is not None
    if len(prompt.points_xy) or prompt.box_xyxy is not None:
        raise BadPrompt("mask: stands alone; leave out points and box, or the mask")
    height, width = prompt.mask_hw.shape
    if (width, height) != tuple(size_wh):
        raise BadPrompt(f"mask: is {width}x{height}, but the frame is {size_wh[0]}x{size_wh[1]}")
    if not prompt.mask_hw.any():
        raise BadPrompt("mask: has no pixel set")


def _check_points(prompt: Prompt, size_wh: tuple[int, int]) -> None:
    points, labels = prompt.points_xy, prompt.labels_n
    if len(points) != len(labels):
        raise BadPrompt(f"labels: {len(labels)} for {len(points)} points; give one for each, or none")
    if not np.isfinite(points).all():
        raise BadPrompt("points: must be finite numbers")
    if not np.isin(labels, (0, 1)).all():
        raise BadPrompt("labels: must be 1 (on the object) or 0 (not the object)")
    outside = ((points < 0) | (points > np.asarray(size_wh))).any(axis=1)
    if outside.any():
        x, y = points[outside.argmax()]
        raise BadPrompt(f"points: ({x:g}, {y:g}) is outside the frame of {size_wh[0]}x{size_wh[1]}")


def _check_box(box_xyxy: F32, size_wh: tuple[int, int]) -> None:
    if not np.isfinite(box_xyxy).all():
        raise BadPrompt("box: must be finite numbers")
    x1, y1, x2, y2 = (float(v) for v in box_xyxy)
    text = f"[{x1:g}, {y1:g}, {x2:g}, {y2:g}]"
    if x2 <= x1 or y2 <= y1:
        raise BadPrompt(f"box: {text} is empty; it is [x1, y1, x2, y2] with x1 < x2 and y1 < y2")
    if x2 <= 0 or y2 <= 0 or x1 >= size_wh[0] or y1 >= size_wh[1]:
        raise BadPrompt(f"box: {text} is outside the frame of {size_wh[0]}x{size_wh[1]}")


class Points(NamedTuple):
    """Clicks in pixels of the model's image, float32 [n, 2]; labels int32 [n] (1 on, 0 off, 2 and 3 a box)."""

    xy_n2: Tensor
    labels_n: Tensor

    def after(self, earlier: "Points") -> "Points":
        return Points(torch.cat([earlier.xy_n2, self.xy_n2]), torch.cat([earlier.labels_n, self.labels_n]))

    def as_batch(self, device: torch.device) -> dict[str, Tensor]:
        """As SAM's prompt encoder takes them, for one object."""
        return {"point_coords": self.xy_n2[None].to(device), "point_labels": self.labels_n[None].to(device)}


def model_points(prompt: Prompt, size_wh: tuple[int, int], image_size: int) -> Points:
    """Points and box as the model takes them, the box's corners first.

    The order of the arithmetic is that of `SAM2VideoPredictor.add_new_points_or_box`. A box that reaches over the
    frame's border is clipped.
    """
    xy_n2 = torch.as_tensor(prompt.points_xy, dtype=torch.float32).reshape(-1, 2)
    labels_n = torch.as_tensor(prompt.labels_n, dtype=torch.int32)
    if prompt.box_xyxy is not None:
        corners = np.clip(prompt.box_xyxy.reshape(2, 2), 0, np.asarray(size_wh))
        xy_n2 = torch.cat([torch.as_tensor(corners, dtype=torch.float32), xy_n2])
        labels_n = torch.cat([torch.tensor(BOX_LABELS, dtype=torch.int32), labels_n])
    return Points(xy_n2 / torch.tensor(size_wh) * image_size, labels_n)


def model_mask(mask_hw: Bool, image_size: int) -> Tensor:
    """The mask at the model's image size, 0 or 1: float32 [1, 1, s, s] (`SAM2VideoPredictor.add_new_mask`)."""
    mask_11hw = torch.as_tensor(mask_hw)[None, None].float()
    if mask_11hw.shape[-2:] == (image_size, image_size):
        return mask_11hw
    size = (image_size, image_size)
    resized = F.interpolate(mask_11hw, size=size, mode="bilinear", align_corners=False, antialias=True)
    return (resized >= 0.5).float()
