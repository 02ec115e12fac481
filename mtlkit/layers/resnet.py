"""ResNets as trunks: classifying, dilated, and with a multi-grid.

He et al., "Deep Residual Learning for Image Recognition", CVPR 2016, in torchvision's form (the stride of a bottleneck
is in its 3x3 convolution). Blocks and their initialisation are torchvision's; parameters keep its names, so that its
weights of ResNet-50 and ResNet-101 can be loaded at width 1.

    stem       conv 7x7 / 2, batch normalisation, ReLU, max-pool 3x3 / 2            H / 4
    stage l    b_l = all blocks but the last,  t_l = the last block of b_l          l = 1..4

    form            sizes of the stages     dilation of the 3x3 convolutions
    ``CLASSIFY``    H / 4, 8, 16, 32        none
    ``DILATED``     H / 4, 8, 8, 8          2 in stage 3, 4 in stage 4; the first block of each has that of the stage
                                            before it (torchvision's DeepLabv3, output stride 8)
    ``GRID``        H / 4, 8, 16, 16        2, 4, 8 in the three blocks of stage 4 (DeepLabv3+, output stride 16, a grid
                                            of 1, 2, 4); the head reads t_1 too

Stages are cut before their last block, because MTAN taps the tensor there.

Shapes: B batch, C channels, H/W size.
"""

from __future__ import annotations

import dataclasses

from torch import Tensor, nn
from torchvision.models.resnet import Bottleneck

from .segnet import keep, scaled
from .steps import Steps, run

PLANES = (64, 128, 256, 512)  # of the 3x3 convolutions; a stage's output has EXPANSION times as many channels
BLOCKS = {50: (3, 4, 6, 3), 101: (3, 4, 23, 3)}  # layers -> blocks of the four stages
EXPANSION = Bottleneck.expansion


@dataclasses.dataclass(frozen=True)
class Form:
    """What a ResNet is made for.

    Attributes:
        strides: of the four stages.
        dilations: of the blocks of each stage; the last one holds for those that follow.
        shortcut: whether the head reads t_1 besides t_4.
    """

    strides: tuple[int, int, int, int]
    dilations: tuple[tuple[int, ...], ...]
    shortcut: bool = False


CLASSIFY = Form((1, 2, 2, 2), ((1,), (1,), (1,), (1,)))
DILATED = Form((1, 2, 1, 1), ((1,), (1,), (1, 2), (2, 4)))
GRID = Form((1, 2, 2, 1), ((1,), (1,), (1,), (2, 4, 8)), shortcut=True)


class ResNet(nn.Module):
    """The trunk: image (B, 3, H, W) -> t_4 (B, 2048 width, h, w); with a shortcut the pair of t_4 and t_1.

    Args:
        width: scales every channel count; see ``segnet.scaled``.
        channels: of the input.
        form: ``CLASSIFY``, ``DILATED`` or ``GRID``.
        layers: 50 or 101.
    """

    def __init__(self, width: float = 1.0, channels: int = 3, form: Form = DILATED, layers: int = 50):
        super().__init__()
        planes = scaled(width, PLANES)
        self.form = form
        self.conv1 = nn.Conv2d(channels, planes[0], 7, stride=2, padding=3, bias=False)
        self.bn1, self.relu = nn.BatchNorm2d(planes[0]), nn.ReLU(inplace=True)
        self.maxpool = nn.MaxPool2d(3, stride=2, padding=1)
        self.channels = [EXPANSION * p for p in planes]  # of the four stages
        sources = [planes[0], *self.channels[:-1]]
        for number, blocks in enumerate(BLOCKS[layers]):
            stage = _stage(sources[number], planes[number], blocks, form.strides[number], form.dilations[number])
            self.add_module(f"layer{number + 1}", stage)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    @property
    def stages(self) -> list[nn.Sequential]:
        return [self.layer1, self.layer2, self.layer3, self.layer4]

    @property
    def places(self) -> dict[str, int]:
        """Where ``steps`` pauses -> channels there: behind every block, ``stage4/0``, and every stage, ``stage4``."""
        places = {}
        for number, (stage, channels) in enumerate(zip(self.stages, self.channels, strict=True), 1):
            places |= {f"stage{number}/{n}": channels for n in range(len(stage) - 1)} | {f"stage{number}": channels}
        return places

    def behind(self, place: str) -> list[nn.Module]:
        """The modules that only what leaves a place runs through; here for the last one: none."""
        assert place == "stage4", place
        return []

    def steps(self, image_BCHW: Tensor, features: dict[str, Tensor] | None = None) -> Steps:
        """The network as a generator (see ``steps``). A dict is filled with b1..b4 and t1..t4; nothing is copied."""
        x, shortcut = self.maxpool(self.relu(self.bn1(self.conv1(image_BCHW)))), None
        for number, stage in enumerate(self.stages, 1):
            for n, block in enumerate(stage[:-1]):
                x = yield f"stage{number}/{n}", block(x)
            x = keep(features, f"t{number}", stage[-1](keep(features, f"b{number}", x)))
            shortcut = x if shortcut is None else shortcut  # t_1 before any exchange, as AFANet's decoders read it
            x = yield f"stage{number}", x
        return (x, shortcut) if self.form.shortcut else x

    def forward(self, image_BCHW: Tensor, features: dict[str, Tensor] | None = None) -> Tensor | tuple[Tensor, Tensor]:
        """t_4, with a shortcut (t_4, t_1), and ``features`` as in ``steps``."""
        return run(self.steps(image_BCHW, features))


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


def _stage(channels: int, planes: int, blocks: int, stride: int, dilations: tuple[int, ...]) -> nn.Sequential:
    of = [dilations[min(n, len(dilations) - 1)] for n in range(blocks)]
    first = bottleneck(channels, planes, stride, of[0])
    return nn.Sequential(first, *(bottleneck(EXPANSION * planes, planes, dilation=d) for d in of[1:]))
