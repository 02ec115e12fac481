"""Networks for many domains, one task each: MTAN on a wide ResNet and its rivals, for the Visual Decathlon.

A domain is a task: images of its own with one label each, ``mtlkit.tasks.classification``. A batch usually carries one
domain, so ``model(images, [domain])`` computes the branch of that domain and nothing else.

    ``wrn_single``    a whole WRN-28-4 for each domain
    ``wrn_shared``    one WRN-28-4, and a linear layer for each domain
    ``wrn_mtan``      the same with masks for each domain over g_0..g_3 (Liu, Johns and Davison, CVPR 2019, arXiv
                      1803.10704; as in lorenmt/mtan, MIT)
    ``wrn_adapters``  one WRN-28-4 with residual adapters for each domain, in series or in parallel

    MTAN:   a_j = F_j(ATT_j(g_j, a_{j-1}) * g_j), then a 2x2 max-pool but for the last          j = 0..3
            label = linear(mean of a_3 over its pixels)

The masks ATT_j belong to their domain, the 3x3 convolutions F_j to all. As released, a mask reads and gates the same
tensor (on SegNet it reads the first of a stage and gates the last).

Known differences from the released code: raw outputs are logits, where its network ends with a softmax and its loss is
-log(p + 1e-20). ``pooling = "released"`` is its average over 8 x 8 pixels, which at 72 x 72 leaves out the last row and
column of a 9 x 9 map; the default averages all pixels (as the code did before May 2020). ``wrn_single``,
``wrn_shared`` and ``wrn_adapters`` were not released on this trunk; adapters are described in ``layers.wide_resnet``.
Their papers train the trunk on ImageNet and keep it; here all is trained together. With the parameter group
``backbone`` at a learning rate of 0 (``optimiser.multipliers``) what is shared stays as it is.

Shapes: B batch, C channels, H/W size, K classes of a domain.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..errors import KitError, nearest
from ..layers import wide_resnet
from ..layers.segnet import CBR, keep
from ..tasks import Task, classification
from .base import ARCHITECTURES, Features, MultiTaskModel, _without
from .catalogue import Entry, declare
from .mtan import Mask

POOLINGS = ("adaptive", "released")
SIDE = 8  # of the released average, in pixels of the last map


class DomainModel(MultiTaskModel):
    """What the four have in common: a wide ResNet, a mean over its last map, and a linear layer for each domain.

    Args:
        tasks: one for each domain.
        depth: of the wide ResNet: 28, or another of 10, 16, 22, ....
        widen: 16 times this are the channels of its first layer.
        width: scales every channel count; see ``layers.segnet.scaled``.
        pooling: ``"adaptive"``, the mean over all pixels, or ``"released"``, that over the first 8 x 8 of up to 15.

    Raises:
        KitError: tasks, depth, widen, width or pooling that do not exist.
    """

    stride = wide_resnet.STRIDE
    labels = True

    def __init__(
        self, tasks: Sequence[Task], depth: int = 28, widen: int = 4, width: float = 1.0, pooling: str = "adaptive"
    ):
        super().__init__(tasks)
        if pooling not in POOLINGS:
            raise KitError(f"unknown pooling {pooling!r}: {nearest(pooling, POOLINGS)}")
        self.pooling = pooling
        self.names = [task.name for task in tasks]
        self.size = {"depth": depth, "widen": widen, "width": width}

    def make_heads(self, trunk: wide_resnet.WideResNet) -> nn.ModuleDict:
        return nn.ModuleDict({task.name: nn.Linear(trunk.channels[-1], task.channels) for task in self.tasks})

    def domain_feature(self, name: str, image_BCHW: Tensor, features: Features | None) -> Tensor:
        """g_3 of one domain, where each has a pass of its own; fills ``features``."""
        raise NotImplementedError  # by those that do not give ``compute``

    def compute(self, streams: dict[str, Tensor], names: list[str], features: Features | None) -> dict[str, Tensor]:
        """A pass for each domain. Features are named by domain: ``aircraft/g3``, ``aircraft/pooled``."""
        outputs = {}
        for name in names:
            own: Features | None = None if features is None else {}
            pooled = keep(own, "pooled", self.pool(self.domain_feature(name, streams["image"], own)))
            outputs[name] = self.heads[name](pooled)
            if features is not None:
                features.update({f"{name}/{key}": feature for key, feature in own.items()})
        return outputs

    def pool(self, x_BCHW: Tensor) -> Tensor:
        """(B, C, H / 8, W / 8) -> (B, C)."""
        part = x_BCHW if self.pooling == "adaptive" else x_BCHW[..., :SIDE, :SIDE]
        return part.mean((2, 3))

    def _streams(self, inputs: Tensor | Mapping[str, Tensor]) -> dict[str, Tensor]:
        streams = super()._streams(inputs)
        height, width = streams["image"].shape[2:]
        if self.pooling == "released" and not all(SIDE <= side // self.stride < 2 * SIDE for side in (height, width)):
            raise KitError(
                f"pooling='released' gives one value for H and W from 64 to 120, found {height}x{width}; "
                "resize the images to 72x72, or take pooling='adaptive'"
            )
        return streams


@ARCHITECTURES.register("wrn_single")
class WRNSingle(DomainModel):
    """A whole network for each domain, and nothing in common.

    Args:
        tasks: one network is made for each.
        **options: see ``DomainModel``.
    """

    alone = True

    def __init__(self, tasks: Sequence[Task], **options: Any):
        super().__init__(tasks, **options)
        self.trunks = nn.ModuleDict({name: wide_resnet.WideResNet(**self.size) for name in self.names})
        self.heads = self.make_heads(self.trunks[self.names[0]])

    def domain_feature(self, name: str, image_BCHW: Tensor, features: Features | None) -> Tensor:
        return self.trunks[name](image_BCHW, features)

    def task_modules(self, name: str) -> list[nn.Module]:
        return [self.trunks[name], self.heads[name]]


class OneTrunk(DomainModel):
    """One trunk for all domains."""

    trunk: wide_resnet.WideResNet

    def last_shared_layer(self) -> nn.Module | None:
        return self.trunk.last_conv if len(self.tasks) > 1 else None


@ARCHITECTURES.register("wrn_shared")
class WRNShared(OneTrunk):
    """One network, and a linear layer for each domain.

    Args:
        tasks: one linear layer is made for each.
        **options: see ``DomainModel``.
    """

    def __init__(self, tasks: Sequence[Task], **options: Any):
        super().__init__(tasks, **options)
        self.trunk = wide_resnet.WideResNet(**self.size)
        self.heads = self.make_heads(self.trunk)

    def compute(self, streams: dict[str, Tensor], names: list[str], features: Features | None) -> dict[str, Tensor]:
        """Features: g0..g3, ``pooled``."""
        pooled = keep(features, "pooled", self.pool(self.trunk(streams["image"], features)))
        return {name: self.heads[name](pooled) for name in names}

    def task_modules(self, name: str) -> list[nn.Module]:
        return [self.heads[name]]

    def representation(self) -> str | None:
        return "pooled"


class DomainAttention(nn.Module):
    """The attention branches over a wide ResNet.

    Args:
        names: of the domains; each gets masks of its own.
        channels: of g_0..g_3.
    """

    def __init__(self, names: Sequence[str], channels: Sequence[int]):
        super().__init__()
        into = [channels[0], *(2 * c for c in channels[1:])]  # the first mask reads g_0 alone
        self.stages = nn.ModuleDict({name: nn.ModuleList(map(Mask, into, channels, channels)) for name in names})
        self.refine = nn.ModuleList(map(CBR, channels, (*channels[1:], channels[-1])))  # F_j

    def forward(self, name: str, shared: Features) -> Tensor:
        """a_3 of one domain, shaped as g_3, from the trunk's features."""
        branch = None
        for j, (mask, refine) in enumerate(zip(self.stages[name], self.refine, strict=True)):
            stage = shared[f"g{j}"]
            read = stage if branch is None else torch.cat([stage, F.max_pool2d(branch, 2)], dim=1)
            branch = refine(mask(read) * stage)
        return branch


