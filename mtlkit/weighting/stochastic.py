"""Methods that look for the direction of least norm although every gradient they see is that of a batch.

With one batch the products of its gradients are biased: the mean of G G' over batches is the Gramian of the true
gradients plus the covariance of the noise, and a noisy task looks longer than it is. Two independent batches have
independent noise: the mean of G1 G2' is the true Gramian.

Shapes: T tasks, P numbers in a gradient.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from ..errors import KitError
from . import engine
from .base import WEIGHTINGS, Closure, Rows, Step, TaskLike
from .gradients import GradientLevel, Mixture


def onto_simplex(point_T: np.ndarray) -> np.ndarray:
    """The nearest point whose coordinates are at least 0 and sum to 1: max(x - s, 0), where s is the largest of (sum of
    the k largest coordinates - 1) / k.
    """
    shifted = point_T - point_T.max()  # has the same projection, and large numbers do not swallow the 1
    sums = np.cumsum(np.sort(shifted)[::-1])
    return np.maximum(shifted - ((sums - 1.0) / np.arange(1, len(sums) + 1)).max(), 0.0)


class DoubleSampling(GradientLevel):
    """Base of the methods that move a point of the simplex by M = G1 G2' of two independent batches, and step with the
    gradients of a third. A subclass gives ``move``.

    The gradients of the first two batches are let go once M is known; heads are trained by the third batch alone. The
    point is kept from step to step. Only tasks that both of the first batches have can be compared: they divide anew
    what they had together. A task that is absent from the third batch adds nothing. There is no ``at =
    "representation"``: the representations of two batches have no inner product.
    """

    level = "gramian"
    batches_per_step = 3
    memory = ("simplex",)

    def __init__(self, tasks: Sequence[TaskLike], *, scale_heads: bool = False):
        super().__init__(tasks, scale_heads=scale_heads)
        self.simplex = [1.0 / len(self.names)] * len(self.names)

    def move(self, cross_TT: np.ndarray, point_T: np.ndarray) -> np.ndarray:
        """The next point of the simplex (T,), from M (T, T) and the last one, all float64."""
        raise NotImplementedError  # abstract

    def weights(self) -> np.ndarray:
        """What multiplies the gradients of the third batch, (T,) float64."""
        return np.array(self.simplex)

    def mix(self, rows: Rows, losses_T: Tensor, present: list[int]) -> Mixture:
        weights, gramian = self.weights()[present], engine.gramian(rows)
        return Mixture(engine.weighted_sum(rows, weights), weights, gramian)

    def step(self, closure: Closure, model: nn.Module, optimizer: torch.optim.Optimizer) -> Step:
        optimizer.zero_grad(set_to_none=True)
        self._learn(*self._compare(closure, model))
        found = engine.of_parameters(closure, model, k=2, parts=self.parts)
        mixture = self.mix(found.rows, engine.mean_losses(found), self._rows(list(found.losses)))
        engine.write(found.targets, mixture.direction)
        return self._finish(found.losses, mixture, model, optimizer)

    def combine(
        self, gradients_TP: Tensor, losses_T: Tensor, extra: Sequence[Tensor] = ()
    ) -> tuple[Tensor | None, Tensor]:
        """``gradients_TP`` and ``extra[0]`` are G1 and G2; the direction is one of the rows of ``extra[1]``."""
        second_TP, third_TP = extra
        self._learn(_cross([[row] for row in gradients_TP], [[row] for row in second_TP]), list(range(len(self.names))))
        return super().combine(third_TP, losses_T)

    def _compare(self, closure: Closure, model: nn.Module) -> tuple[np.ndarray, list[int]]:
        """M of the tasks that batches 0 and 1 have in common, and their numbers."""
        found = [engine.of_parameters(closure, model, k=k, parts=self.parts, heads=False) for k in (0, 1)]
        names = [name for name in found[0].losses if name in found[1].losses]
        # where a task is absent, a parameter may be reached by no loss: zero, and nothing to the product
        reached = {id(p) for p in found[0].targets} & {id(p) for p in found[1].targets}
        by_task = []
        for gradients in found:
            keep = [id(p) in reached for p in gradients.targets]
            rows = dict(zip(gradients.losses, gradients.rows, strict=True))
            by_task.append([[g for g, kept in zip(rows[name], keep, strict=True) if kept] for name in names])
        return _cross(*by_task), self._rows(names)

    def _learn(self, cross_TT: np.ndarray, rows: list[int]) -> None:
        point = np.array(self.simplex)
        together = point[rows].sum()
        if together > 0:
            point[rows] = together * self.move(cross_TT, point[rows] / together)
        self.simplex = point.tolist()


def _cross(first: Rows, second: Rows) -> np.ndarray:
    """G1 G2', (T, T) float64."""
    if not first:
        return np.zeros((0, 0))
    return engine.gramian([*first, *second])[: len(first), len(first) :].numpy()


