"""Multi-Task Attention Network: every task looks at one shared trunk through masks of its own.

Liu, Johns and Davison, "End-to-End Multi-Task Learning with Attention", CVPR 2019 (arXiv 1803.10704); as in
lorenmt/mtan (MIT). With one task it is the paper's STAN, a single-task network with attention.

    on SegNet     m_s = ATT(e_s, a_{s-1})       a_s = pool(F_s(m_s * x_s))              encoder s = 0..4
                  m_d = ATT(u_d, g_d)           g_d = G_d(up(previous)),  next = m_d * y_d     decoder d = 0..4
    on ResNet-50  m_l = ATT(b_l, a_{l-1})       a_l = R_l(m_l * t_l)                    stages l = 1..4, no R_4

A mask has one value in (0, 1) for each channel and pixel. ATT belongs to its task; F, G and R, the convolutions between
the masks, are shared by all tasks.

As released, where the paper leaves it open:

* A mask is computed from the *first* tensor of a stage (e_s, u_d, b_l) and gates its *last* (x_s, y_d, t_l).
* What ATT reads is concatenated, the shared tensor first. The first mask of a branch reads the shared tensor alone.
* F, G and R are one set for all tasks, though their input is a task's own.
* Way down: F_s, then a plain 2x2 max-pool. Way up: bilinear with aligned corners, then G_d; no pooling indices.
* R_1 is followed by a 2x2 max-pool, R_2 and R_3 are not, since stages 3 and 4 of the trunk keep their size.

Known differences from the released code: those of ``base`` (log-softmax and unit normals are no part of a network) and
of ``layers.segnet``. The released ResNet-50 starts from ImageNet weights; this one starts at random.

Shapes: B batch, C channels, H/W size, T tasks.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..layers import resnet, segnet
from ..tasks import Task, depth, normals
from .backbones import BackboneModel
from .base import ARCHITECTURES, Features
from .catalogue import CITYSCAPES_SIZES, NO_CITYSCAPES_CODE, NYUV2_SIZE, Entry, cityscapes, declare, semantic_of


class Mask(nn.Sequential):
    """ATT: 1x1 convolution, batch normalisation, ReLU, 1x1 convolution, batch normalisation, sigmoid.

    (B, C_in, H, W) -> mask (B, C_out, H, W) in (0, 1).
    """

    def __init__(self, channels_in: int, hidden: int, channels_out: int):
        super().__init__(
            nn.Conv2d(channels_in, hidden, 1),
            nn.BatchNorm2d(hidden),
            nn.ReLU(inplace=True),
            nn.Conv2d(hidden, channels_out, 1),
            nn.BatchNorm2d(channels_out),
            nn.Sigmoid(),
        )


class SegNetAttention(nn.Module):
    """The attention branches over a SegNet.

    Args:
        names: of the tasks; each gets masks of its own.
        trunk: whose features they read.
    """

    def __init__(self, names: Sequence[str], trunk: segnet.SegNet):
        super().__init__()
        down = trunk.widths  # channels of x_s
        up = (*reversed(down[:-1]), down[0])  # channels of y_d
        unpooled = (down[-1], *up[:-1])  # channels of u_d
        into = [down[0], *(2 * c for c in down[1:])]  # the first mask reads e_0 alone
        both = [u + c for u, c in zip(unpooled, up, strict=True)]
        self.encoder = nn.ModuleDict({name: _masks(into, down, down) for name in names})
        self.decoder = nn.ModuleDict({name: _masks(both, up, up) for name in names})
        self.refine_down = nn.ModuleList(map(segnet.CBR, down, (*down[1:], down[-1])))  # F_s
        self.refine_up = nn.ModuleList(map(segnet.CBR, unpooled, up))  # G_d

    def forward(self, name: str, shared: Features) -> Tensor:
        """The last gated tensor of one task, shaped as y_4, from the trunk's features e, x, u, y."""
        branch = None
        for s, (mask, refine) in enumerate(zip(self.encoder[name], self.refine_down, strict=True)):
            gated = mask(_joined(shared[f"e{s}"], branch)) * shared[f"x{s}"]
            branch = F.max_pool2d(refine(gated), 2)
        for d, (mask, refine) in enumerate(zip(self.decoder[name], self.refine_up, strict=True)):
            branch = refine(F.interpolate(branch, scale_factor=2, mode="bilinear", align_corners=True))
            branch = mask(_joined(shared[f"u{d}"], branch)) * shared[f"y{d}"]
        return branch

    def masks(self, name: str) -> dict[str, nn.Module]:
        """The modules whose outputs are this task's masks: ``encoder0`` ... ``encoder4``, then ``decoder0`` to 4."""
        sides = {"encoder": self.encoder[name], "decoder": self.decoder[name]}
        return {f"{side}{i}": mask for side, masks in sides.items() for i, mask in enumerate(masks)}


