"""What reads a ResNet: the heads of DeepLabv3 and DeepLabv3+, and that of a classifier.

Chen et al., "Rethinking Atrous Convolution for Semantic Image Segmentation" (arXiv 1706.05587), and "Encoder-Decoder
with Atrous Separable Convolution" (ECCV 2018; here, as in AFANet, with ordinary convolutions). The pyramid is
torchvision's.

Shapes: B batch, C channels, H/W size, K output channels.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.models.segmentation.deeplabv3 import ASPP

from .segnet import scaled

RATES = {8: (12, 24, 36), 16: (6, 12, 18)}  # of the pyramid, by output stride: DeepLabv3
CHANNELS = 256  # of the pyramid and of everything behind it
SHORTCUT = 48  # of t_1 as DeepLabv3+ reads it


class DeepLabHead(nn.Sequential):
    """Atrous spatial pyramid, 3x3 convolution, 1x1 convolution: (B, C, H, W) -> (B, K, H, W), unbounded.

    The pyramid's dropout of one half draws from torch's random state; its image pooling normalises maps of one pixel,
    so that training needs two images in every batch.

    Args:
        channels: C.
        outputs: K.
        width: scales the 256 channels inside.
    """

    def __init__(self, channels: int, outputs: int, width: float = 1.0):
        (inner,) = scaled(width, (CHANNELS,))
        super().__init__(
            ASPP(channels, list(RATES[8]), inner),
            nn.Conv2d(inner, inner, 3, padding=1, bias=False),
            nn.BatchNorm2d(inner),
            nn.ReLU(),
            nn.Conv2d(inner, outputs, 1),
        )


class DeepLabPlusHead(nn.Module):
    """Pyramid of stride 16, then a decoder that looks at t_1 too: (B, C, h, w), (B, C_1, H, W) -> (B, K, H, W),
    unbounded.

    As in AFANet's pixel networks. Dropout of one half in the pyramid and behind the first 3x3 convolution, of a tenth
    behind the second. Weights are Kaiming normal by fan-in (that of the last convolution, and its zero bias:
    unconfirmed).

    Args:
        channels: C.
        shortcut: C_1.
        outputs: K.
        width: scales the 256 and 48 channels inside.
    """

    def __init__(self, channels: int, shortcut: int, outputs: int, width: float = 1.0):
        super().__init__()
        inner, low = scaled(width, (CHANNELS, SHORTCUT))
        self.pyramid = ASPP(channels, list(RATES[16]), inner)
        self.shortcut = _block(shortcut, low, 1)
        self.decode = nn.Sequential(
            *_block(inner + low, inner, 3), nn.Dropout(0.5), *_block(inner, inner, 3), nn.Dropout(0.1)
        )
        self.classify = nn.Conv2d(inner, outputs, 1)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight)
        nn.init.zeros_(self.classify.bias)

    def forward(self, deep_BCHW: Tensor, first_BCHW: Tensor) -> Tensor:
        pyramid = F.interpolate(
            self.pyramid(deep_BCHW), size=first_BCHW.shape[-2:], mode="bilinear", align_corners=True
        )
        return self.classify(self.decode(torch.cat([pyramid, self.shortcut(first_BCHW)], dim=1)))


class LabelHead(nn.Sequential):
    """One answer for an image: mean over all pixels, then a linear layer: (B, C, H, W) -> (B, K), unbounded.

    At 7 x 7 pixels the mean is the fixed average pooling of AFANet's image networks. The weight is Kaiming normal by
    fan-in, as released; the bias keeps PyTorch's default.

    Args:
        channels: C.
        outputs: K.
    """

    def __init__(self, channels: int, outputs: int):
        super().__init__(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels, outputs))
        nn.init.kaiming_normal_(self[-1].weight)


def _block(channels: int, outputs: int, side: int) -> nn.Sequential:
    convolution = nn.Conv2d(channels, outputs, side, padding=side // 2, bias=False)
    return nn.Sequential(convolution, nn.BatchNorm2d(outputs), nn.ReLU())
