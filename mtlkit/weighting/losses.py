"""Loss-level weightings: the update is the gradient of one weighted sum of the task losses (one backward pass, heads
scaled too).

Shapes: T tasks, P numbers in a gradient.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from ..errors import KitError, nearest
from . import engine
from .base import WEIGHTINGS, Closure, Losses, Step, TaskLike, Weighting


class LossLevel(Weighting):
    """A weighted sum of losses. A subclass gives ``weigh`` and, where it trains parameters, ``penalty``.

    It ``accumulates`` where the weights do not depend on the losses of the batch: then parts may be weighed one by one.
    """

    level = "loss"

    def weigh(self, losses_T: Tensor, rows: list[int]) -> Tensor:
        """Weights (T,) of the tasks numbered ``rows`` (those present in the batch)."""
        raise NotImplementedError  # abstract

    def penalty(self, rows: list[int]) -> Tensor | float:
        """A term of the objective that does not depend on the losses."""
        return 0.0

    def step(self, closure: Closure, model: nn.Module, optimizer: torch.optim.Optimizer) -> Step:
        optimizer.zero_grad(set_to_none=True)
        total: Losses = {}
        weights: Losses = {}
        for part in range(self.parts):
            losses = closure(part)
            if not losses:
                continue
            names = list(losses)
            rows = self._rows(names)
            losses_T = torch.stack([losses[name] for name in names])
            weights_T = self.weigh(losses_T, rows)
            objective = (weights_T * losses_T).sum() + self.penalty(rows) / self.parts
            objective.backward()
            weights |= dict(zip(names, weights_T.detach(), strict=True))
            for name, loss in losses.items():
                total[name] = total[name] + loss.detach() if name in total else loss.detach()
        engine.average_gradients([*model.parameters(), *self.parameters()])
        optimizer.step()
        return Step(total, weights)

    def combine(
        self, gradients_TP: Tensor, losses_T: Tensor, extra: Sequence[Tensor] = ()
    ) -> tuple[Tensor, Tensor]:
        weights_T = self.weigh(losses_T, list(range(len(self.names)))).detach().to(gradients_TP)
        return weights_T, weights_T @ gradients_TP


@WEIGHTINGS.register("equal")
class Equal(LossLevel):
    """Equal weighting (linear scalarisation): L = sum_t c_t l_t.

    ``reduction="sum"`` (default; LibMTL's code, nash-mtl, MTAN) has c = 1; ``"mean"`` has c = 1/T (LibMTL's docstring).
    ``constants`` names fixed weights, task by task: ``{"depth": 2.0}``; tasks not named keep 1. Factor to LibMTL: 1 for
    the sum, T for the mean.
    Cost: one forward, one backward.
    """

    paper = "Caruana, Machine Learning 28 (1997)"
    accumulates = True

    def __init__(
        self, tasks: Sequence[TaskLike], *, reduction: str = "sum", constants: Mapping[str, float] | None = None
    ):
        super().__init__(tasks)
        if reduction not in ("sum", "mean"):
            raise KitError(f"reduction is 'sum' or 'mean', found {reduction!r}: {nearest(reduction, ['sum', 'mean'])}")
        weights = dict.fromkeys(self.names, 1.0)
        for name, value in (constants or {}).items():
            if name not in weights:
                raise KitError(f"constants names {name!r}, which is no task of this run: {nearest(name, weights)}")
            weights[name] = float(value)
        scale = 1.0 if reduction == "sum" else 1.0 / len(self.names)
        self.register_buffer("constants", scale * torch.tensor([weights[name] for name in self.names]))

    def weigh(self, losses_T: Tensor, rows: list[int]) -> Tensor:
        return self.constants[rows].to(losses_T)


@WEIGHTINGS.register("uncertainty")
class Uncertainty(LossLevel):
    """Uncertainty weighting: one learned log variance s_t = log sigma_t^2 per task.

    ``form="kendall"`` (default): Kendall et al., CVPR 2018 (arXiv 1705.07115), by the kind of the task,
    L = sum_regression 1/2 e^{-s} l + sum_classification e^{-s} l + 1/2 sum s: a likelihood with a scaled softmax has no
    factor 1/2. ``form="mtan"``: the released MTAN code, L = sum_t 1/2 e^{-s_t} l_t + 1/2 s_t for every task; at s =
    -0.5 and losses (1.2, 0.5, 0.3) that is 0.898721. The objective may be negative: normal, a log density can be.

    The weight that is logged is the effective factor of the loss, 1/2 e^{-s} or e^{-s} (nash-mtl reports e^{-s}, twice
    the effective one). ``initial=-0.5`` is MTAN's and LibMTL's start (nash-mtl and TorchJD: 0). The s train in a group
    of their own without weight decay, by the model's learning rate unless the recipe gives the group ``weighting``
    another multiplier. Factor to LibMTL: 1 in the ``mtan`` form. The optimum of s_t is log l_t, and log 2 l_t
    for classification in the ``kendall`` form: a converged weight is 1/(2 l_t) for every task.
    Cost: one forward, one backward.
    """

    paper = "Kendall, Gal, Cipolla, CVPR 2018, arXiv 1705.07115"
    accumulates = True

    def __init__(self, tasks: Sequence[TaskLike], *, form: str = "kendall", initial: float = -0.5):
        super().__init__(tasks)
        if form not in ("kendall", "mtan"):
            raise KitError(f"form is 'kendall' or 'mtan', found {form!r}: {nearest(form, ['kendall', 'mtan'])}")
        self.log_variance = nn.Parameter(torch.full((len(self.names),), float(initial)))
        by_kind = [1.0 if form == "kendall" and kind == "classification" else 0.5 for kind in self.kinds]
        self.register_buffer("factor", torch.tensor(by_kind), persistent=False)

    def weigh(self, losses_T: Tensor, rows: list[int]) -> Tensor:
        return self.factor[rows] * torch.exp(-self.log_variance[rows])

    def penalty(self, rows: list[int]) -> Tensor:
        return 0.5 * self.log_variance[rows].sum()


@WEIGHTINGS.register("dwa")
class DynamicWeightAverage(LossLevel):
    """Dynamic weight average (Liu, Johns, Davison, CVPR 2019, arXiv 1803.10704, equation 7 of the published text).

    w_t = T softmax_t(r_t / tau), r_t = L_t(e-1) / L_t(e-2), with L_t(e) the mean *unweighted* training loss of epoch e
    (the author's answer to a reader's question); all ones in the first two epochs. ``temperature`` tau = 2 (the author:
    0.5 to 5 works, larger is flatter). Losses (1.2, 0.5, 0.3) after (1.5, 0.52, 0.31) give 0.945892, 1.025461,
    1.028647. Factor to LibMTL: 1. A task that no batch of an epoch has keeps the losses it had. Cost: one forward, one
    backward.
    """

    paper = "Liu, Johns, Davison, CVPR 2019, arXiv 1803.10704"
    accumulates = True
    memory = ("history", "weights")

    def __init__(self, tasks: Sequence[TaskLike], *, temperature: float = 2.0):
        super().__init__(tasks)
        if not temperature > 0:
            raise KitError(f"the temperature of dwa is above 0, found {temperature}; the paper uses 2.0")
        self.temperature = temperature
        # Python floats: double precision also on accelerators that have none
        self.history: list[dict[str, float]] = []  # mean losses of the last two epochs, oldest first
        self.weights = [1.0] * len(self.names)

    def weigh(self, losses_T: Tensor, rows: list[int]) -> Tensor:
        return losses_T.new_tensor([self.weights[row] for row in rows])

    def epoch_end(self, train_losses: Mapping[str, float]) -> None:
        latest = {**(self.history[-1] if self.history else {}), **train_losses}
        self.history = [*self.history[-1:], latest]
        if len(self.history) == 2 and all(name in self.history[0] for name in self.names):
            older, newer = self.history
            rates = torch.tensor([newer[name] / older[name] for name in self.names], dtype=torch.float64)
            self.weights = (len(self.names) * torch.softmax(rates / self.temperature, dim=0)).tolist()