class ResNetAttention(nn.Module):
    """The attention branches over a dilated ResNet-50.

    Args:
        names: of the tasks; each gets masks of its own.
        trunk: whose features they read.
    """

    def __init__(self, names: Sequence[str], trunk: resnet.ResNet):
        super().__init__()
        channels = trunk.channels
        into = [channels[0], *(2 * c for c in channels[1:])]
        hidden = [max(1, c // 4) for c in channels]
        self.stages = nn.ModuleDict({name: _masks(into, hidden, channels) for name in names})
        self.refine = nn.ModuleList(  # R_l
            resnet.bottleneck(a, b // resnet.EXPANSION) for a, b in zip(channels, channels[1:], strict=False)
        )

    def forward(self, name: str, shared: Features) -> Tensor:
        """The last gated tensor of one task, shaped as t_4, from the trunk's features b and t."""
        first, *others = self.stages[name]
        gated = first(shared["b1"]) * shared["t1"]
        for number, (mask, refine) in enumerate(zip(others, self.refine, strict=True), 2):
            branch = refine(gated)
            if number == 2:  # where the trunk halves the size
                branch = F.max_pool2d(branch, 2)
            gated = mask(torch.cat([shared[f"b{number}"], branch], dim=1)) * shared[f"t{number}"]
        return gated

    def masks(self, name: str) -> dict[str, nn.Module]:
        """The modules whose outputs are this task's masks: ``stage1`` ... ``stage4``."""
        return {f"stage{number}": mask for number, mask in enumerate(self.stages[name], 1)}


def _masks(channels_in: Sequence[int], hidden: Sequence[int], channels_out: Sequence[int]) -> nn.ModuleList:
    return nn.ModuleList(map(Mask, channels_in, hidden, channels_out))


def _joined(shared_BCHW: Tensor, branch_BCHW: Tensor | None) -> Tensor:
    return shared_BCHW if branch_BCHW is None else torch.cat([shared_BCHW, branch_BCHW], dim=1)


_ATTENTION = {"segnet": SegNetAttention, "resnet50-deeplabv3": ResNetAttention}


@ARCHITECTURES.register("mtan")
class MTAN(BackboneModel):
    """A shared trunk, and for each task masks over all its stages and a head. With one task: STAN.

    Args:
        tasks: one attention branch and one head are made for each.
        backbone: ``"segnet"`` (the paper's) or ``"resnet50-deeplabv3"`` (released later).
        width: scales every channel count; see ``layers.segnet.scaled``.

    Raises:
        KitError: tasks, backbone or width that do not exist.
    """

    backbones = tuple(_ATTENTION)

    def __init__(self, tasks: Sequence[Task], backbone: str = "segnet", width: float = 1.0):
        super().__init__(tasks, backbone, width)
        self.trunk = self.backbone.trunk(width)
        self.attention = _ATTENTION[backbone]([task.name for task in tasks], self.trunk)
        self.heads = nn.ModuleDict({task.name: self.make_head(self.trunk, task) for task in tasks})
        self.backbone.initialise(self)

    def compute(self, streams: dict[str, Tensor], names: list[str], features: Features | None) -> dict[str, Tensor]:
        """Besides the trunk's features: ``depth/gated``, the last gated tensor of a task, which its head reads."""
        shared: Features = {} if features is None else features
        self.trunk(streams["image"], shared)
        outputs = {}
        for name in names:
            gated = segnet.keep(features, f"{name}/gated", self.attention(name, shared))
            outputs[name] = self.answer(name, gated, streams["image"])
        return outputs

    def task_modules(self, name: str) -> list[nn.Module]:
        return [*self.attention.masks(name).values(), self.heads[name]]

    def last_shared_feature(self) -> str | None:
        return self.backbone.last

    def last_shared_layer(self) -> nn.Module | None:
        return self.backbone.last_conv(self.trunk) if len(self.tasks) > 1 else None

    def taps(self) -> dict[str, nn.Module]:
        """Masks: ``mask/depth/encoder2``, ``mask/depth/decoder0``; on ResNet-50 ``mask/depth/stage3``."""
        names = [task.name for task in self.tasks]
        return {f"mask/{n}/{level}": mask for n in names for level, mask in self.attention.masks(n).items()}

    def parameter_groups(self) -> dict[str, list[nn.Parameter]]:
        parts = {"backbone": self.trunk, "attention": self.attention, "heads": self.heads}
        return {name: list(part.parameters()) for name, part in parts.items()}


# --- rows of `mtlkit models` --------------------------------------------------------------------------------------
# Measured on the network classes of lorenmt/mtan at c36c30b; Cityscapes as in `hard`.

_STAN = "STAN: MTAN with one task"
_NYUV2 = (semantic_of(13), depth(), normals())

declare(
    Entry("nyuv2", "mtan", (semantic_of(13),), {NYUV2_SIZE: 109_565_706_240}, 38_185_805, note=_STAN),
    Entry("nyuv2", "mtan", (depth(),), {NYUV2_SIZE: 109_480_771_584}, 38_185_025, note=_STAN),
    Entry("nyuv2", "mtan", (normals(),), {NYUV2_SIZE: 109_494_927_360}, 38_185_155, note=_STAN),
    Entry("nyuv2", "mtan", _NYUV2, {NYUV2_SIZE: 216_045_453_312}, 44_229_076, log_variances=3),
    Entry(
        dataset="nyuv2",
        architecture="mtan",
        tasks=_NYUV2,
        macs={NYUV2_SIZE: 191_881_789_440},
        parameters=92_347_921,
        options={"backbone": "resnet50-deeplabv3"},
    ),
    Entry(
        dataset="cityscapes-7",
        architecture="mtan",
        tasks=(semantic_of(7),),
        macs=dict(zip(CITYSCAPES_SIZES, (32_451_330_048, 129_805_320_192, 109_523_238_912), strict=True)),
        parameters=38_185_415,
        note=f"{_STAN}; {NO_CITYSCAPES_CODE}",
    ),
    *cityscapes("mtan", 41_206_986, (48_224_010_240, 192_896_040_960, 162_756_034_560)),
)
