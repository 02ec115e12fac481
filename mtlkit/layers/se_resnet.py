"""SE-ResNets with something of each task's own in every block: the trunk of ASTMT.

He et al., "Deep Residual Learning for Image Recognition", CVPR 2016, with squeeze-and-excite (Hu et al., CVPR 2018), as
in Maninis et al., CVPR 2019. A block for task t:

    o = relu(BN1_t(1x1(x; stride)))                     the stride is here, as in Caffe's nets, not in the 3x3
    o = relu(BN2_t(3x3(o; dilation) + adapter_t(o)))
    o = SE_t(BN3_t(1x1(o)))
    y = relu(o + shortcut(x))                           BN_t(1x1(x; stride)) in a stage's first block, else x

The stem is shared, batch normalisation included. ResNet-26 has these blocks too, two in every stage. Convolutions and
batch normalisation keep torchvision's names but for the task's (``squeeze.plain``).

Shapes: B batch, C channels, H/W size.
"""

from __future__ import annotations

from torch import Tensor, nn

from .resnet import BLOCKS as DEEP
from .resnet import EXPANSION, PLANES
from .segnet import scaled
from .squeeze import Modulation, TaskSequential, adapted

BLOCKS = {26: (2, 2, 2, 2), **DEEP}  # layers -> blocks of the four stages
STRIDES = {16: (1, 2, 2, 1), 8: (1, 2, 1, 1)}  # output stride -> that of each stage
DILATIONS = {16: (1, 1, 1, 2), 8: (1, 1, 2, 4)}  # of all 3x3 convolutions of a stage


class SEBottleneck(nn.Module):
    """(B, C, H, W), task's name -> (B, 4 planes, H / stride, W / stride).

    Args:
        channels: C.
        planes: of its 3x3 convolution.
        how: what of it is each task's own.
        stride: of the first convolution and of the projection.
        dilation: of the 3x3 convolution.
        project: the shortcut is a convolution.
    """

    takes_name = True

    def __init__(self, channels: int, planes: int, how: Modulation, stride: int, dilation: int, project: bool):
        super().__init__()
        outputs = EXPANSION * planes
        self.conv1, self.bn1 = nn.Conv2d(channels, planes, 1, stride, bias=False), how.norm(planes)
        self.conv2 = nn.Conv2d(planes, planes, 3, padding=dilation, dilation=dilation, bias=False)
        self.adapter, self.bn2 = how.adapter(planes, planes), how.norm(planes)
        self.conv3, self.bn3 = nn.Conv2d(planes, outputs, 1, bias=False), how.norm(outputs)
        self.squeeze = how.squeeze(outputs)
        self.relu = nn.ReLU(inplace=True)
        self.downsample = (
            TaskSequential(nn.Conv2d(channels, outputs, 1, stride, bias=False), how.norm(outputs)) if project else None
        )

    def forward(self, x_BCHW: Tensor, name: str) -> Tensor:
        y = self.relu(self.bn1(self.conv1(x_BCHW), name))
        y = self.relu(self.bn2(adapted(self.conv2, self.adapter, y, name), name))
        y = self.squeeze(self.bn3(self.conv3(y), name), name)
        return self.relu(y + (x_BCHW if self.downsample is None else self.downsample(x_BCHW, name)))


class SEResNet(nn.Module):
    """The trunk: image (B, 3, H, W), task's name -> the outputs of stage 4 and of stage 1.

    These are (B, 2048 width, H / output stride, W / output stride) and (B, 256 width, H / 4, W / 4).

    Args:
        layers: a key of ``BLOCKS``.
        how: what of its blocks is each task's own.
        width: scales every channel count.
        output_stride: a key of ``STRIDES``.
    """

    def __init__(self, layers: int, how: Modulation, width: float = 1.0, output_stride: int = 16):
        super().__init__()
        planes = scaled(width, PLANES)
        self.layers = layers
        self.low, self.deep = EXPANSION * planes[0], EXPANSION * planes[-1]  # channels of the two outputs
        self.conv1 = nn.Conv2d(3, planes[0], 7, stride=2, padding=3, bias=False)
        self.bn1, self.relu = nn.BatchNorm2d(planes[0]), nn.ReLU(inplace=True)
        self.maxpool = nn.MaxPool2d(3, stride=2, padding=1)
        sources = [planes[0], *(EXPANSION * p for p in planes[:-1])]
        for number, blocks in enumerate(BLOCKS[layers]):
            stride, dilation = STRIDES[output_stride][number], DILATIONS[output_stride][number]
            stage = TaskSequential(
                SEBottleneck(sources[number], planes[number], how, stride, dilation, project=True),
                *(
                    SEBottleneck(EXPANSION * planes[number], planes[number], how, 1, dilation, project=False)
                    for _ in range(blocks - 1)
                ),
            )
            self.add_module(f"layer{number + 1}", stage)

    def forward(self, image_BCHW: Tensor, name: str) -> tuple[Tensor, Tensor]:
        x = self.maxpool(self.relu(self.bn1(self.conv1(image_BCHW))))
        low = self.layer1(x, name)
        return self.layer4(self.layer3(self.layer2(low, name), name), name), low
