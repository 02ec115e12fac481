"""What a weighting promises: turn T task losses into one update of the model.

Scale convention of the kit: weights multiply *summed* losses, so equal weighting is all ones. Each method's docstring
gives the factor to its paper's and to LibMTL's convention.

Shapes: T tasks, P numbers in a gradient.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

import torch
from torch import Tensor, nn

from ..registry import Registry

Losses = dict[str, Tensor]
Closure = Callable[..., Losses]  # closure(k=0): task losses of the k-th independent micro-batch


class TaskLike(Protocol):
    """All a weighting needs to know of a task."""

    name: str
    kind: str  # "classification" or "regression"


@dataclasses.dataclass(frozen=True)
class NamedTask:
    """A task without a network, for ``combine`` and ``combiner``."""

    name: str
    kind: str = "regression"


@dataclasses.dataclass
class Step:
    """What one step did, detached.

    Attributes:
        losses: task -> unweighted loss, scalar; tasks absent from the batch are absent here.
        weights: task -> weight that multiplied its loss or gradient; None where a method has none.
        gramian: G G' of the task gradients, (T, T), for methods that have it.
    """

    losses: Losses
    weights: Losses | None = None
    gramian: Tensor | None = None


class Weighting(nn.Module):
    """Base of every method. Its parameters train in their own optimiser group without weight decay; its buffers are
    saved and resumed.

    Attributes:
        level: ``"loss"``, ``"layer"``, ``"gramian"`` or ``"gradient"``: what the method looks at.
        paper: where it was published.
        batches_per_step: how many independent micro-batches ``step`` asks the closure for.
    """

    level: str = "loss"
    paper: str = ""
    batches_per_step: int = 1

    def __init__(self, tasks: Sequence[TaskLike]):
        super().__init__()
        self.names = [task.name for task in tasks]
        self.kinds = [task.kind for task in tasks]

    def step(self, closure: Closure, model: nn.Module, optimizer: torch.optim.Optimizer) -> Step:
        """Compute the losses, fill ``.grad``, step the optimiser."""
        raise NotImplementedError  # abstract

    def combine(self, gradients_TP: Tensor, losses_T: Tensor) -> tuple[Tensor | None, Tensor]:
        """(weights (T,) or None, direction (P,)) for given task gradients: the method's mathematics without a model."""
        raise NotImplementedError  # abstract

    def after_step(self, closure: Closure) -> None:
        """Called after every step (FAMO looks at the losses again)."""

    def epoch_end(self, train_losses: Mapping[str, float]) -> None:
        """Called after every epoch with the means of the unweighted training losses (DWA looks at their rates)."""

    def _rows(self, names: Sequence[str]) -> list[int]:
        return [self.names.index(name) for name in names]


WEIGHTINGS: Registry[type[Weighting]] = Registry("weighting")
