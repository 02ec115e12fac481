"""What a weighting promises: turn T task losses into one update of the model.

Scale convention of the kit: weights multiply *summed* losses, so equal weighting is all ones. Each method's docstring
gives the factor to its paper's and to LibMTL's convention.

Shapes: T tasks, P numbers in a gradient.
"""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from torch.optim.adam import adam

from ..registry import Registry

Losses = dict[str, Tensor]
Closure = Callable[..., Losses]  # closure(k=0): task losses of the k-th independent micro-batch
Rows = list[list[Tensor]]  # a list for each task: its gradients, tensor by tensor


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
        gramian: G G' of the task gradients in the order of ``losses``, (T, T) float64, for methods that have it.
        dropped: tasks that the method had to leave out of this step (a gradient of zero where it needs a direction).
        noted: (what, task) -> any other number of this step, scalar, for ``gradients.csv``.
    """

    losses: Losses
    weights: Losses | None = None
    gramian: Tensor | None = None
    dropped: tuple[str, ...] = ()
    noted: dict[tuple[str, str], Tensor] = dataclasses.field(default_factory=dict)


class Weighting(nn.Module):
    """Base of every method. Its parameters train in their own optimiser group without weight decay; all its state is
    in ``state_dict()``.

    Attributes:
        level: ``"loss"``, ``"layer"``, ``"gramian"`` or ``"gradient"``: what the method looks at.
        paper: where it was published.
        batches_per_step: how many independent batches a step asks the closure for, as closure(0), closure(1), ...
        accumulates: whether a batch may come in parts; then ``parts`` of them make a batch, closure(k * parts + j) is
            the j-th part of batch k, and the losses of the parts add up to those of the batch.
        needs_model: why the method is nothing without a model, where it is.
        memory: names of attributes that are saved and resumed besides parameters and buffers: numbers, tensors, lists
            and dicts of them.
        generator: where a method's chance comes from, None where it has none; saved and resumed too.
    """

    level: str = "loss"
    paper: str = ""
    batches_per_step: int = 1
    accumulates: bool = False
    needs_model: str = ""
    memory: tuple[str, ...] = ()

    def __init__(self, tasks: Sequence[TaskLike]):
        super().__init__()
        self.names = [task.name for task in tasks]
        self.kinds = [task.kind for task in tasks]
        self.parts = 1
        self.generator: torch.Generator | None = None

    def check(self, model: nn.Module) -> None:
        """Raise KitError where this model has not what the method looks at."""

    def step(self, closure: Closure, model: nn.Module, optimizer: torch.optim.Optimizer) -> Step:
        """Compute the losses, fill ``.grad``, step the optimiser."""
        raise NotImplementedError  # abstract

    def combine(
        self, gradients_TP: Tensor, losses_T: Tensor, extra: Sequence[Tensor] = ()
    ) -> tuple[Tensor | None, Tensor]:
        """(weights (T,) or None, direction (P,)) for given task gradients: the method's mathematics without a model.

        ``extra`` are the gradients of the further batches that a method with ``batches_per_step`` above 1 needs.
        """
        raise NotImplementedError  # abstract

    def after_step(self, closure: Closure, model: nn.Module | None = None) -> None:
        """Called after every step (FAMO looks at the losses again)."""

    def epoch_end(self, train_losses: Mapping[str, float]) -> None:
        """Called after every epoch with the means of the unweighted training losses (DWA looks at their rates)."""

    def get_extra_state(self) -> dict[str, Any]:
        state = {name: getattr(self, name) for name in self.memory}
        return state if self.generator is None else state | {"generator": self.generator.get_state()}

    def set_extra_state(self, state: dict[str, Any]) -> None:
        for name in self.memory:
            setattr(self, name, copy.deepcopy(state[name]))
        if self.generator is not None:
            self.generator.set_state(state["generator"].cpu())

    @property
    def label(self) -> str:
        """The name that it is registered by."""
        return next(name for name in WEIGHTINGS if WEIGHTINGS[name] is type(self))

    def _rows(self, names: Sequence[str]) -> list[int]:
        return [self.names.index(name) for name in names]


def chance(generator: torch.Generator | None) -> torch.Generator:
    """The generator given, or a new one from the seed that torch was given last: a run's own."""
    return generator if generator is not None else torch.Generator().manual_seed(torch.initial_seed())


class OwnAdam(nn.Module):
    """Adam for a few numbers of a method that are no parameters of the training: its state is in buffers, so that it is
    saved and moved with the method.

    Args:
        size: how many numbers.
        lr: learning rate.
        weight_decay: added to the gradient, times the numbers.
    """

    def __init__(self, size: int, lr: float, weight_decay: float = 0.0):
        super().__init__()
        self.lr, self.weight_decay = lr, weight_decay
        self.register_buffer("first", torch.zeros(size))
        self.register_buffer("second", torch.zeros(size))
        self.register_buffer("count", torch.zeros(()))

    @torch.no_grad()
    def step(self, values: Tensor, gradient: Tensor) -> None:
        """Move ``values`` in place."""
        adam(
            [values], [gradient.to(values)], [self.first], [self.second], [], [self.count],
            amsgrad=False, beta1=0.9, beta2=0.999, lr=self.lr, weight_decay=self.weight_decay, eps=1e-8, maximize=False,
        )  # fmt: skip


WEIGHTINGS: Registry[type[Weighting]] = Registry("weighting")
