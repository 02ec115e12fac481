"""The two ends of sharing: nothing (``single``) and everything but the heads (``split``).

Hard parameter sharing: Caruana, Machine Learning 28 (1997). Networks, counts and initialisation: the "Single-Task" and
"Split, Standard" baselines of MTAN (Liu, Johns and Davison, "End-to-End Multi-Task Learning with Attention", CVPR 2019,
arXiv 1803.10704), as in lorenmt/mtan (MIT).

Known differences from the released code: those of ``base`` and of ``layers.segnet``. The released single-task net holds
one task and returns one tensor; ``single`` holds any number of such nets. Neither was released on DeepLabv3: here they
are MTAN's network on that backbone without its attention.

Shapes: B batch, H/W size, T tasks.
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from ..errors import KitError, nearest
from ..layers import segnet
from ..tasks import Task, depth, normals
from .backbones import BackboneModel
from .base import ARCHITECTURES, Features
from .catalogue import (
    AFANET_IMAGE,
    AFANET_PIXEL,
    CITYSCAPES_SIZES,
    NO_CITYSCAPES_CODE,
    NYUV2_SIZE,
    TOO_DEEP,
    Entry,
    cityscapes,
    declare,
    semantic_of,
)


@ARCHITECTURES.register("single")
class Single(BackboneModel):
    """One network per task, and nothing in common: the baseline of every comparison.

    With one task it is the paper's single-task net. With several, joint training under equal weighting is exactly the
    independent training of each, since no parameter has a gradient from two tasks.

    Args:
        tasks: one network is made for each.
        backbone: a key of ``BACKBONES``: ``"segnet"`` is MTAN's, ``"resnet50-deeplabv3"`` its author's later advice,
            ``"resnet50"`` and ``"resnet50-deeplabv3plus"`` are AFANet's.
        width: scales every channel count; see ``layers.segnet.scaled``.

    Raises:
        KitError: tasks, backbone or width that do not exist.
    """

    alone = True

    def __init__(self, tasks: Sequence[Task], backbone: str = "segnet", width: float = 1.0):
        super().__init__(tasks, backbone, width)
        self.trunks = nn.ModuleDict({task.name: self.backbone.trunk(width) for task in tasks})
        self.heads = nn.ModuleDict({task.name: self.make_head(self.trunks[task.name], task) for task in tasks})
        self.backbone.initialise(self)

    def compute(self, streams: dict[str, Tensor], names: list[str], features: Features | None) -> dict[str, Tensor]:
        """Features are named by task: ``depth/y4``."""
        outputs = {}
        for name in names:
            own: Features | None = None if features is None else {}
            outputs[name] = self.answer(name, self.trunks[name](streams["image"], own), streams["image"])
            if features is not None:
                features.update({f"{name}/{key}": feature for key, feature in own.items()})
        return outputs

    def task_modules(self, name: str) -> list[nn.Module]:
        return [self.trunks[name], self.heads[name]]


@ARCHITECTURES.register("split")
class Split(BackboneModel):
    """One trunk for all tasks, one head for each on its last feature (MTAN's "Split"; AFANet's "hard").

    Args:
        tasks: one head is made for each.
        backbone: a key of ``BACKBONES``: ``"segnet"`` is MTAN's.
        width: scales every channel count; see ``layers.segnet.scaled``.
        preset: of SegNet alone. ``"standard"``; ``"wide"``, whose last stage has 1024 channels instead of 512; or
            ``"deep"``, with a second convolution behind each.

    Raises:
        KitError: tasks, backbone, preset or width that do not exist.
    """

    presets = ("standard", "wide", "deep")

    def __init__(self, tasks: Sequence[Task], backbone: str = "segnet", width: float = 1.0, preset: str = "standard"):
        super().__init__(tasks, backbone, width)
        if preset not in self.presets:
            raise KitError(f"unknown preset {preset!r} of 'split': {nearest(preset, self.presets)}")
        if preset != "standard" and backbone != "segnet":
            raise KitError(f"preset {preset!r} of 'split' is one of the backbone 'segnet', found {backbone!r}")
        self.trunk = self._trunk(preset)
        self.heads = nn.ModuleDict({task.name: self.make_head(self.trunk, task) for task in tasks})
        self.backbone.initialise(self)

    def _trunk(self, preset: str) -> nn.Module:
        if preset == "standard":
            return self.backbone.trunk(self.width)
        widths = (*segnet.WIDTHS[:-1], 2 * segnet.WIDTHS[-1]) if preset == "wide" else segnet.WIDTHS
        return segnet.SegNet(segnet.scaled(self.width, widths), repeat=2 if preset == "deep" else 1)

    def compute(self, streams: dict[str, Tensor], names: list[str], features: Features | None) -> dict[str, Tensor]:
        last = self.trunk(streams["image"], features)
        return {name: self.answer(name, last, streams["image"]) for name in names}

    def task_modules(self, name: str) -> list[nn.Module]:
        return [self.heads[name]]

    def representation(self) -> str | None:
        return self.backbone.last

    def last_shared_layer(self) -> nn.Module | None:
        return self.backbone.last_conv(self.trunk) if len(self.tasks) > 1 else None


# --- rows of `mtlkit models` --------------------------------------------------------------------------------------
# Measured on the network classes of lorenmt/mtan at c36c30b. No Cityscapes code was released: those figures are of the
# NYUv2 classes cut to two tasks (or one). What MTAN calls "depth" of Cityscapes is its recorded disparity.

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
        note=NO_CITYSCAPES_CODE,
    ),
    *cityscapes("split", 25_017_674, (19_098_763_264, 76_395_053_056, 64_458_326_016)),
    Entry(
        "cityscapes-2", "single", (semantic_of(2),), {CITYSCAPES_SIZES[0]: None}, 24_980_354, note=NO_CITYSCAPES_CODE
    ),
    Entry(
        "cityscapes-19", "single", (semantic_of(19),), {CITYSCAPES_SIZES[0]: None}, 24_981_459, note=NO_CITYSCAPES_CODE
    ),
)

# On ResNet-50 DeepLabv3 MTAN alone was released: parameters are summed up from what its parts count.
_TRUNK = 9_536 + 215_808 + 1_219_584 + 7_098_368 + 14_964_736  # stem, four stages
_HEAD, _OUTPUT = 16_125_440, 257  # a head without its last layer; that layer, per output: three heads 48 380 689
_SUM = "not released on this backbone: reference summed up from the trunk and heads of MTAN on it"

declare(
    *(
        Entry(
            dataset="nyuv2",
            architecture="split" if len(tasks) > 1 else "single",
            tasks=tasks,
            macs={NYUV2_SIZE: None},
            parameters=_TRUNK + sum(_HEAD + _OUTPUT * task.channels for task in tasks),
            options={"backbone": "resnet50-deeplabv3"},
            note=_SUM,
        )
        for tasks in ((semantic_of(13),), (depth(),), (normals(),), (semantic_of(13), depth(), normals()))
    )
)

# Baselines of MTAN on SegNet, as above, and those of AFANet, measured on its code.
_SPLIT = (semantic_of(13), depth(), normals())
_WIDE_DEEP = {
    "wide": (43_934_164, 76_752_617_472, 43_896_650, (21_514_682_368, 86_058_729_472, 72_612_052_992)),
    "deep": (50_807_764, 131_790_274_560, 50_770_250, (37_822_136_320, 151_288_545_280, 127_649_710_080)),
}

for _preset, (_nyuv2, _macs, _cityscapes, _city_macs) in _WIDE_DEEP.items():
    declare(
        Entry("nyuv2", "split", _SPLIT, {NYUV2_SIZE: _macs}, _nyuv2, 3, {"preset": _preset}),
        *cityscapes("split", _cityscapes, _city_macs, {"preset": _preset}),
    )

_IMAGE, _PIXEL = {"backbone": "resnet50"}, {"backbone": "resnet50-deeplabv3plus"}
declare(
    Entry("adience", "single", AFANET_IMAGE[:1], {(224, 224): None}, 23_512_130, options=_IMAGE),
    Entry("adience", "single", AFANET_IMAGE[1:], {(224, 224): None}, 23_524_424, options=_IMAGE),
    Entry(
        "adience",
        "single",
        AFANET_IMAGE,
        {(224, 224): 8_174_292_992, (193, 193): 6_933_789_056},
        47_036_554,
        options=_IMAGE,
    ),
    Entry("adience", "split", AFANET_IMAGE, {(224, 224): 4_087_156_736}, 23_528_522, options=_IMAGE),
    Entry(
        dataset="adience",
        architecture="split",
        tasks=AFANET_IMAGE,
        macs={(224, 224): 7_799_377_920},
        parameters=42_520_650,
        options={"backbone": "resnet101"},
        note=TOO_DEEP,
    ),
    Entry("nyuv2-40", "single", AFANET_PIXEL[:1], {(304, 304): None}, 40_357_064, options=_PIXEL),
    Entry("nyuv2-40", "single", AFANET_PIXEL[1:], {(304, 304): None}, 40_347_041, options=_PIXEL),
    Entry(
        dataset="nyuv2-40",
        architecture="single",
        tasks=AFANET_PIXEL,
        macs={(64, 64): 2_164_195_328, (304, 304): 48_807_047_168},
        parameters=80_704_105,
        options=_PIXEL,
    ),
    Entry(
        dataset="nyuv2-40",
        architecture="split",
        tasks=AFANET_PIXEL,
        macs={(64, 64): 1_657_536_512, (304, 304): 37_375_557_632},
        parameters=57_196_073,
        options=_PIXEL,
    ),
)