@ARCHITECTURES.register("wrn_mtan")
class WRNMTAN(OneTrunk):
    """One network, and for each domain masks over its four stages and a linear layer.

    Args:
        tasks: one attention branch and one linear layer are made for each.
        **options: see ``DomainModel``.
    """

    def __init__(self, tasks: Sequence[Task], **options: Any):
        super().__init__(tasks, **options)
        self.trunk = wide_resnet.WideResNet(**self.size)
        self.attention = DomainAttention(self.names, self.trunk.channels)
        self.heads = self.make_heads(self.trunk)

    def compute(self, streams: dict[str, Tensor], names: list[str], features: Features | None) -> dict[str, Tensor]:
        """Features: g0..g3, and ``aircraft/pooled`` for each domain."""
        shared: Features = {} if features is None else features
        self.trunk(streams["image"], shared)
        pooled = {name: keep(features, f"{name}/pooled", self.pool(self.attention(name, shared))) for name in names}
        return {name: self.heads[name](pooled[name]) for name in names}

    def task_modules(self, name: str) -> list[nn.Module]:
        return [self.attention.stages[name], self.heads[name]]

    def last_shared_feature(self) -> str | None:
        return "g3"

    def taps(self) -> dict[str, nn.Module]:
        """Masks: ``mask/aircraft/stage0`` ... ``mask/aircraft/stage3``."""
        stages = self.attention.stages.items()
        return {f"mask/{name}/stage{j}": mask for name, masks in stages for j, mask in enumerate(masks)}

    def parameter_groups(self) -> dict[str, list[nn.Parameter]]:
        parts = {"backbone": self.trunk, "attention": self.attention, "heads": self.heads}
        return {name: list(part.parameters()) for name, part in parts.items()}


