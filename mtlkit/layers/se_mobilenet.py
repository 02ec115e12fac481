"""SE-MobileNetV2 with something of each task's own in every block: the small trunk of ASTMT.

Sandler et al., "MobileNetV2: Inverted Residuals and Linear Bottlenecks", CVPR 2018, with squeeze-and-excite at the end
of every block, before the sum; as in Maninis et al., CVPR 2019. Output stride 16: the last four blocks have stride 1
and dilation 2. The stem is shared, batch normalisation included. There are no adapters. Names are torchvision's
(``squeeze.plain``).

Shapes: B batch, C channels, H/W size.
"""

from __future__ import annotations

from torch import Tensor, nn

from .mobilenet import BLOCKS, EXPANSION, STEM
from .segnet import scaled
from .squeeze import Modulation, TaskSequential

LOW = 3  # the block of stride 4 that the decoder reads
DILATED = 14  # the first block of stride 1 and dilation 2


class SEInvertedResidual(nn.Module):
    """1x1 expansion, 3x3 depthwise, linear 1x1, gates: (B, C, H, W), task's name -> (B, C', H / stride, W / stride).

    The input is added where shapes agree.

    Args:
        channels: C.
        outputs: C'.
        how: what of it is each task's own.
        stride: of the depthwise convolution.
        dilation: of the depthwise convolution.
        expansion: channels inside, in units of C; with 1 there is no first convolution.
    """

    takes_name = True

    def __init__(self, channels: int, outputs: int, how: Modulation, stride: int, dilation: int, expansion: int):
        super().__init__()
        inner = channels * expansion
        deep = nn.Conv2d(inner, inner, 3, stride, dilation, dilation, groups=inner, bias=False)
        self.conv = TaskSequential(
            *([] if expansion == 1 else [_unit(nn.Conv2d(channels, inner, 1, bias=False), how)]),
            _unit(deep, how),
            nn.Conv2d(inner, outputs, 1, bias=False),
            how.norm(outputs),
        )
        self.squeeze = how.squeeze(outputs)
        self.adds = stride == 1 and channels == outputs

    def forward(self, x_BCHW: Tensor, name: str) -> Tensor:
        y = self.squeeze(self.conv(x_BCHW, name), name)
        return x_BCHW + y if self.adds else y


class SEMobileNet(nn.Module):
    """The trunk: image (B, 3, H, W), task's name -> the outputs of the last block and of block ``LOW``.

    These are (B, 320 width, H / 16, W / 16) and (B, 24 width, H / 4, W / 4).

    Args:
        how: what of its blocks is each task's own.
        width: scales every channel count.
    """

    def __init__(self, how: Modulation, width: float = 1.0):
        super().__init__()
        channels = scaled(width, (STEM, *(c for c, _ in BLOCKS)))
        self.low, self.deep = channels[LOW], channels[-1]
        stem = nn.Conv2d(3, channels[0], 3, stride=2, padding=1, bias=False)
        self.features = TaskSequential(nn.Sequential(stem, nn.BatchNorm2d(channels[0]), how.activation()))
        for number, (_, step) in enumerate(BLOCKS, 1):
            stride, dilation = (step, 1) if number < DILATED else (1, 2)
            sizes = channels[number - 1], channels[number]
            self.features.append(SEInvertedResidual(*sizes, how, stride, dilation, 1 if number == 1 else EXPANSION))

    def forward(self, image_BCHW: Tensor, name: str) -> tuple[Tensor, Tensor]:
        low = self.features[: LOW + 1](image_BCHW, name)
        return self.features[LOW + 1 :](low, name), low


def _unit(conv: nn.Conv2d, how: Modulation) -> TaskSequential:
    return TaskSequential(conv, how.norm(conv.out_channels), how.activation())
