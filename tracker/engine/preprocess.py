"""Pictures as the model takes them: at its size, in R, G, B, normalised.

Stills are resized by PIL, as upstream does it to the bit. Video is resized by torch, at a tenth of the cost and at
most two levels away from PIL: on a CPU by its kernel for bytes, on a GPU with everything else of it on the device.
"""

from collections.abc import Sequence
from functools import cache

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from tracker.images import imaging
from tracker.images.types import I420, Colour, Image, Rgb

MEAN_RGB = (0.485, 0.456, 0.406)
STD_RGB = (0.229, 0.224, 0.225)


def model_input(images: Sequence[Image], side: int, device: torch.device) -> Tensor:
    """n pictures of any sizes -> float32 [n, 3, side, side] on `device`."""
    return normalise(torch.stack([at_size(image, side, device) for image in images]))


def at_size(image: Image, side: int, device: torch.device) -> Tensor:
    """uint8 [side, side, 3] on `device`."""
    if isinstance(image, Rgb):
        return torch.from_numpy(np.array(imaging.resize_rgb(image.rgb_hwc, (side, side)))).to(device)
    if device.type == "cpu":
        rgb_hwc = torch.from_numpy(imaging.to_rgb(image))
        return _resized(rgb_hwc.permute(2, 0, 1), side).permute(1, 2, 0)
    return at_size_on(image, side, device)


def at_size_on(image: I420, side: int, device: torch.device) -> Tensor:
    """The same with all the work on `device`, to which only the planes are copied, in one go."""
    return _resized(_rgb_on(image, device), side).to(torch.uint8).permute(1, 2, 0)


def normalise(rgb_nhwc: Tensor) -> Tensor:
    """uint8 [n, h, w, 3] -> float32 [n, 3, h, w], as upstream's `load_video_frames` to the last bit."""
    mean_311, std_311 = moments(rgb_nhwc.device)
    return rgb_nhwc.permute(0, 3, 1, 2).float().div_(255).sub_(mean_311).div_(std_311)


@cache
def moments(device: torch.device) -> tuple[Tensor, Tensor]:
    """Mean and deviation of the pictures that the models were trained on, float32 [3, 1, 1] of 0 to 1."""
    mean_3, std_3 = (torch.tensor(values, device=device) for values in (MEAN_RGB, STD_RGB))
    return mean_3[:, None, None], std_3[:, None, None]


def _rgb_on(image: I420, device: torch.device) -> Tensor:
    """Whole numbers, float32 [3, h, w]: the arithmetic of `imaging.to_rgb`, chroma repeated as there."""
    w, h = image.size_wh
    y_hw, u_hw, v_hw = _planes_on(image, device)
    chroma_2hw = torch.stack([u_hw, v_hw]).repeat_interleave(2, 1).repeat_interleave(2, 2)[:, :h, :w]
    yuv_3n = torch.cat([y_hw[None], chroma_2hw]).reshape(3, -1).float()
    yuv_to_rgb_34 = _on(image.colour, device)
    return _levels(torch.addmm(yuv_to_rgb_34[:, 3:], yuv_to_rgb_34[:, :3], yuv_3n)).reshape(3, h, w)


@cache
def _on(colour: Colour, device: torch.device) -> Tensor:
    return torch.from_numpy(imaging.yuv_to_rgb_34(colour)).to(device)


def _planes_on(image: I420, device: torch.device) -> list[Tensor]:
    """Through pinned memory, so that nobody waits for the copy."""
    planes = (image.y_hw, image.u_hw, image.v_hw)
    staged = torch.empty(image.nbytes, dtype=torch.uint8, pin_memory=device.type == "cuda")
    np.concatenate([plane.reshape(-1) for plane in planes], out=staged.numpy())
    parts = torch.split(staged.to(device, non_blocking=True), [plane.size for plane in planes])
    return [part.view(plane.shape) for part, plane in zip(parts, planes, strict=True)]


def _resized(pixels_chw: Tensor, side: int) -> Tensor:
    """In two passes with whole levels between them, across before down unless only down shrinks: PIL does it so,
    and what it clamps between is up to 7 levels on hard edges. For bytes torch goes across first by itself."""
    h, w = pixels_chw.shape[1:]
    if w < side < h:
        pixels_chw = _bicubic(pixels_chw, side, w)
    elif pixels_chw.is_floating_point():
        pixels_chw = _bicubic(pixels_chw, h, side)
    return _bicubic(pixels_chw, side, side)


def _bicubic(pixels_chw: Tensor, h: int, w: int) -> Tensor:
    return _levels(F.interpolate(pixels_chw[None], (h, w), mode="bicubic", antialias=True)[0])


def _levels(pixels: Tensor) -> Tensor:
    """The nearest of 0 to 255, in the type it has."""
    return pixels.round().clamp(0, 255) if pixels.is_floating_point() else pixels
