"""Prompts, as `tracker.protocol.prompts` let them in, turned into what the model takes."""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from tracker.masks.types import Bool
from tracker.protocol.prompt import Prompt

BOX_LABELS = (2, 3)  # SAM takes a box as two points: its top-left and its bottom-right corner


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

    The order of the arithmetic is that of `SAM2VideoPredictor.add_new_points_or_box`.
    """
    xy_n2 = torch.as_tensor(prompt.points_xy, dtype=torch.float32).reshape(-1, 2)
    labels_n = torch.as_tensor(prompt.labels_n, dtype=torch.int32)
    if prompt.box_xyxy is not None:
        corners = torch.as_tensor(prompt.box_xyxy, dtype=torch.float32).reshape(2, 2)
        xy_n2 = torch.cat([corners, xy_n2])
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
