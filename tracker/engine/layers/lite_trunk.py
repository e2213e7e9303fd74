"""EfficientNet-Lite0 as a trunk for SAM 2's image encoder: it saw the world, on ImageNet, before it saw a mask.

Batch norms are folded into the convolutions, so that nothing here depends on the batch (Tan and Le 2019, arXiv
1905.11946; the Lite variant has no squeeze-and-excite, and ReLU6 for swish).
"""

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

EXPANSIONS = (1, 6, 6, 6, 6, 6, 6)
KERNELS = (3, 3, 5, 3, 5, 5, 3)
STRIDES = (1, 2, 2, 2, 1, 2, 1)
LEVELS = (1, 2, 4, 6)
"""The stages whose outputs are the trunk's: the last ones at strides 4, 8, 16 and 32."""


class LiteTrunk(nn.Module):
    """Image -> four feature maps at strides 4, 8, 16 and 32.

    Args:
        channels: output channels of the seven stages.
        blocks: inverted residual blocks of each stage.
        stem: channels at stride 2, before the first stage.
    """

    def __init__(
        self,
        channels: Sequence[int] = (16, 24, 40, 80, 112, 192, 320),
        blocks: Sequence[int] = (1, 2, 2, 3, 3, 4, 1),
        stem: int = 32,
    ) -> None:
        super().__init__()
        if not len(channels) == len(blocks) == len(KERNELS):
            raise ValueError(f"{len(channels)} stages of channels and {len(blocks)} of blocks: give seven of each")
        self.channel_list = [channels[level] for level in reversed(LEVELS)]  # coarsest first, as FpnNeck wants them
        self.stem = nn.Conv2d(3, stem, kernel_size=3, stride=2, padding=1)
        widths_in = [stem, *channels[:-1]]
        geometry = zip(widths_in, channels, blocks, EXPANSIONS, KERNELS, STRIDES, strict=True)
        self.stages = nn.ModuleList(_stage(*each) for each in geometry)

    def forward(self, images_nchw: Tensor) -> list[Tensor]:
        """`[n, 3, h, w]` -> `[n, c_i, h / 4 / 2**i, w / 4 / 2**i]` for i = 0 to 3, finest first.

        In float32 whatever autocast says: in bfloat16 its levels lead to other masks (mean IoU 0.96 over
        real clips), and on a GPU it is the smallest part of a model; on a CPU bfloat16 takes twice the time
        backwards.
        """
        with torch.autocast(images_nchw.device.type, enabled=False):
            x_nchw = F.relu6(self.stem(images_nchw.contiguous(memory_format=torch.channels_last)), inplace=True)
            levels: list[Tensor] = []
            for index, stage in enumerate(self.stages):
                x_nchw = stage(x_nchw)
                if index in LEVELS:
                    levels.append(x_nchw.contiguous())  # what comes behind rounds otherwise where channels are last
        return levels


class InvertedResidual(nn.Module):
    """A 1x1 convolution to more channels, a depthwise one, a 1x1 back (Sandler et al. 2018, arXiv 1801.04381)."""

    def __init__(self, width_in: int, width: int, expansion: int, kernel: int, stride: int) -> None:
        super().__init__()
        inner = width_in * expansion
        self.expand = nn.Conv2d(width_in, inner, kernel_size=1) if expansion > 1 else None
        geometry: dict[str, Any] = {"kernel_size": kernel, "stride": stride, "padding": kernel // 2}
        self.depthwise = nn.Conv2d(inner, inner, groups=inner, **geometry)
        self.project = nn.Conv2d(inner, width, kernel_size=1)
        self.kept = stride == 1 and width_in == width

    def forward(self, x_nchw: Tensor) -> Tensor:
        """`[n, width_in, h, w]` -> `[n, width, h / stride, w / stride]`."""
        inner_nchw = x_nchw if self.expand is None else F.relu6(self.expand(x_nchw), inplace=True)
        out_nchw: Tensor = self.project(F.relu6(self.depthwise(inner_nchw), inplace=True))
        return out_nchw + x_nchw if self.kept else out_nchw


def _stage(width_in: int, width: int, count: int, expansion: int, kernel: int, stride: int) -> nn.Sequential:
    first = InvertedResidual(width_in, width, expansion, kernel, stride)
    return nn.Sequential(first, *(InvertedResidual(width, width, expansion, kernel, 1) for _ in range(count - 1)))
