"""AFANet: a trunk for each task, and gates in the last stage that decide for each image how much the branches mix.

Shen, Cui, Huang, Zong and Chen, "Deep Adaptive Feature Aggregation in Multi-task CNNs", CIKM 2020; Cui et al., IEEE
TCSVT 32(4), 2022; after the final form of the released code. The unit, its two gates and its gradient modes are in
``layers.afa``. It stands behind each of the three blocks of a ResNet's stage 4, and nowhere else; DeepLabv3+ reads t_1
of the task's own trunk.

As released, the gates start at random around one half, after single-task training: a drop in the first steps is no
fault.

Known differences: the default gradient mode is ``clip`` (what the README describes) instead of ``keep_a`` (what the
code does); average pooling is adaptive, the same at 224 pixels; more than two tasks are ours.

Shapes: B batch, C channels, H/W size, T tasks.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn

from ..errors import KitError, nearest
from ..layers import afa, resnet
from ..tasks import Task
from .base import ARCHITECTURES
from .catalogue import AFANET_IMAGE, AFANET_PIXEL, Entry, declare
from .dual import Exchanging

SPATIAL = ("dense", "free")


@ARCHITECTURES.register("afa")
class AFA(Exchanging):
    """A trunk for each task, with adaptive feature aggregation in its last stage.

    Backward, ``clip`` is not linear: the gradients of single tasks, which gradient-level weightings combine, do not add
    up to the gradient of the sum. In the other modes they do.

    Args:
        tasks: one trunk and one head are made for each. The first is the "A" of ``keep_a``.
        backbone: a ResNet of ``BACKBONES``.
        width: scales every channel count.
        size: (height, width) of the images; the spatial gates are made for the features of such images alone.
        preserve: which gradient comes back to a branch: ``"clip"``, ``"fused"``, ``"keep_a"`` (as released) or
            ``"keep_both"``; see ``layers.afa``.
        spatial: ``"dense"``, fully connected over positions as released, or ``"free"``, convolutions for any size.
        shared_downsample: as AFANet's older code; see ``dual``.

    Raises:
        KitError: tasks, backbone, mode or width that do not exist, or dense spatial gates without a size.
    """

    backbones = tuple(name for name in Exchanging.backbones if name != "segnet")
    places = ("stage4/0", "stage4/1", "stage4")

    def __init__(
        self,
        tasks: Sequence[Task],
        backbone: str = "resnet50-deeplabv3plus",
        width: float = 1.0,
        size: Sequence[int] | None = None,
        preserve: str = "clip",
        spatial: str = "dense",
        shared_downsample: bool = False,
    ):
        super().__init__(tasks, backbone, width, shared_downsample)
        if spatial not in SPATIAL:
            raise KitError(f"unknown spatial gate {spatial!r} of 'afa': {nearest(spatial, SPATIAL)}")
        if spatial == "dense" and (size is None or len(size) != 2):
            raise KitError(
                f"AFA's dense spatial gates are made for one image size, found size={size}; give size=[height, width], "
                "or spatial='free'"
            )
        features = self._feature_size(tuple(size)) if spatial == "dense" else None
        self.connect(self.places, lambda place, channels: afa.AFA(len(tasks), channels, features, preserve))
        self.preserve = preserve

    def _feature_size(self, size: tuple[int, int]) -> tuple[int, int]:
        """(height, width) of the features of stage 4, by a dry run that computes nothing."""
        with torch.device("meta"):
            trunk = self.backbone.trunk(1 / resnet.PLANES[0]).eval()  # one channel is enough
            features: dict[str, torch.Tensor] = {}
            trunk(torch.empty(1, 3, *size), features)
        return tuple(features["t4"].shape[-2:])

    def task_modules(self, name: str) -> list[nn.Module]:
        """Whatever mode: a branch whose own gradient is kept has its trunk for itself."""
        first = self.tasks[0].name
        alone = self.preserve == "keep_both" or self.preserve == "keep_a" and name == first
        return [self.trunks[name], self.heads[name]] if alone else [self.heads[name]]


# --- rows of `mtlkit models`: measured on AFANet's code -----------------------------------------------------------

_PIXEL = "resnet50-deeplabv3plus"

declare(
    Entry(
        "adience", "afa", AFANET_IMAGE, {(224, 224): 8_180_613_260}, 53_342_710,
        options={"backbone": "resnet50", "size": [224, 224]},
    ),
    Entry(
        "nyuv2-40", "afa", AFANET_PIXEL, {(304, 304): 48_814_226_684, (289, 289): 47_189_639_036}, 87_777_781,
        options={"size": [304, 304]},
    ),
    Entry(
        "nyuv2-40", "afa", AFANET_PIXEL, {(64, 64): 2_170_493_024}, 86_997_391, options={"size": [64, 64]},
        note="spatial gates for 4 x 4 features",
    ),
)  # fmt: skip
