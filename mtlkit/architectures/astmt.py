"""Attentive single-tasking: one network that does one task at a time, tuned to it inside.

Maninis, Radosavovic and Kokkinos, "Attentive Single-Tasking of Multiple Tasks", CVPR 2019 (arXiv 1904.08918): an
SE-ResNet under the decoder of DeepLabv3+, made narrow. The layers are shared; gates over channels, adapters and batch
normalisation are each task's own (``layers.squeeze``). Written from measurements of the released code; counts are
declared below.

    image --trunk_t--> deep (H / 16) --pyramid_t--> up to H / 4 -+
               |                                                 concat -> 3x3_t -> 3x3_t -> features -> 1x1_t -> up
               +-----> stage 1 (H / 4) --reduce_t----------------+

Every task is one pass through the whole network: ``forward(images, [name])`` costs one pass, all T tasks cost T.

The settings of the paper, by options (``discriminator`` is of no use to a net with one task, which has none):

    setting             squeeze_encoder  squeeze_decoder  adapters  discriminator
    single, plain       False            False            False     -              one task
    single, SE and RA   True             True             True      -              one task
    MTL without ASTMT   False            False            False     False
    + SE in encoder     True             False            False     False
    + SE in both        True             True             False     False
    + adapters (RA)     True             True             True      False
    ASTMT               True             True             True      True           the default

As released: without ``squeeze_encoder`` the trunk keeps its gates, one set for all tasks; without ``squeeze_decoder``
the decoder has none. Batch normalisation in the decoder and in MobileNetV2 is each task's own where the gates are; in
ResNets it always is, even in "MTL without ASTMT".

Known differences from the released code: those of ``base``; any input size with a discriminator (released: 512 x 512
alone); the other decoders, ``uber`` and ``conv``, are left out. Unconfirmed: of the MobileNetV2 variant the start of
its parameters (here as in the others), the ReLU6 in its decoder and which blocks are dilated (here the last four); the
start of the discriminator's parameters; which gates and adapters the paper's single-task rows had.

Shapes: B batch, C channels, H/W size, T tasks.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..errors import KitError, nearest
from ..layers import squeeze
from ..layers.adversarial import Discriminator
from ..layers.deeplab import RATES
from ..layers.se_mobilenet import SEMobileNet
from ..layers.se_resnet import STRIDES, SEResNet
from ..layers.segnet import keep, scaled
from ..layers.squeeze import ModulatedConv, Modulation
from ..tasks import Task, albedo, depth, edges, normals, parts, saliency
from .base import ARCHITECTURES, Features, MultiTaskModel, _without
from .catalogue import Entry, declare, semantic_of

LAYERS = {"resnet26": 26, "resnet50": 50, "resnet101": 101}
MOBILENET = "mobilenet_v2"
BACKBONES = (*LAYERS, MOBILENET)
LOW_RATIO = 4  # of the gates behind the reduced output of stage 1


class Decoder(nn.Module):
    """Pyramid, and the output of stage 1 beside it: (B, C, h, w), (B, C_1, H, W), task's name -> (B, C_2, H, W).

    On MobileNetV2 every convolution but the pyramid's first is grouped, as finely as its channels allow, the pooled
    branch has no gates, and the output of stage 1 comes first.

    Args:
        channels: C.
        shortcut: C_1.
        outputs: C_2.
        reduced: channels of the reduced output of stage 1.
        rates: dilations of the pyramid.
        how: what of it is each task's own.
        grouped: as on MobileNetV2.
    """

    def __init__(
        self,
        channels: int,
        shortcut: int,
        outputs: int,
        reduced: int,
        rates: Sequence[int],
        how: Modulation,
        grouped: bool,
    ):
        super().__init__()
        self.grouped = grouped

        def conv(sources: int, targets: int, side: int = 1, rate: int = 1, dense: bool = not grouped) -> nn.Conv2d:
            groups, padding = 1 if dense else math.gcd(sources, targets), rate * (side // 2)
            return nn.Conv2d(sources, targets, side, padding=padding, dilation=rate, groups=groups, bias=False)

        self.aspp0 = ModulatedConv(conv(channels, outputs, dense=True), how)
        for number, rate in enumerate(rates, 1):
            self.add_module(f"aspp{number}", ModulatedConv(conv(channels, outputs, 3, rate), how))
        self.aspp4 = ModulatedConv(conv(channels, outputs), how, pooled=True, gated=not grouped)
        self.aspp_final = ModulatedConv(conv(5 * outputs, outputs), how)
        self.reduce = ModulatedConv(conv(shortcut, reduced), how, ratio=LOW_RATIO)
        self.concat = ModulatedConv(conv(outputs + reduced, outputs, 3), how)
        self.process = ModulatedConv(conv(outputs, outputs, 3), how)

    def forward(self, deep_BCHW: Tensor, low_BCHW: Tensor, name: str) -> Tensor:
        pooled = self.aspp4(F.adaptive_avg_pool2d(deep_BCHW, 1), name).expand(-1, -1, *deep_BCHW.shape[-2:])
        branches = (self.aspp0, self.aspp1, self.aspp2, self.aspp3)
        pyramid = self.aspp_final(torch.cat([*(branch(deep_BCHW, name) for branch in branches), pooled], dim=1), name)
        parts = [_up(pyramid, low_BCHW), self.reduce(low_BCHW, name)]
        return self.process(self.concat(torch.cat(parts[::-1] if self.grouped else parts, dim=1), name), name)


@ARCHITECTURES.register("astmt")
class ASTMT(MultiTaskModel):
    """One pass for each task through a network that is tuned to it; the settings are in the table above.

    Args:
        tasks: each gets its own batch normalisation, gates, adapters and last layer.
        backbone: ``"resnet26"``, ``"resnet50"``, ``"resnet101"`` (with squeeze-and-excite and, in every stage,
            bottlenecks) or ``"mobilenet_v2"``.
        output_stride: of the trunk, 16 or 8; 8 of ResNets alone.
        squeeze_encoder: the gates of the trunk are each task's own; else all share them.
        squeeze_decoder: the decoder has gates and batch normalisation, each task's own; else no gates, and shared
            batch normalisation.
        adapters: 1x1 convolutions of each task's own beside the 3x3 ones of the trunk and all of the decoder's; of
            ResNets alone.
        discriminator: with several tasks there is one, for adversarial training; no output depends on it.
        discriminator_depth: its convolutions.
        discriminator_kernel: their size; 1 on PASCAL-Context, 3 on NYUD.
        decoder_width: channels of the decoder, a multiple of 16.
        width: scales every channel count.

    Raises:
        KitError: tasks or options that do not exist, or not together.
    """

    alone = True
    smallest_batch = 2  # the pyramid normalises maps of one pixel

    def __init__(
        self,
        tasks: Sequence[Task],
        backbone: str = "resnet26",
        output_stride: int = 16,
        squeeze_encoder: bool = True,
        squeeze_decoder: bool = True,
        adapters: bool = True,
        discriminator: bool = True,
        discriminator_depth: int = 2,
        discriminator_kernel: int = 1,
        decoder_width: int = 64,
        width: float = 1.0,
    ):
        super().__init__(tasks)
        _check(backbone, output_stride, adapters, decoder_width)
        self.stride = output_stride
        names, small = tuple(task.name for task in self.tasks), backbone == MOBILENET
        form = {"ratio": 4, "activation": nn.ReLU6} if small else {}
        encode = Modulation(names, squeeze_encoder or not small, squeeze_encoder, adapters, **form)
        decode = Modulation(names, squeeze_decoder, squeeze_decoder, adapters, gated=squeeze_decoder, **form)
        self.trunk = SEMobileNet(encode, width) if small else SEResNet(LAYERS[backbone], encode, width, output_stride)
        inner, reduced = scaled(width, (decoder_width, decoder_width * 3 // 16))  # 48 of 256 in DeepLabv3+
        self.decoder = Decoder(
            self.trunk.deep, self.trunk.low, inner, reduced, RATES[output_stride], decode, grouped=small
        )
        self.heads = nn.ModuleDict({task.name: nn.Conv2d(inner, task.channels, 1) for task in self.tasks})
        if discriminator and len(names) > 1:
            self.discriminator = Discriminator(inner, len(names), discriminator_depth, discriminator_kernel)
        squeeze.initialise(self)

    def compute(self, streams: dict[str, Tensor], names: list[str], features: Features | None) -> dict[str, Tensor]:
        """Features: ``decoder/depth``, what the last layer of a task reads (stride 4)."""
        outputs, image = {}, streams["image"]
        for name in names:
            last = keep(features, f"decoder/{name}", self.decoder(*self.trunk(image, name), name))
            outputs[name] = _up(self.heads[name](last), image)
        return outputs

    def task_modules(self, name: str) -> list[nn.Module]:
        return [*squeeze.own_modules(self, name), self.heads[name]]

    def last_shared_layer(self) -> nn.Module | None:
        return self.decoder.process.conv if len(self.tasks) > 1 else None

    def auxiliary_parameters(self) -> list[nn.Parameter]:
        return [] if self.discriminator is None else list(self.discriminator.parameters())

    def taps(self) -> dict[str, nn.Module]:
        """Gates (B, C, 1, 1) in (0, 1): ``squeeze/edges/layer1.0``, ``squeeze/edges/aspp0``. Those that all tasks share
        are ``squeeze/shared/layer1.0``, as the last task of a pass had them.
        """
        parts = [*squeeze.gates(self.trunk).items(), *squeeze.gates(self.decoder).items()]
        return {f"squeeze/{name}/{path}": gate for (name, path), gate in parts}

    def plain_trunks(self) -> list[nn.Module]:
        """The trunk as each task runs through it, without gates and adapters: what ImageNet weights are loaded into."""
        return [squeeze.plain(self.trunk, task.name) for task in self.tasks]

    def parameter_groups(self) -> dict[str, list[nn.Parameter]]:
        """``tasks`` is everything that is one task's own, with one task too; the last layers are in it."""
        own = [p for task in self.tasks for module in self.task_modules(task.name) for p in module.parameters()]
        return {
            "backbone": _without(self.trunk.parameters(), own),
            "decoder": _without(self.decoder.parameters(), own),
            "tasks": own,
            "discriminator": self.auxiliary_parameters(),
        }


