"""edgeai's light decoders: every 3x3 convolution is depthwise-separable. DeepLab-lite, FPN-lite, UNet-lite.

After the networks of TI's edgeai-torchvision, from measurements of them. Each decoder reads a dict from stride to
feature and gives raw maps at the stride where it ends; convolutions have no bias, upsampling is bilinear with unaligned
corners.

Known difference: the released FPN and UNet change the list of features that they are given, and so work for one task
alone; these leave it as it is.

Shapes: B batch, C channels, H/W size, K output channels.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .mobilenet import ConvBN, ConvBNReLU
from .segnet import scaled

CHANNELS = 256  # of the pyramid and what follows
SHORTCUT = 48  # of the stride-4 feature as DeepLab-lite reads it
DROPOUT = 0.2  # of whole channels, in the pyramid
Features = Mapping[int, Tensor]


def up(x_BCHW: Tensor, factor: int) -> Tensor:
    """Bilinear, corners not aligned."""
    return F.interpolate(x_BCHW, scale_factor=factor, mode="bilinear", align_corners=False)


def separable(channels: int, outputs: int) -> nn.Sequential:
    """3x3 depthwise and 1x1 convolution, each with batch normalisation and ReLU."""
    return nn.Sequential(ConvBNReLU(channels, channels, 3, groups=channels), ConvBNReLU(channels, outputs, 1))


def prediction(channels: int, outputs: int) -> nn.Sequential:
    """3x3 depthwise convolution with batch normalisation, 1x1 convolution without: the last layers of each decoder."""
    return nn.Sequential(ConvBN(channels, channels, 3, groups=channels), nn.Conv2d(channels, outputs, 1, bias=False))


class Pyramid(nn.Module):
    """ASPP-lite: (B, C, H, W) -> (B, 256 width, H, W). A 1x1 branch and three dilated ones, no pooling of the image.

    Args:
        channels: C.
        dilations: of the three.
        width: scales the 256.
    """

    def __init__(self, channels: int, dilations: Sequence[int], width: float):
        super().__init__()
        (inner,) = scaled(width, (CHANNELS,))
        self.branches = nn.ModuleList([ConvBNReLU(channels, inner, 1)])
        for dilation in dilations:
            depthwise = ConvBNReLU(channels, channels, 3, dilation=dilation, groups=channels)
            self.branches.append(nn.Sequential(depthwise, ConvBNReLU(channels, inner, 1)))
        self.dropout = nn.Dropout2d(DROPOUT)
        self.project = ConvBNReLU(inner * len(self.branches), inner, 1)

    def forward(self, x_BCHW: Tensor) -> Tensor:
        return self.project(self.dropout(torch.cat([branch(x_BCHW) for branch in self.branches], dim=1)))


class DeepLabLite(nn.Module):
    """Pyramid at stride 16, joined with the stride-4 feature: raw maps at stride 4.

    Args:
        channels: stride -> C of the feature there.
        outputs: K.
        dilations: of the pyramid; edgeai's package has (6, 12, 18), its multi-task script (2, 4, 6).
        width: scales the channels inside.
    """

    encoder_stride = 16
    ends = 4

    def __init__(self, channels: Mapping[int, int], outputs: int, dilations: Sequence[int], width: float):
        super().__init__()
        inner, low = scaled(width, (CHANNELS, SHORTCUT))
        self.pyramid = Pyramid(channels[16], dilations, width)
        self.shortcut = ConvBNReLU(channels[4], low, 1)
        self.predict = prediction(inner + low, outputs)

    def forward(self, features: Features) -> Tensor:
        deep = up(self.pyramid(features[16]), 4)
        return self.predict(torch.cat([deep, self.shortcut(features[4])], dim=1))


class FPNLite(nn.Module):
    """Pyramid at stride 32, then at 16, 8 and 4: twice the size, plus the feature there, smoothed. Raw maps at stride
    4.

    Args: as ``DeepLabLite``.
    """

    encoder_stride = 32
    ends = 4
    levels = (16, 8, 4)

    def __init__(self, channels: Mapping[int, int], outputs: int, dilations: Sequence[int], width: float):
        super().__init__()
        (inner,) = scaled(width, (CHANNELS,))
        self.pyramid = Pyramid(channels[32], dilations, width)
        self.shortcuts = nn.ModuleList(ConvBNReLU(channels[level], inner, 1) for level in self.levels)
        self.smooth = nn.ModuleList(separable(inner, inner) for _ in self.levels)
        self.predict = prediction(inner, outputs)

    def forward(self, features: Features) -> Tensor:
        x = self.pyramid(features[32])
        for level, shortcut, smooth in zip(self.levels, self.shortcuts, self.smooth, strict=True):
            x = smooth(up(x, 2) + shortcut(features[level]))
        return self.predict(x)


class UNetLite(nn.Module):
    """Pyramid at stride 32, then at 16, 8, 4 and 2: twice the size, joined with the feature there. Raw maps at stride
    2.

    Args: as ``DeepLabLite``.
    """

    encoder_stride = 32
    ends = 2
    levels = (16, 8, 4, 2)

    def __init__(self, channels: Mapping[int, int], outputs: int, dilations: Sequence[int], width: float):
        super().__init__()
        self.pyramid = Pyramid(channels[32], dilations, width)
        (last,) = scaled(width, (CHANNELS,))
        self.steps = nn.ModuleList()
        for level in self.levels:
            target = max(2 * outputs, *scaled(width, (32,)), channels[level])
            self.steps.append(separable(last + channels[level], target))
            last = target
        self.predict = prediction(last, outputs)

    def forward(self, features: Features) -> Tensor:
        x = self.pyramid(features[32])
        for level, step in zip(self.levels, self.steps, strict=True):
            x = step(torch.cat([up(x, 2), features[level]], dim=1))
        return self.predict(x)


DECODERS: dict[str, type[DeepLabLite] | type[FPNLite] | type[UNetLite]] = {
    "deeplab": DeepLabLite,
    "fpn": FPNLite,
    "unet": UNetLite,
}
