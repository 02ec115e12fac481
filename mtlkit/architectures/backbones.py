"""Backbones: the networks that trunks are made from, each with the head that fits it.

Shapes: B batch, C channels, H/W size, K output channels of a head.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Sequence

import torch.nn.functional as F
from torch import Tensor, nn

from ..errors import KitError, nearest
from ..layers import deeplab, resnet, segnet
from ..tasks import Task
from .base import MultiTaskModel

LastFeature = Tensor | tuple[Tensor, ...]  # what a trunk gives: one tensor, or several that a head reads together


@dataclasses.dataclass(frozen=True)
class Backbone:
    """What an architecture needs to know of a network.

    Attributes:
        trunk: width -> module with ``forward(image, features=None)``, which gives what a head reads, and with ``steps``
            and ``places`` (see ``layers.steps``).
        head: (trunk, K, width) -> module from what the trunk gives to raw outputs.
        last: name of the trunk's last feature, None where a head reads several.
        last_conv: trunk -> the convolution nearest to its end.
        stride: H and W are multiples of it.
        smallest_batch: images that a training batch needs.
        initialise: applied to the whole network once it is made.
        labels: True for one answer for an image, instead of one for every pixel.
    """

    trunk: Callable[[float], nn.Module]
    head: Callable[[nn.Module, int, float], nn.Module]
    last: str | None
    last_conv: Callable[[nn.Module], nn.Conv2d]
    stride: int = 1
    smallest_batch: int = 1
    initialise: Callable[[nn.Module], None] = lambda module: None
    labels: bool = False


def _deeplab(layers: int = 50) -> Backbone:
    return Backbone(
        trunk=functools.partial(resnet.ResNet, form=resnet.GRID, layers=layers),
        head=lambda trunk, outputs, width: deeplab.DeepLabPlusHead(
            trunk.channels[-1], trunk.channels[0], outputs, width
        ),
        last=None,
        last_conv=lambda trunk: trunk.layer4[-1].conv3,
        smallest_batch=2,
    )


def _classifier(layers: int = 50) -> Backbone:
    return Backbone(
        trunk=functools.partial(resnet.ResNet, form=resnet.CLASSIFY, layers=layers),
        head=lambda trunk, outputs, width: deeplab.LabelHead(trunk.channels[-1], outputs),
        last="t4",
        last_conv=lambda trunk: trunk.layer4[-1].conv3,
        labels=True,
    )


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
        trunk=resnet.ResNet,
        head=lambda trunk, outputs, width: deeplab.DeepLabHead(trunk.channels[-1], outputs, width),
        last="t4",
        last_conv=lambda trunk: trunk.layer4[-1].conv3,
        stride=8,
        smallest_batch=2,
    ),
    # those of AFANet, which takes the 101 layers by mistake for some of its baselines
    "resnet50-deeplabv3plus": _deeplab(),
    "resnet101-deeplabv3plus": _deeplab(101),
    "resnet50": _classifier(),
    "resnet101": _classifier(101),
}


class BackboneModel(MultiTaskModel):
    """An architecture that is built on any of the backbones.

    Args:
        tasks: as ``MultiTaskModel``.
        backbone: a key of ``BACKBONES``.
        width: scales every channel count.

    Attributes:
        backbones: those that the architecture stands on.

    Raises:
        KitError: tasks, backbone or width that do not exist.
    """

    backbones: tuple[str, ...] = tuple(BACKBONES)

    def __init__(self, tasks: Sequence[Task], backbone: str, width: float):
        super().__init__(tasks)
        if backbone not in self.backbones:
            raise KitError(f"unknown backbone {backbone!r}: {nearest(backbone, self.backbones)}")
        self.backbone, self.width = BACKBONES[backbone], width
        self.stride, self.smallest_batch = self.backbone.stride, self.backbone.smallest_batch
        self.labels = self.backbone.labels

    def make_head(self, trunk: nn.Module, task: Task) -> nn.Module:
        """A fresh head of ``task`` for what ``trunk`` gives."""
        return self.backbone.head(trunk, task.channels, self.width)

    def answer(self, name: str, last: LastFeature, image_BCHW: Tensor) -> Tensor:
        """Raw output of one task from what a trunk gives: (B, K, H, W) at the size of the image (bilinear with aligned
        corners, as the released DeepLabs do it); (B, K) where it is one answer for an image.
        """
        raw, size = (
            self.heads[name](*last) if isinstance(last, tuple) else self.heads[name](last),
            image_BCHW.shape[-2:],
        )
        if raw.ndim == 2 or raw.shape[-2:] == size:
            return raw
        return F.interpolate(raw, size=size, mode="bilinear", align_corners=True)