@ARCHITECTURES.register("wrn_adapters")
class WRNAdapters(OneTrunk):
    """One network, and for each domain residual adapters, batch normalisations and a linear layer.

    Args:
        tasks: one set of adapters and one linear layer are made for each.
        form: ``"series"`` or ``"parallel"``; see ``layers.wide_resnet``.
        **options: see ``DomainModel``.

    Raises:
        KitError: a form that does not exist.
    """

    def __init__(self, tasks: Sequence[Task], form: str = "series", **options: Any):
        super().__init__(tasks, **options)
        self.trunk = wide_resnet.adapted(self.names, form, **self.size)
        self.heads = self.make_heads(self.trunk)

    def domain_feature(self, name: str, image_BCHW: Tensor, features: Features | None) -> Tensor:
        return self.trunk(image_BCHW, features, name)

    def task_modules(self, name: str) -> list[nn.Module]:
        return [*wide_resnet.own_modules(self.trunk, name), self.heads[name]]

    def parameter_groups(self) -> dict[str, list[nn.Parameter]]:
        """``adapters`` holds the normalisations too, which are domains' own."""
        modules = [module for name in self.names for module in wide_resnet.own_modules(self.trunk, name)]
        adapters = [parameter for module in modules for parameter in module.parameters()]
        trunk = _without(self.trunk.parameters(), adapters)
        return {"backbone": trunk, "adapters": adapters, "heads": list(self.heads.parameters())}


# --- rows of `mtlkit models` --------------------------------------------------------------------------------------
# Measured on lorenmt/mtan at c36c30b: ``wrn_mtan`` and its parts, MACs of one domain's pass with the 1000 classes of
# imagenet12. The rivals are summed up from those parts.

CLASSES = {
    "imagenet12": 1000,
    "aircraft": 100,
    "cifar100": 100,
    "daimlerpedcls": 2,
    "dtd": 47,
    "gtsrb": 43,
    "omniglot": 1623,
    "svhn": 10,
    "ucf101": 101,
    "vgg-flowers": 102,
}
_DOMAINS = tuple(classification(name, map(str, range(classes))) for name, classes in CLASSES.items())
_TRUNK, _LINEARS = 5_850_528, 803_896
_SUM = "not released on this trunk: reference summed up from the parts of MTAN on it"
_PAPERS = "adapters from their papers, counts unconfirmed: reference reckoned from channels"

# per domain: normalisations of the trunk; per convolution C_in -> C_out C_out^2 + 3 C_out in series, C_in C_out + C_out
# in parallel
_CONVS = [pair for a, b in ((16, 64), (64, 128), (128, 256)) for pair in [(a, b), *[(b, b)] * 7]]
_NORMS = 2 * (sum(a for a, _ in _CONVS) + 256)
_ADAPTERS = {
    "series": _NORMS + sum(b * b + 3 * b for _, b in _CONVS),
    "parallel": _NORMS + sum(a * b + b for a, b in _CONVS),
}


def _row(
    architecture: str, parameters: int, note: str = "", macs: tuple[int | None, ...] = (None,), **options
) -> Entry:
    return Entry(
        dataset="visual-decathlon",
        architecture=architecture,
        tasks=_DOMAINS,
        macs=dict(zip(((72, 72), (64, 64)), macs, strict=False)),
        parameters=parameters,
        options=options,
        note=note,
        one_pass="imagenet12",
    )


declare(
    _row("wrn_mtan", 10_237_656, macs=(1_588_384_768, 1_255_073_792)),
    _row("wrn_shared", _TRUNK + _LINEARS, _SUM),
    _row("wrn_single", 10 * _TRUNK + _LINEARS, _SUM),
    *(
        _row("wrn_adapters", _TRUNK - _NORMS + 10 * own + _LINEARS, _PAPERS, form=form)
        for form, own in _ADAPTERS.items()
    ),
)
