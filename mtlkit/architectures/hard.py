"""The two ends of sharing: nothing (``single``) and everything but the heads (``split``).

Hard parameter sharing: Caruana, Machine Learning 28 (1997). Networks, counts and initialisation: the "Single-Task" and
"Split, Standard" baselines of MTAN (Liu, Johns and Davison, "End-to-End Multi-Task Learning with Attention", CVPR 2019,
arXiv 1803.10704), as in lorenmt/mtan (MIT).

Known differences from the released code: those of ``base`` and of ``layers.segnet``. The released single-task net holds
one task and returns one tensor; ``single`` holds any number of such nets.

Shapes: B batch, H/W size, T tasks.
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from ..errors import KitError, nearest
from ..layers import segnet
from ..tasks import Task, depth, disparity, normals
from .base import ARCHITECTURES, Features, MultiTaskModel
from .catalogue import CITYSCAPES_SIZES, NYUV2_SIZE, Entry, declare, semantic_of

BACKBONES = ("segnet",)


@ARCHITECTURES.register("single")
class Single(MultiTaskModel):
    """One network per task, and nothing in common: the baseline of every comparison.

    With one task it is the paper's single-task net. With several, joint training under equal weighting is exactly the
    independent training of each, since no parameter has a gradient from two tasks.

    Args:
        tasks: one network is made for each.
        backbone: ``"segnet"``.
        width: scales every channel count; see ``layers.segnet.scaled``.

    Raises:
        KitError: tasks, backbone or width that do not exist.
    """

    def __init__(self, tasks: Sequence[Task], backbone: str = "segnet", width: float = 1.0):
        super().__init__(tasks)
        widths = _widths(backbone, width)
        self.trunks = nn.ModuleDict({task.name: segnet.SegNet(widths) for task in tasks})
        self.heads = nn.ModuleDict({task.name: segnet.Head(widths[0], task.channels) for task in tasks})
        segnet.initialise(self)

    def compute(self, streams: dict[str, Tensor], names: list[str], features: Features | None) -> dict[str, Tensor]:
        """Features are named by task: ``depth/y4``."""
        outputs = {}
        for name in names:
            own: Features | None = None if features is None else {}
            outputs[name] = self.heads[name](self.trunks[name](streams["image"], own))
            if features is not None:
                features.update({f"{name}/{key}": feature for key, feature in own.items()})
        return outputs

    def task_modules(self, name: str) -> list[nn.Module]:
        return [self.trunks[name], self.heads[name]]


@ARCHITECTURES.register("split")
class Split(MultiTaskModel):
    """One trunk for all tasks, one head for each on its last feature y_4 (MTAN's "Split, Standard").

    Args:
        tasks: one head is made for each.
        backbone: ``"segnet"``.
        width: scales every channel count; see ``layers.segnet.scaled``.

    Raises:
        KitError: tasks, backbone or width that do not exist.
    """

    def __init__(self, tasks: Sequence[Task], backbone: str = "segnet", width: float = 1.0):
        super().__init__(tasks)
        widths = _widths(backbone, width)
        self.trunk = segnet.SegNet(widths)
        self.heads = nn.ModuleDict({task.name: segnet.Head(widths[0], task.channels) for task in tasks})
        segnet.initialise(self)

    def compute(self, streams: dict[str, Tensor], names: list[str], features: Features | None) -> dict[str, Tensor]:
        representation = self.trunk(streams["image"], features)
        return {name: self.heads[name](representation) for name in names}

    def task_modules(self, name: str) -> list[nn.Module]:
        return [self.heads[name]]

    def representation(self) -> str:
        return "y4"

    def last_shared_layer(self) -> nn.Module | None:
        return self.trunk.decoder[-1].last_conv if len(self.tasks) > 1 else None


def _widths(backbone: str, width: float) -> tuple[int, ...]:
    if backbone not in BACKBONES:
        raise KitError(f"unknown backbone {backbone!r}: {nearest(backbone, BACKBONES)}")
    return segnet.scaled(width)


# --- rows of `mtlkit models` --------------------------------------------------------------------------------------
# Measured on the network classes of lorenmt/mtan at c36c30b. No Cityscapes code was released: those figures are of the
# NYUv2 classes cut to two tasks (or one). What MTAN calls "depth" of Cityscapes is its recorded disparity.

_CUT = "no Cityscapes code was released: the NYUv2 network with other heads"

declare(
    Entry("nyuv2", "single", (semantic_of(13),), {NYUV2_SIZE: 60_416_851_968}, 24_981_069),
    Entry("nyuv2", "single", (depth(),), {NYUV2_SIZE: 60_331_917_312}, 24_980_289),
    Entry("nyuv2", "single", (normals(),), {NYUV2_SIZE: 60_346_073_088}, 24_980_419),
    Entry(
        dataset="nyuv2",
        architecture="split",
        tasks=(semantic_of(13), depth(), normals()),
        macs={NYUV2_SIZE: 68_598_890_496},
        parameters=25_055_188,
        log_variances=3,
    ),
    Entry(
        dataset="cityscapes-7",
        architecture="single",
        tasks=(semantic_of(7),),
        macs=dict(zip(CITYSCAPES_SIZES, (17_888_706_560, 71_554_826_240, 60_374_384_640), strict=True)),
        parameters=24_980_679,
        note=_CUT,
    ),
    Entry(
        dataset="cityscapes-7",
        architecture="split",
        tasks=(semantic_of(7), disparity()),
        macs=dict(zip(CITYSCAPES_SIZES, (19_098_763_264, 76_395_053_056, 64_458_326_016), strict=True)),
        parameters=25_017_674,
        log_variances=2,
        note=_CUT,
    ),
    Entry("cityscapes-2", "single", (semantic_of(2),), {CITYSCAPES_SIZES[0]: None}, 24_980_354, note=_CUT),
    Entry("cityscapes-19", "single", (semantic_of(19),), {CITYSCAPES_SIZES[0]: None}, 24_981_459, note=_CUT),
)
