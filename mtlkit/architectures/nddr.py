"""NDDR-CNN: a trunk for each task, and learned, normalised 1x1 mixtures of all features between the stages.

Gao, Ma, Zhao, Liu and Yuille, "NDDR-CNN: Layerwise Feature Fusing in Multi-Task CNNs by Neural Discriminative
Dimensionality Reduction", CVPR 2019; ethanygao/NDDR-CNN for the constants. The convolutions start diagonal (0.9 from
the task's own feature, 0.1 from the other), on trunks that start from trained single-task nets. The paper's trunk is a
VGG-16, behind whose five poolings the units stand, as they do in SegNet's encoder here; that they also stand between
the steps of its decoder is ours.

The *shortcut* variant brings the outputs of all units of a task to the size of the last, concatenates them and reduces
them by one 1x1 convolution for each task (a port shares one among the tasks, by mistake).

Known differences of AFANet's released baseline: PyTorch's batch normalisation (eps 1e-5, momentum 0.1;
``norm="afanet"``), and projections that its trunks have in common (``shared_downsample=True``).

Shapes: B batch, C channels, H/W size, T tasks.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..errors import KitError, nearest
from ..layers import exchange
from ..tasks import Task
from .backbones import LastFeature
from .base import ARCHITECTURES
from .catalogue import AFANET_IMAGE, AFANET_PIXEL, TOO_DEEP, Entry, declare
from .dual import Exchanging

NORMS = {  # of the units' batch normalisation: eps, and the momentum as PyTorch counts it
    "published": (1e-3, 0.05),
    "afanet": (1e-5, 0.1),
}


class Reduce(nn.Module):
    """The outputs of a task's units as one feature: resized to the last, concatenated, 1x1 convolution, normalisation,
    ReLU.

    Args:
        channels: of each output.
    """

    def __init__(self, channels: Sequence[int]):
        super().__init__()
        convolution = nn.Conv2d(sum(channels), channels[-1], 1, bias=False)
        nn.init.kaiming_normal_(convolution.weight, mode="fan_out", nonlinearity="relu")
        self.mix = nn.Sequential(convolution, nn.BatchNorm2d(channels[-1]), nn.ReLU(inplace=True))

    def forward(self, outputs: Sequence[Tensor]) -> Tensor:
        size = outputs[-1].shape[-2:]
        resized = [F.interpolate(x, size=size, mode="bilinear", align_corners=False) for x in outputs]
        return self.mix(torch.cat(resized, dim=1))


@ARCHITECTURES.register("nddr")
class NDDR(Exchanging):
    """A trunk for each task, with NDDR units behind every stage.

    Args:
        tasks: one trunk and one head are made for each.
        backbone: a key of ``BACKBONES``; the shortcut needs a ResNet.
        width: scales every channel count.
        own: of the task's own feature at the start (alpha), in [0, 1]; 1 makes T single networks but for the units'
            normalisation.
        norm: a key of ``NORMS``.
        shortcut: the variant whose heads read the outputs of all units.
        shared_downsample: True as AFANet released it; see ``dual``.

    Raises:
        KitError: tasks, backbone, norm or width that do not exist, ``own`` out of range, a shortcut on SegNet.
    """

    def __init__(
        self,
        tasks: Sequence[Task],
        backbone: str = "segnet",
        width: float = 1.0,
        own: float = 0.9,
        norm: str = "published",
        shortcut: bool = False,
        shared_downsample: bool = False,
    ):
        super().__init__(tasks, backbone, width, shared_downsample)
        if norm not in NORMS:
            raise KitError(f"unknown norm {norm!r} of 'nddr': {nearest(norm, NORMS)}")
        if not 0 <= own <= 1:
            raise KitError(f"own is the share of a task's own feature, in [0, 1], found {own}; the paper has 0.9")
        if shortcut and backbone == "segnet":
            raise KitError("the shortcut of 'nddr' stands before the heads of a ResNet; SegNet's decoder has none")
        names, (eps, momentum) = [task.name for task in tasks], NORMS[norm]
        places = self.ends()
        self.connect(places, lambda place, channels: exchange.NDDR(names, channels, own, eps, momentum))
        every = next(iter(self.trunks.values())).places
        self.reduce = nn.ModuleDict(
            {name: Reduce([every[p] for p in places]) for name in names if shortcut and self.exchange}
        )

    def finish(self, name: str, last: LastFeature, outputs: Sequence[Tensor]) -> LastFeature:
        """What the head of a task reads: the shortcut in the place of the last feature, where there is one."""
        if name not in self.reduce:
            return last
        reduced = self.reduce[name](outputs)
        return (reduced, *last[1:]) if isinstance(last, tuple) else reduced

    def task_modules(self, name: str) -> list[nn.Module]:
        """The last unit has a convolution for each task, which no other task's loss reaches."""
        last = list(self.exchange.values())[-1].mix[name]
        return [last, *super().task_modules(name), *([self.reduce[name]] if name in self.reduce else [])]

    def last_shared_layer(self) -> nn.Module | None:
        """The last unit but one: the last holds a convolution for each task, and nothing in common."""
        return list(self.exchange.values())[-2] if len(self.tasks) > 1 else None

    def parameter_groups(self) -> dict[str, list[nn.Parameter]]:
        groups = super().parameter_groups()
        return groups | {"exchange": [*groups["exchange"], *self.reduce.parameters()]}


# --- rows of `mtlkit models`: measured on AFANet's code -----------------------------------------------------------

_PIXEL = "resnet50-deeplabv3plus"
_RELEASED = {"norm": "afanet", "shared_downsample": True}

declare(
    *(
        Entry("adience", "nddr", AFANET_IMAGE, {(224, 224): macs}, parameters, 0, options, note=note, called=name)
        for name, options, parameters, macs, note in (
            ("", {"backbone": "resnet50"}, 69_334_154, 11_462_627_328, ""),
            ("resnet50-released", {"backbone": "resnet50"} | _RELEASED, 66_557_578, 11_462_627_328, ""),
            ("resnet101-released", {"backbone": "resnet101"} | _RELEASED, 104_541_834, 18_887_069_696, TOO_DEEP),
        )
    ),
    *(
        Entry("nyuv2-40", "nddr", AFANET_PIXEL, macs, parameters, 0, options, note=note, called=name)
        for name, options, parameters, macs, note in (
            ("", {"backbone": _PIXEL}, 103_001_705, {(64, 64): 2_633_957_376, (304, 304): 59_406_053_376}, ""),
            (f"{_PIXEL}-released", {"backbone": _PIXEL} | _RELEASED, 100_225_129, {(304, 304): 59_406_053_376}, ""),
            (
                "resnet101-deeplabv3plus-released",
                {"backbone": "resnet101-deeplabv3plus"} | _RELEASED,
                138_209_385,
                {(304, 304): 73_080_664_064},
                TOO_DEEP,
            ),
        )
    ),
)
