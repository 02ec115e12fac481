"""Backbones: the networks that trunks are made from, each with the head that fits it.

Shapes: B batch, C channels, H/W size, K output channels of a head.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence

import torch.nn.functional as F
from torch import Tensor, nn

from ..errors import KitError, nearest
from ..layers import resnet, segnet
from ..tasks import Task
from .base import MultiTaskModel


@dataclasses.dataclass(frozen=True)
class Backbone:
    """What an architecture needs to know of a network.

    Attributes:
        trunk: width -> module with ``forward(image, features=None)``, which gives its last feature.
        head: (trunk, K, width) -> module from the trunk's last feature to raw outputs.
        last: name of the trunk's last feature.
        last_conv: trunk -> the convolution nearest to that feature.
        stride: H and W are multiples of it.
        smallest_batch: images that a training batch needs.
        initialise: applied to the whole network once it is made.
    """

    trunk: Callable[[float], nn.Module]
    head: Callable[[nn.Module, int, float], nn.Module]
    last: str
    last_conv: Callable[[nn.Module], nn.Conv2d]
    stride: int
    smallest_batch: int = 1
    initialise: Callable[[nn.Module], None] = lambda module: None


BACKBONES: dict[str, Backbone] = {
    "segnet": Backbone(
        trunk=lambda width: segnet.SegNet(segnet.scaled(width)),
        head=lambda trunk, outputs, width: segnet.Head(trunk.channels, outputs),
        last="y4",
        last_conv=lambda trunk: trunk.decoder[-1].last_conv,
        stride=segnet.STRIDE,
        initialise=segnet.initialise,
    ),
    # torchvision's own initialisation stands: Kaiming in the trunk, torch's defaults behind it, as released
    "resnet50-deeplabv3": Backbone(
        trunk=resnet.ResNet50,
        head=lambda trunk, outputs, width: resnet.DeepLabHead(trunk.channels[-1], outputs, width),
        last="t4",
        last_conv=lambda trunk: trunk.layer4[-1].conv3,
        stride=8,
        smallest_batch=2,
    ),
}


class BackboneModel(MultiTaskModel):
    """An architecture that is built on any of the backbones.

    Args:
        tasks: as ``MultiTaskModel``.
        backbone: a key of ``BACKBONES``.
        width: scales every channel count.

    Raises:
        KitError: tasks, backbone or width that do not exist.
    """

    def __init__(self, tasks: Sequence[Task], backbone: str, width: float):
        super().__init__(tasks)
        if backbone not in BACKBONES:
            raise KitError(f"unknown backbone {backbone!r}: {nearest(backbone, BACKBONES)}")
        self.backbone, self.width = BACKBONES[backbone], width
        self.stride, self.smallest_batch = self.backbone.stride, self.backbone.smallest_batch

    def make_head(self, trunk: nn.Module, task: Task) -> nn.Module:
        """A fresh head of ``task`` for the last feature of ``trunk``."""
        return self.backbone.head(trunk, task.channels, self.width)


def at_size(raw_BKHW: Tensor, image_BCHW: Tensor) -> Tensor:
    """A raw output at the size of the image: bilinear with aligned corners, as MTAN's released DeepLabv3 does it."""
    size = image_BCHW.shape[-2:]
    if raw_BKHW.shape[-2:] == size:
        return raw_BKHW
    return F.interpolate(raw_BKHW, size=size, mode="bilinear", align_corners=True)