@WEIGHTINGS.register("modo")
class MoDo(DoubleSampling):
    """Multi-objective gradient with double sampling (MoDo; Chen et al., NeurIPS 2023; JMLR 2024).

    w <- P(w - gamma (G1 G2' w + rho w)), P the projection onto the simplex; the shared parameters receive w' G3 with
    the new w. At the start w = 1/T. The mean of G1 and G2 may stand for G3 in the published method; here it is always a
    third batch, so that the step is independent of what chose w.

    ``gamma`` = 1e-3 is LibMTL's (TorchJD: 0.1). G1 G2' is not normalised, so the right size falls with the square of
    the gradients: where w never leaves 1/T, raise it. ``rho`` = 0.1 (LibMTL, TorchJD) draws w back to 1/T. With rho = 0
    and gradients without noise w converges to MGDA's.

    Cost: three batches a step; three forwards, 3 T backwards through what is shared. Factor to LibMTL: 1 on the shared
    parameters; LibMTL's heads get the mean of their gradients over the three batches, ours those of the third, which
    the reported losses are of too. Gradients that are all zero leave w where ``rho`` draws it.
    """

    paper = "Chen et al., NeurIPS 2023; JMLR 25 (2024)"

    def __init__(self, tasks: Sequence[TaskLike], *, gamma: float = 1e-3, rho: float = 0.1, **common: Any):
        super().__init__(tasks, **common)
        if not gamma > 0:
            raise KitError(f"gamma of modo is above 0, found {gamma}; LibMTL uses 0.001, TorchJD 0.1")
        if not rho >= 0:
            raise KitError(f"rho of modo is 0 or more, found {rho}; LibMTL and TorchJD use 0.1")
        self.gamma, self.rho = gamma, rho

    def move(self, cross_TT: np.ndarray, point_T: np.ndarray) -> np.ndarray:
        return onto_simplex(point_T - self.gamma * (cross_TT @ point_T + self.rho * point_T))


@WEIGHTINGS.register("sdmgrad")
class SDMGrad(DoubleSampling):
    """Stochastic direction-oriented multi-objective gradient (Xiao et al., NeurIPS 2023, arXiv 2305.18409).

    The direction of least norm, drawn towards the mean gradient: (w' G3 + lambda mean G3) / (1 + lambda). Before that w
    takes ``iterations`` steps of gradient descent with momentum, each projected onto the simplex, along M (w + lambda
    1/T), M = G1 G2' / s^2 with s the mean over tasks of sqrt(max(M_tt, 0)). It starts at 1/T and is kept between steps,
    the momentum is not. In terms of the weights (w + lambda/T) / (1 + lambda) this is MGDA where every task keeps at
    least lambda / (T (1 + lambda)).

    ``strength`` is lambda = 0.3 (the authors' runs, LibMTL, TorchJD; 0.6 in the authors' class): 0 is MGDA, infinity
    equal weighting. ``lr`` = 10 (the authors, TorchJD; LibMTL 5), ``iterations`` = 20 and ``momentum`` = 0.5 (all).
    At such rates w jumps from corner to corner unless gradients nearly agree (the descent is stable below 2 (1 +
    momentum) / curvature, and the curvature of M is about 1 for orthogonal gradients); take 0.3 for the solution, and
    much less to average over steps. As s is of the same pair of batches, E[M] is biased towards noisy tasks where noise
    outweighs the gradients.

    Corrected against the authors' code: there all three gradients are one and the same buffer, so that only one batch
    counts; here they are three. Where no M_tt is above 0 (two batches that contradict each other in every task, or
    gradients of zero), M says nothing of the lengths and w stays.

    Cost: three batches a step; three forwards, 3 T backwards through what is shared. Factor to LibMTL: 1 on the shared
    parameters (at ``lr`` = 5); its heads get the mean over the three batches, ours the gradient of the third. The
    weights sum to 1.
    """

    paper = "Xiao et al., NeurIPS 2023, arXiv 2305.18409"

    def __init__(
        self,
        tasks: Sequence[TaskLike],
        *,
        strength: float = 0.3,
        lr: float = 10.0,
        iterations: int = 20,
        momentum: float = 0.5,
        **common: Any,
    ):
        super().__init__(tasks, **common)
        if not strength >= 0:
            raise KitError(f"strength of sdmgrad (its lambda) is 0 or more, found {strength}; the authors use 0.3")
        if not lr > 0:
            raise KitError(f"lr of sdmgrad is above 0, found {lr}; the authors use 10, LibMTL 5")
        if iterations < 1:
            raise KitError(f"iterations of sdmgrad is 1 or more, found {iterations}; the authors use 20")
        if not 0 <= momentum < 1:
            raise KitError(f"momentum of sdmgrad is 0 or more and below 1, found {momentum}; the authors use 0.5")
        self.strength, self.lr, self.iterations, self.momentum = strength, lr, iterations, momentum

    def move(self, cross_TT: np.ndarray, point_T: np.ndarray) -> np.ndarray:
        scale = np.sqrt(np.maximum(np.diag(cross_TT), 0.0)).mean()
        if scale == 0:
            return point_T
        normalised = cross_TT / scale**2
        pull = normalised.mean(axis=1) * self.strength
        velocity = np.zeros_like(point_T)
        for _ in range(self.iterations):
            velocity = self.momentum * velocity + normalised @ point_T + pull
            point_T = onto_simplex(point_T - self.lr * velocity)
        return point_T

    def weights(self) -> np.ndarray:
        return (np.array(self.simplex) + self.strength / len(self.simplex)) / (1.0 + self.strength)
