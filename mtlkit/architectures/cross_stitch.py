"""Cross-stitch networks: a trunk for each task, and learned mixtures of their features between the stages.

Misra, Shrivastava, Gupta and Hebert, "Cross-stitch Networks for Multi-task Learning", CVPR 2016: for each channel a
matrix that starts near the identity (0.9 and 0.1), trained with a learning rate 100 times that of the rest
(``optimiser.multipliers.exchange``), on trunks that start from trained single-task nets.

Two released forms differ from it, and both are here by name:

* MTAN's (``unit="sum"``): one factor for each source task and unit, all 1, so that every task gets the same sum.
* AFANet's: the published unit, but ``frozen=True``, because its factors are in no group of the optimiser and stay 0.9
  and 0.1; and ``shared_downsample=True``.

On SegNet the units stand before the encoder stages 1 to 4 and before every decoder step, as MTAN's do, and the networks
start with Xavier's uniform weights; on a ResNet behind each of the four stages (DeepLabv3+ reads t_1 before it).

Shapes: B batch, C channels, H/W size, T tasks.
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import nn

from ..errors import KitError, nearest
from ..layers import exchange, segnet
from ..tasks import Task, depth, normals
from .base import ARCHITECTURES
from .catalogue import (
    AFANET_IMAGE,
    AFANET_PIXEL,
    NYUV2_SIZE,
    TOO_DEEP,
    Entry,
    cityscapes,
    declare,
    semantic_of,
)
from .dual import Exchanging

_UNITS = {"channel": exchange.CrossStitch, "sum": exchange.CommonSum}


@ARCHITECTURES.register("cross_stitch")
class CrossStitch(Exchanging):
    """A trunk for each task, stitched together.

    Args:
        tasks: one trunk and one head are made for each.
        backbone: a key of ``BACKBONES``.
        width: scales every channel count.
        unit: ``"channel"`` (published: a T x T matrix for each channel) or ``"sum"`` (MTAN's simplified form).
        frozen: True as AFANet released it: the units keep their start.
        shared_downsample: True as AFANet released it; see ``dual``.

    Raises:
        KitError: tasks, backbone, unit or width that do not exist.
    """

    def __init__(
        self,
        tasks: Sequence[Task],
        backbone: str = "segnet",
        width: float = 1.0,
        unit: str = "channel",
        frozen: bool = False,
        shared_downsample: bool = False,
    ):
        super().__init__(tasks, backbone, width, shared_downsample)
        if unit not in _UNITS:
            raise KitError(f"unknown unit {unit!r} of 'cross_stitch': {nearest(unit, _UNITS)}")
        self.connect(self.ends(), lambda place, channels: _UNITS[unit](len(tasks), channels))
        if backbone == "segnet":
            segnet.initialise(self, "uniform")
        self.exchange.requires_grad_(not frozen)
        self.frozen = frozen

    def last_shared_layer(self) -> nn.Module | None:
        """The last unit; None where the units are frozen, since no other layer is every task's alike."""
        return None if self.frozen else super().last_shared_layer()

    def auxiliary_parameters(self) -> list[nn.Parameter]:
        """The units, where they are not trained."""
        return list(self.exchange.parameters()) if self.frozen else []

    def parameter_groups(self) -> dict[str, list[nn.Parameter]]:
        groups = super().parameter_groups()
        return {name: g for name, g in groups.items() if name != "exchange"} if self.frozen else groups


# --- rows of `mtlkit models` --------------------------------------------------------------------------------------
# On SegNet: measured on lorenmt/mtan at c36c30b, Cityscapes as in `hard`; on ResNets: on AFANet's code.

_SUM = {"unit": "sum"}
_RELEASED = {"frozen": True, "shared_downsample": True}

declare(
    Entry(
        dataset="nyuv2",
        architecture="cross_stitch",
        tasks=(semantic_of(13), depth(), normals()),
        macs={NYUV2_SIZE: 181_094_842_368},
        parameters=74_941_807,
        log_variances=3,
        options=_SUM,
    ),
    *cityscapes("cross_stitch", 49_960_988, (35_764_830_208, 143_059_320_832, 120_706_301_952), _SUM),
    *(
        Entry(
            "adience", "cross_stitch", AFANET_IMAGE, {(224, 224): macs}, parameters, 0, options, note=note, called=name
        )
        for name, options, parameters, macs, note in (
            ("", {"backbone": "resnet50"}, 47_051_914, 8_174_292_992, ""),
            ("resnet50-released", {"backbone": "resnet50"} | _RELEASED, 44_275_338, 8_174_292_992, ""),
            ("resnet101-released", {"backbone": "resnet101"} | _RELEASED, 82_259_594, 15_598_735_360, TOO_DEEP),
        )
    ),
    *(
        Entry(
            "nyuv2-40", "cross_stitch", AFANET_PIXEL, {(304, 304): 48_807_047_168}, parameters, 0, options, called=name
        )
        for name, options, parameters in (
            ("", {"backbone": "resnet50-deeplabv3plus"}, 80_719_465),
            ("resnet50-deeplabv3plus-released", {"backbone": "resnet50-deeplabv3plus"} | _RELEASED, 77_942_889),
        )
    ),
)