def _check(backbone: str, output_stride: int, adapters: bool, decoder_width: int) -> None:
    if backbone not in BACKBONES:
        raise KitError(f"unknown backbone {backbone!r} of 'astmt': {nearest(backbone, BACKBONES)}")
    if output_stride not in STRIDES:
        raise KitError(f"output_stride of 'astmt' is 16 or 8, found {output_stride}")
    if backbone == MOBILENET and (adapters or output_stride != 16):
        raise KitError(
            f"{MOBILENET!r} has no adapters and output stride 16, found adapters = {adapters}, output_stride = "
            f"{output_stride}; set adapters = false and output_stride = 16"
        )
    if decoder_width < 16 or decoder_width % 16:
        raise KitError(f"decoder_width of 'astmt' is a multiple of 16, found {decoder_width}; ASTMT has 64")


def _up(x_BCHW: Tensor, like_BCHW: Tensor) -> Tensor:
    return F.interpolate(x_BCHW, size=like_BCHW.shape[-2:], mode="bilinear", align_corners=False)


# --- rows of `mtlkit models` --------------------------------------------------------------------------------------
# Measured on the released networks; operations, of one task's pass, were recorded in GMAC to three decimals. The tests
# have the counts of every setting on every backbone; here are all settings of one, and the two ends on the others.

