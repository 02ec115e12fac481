"""MobileNetV2 as edgeai uses it: inverted residuals with ReLU, output stride 16 or 32.

Sandler et al., "MobileNetV2: Inverted Residuals and Linear Bottlenecks", CVPR 2018. Parameters keep torchvision's names
(``conv.0.0.weight``, ...), so that its ImageNet weights fit blocks 0 to 17 at width 1. Known differences from
torchvision: ReLU instead of ReLU6; the last convolution (320 to 1280) and the classifier are left out; at output stride
16 the blocks from 14 on have stride 1, without dilation.

Shapes: B batch, C channels, H/W size.
"""

from __future__ import annotations

import functools

from torch import Tensor, nn
from torchvision.ops import Conv2dNormActivation

from .segnet import scaled

EXPANSION = 6
STEM = 32
# channels and stride of blocks 1 to 17; the stride of block 14 is 1 at output stride 16
BLOCKS = (
    (16, 1), (24, 2), (24, 1), (32, 2), (32, 1), (32, 1), (64, 2), (64, 1), (64, 1), (64, 1), (96, 1), (96, 1), (96, 1),
    (160, 2), (160, 1), (160, 1), (320, 1),
)  # fmt: skip

ConvBN = functools.partial(Conv2dNormActivation, activation_layer=None)  # no activation; no bias
ConvBNReLU = Conv2dNormActivation


class InvertedResidual(nn.Module):
    """1x1 expansion, 3x3 depthwise, linear 1x1, each with batch normalisation: (B, C, H, W) -> (B, C', H/s, W/s).

    The input is added where shapes agree.

    Args:
        channels: C.
        outputs: C'.
        stride: s.
        expansion: channels inside, in units of C.
        expand: whether there is the 1x1 expansion; MobileNetV2 leaves it out where ``expansion`` is 1.
    """

    def __init__(self, channels: int, outputs: int, stride: int, expansion: int, expand: bool | None = None):
        super().__init__()
        inner = channels * expansion
        expand = expansion != 1 if expand is None else expand
        self.conv = nn.Sequential(
            *([ConvBNReLU(channels, inner, 1)] if expand else []),
            ConvBNReLU(inner, inner, 3, stride, groups=inner),
            nn.Conv2d(inner, outputs, 1, bias=False),
            nn.BatchNorm2d(outputs),
        )
        self.adds = stride == 1 and channels == outputs

    def forward(self, x_BCHW: Tensor) -> Tensor:
        return x_BCHW + self.conv(x_BCHW) if self.adds else self.conv(x_BCHW)


def blocks(
    first: int, last: int, width: float = 1.0, stride: int = 16, inputs: int = 3, expand_first: bool = False
) -> nn.Sequential:
    """Blocks ``first`` to ``last`` of the network (0 is the 3x3 convolution of stride 2), numbered as in torchvision.

    Args:
        first: 0 to 17.
        last: ``first`` to 17.
        width: scales every channel count.
        stride: of the output of block 17, 16 or 32.
        inputs: channels of the image.
        expand_first: block 1 keeps its 1x1 expansion (32 to 32), as in the backbone that explains edgeai's published
            count of operations.
    """
    channels = [scaled(width, (c,))[0] for c in (STEM, *(c for c, _ in BLOCKS))]
    found: list[tuple[str, nn.Module]] = []
    for number in range(first, last + 1):
        if number == 0:
            found.append(("0", ConvBNReLU(inputs, channels[0], 3, 2)))
            continue
        step = 1 if number == 14 and stride == 16 else BLOCKS[number - 1][1]
        expansion, expand = (1, expand_first) if number == 1 else (EXPANSION, None)
        found.append((str(number), InvertedResidual(channels[number - 1], channels[number], step, expansion, expand)))
    named = nn.Sequential()
    for name, module in found:
        named.add_module(name, module)
    return named
