"""One trunk for each task, side by side, with units between them that exchange features: soft parameter sharing.

The architectures of this kind differ in the unit alone and in where it stands: ``cross_stitch``, ``nddr``, ``afa``.
Without units they would be ``single``. All trunks see the same input.

Since features are exchanged, every task's loss reaches every trunk; a task's own are only its head and what stands
behind the last unit.

Shapes: B batch, C channels, H/W size, T tasks.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence

from torch import Tensor, nn

from ..layers.steps import together
from ..tasks import Task
from .backbones import BackboneModel, LastFeature
from .base import Features


class Exchanging(BackboneModel):
    """Base of the architectures with exchange. A subclass calls ``connect`` last.

    Args:
        tasks: one trunk and one head are made for each.
        backbone: a key of ``BACKBONES``.
        width: scales every channel count.
        shared_downsample: as released (AFANet's cross-stitch and NDDR nets): the projections of the ResNets, batch
            normalisation included, are the same modules in all trunks, so that its running statistics mix the tasks.

    Attributes:
        trunks: by task.
        exchange: the unit at each place.
    """

    def __init__(self, tasks: Sequence[Task], backbone: str, width: float, shared_downsample: bool = False):
        super().__init__(tasks, backbone, width)
        self.trunks = nn.ModuleDict({task.name: self.backbone.trunk(width) for task in tasks})
        self.heads = nn.ModuleDict({task.name: self.make_head(self.trunks[task.name], task) for task in tasks})
        self.exchange = nn.ModuleDict()
        if shared_downsample and backbone.startswith("resnet"):
            first, *others = self.trunks.values()
            for trunk in others:
                for mine, theirs in zip(trunk.stages, first.stages, strict=True):
                    mine[0].downsample = theirs[0].downsample

    def connect(self, places: Sequence[str], unit: Callable[[str, int], nn.Module]) -> None:
        """Initialise the trunks, then put a unit at each of these places: (place, channels) -> module.

        One task has nobody to exchange with: no units, a single network.
        """
        self.backbone.initialise(self)
        if len(self.tasks) == 1:
            return
        channels = next(iter(self.trunks.values())).places
        self.exchange.update({place: unit(place, channels[place]) for place in places})

    def ends(self) -> list[str]:
        """The places at the end of a stage, where units stand unless a paper says otherwise."""
        return [place for place in next(iter(self.trunks.values())).places if "/" not in place]

    def compute(self, streams: dict[str, Tensor], names: list[str], features: Features | None) -> dict[str, Tensor]:
        """Features are named by task: ``depth/t4``. Every trunk runs, whichever tasks are asked for."""
        image, own = streams["image"], {name: None if features is None else {} for name in self.trunks}
        left: list[list[Tensor]] = []  # what the units gave, place by place
        units = {place: functools.partial(_through, unit, left) for place, unit in self.exchange.items()}
        lasts = together([trunk.steps(image, own[name]) for name, trunk in self.trunks.items()], units)
        if features is not None:
            features.update({f"{name}/{key}": x for name, kept in own.items() for key, x in kept.items()})
        outputs = {}
        for i, (name, last) in enumerate(zip(self.trunks, lasts, strict=True)):
            if name in names:
                outputs[name] = self.answer(name, self.finish(name, last, [xs[i] for xs in left]), image)
        return outputs

    def finish(self, name: str, last: LastFeature, outputs: Sequence[Tensor]) -> LastFeature:
        """What the head of a task reads, from what its trunk gives and what the units gave it at each place."""
        return last

    def task_modules(self, name: str) -> list[nn.Module]:
        return [*self.trunks[name].behind(list(self.exchange)[-1]), self.heads[name]]

    def own_trunks(self) -> dict[str, nn.Module]:
        return dict(self.trunks.items())

    def last_shared_layer(self) -> nn.Module | None:
        return list(self.exchange.values())[-1] if len(self.tasks) > 1 else None

    def taps(self) -> dict[str, nn.Module]:
        """What every unit has to show, by place: ``stitch/encoder0``, ``mix/depth/stage1``, ``channel/stage4/0``."""
        units = ((place, kind, tap) for place, unit in self.exchange.items() for kind, tap in unit.taps().items())
        return {f"{kind}/{place}": tap for place, kind, tap in units}

    def parameter_groups(self) -> dict[str, list[nn.Parameter]]:
        parts = {"backbone": self.trunks, "exchange": self.exchange, "heads": self.heads}
        return {name: list(part.parameters()) for name, part in parts.items()}


def _through(unit: nn.Module, left: list[list[Tensor]], features: list[Tensor]) -> list[Tensor]:
    """What a unit makes of the features, noted."""
    left.append(unit(features))
    return left[-1]
