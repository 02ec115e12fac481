"""Weightings that look at the gradient of every task on the shared parameters: what they have in common.

A step runs one forward pass, a backward pass for each task, asks the method for one direction, and makes it the
gradient of the shared parameters. Heads receive their own, unweighted gradient unless ``scale_heads``.

Cost: one forward, T backwards through what is shared, every head once; at the representation one forward, every head
once, one backward through the trunk.

Shapes: T tasks, P numbers in a gradient.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from ..errors import KitError, nearest
from . import engine
from .base import Closure, Losses, Rows, Step, TaskLike, Weighting

PLACES = ("parameters", "representation")
TINY = 2.0**-40  # stands for a weight of 0; a power of two is divided out without rounding


@dataclasses.dataclass
class Mixture:
    """What a method makes of T task gradients.

    Attributes:
        direction: the gradient of the shared parameters, a list of tensors as in a row.
        weights: T numbers whose weighted sum of the rows is the direction; None where the method has none.
        gramian: (T, T) float64, where it was computed.
        dropped: rows that were left out.
    """

    direction: list[Tensor]
    weights: Sequence[float] | None = None
    gramian: Tensor | None = None
    dropped: Sequence[int] = ()


class GradientLevel(Weighting):
    """Base of the methods that look at task gradients. A subclass gives ``mix``.

    Args:
        tasks: of the run.
        at: ``"parameters"``: gradients on all shared parameters. ``"representation"``: on the one tensor where trunk
            and heads part, followed by one backward pass through the trunk; cheap, but only for architectures that
            have such a tensor, and conflict there is not conflict in the parameters.
        scale_heads: multiply the gradients of a head by its task's weight too.
    """

    level = "gradient"

    def __init__(self, tasks: Sequence[TaskLike], *, at: str = "parameters", scale_heads: bool = False):
        super().__init__(tasks)
        if at not in PLACES:
            raise KitError(f"at is one of {list(PLACES)}, found {at!r}: {nearest(at, PLACES)}")
        self.at, self.scale_heads = at, scale_heads

    @property
    def accumulates(self) -> bool:
        """Gradients of parameters add up over the parts of a batch; those of a representation lie side by side."""
        return self.at == "parameters"

    def mix(self, rows: Rows, losses_T: Tensor, present: list[int]) -> Mixture:
        """One direction from T gradients.

        Args:
            rows: T lists of tensors; they may be used up.
            losses_T: the losses, (T,).
            present: the numbers of these tasks among those of the run.
        """
        raise NotImplementedError  # abstract

    def blend(self, found: engine.TaskGradients, model: nn.Module) -> Mixture:
        """``mix`` for a step; a method that looks at more than rows and losses has its own."""
        return self.mix(found.rows, engine.mean_losses(found), self._rows(list(found.losses)))

    def check(self, model: nn.Module) -> None:
        if self.at == "representation" and model.representation() is None:
            raise KitError(
                f"{self.label} at the representation needs one tensor where trunk and heads part, which this "
                f"architecture has not; set at = 'parameters'"
            )
        if not model.shared_parameters():
            raise KitError(f"{self.label} weighs gradients on shared parameters, and this network has none: take equal")

    def step(self, closure: Closure, model: nn.Module, optimizer: torch.optim.Optimizer) -> Step:
        optimizer.zero_grad(set_to_none=True)
        if self.at == "representation":
            found = engine.of_representation(closure, model)
        else:
            found = engine.of_parameters(closure, model, parts=self.parts)
        mixture = self.blend(found, model)
        if self.at == "representation":
            engine.through_trunk(found, mixture.direction, model)
        else:
            engine.write(found.targets, mixture.direction)
        return self._finish(found.losses, mixture, model, optimizer)

    def combine(
        self, gradients_TP: Tensor, losses_T: Tensor, extra: Sequence[Tensor] = ()
    ) -> tuple[Tensor | None, Tensor]:
        rows = [[row.clone()] for row in gradients_TP]
        mixture = self.mix(rows, losses_T, list(range(len(self.names))))
        weights = None if mixture.weights is None else gradients_TP.new_tensor(list(mixture.weights))
        return weights, mixture.direction[0]

    def _finish(self, losses: Losses, mixture: Mixture, model: nn.Module, optimizer: torch.optim.Optimizer) -> Step:
        """Scale the heads if wanted, step the optimiser, and say what was done."""
        names, weights = list(losses), None
        if mixture.weights is not None:
            numbers = dict(zip(names, map(float, mixture.weights), strict=True))
            weights = {name: losses[name].new_tensor(weight) for name, weight in numbers.items()}
            if self.scale_heads:
                engine.scale_heads(model, numbers)
        optimizer.step()
        return Step(losses, weights, mixture.gramian, tuple(names[i] for i in mixture.dropped))


class GramianLevel(GradientLevel):
    """Base of the methods that need only A = G G': every inner product of two gradients. A subclass gives ``solve``.

    Args:
        tasks: of the run.
        update_every: weights are computed every so many steps and kept in between, where a step costs one backward
            pass like any other.
        max_norm: the direction is shortened to this length where it is longer; None: as the method gives it.
        at: see ``GradientLevel``.
        scale_heads: see ``GradientLevel``.
    """

    level = "gramian"
    memory = ("age", "kept")

    def __init__(
        self, tasks: Sequence[TaskLike], *, update_every: int = 1, max_norm: float | None = None, **common: Any
    ):
        super().__init__(tasks, **common)
        if update_every < 1:
            raise KitError(f"update_every is 1 (every step) or more, found {update_every}")
        if max_norm is not None and not max_norm > 0:
            raise KitError(f"max_norm is above 0, or left out, found {max_norm}")
        self.update_every, self.max_norm = update_every, max_norm
        self.age = 0  # steps since the weights were computed
        self.kept: dict[str, float] = {}  # task -> weight, of the last computation

    def solve(self, gramian_TT: np.ndarray, losses_T: Tensor, present: list[int]) -> np.ndarray:
        """Weights (T,) float64 from A (T, T) float64; arguments as in ``mix``."""
        raise NotImplementedError  # abstract

    def dropped(self, gramian_TT: np.ndarray) -> list[int]:
        """Rows that this method leaves out."""
        return []

    def mix(self, rows: Rows, losses_T: Tensor, present: list[int]) -> Mixture:
        gramian = engine.gramian(rows)
        if self.at == "representation":
            gramian = engine.average_gramian(gramian)
        matrix = gramian.numpy()
        weights = self.solve(matrix, losses_T, present)
        if self.max_norm is not None:
            length = float(np.sqrt(max(weights @ matrix @ weights, 0.0)))
            weights = weights * min(1.0, self.max_norm / length) if length else weights
        return Mixture(engine.weighted_sum(rows, weights), weights, gramian, self.dropped(matrix))

    def step(self, closure: Closure, model: nn.Module, optimizer: torch.optim.Optimizer) -> Step:
        if self.age and self.kept and self.age < self.update_every:
            taken = self._step_with_kept_weights(closure, model, optimizer)
        else:
            taken = super().step(closure, model, optimizer)
            self.kept |= {name: float(weight) for name, weight in taken.weights.items()}
            self.age = 0
        self.age += 1
        return taken

    def _step_with_kept_weights(self, closure: Closure, model: nn.Module, optimizer: torch.optim.Optimizer) -> Step:
        """One backward pass of the weighted sum; heads receive what they would at any other step.

        A task that was absent when the weights were computed counts as in equal weighting.
        """
        optimizer.zero_grad(set_to_none=True)
        total: Losses = {}
        weights = {name: self.kept.get(name, 1.0) for name in self.names}
        # a weight of 0 would silence its head too: a tiny one stands for it, and is divided out again
        used = {name: weight or TINY for name, weight in weights.items()}
        for part in range(self.parts):
            losses = closure(part)
            if not losses:
                continue
            sum(used[name] * loss for name, loss in losses.items()).backward()
            for name, loss in losses.items():
                total[name] = total[name] + loss.detach() if name in total else loss.detach()
        engine.average_gradients(model.parameters())
        if not self.scale_heads:
            engine.scale_heads(model, {name: 1.0 / used[name] for name in used})
        optimizer.step()
        return Step(total, {name: loss.new_tensor(weights[name]) for name, loss in total.items()})