SIZE = (512, 512)
_OFF = {"squeeze_encoder": False, "squeeze_decoder": False, "adapters": False, "discriminator": False}
_SE_ENCODER = _OFF | {"squeeze_encoder": True}
_SE = _SE_ENCODER | {"squeeze_decoder": True}
_SMALL = {"backbone": MOBILENET}
_R50, _R101 = {"backbone": "resnet50"}, {"backbone": "resnet101"}
_KERNEL = {"discriminator_kernel": 3}
_PASCAL = (edges(), semantic_of(21), parts(map(str, range(7))), normals(), saliency())
_NYUD = (edges(0.8), semantic_of(41), normals(), depth())
_FSV = (semantic_of(3), albedo(), depth())  # its classes are assumed

for _dataset, _tasks, _called, _options, _parameters, _gmacs in (
    ("pascal", _PASCAL[:1], "resnet26-plain", _OFF, 19_253_369, 24.223),
    ("pascal", _PASCAL, "resnet26-plain", _OFF, 19_378_329, 24.223),
    ("pascal", _PASCAL, "resnet26-se-encoder", _SE_ENCODER, 24_981_529, 24.223),
    ("pascal", _PASCAL, "resnet26-se", _SE, 25_009_356, 24.223),
    ("pascal", _PASCAL, "resnet26-adapters", _OFF | {"adapters": True}, 25_643_929, 25.918),
    ("pascal", _PASCAL, "resnet26-se-adapters", {"discriminator": False}, 31_274_956, 25.918),
    ("pascal", _PASCAL, "resnet26", {}, 31_279_377, 25.918),
    ("pascal", _PASCAL, "resnet50-plain", _OFF | _R50, 30_159_465, 36.773),
    ("pascal", _PASCAL, "resnet50", _R50, 49_387_041, 39.205),
    ("pascal", _PASCAL, "resnet101-plain", _OFF | _R101, 51_607_209, 56.167),
    ("pascal", _PASCAL, "resnet101", _R101, 85_392_225, 59.741),
    ("pascal", _PASCAL, "mobilenet_v2-plain", _OFF | _SMALL, 1_971_945, 2.601),
    ("pascal", _PASCAL, "mobilenet_v2-se", _SE | _SMALL, 2_639_948, 2.601),
    ("nyud", _NYUD, "resnet26-plain", _OFF, 19_348_454, 24.223),
    ("nyud", _NYUD, "resnet26", _KERNEL, 28_624_558, 25.918),
    ("nyud", _NYUD, "resnet50-plain", _OFF | _R50, 30_107_318, 36.773),
    ("nyud", _NYUD, "resnet50", _KERNEL | _R50, 45_018_606, 39.205),
    ("fsv", _FSV, "resnet26-plain", _OFF, 19_315_199, None),
    ("fsv", _FSV, "resnet26", {}, 25_896_727, None),
):
    declare(
        Entry(
            dataset=_dataset,
            architecture="astmt",
            tasks=_tasks,
            macs={SIZE: _gmacs},
            parameters=_parameters,
            options=_options,
            rule="conv",
            called=_called,
            one_pass=_tasks[0].name,
        )
    )
