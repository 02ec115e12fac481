"""Everything that turns T task losses into one update.

``build`` makes a method for a training run; ``combine`` and ``combiner`` reach its mathematics without a model.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from ..errors import KitError
from . import adaptive as _adaptive  # noqa: F401
from . import bilevel as _bilevel  # noqa: F401
from . import full as _full  # noqa: F401
from . import gradnorm as _gradnorm  # noqa: F401
from . import gramian as _gramian  # noqa: F401  (registers its methods)
from . import losses as _losses  # noqa: F401
from . import stochastic as _stochastic  # noqa: F401
from . import tracking as _tracking  # noqa: F401
from .base import WEIGHTINGS, NamedTask, Step, TaskLike, Weighting
from .diagnostics import diagnostics

__all__ = ["WEIGHTINGS", "Combiner", "NamedTask", "Step", "Weighting", "build", "combine", "combiner", "diagnostics"]


def build(name: str, tasks: Sequence[TaskLike], **options: Any) -> Weighting:
    """The weighting called ``name`` for these tasks. Raises KitError for an unknown name, option or value."""
    return WEIGHTINGS.build(name, tasks, **options)


def combine(
    name: str, gradients: Tensor, losses: Tensor | None = None, extra: Sequence[Tensor] = (), **options: Any
) -> tuple[Tensor | None, Tensor]:
    """One call of a method from its initial state.

    Args:
        name: a registered weighting.
        gradients: task gradients, one row each, (T, P), float32 or float64.
        losses: task losses, (T,); ones where the method does not look at them.
        extra: gradients (T, P) of further, independent batches, for methods that need more than one (``modo``).
        **options: of the method; ``tasks=`` gives names and kinds (default: T regression tasks).

    Returns:
        weights (T,), or None where a method has none, and the direction (P,); for loss-level methods direction =
        weights @ gradients.

    Raises:
        KitError: for an unknown name or option, gradients that are not a finite (T, P) floating-point matrix, a problem
            without a solution (``nash-mtl`` with opposite gradients), too few or too many batches, a method that is
            nothing without a model (``auto-lambda``).

    >>> weights, direction = combine("equal", torch.tensor([[1.0, 0.0], [-0.5, 1.0]]))
    >>> weights.tolist(), direction.tolist()
    ([1.0, 1.0], [0.5, 1.0])
    """
    tasks = options.pop("tasks", None) or (len(gradients) if gradients.ndim else 0)
    return combiner(name, tasks, **options)(gradients, losses, extra)


class Combiner:
    """A method with its state, called with gradients instead of a model.

    Own parameters (the log variances of ``uncertainty``) take one Adam step of ``learning_rate`` after each call that
    is given losses. ``after_step`` passes on the losses after an update of the model (FAMO), ``epoch_end`` the mean
    losses of an epoch (DWA).
    """

    def __init__(self, method: Weighting, learning_rate: float):
        self.method = method
        own = list(method.parameters())
        self.optimizer = torch.optim.Adam(own, lr=learning_rate) if own else None

    def __call__(
        self, gradients: Tensor, losses: Tensor | None = None, extra: Sequence[Tensor] = ()
    ) -> tuple[Tensor | None, Tensor]:
        tasks = len(self.method.names)
        for matrix in (gradients, *extra):
            if matrix.ndim != 2 or len(matrix) != tasks or not matrix.is_floating_point():
                raise KitError(
                    f"gradients are a floating-point (T, P) matrix with T = {tasks}, "
                    f"found {tuple(matrix.shape)} {matrix.dtype}"
                )
            if matrix.shape != gradients.shape or matrix.dtype != gradients.dtype:
                expected, found = ((tuple(x.shape), str(x.dtype)) for x in (gradients, matrix))
                raise KitError(
                    f"gradients of further batches are of one shape and type with the first, {expected}, found {found}"
                )
            if not bool(torch.isfinite(matrix).all()):
                raise KitError("gradients hold NaN or infinity; a method cannot weigh them")
        values = gradients.new_ones(tasks) if losses is None else torch.as_tensor(losses).to(gradients)
        self._count(extra)
        weights, direction = self.method.combine(gradients, values, extra)
        if losses is not None:
            self._train(values)
        return weights, direction

    def _count(self, extra: Sequence[Tensor]) -> None:
        needed = self.method.batches_per_step
        if self.method.needs_model:
            raise KitError(f"{self.method.label} {self.method.needs_model}; take it in a recipe, as weighting.name")
        if len(extra) != needed - 1:
            raise KitError(
                f"{self.method.label} needs the gradients of {needed} independent batch{'es' * (needed > 1)}, found "
                f"{1 + len(extra)}; pass {needed - 1} more as extra=[...]"
            )

    def after_step(self, losses: Tensor) -> None:
        """Losses (T,) of the same batch after the update of the model."""
        self.method.after_step(lambda k=0: dict(zip(self.method.names, losses, strict=True)))

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
