"""A small residual convolutional trunk for SAM 2's image encoder.

From nothing, on little data, convolutions learn many times faster than Hiera does; the image encoder takes any
trunk that names its output channels in `channel_list`.
"""

from collections.abc import Sequence

from torch import Tensor, nn

GROUPS = 8


class ConvTrunk(nn.Module):
    """Image -> four feature maps at strides 4, 8, 16 and 32.

    Args:
        channels: output channels of the four stages, finest first; multiples of 8.
        depths: residual blocks of each stage.
    """

    def __init__(self, channels: Sequence[int] = (32, 64, 128, 256), depths: Sequence[int] = (2, 3, 3, 2)) -> None:
        super().__init__()
        if len(channels) != len(depths):
            raise ValueError(f"{len(channels)} stages of channels but {len(depths)} of depths: give one of each")
        self.channel_list = list(reversed(channels))  # coarsest first, as FpnNeck wants them
        self.stem = nn.Sequential(_conv_norm(3, channels[0], stride=2), nn.ReLU(inplace=True))
        widths_in = [channels[0], *channels[:-1]]
        self.stages = nn.ModuleList(
            _stage(width_in, width, depth)
            for width_in, width, depth in zip(widths_in, channels, depths, strict=True)
        )

    def forward(self, images_nchw: Tensor) -> list[Tensor]:
        """`[n, 3, h, w]` -> `[n, c_i, h / 4 / 2**i, w / 4 / 2**i]` for i = 0 to 3, finest first."""
        x_nchw = self.stem(images_nchw)
        levels: list[Tensor] = []
        for stage in self.stages:
            x_nchw = stage(x_nchw)
            levels.append(x_nchw)
        return levels


class ResidualBlock(nn.Module):
    """Two 3x3 convolutions beside a short cut (He et al. 2015), with group norm for small batches."""

    def __init__(self, width_in: int, width: int, stride: int) -> None:
        super().__init__()
        self.conv1 = _conv_norm(width_in, width, stride)
        self.conv2 = _conv_norm(width, width, stride=1)
        self.relu = nn.ReLU(inplace=True)
        self.shortcut: nn.Module = nn.Identity()
        if stride != 1 or width_in != width:
            self.shortcut = nn.Conv2d(width_in, width, kernel_size=1, stride=stride)

    def forward(self, x_nchw: Tensor) -> Tensor:
        """`[n, width_in, h, w]` -> `[n, width, h / stride, w / stride]`."""
        branch_nchw = self.conv2(self.relu(self.conv1(x_nchw)))
        out_nchw: Tensor = self.relu(branch_nchw + self.shortcut(x_nchw))
        return out_nchw


def _stage(width_in: int, width: int, depth: int) -> nn.Sequential:
    blocks = [ResidualBlock(width_in, width, stride=2)]
    blocks += [ResidualBlock(width, width, stride=1) for _ in range(depth - 1)]
    return nn.Sequential(*blocks)


def _conv_norm(width_in: int, width: int, stride: int) -> nn.Sequential:
    conv = nn.Conv2d(width_in, width, kernel_size=3, stride=stride, padding=1, bias=False)
    return nn.Sequential(conv, nn.GroupNorm(GROUPS, width))
