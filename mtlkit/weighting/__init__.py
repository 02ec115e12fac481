"""Everything that turns T task losses into one update.

``build`` makes a method for a training run; ``combine`` and ``combiner`` reach its mathematics without a model.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from ..errors import KitError
from . import losses as _losses  # noqa: F401  (registers its methods)
from .base import WEIGHTINGS, NamedTask, Step, TaskLike, Weighting

__all__ = ["WEIGHTINGS", "Combiner", "NamedTask", "Step", "Weighting", "build", "combine", "combiner"]


def build(name: str, tasks: Sequence[TaskLike], **options: Any) -> Weighting:
    """The weighting called ``name`` for these tasks. Raises KitError for an unknown name, option or value."""
    return WEIGHTINGS.build(name, tasks, **options)


def combine(name: str, gradients: Tensor, losses: Tensor | None = None, **options: Any) -> tuple[Tensor | None, Tensor]:
    """One call of a method from its initial state.

    Args:
        name: a registered weighting.
        gradients: task gradients, one row each, (T, P), float32 or float64.
        losses: task losses, (T,); ones where the method does not look at them.
        **options: of the method; ``tasks=`` gives names and kinds (default: T regression tasks).

    Returns:
        weights (T,), or None where a method has none, and the direction (P,); for loss-level methods direction =
        weights @ gradients.

    Raises:
        KitError: for an unknown name or option, or gradients that are not a finite (T, P) floating-point matrix.

    >>> weights, direction = combine("equal", torch.tensor([[1.0, 0.0], [-0.5, 1.0]]))
    >>> weights.tolist(), direction.tolist()
    ([1.0, 1.0], [0.5, 1.0])
    """
    tasks = options.pop("tasks", None) or (len(gradients) if gradients.ndim else 0)
    return combiner(name, tasks, **options)(gradients, losses)


class Combiner:
    """A method with its state, called with gradients instead of a model.

    Own parameters (the log variances of ``uncertainty``) take one Adam step of ``learning_rate`` after each call that
    is given losses. ``epoch_end`` passes mean losses on (DWA).
    """

    def __init__(self, method: Weighting, learning_rate: float):
        self.method = method
        own = list(method.parameters())
        self.optimizer = torch.optim.Adam(own, lr=learning_rate) if own else None

    def __call__(self, gradients: Tensor, losses: Tensor | None = None) -> tuple[Tensor | None, Tensor]:
        tasks = len(self.method.names)
        if gradients.ndim != 2 or len(gradients) != tasks or not gradients.is_floating_point():
            raise KitError(
                f"gradients are a floating-point (T, P) matrix with T = {tasks}, "
                f"found {tuple(gradients.shape)} {gradients.dtype}"
            )
        if not bool(torch.isfinite(gradients).all()):
            raise KitError("gradients hold NaN or infinity; a method cannot weigh them")
        values = gradients.new_ones(tasks) if losses is None else torch.as_tensor(losses).to(gradients)
        weights, direction = self.method.combine(gradients, values)
        if losses is not None:
            self._train(values)
        return weights, direction

    def epoch_end(self, train_losses: Sequence[float]) -> None:
        """Mean losses of an epoch, in the order of the rows."""
        self.method.epoch_end(dict(zip(self.method.names, train_losses, strict=True)))

    def _train(self, losses_T: Tensor) -> None:
        if self.optimizer is None:
            return
        rows = list(range(len(self.method.names)))
        self.optimizer.zero_grad()
        objective = (self.method.weigh(losses_T, rows) * losses_T).sum() + self.method.penalty(rows)
        objective.backward()
        self.optimizer.step()


def combiner(
    name: str,
    tasks: int | Sequence[TaskLike],
    *,
    learning_rate: float = 1e-4,  # MTAN's rate, which trains its log variances too
    **options: Any,
) -> Combiner:
    """A ``Combiner`` for T tasks (a number, or tasks with names and kinds)."""
    if isinstance(tasks, int):
        tasks = [NamedTask(f"task{t}") for t in range(tasks)]
    return Combiner(build(name, tasks, **options), learning_rate)
