"""ResNet-50 with output stride 8, and the DeepLabv3 head that reads it.

He et al., "Deep Residual Learning for Image Recognition", CVPR 2016, in torchvision's form (the stride of a bottleneck
is in its 3x3 convolution); dilated, and with the head of Chen et al., "Rethinking Atrous Convolution for Semantic
Image Segmentation" (arXiv 1706.05587). Blocks and their initialisation are torchvision's; parameters keep its names, so
that its weights of ResNet-50 can be loaded at width 1.

    stem       conv 7x7 / 2, batch normalisation, ReLU, max-pool 3x3 / 2            H / 4
    stage l    b_l = all blocks but the last,  t_l = the last block of b_l          l = 1..4, size H / 4, then H / 8

Stages 3 and 4 keep the size and are dilated instead, by 2 and by 4; the first block of each has the dilation of the
stage before it. Stages are cut before their last block, because MTAN taps the tensor there.

Shapes: B batch, C channels, H/W size, K output channels of a head.
"""

from __future__ import annotations

from torch import Tensor, nn
from torchvision.models.resnet import Bottleneck
from torchvision.models.segmentation.deeplabv3 import ASPP

from .segnet import keep, scaled

PLANES = (64, 128, 256, 512)  # of the 3x3 convolutions; a stage's output has EXPANSION times as many channels
BLOCKS = (3, 4, 6, 3)
STRIDES = (1, 2, 1, 1)
DILATIONS = (1, 1, 2, 4)
EXPANSION = Bottleneck.expansion
ASPP_RATES = (12, 24, 36)  # for output stride 8: DeepLabv3
ASPP_CHANNELS = 256


class ResNet50(nn.Module):
    """The trunk: image (B, 3, H, W), H and W multiples of 8 -> t_4 (B, 2048 width, H/8, W/8).

    Args:
        width: scales every channel count; see ``segnet.scaled``.
        channels: of the input.
    """

    def __init__(self, width: float = 1.0, channels: int = 3):
        super().__init__()
        planes = scaled(width, PLANES)
        self.conv1 = nn.Conv2d(channels, planes[0], 7, stride=2, padding=3, bias=False)
        self.bn1, self.relu = nn.BatchNorm2d(planes[0]), nn.ReLU(inplace=True)
        self.maxpool = nn.MaxPool2d(3, stride=2, padding=1)
        self.channels = [EXPANSION * p for p in planes]  # of the four stages
        sources = [planes[0], *self.channels[:-1]]
        for number in range(4):
            self.add_module(f"layer{number + 1}", _stage(number, sources[number], planes[number]))
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    @property
    def stages(self) -> list[nn.Sequential]:
        return [self.layer1, self.layer2, self.layer3, self.layer4]

    def forward(self, image_BCHW: Tensor, features: dict[str, Tensor] | None = None) -> Tensor:
        """t_4. Where a dict is given, it is filled with b1..b4 and t1..t4; the tensors are not copied."""
        x = self.maxpool(self.relu(self.bn1(self.conv1(image_BCHW))))
        for number, stage in enumerate(self.stages, 1):
            before = keep(features, f"b{number}", stage[:-1](x))
            x = keep(features, f"t{number}", stage[-1](before))
        return x


def bottleneck(channels: int, planes: int, stride: int = 1, dilation: int = 1) -> Bottleneck:
    """A residual block (B, C, H, W) -> (B, 4 planes, H / stride, W / stride), with a projection where shapes differ.

    Args:
        channels: C.
        planes: of its 3x3 convolution.
        stride: of the 3x3 convolution and of the projection.
        dilation: of the 3x3 convolution.
    """
    outputs = EXPANSION * planes
    projection = None
    if stride != 1 or channels != outputs:
        projection = nn.Sequential(nn.Conv2d(channels, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs))
    return Bottleneck(channels, planes, stride, projection, dilation=dilation)


def _stage(number: int, channels: int, planes: int) -> nn.Sequential:
    first = bottleneck(channels, planes, STRIDES[number], DILATIONS[max(number - 1, 0)])
    rest = [bottleneck(EXPANSION * planes, planes, dilation=DILATIONS[number]) for _ in range(BLOCKS[number] - 1)]
    return nn.Sequential(first, *rest)


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
        (inner,) = scaled(width, (ASPP_CHANNELS,))
        super().__init__(
            ASPP(channels, list(ASPP_RATES), inner),
            nn.Conv2d(inner, inner, 3, padding=1, bias=False),
            nn.BatchNorm2d(inner),
            nn.ReLU(),
            nn.Conv2d(inner, outputs, 1),
        )
