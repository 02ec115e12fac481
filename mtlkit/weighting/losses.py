"""Loss-level weightings: the update is the gradient of one weighted sum of the task losses (one backward pass, heads
scaled too). Here are those that look at the losses of the moment, or at nothing; ``adaptive`` has those that remember,
draw or look twice.

A weight that is a function of the losses is a constant in the backward pass, so that sum_t w_t grad l_t is the gradient
of the method's own objective.

Shapes: T tasks, P numbers in a gradient.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence

import torch
import torch.distributed as dist
from torch import Tensor, nn

from ..errors import KitError, nearest
from . import engine
from .base import WEIGHTINGS, Closure, Losses, Step, TaskLike, Weighting

EPS = 1e-8  # added to a loss before its logarithm or inverse is taken: a loss of 0 weighs 1e8 at most


class LossLevel(Weighting):
    """A weighted sum of losses. A subclass gives ``weigh`` and, where it trains parameters, ``penalty``.

    It ``accumulates`` where the weights do not depend on the losses of the batch: then parts may be weighed one by one.
    With several processes the others look at the mean losses over all of them, as one process with all the data would.
    """

    level = "loss"

    def weigh(self, losses_T: Tensor, rows: list[int]) -> Tensor:
        """Weights (T,) of the tasks numbered ``rows`` (those present in the batch); their losses are detached."""
        raise NotImplementedError  # abstract

    def penalty(self, rows: list[int]) -> Tensor | float:
        """A term of the objective that does not depend on the losses."""
        return 0.0

    def refuse(self, losses: Mapping[str, float]) -> None:
        """Raise KitError for losses that this method cannot weigh. Called where looking at them waits for nothing: on
        the CPU, in ``combine``, at the end of an epoch.
        """

    def trim(self, model: nn.Module) -> None:
        """Called between the backward pass and the update (FAMO may clip)."""

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
            if losses_T.device.type == "cpu":
                self.refuse(dict(zip(names, losses_T.tolist(), strict=True)))
            seen_T, seen = (losses_T.detach(), rows) if self.accumulates else self._everywhere(losses_T, rows)
            weights_T = self.weigh(seen_T, seen)
            if seen != rows:
                weights_T = weights_T[[seen.index(row) for row in rows]]
            objective = (weights_T * losses_T).sum() + self.penalty(rows) / self.parts
            objective.backward()
            weights |= dict(zip(names, weights_T.detach(), strict=True))
            for name, loss in losses.items():
                total[name] = total[name] + loss.detach() if name in total else loss.detach()
        engine.average_gradients([*model.parameters(), *self.parameters()])
        self.trim(model)
        optimizer.step()
        return Step(total, weights)

    def combine(self, gradients_TP: Tensor, losses_T: Tensor, extra: Sequence[Tensor] = ()) -> tuple[Tensor, Tensor]:
        self.refuse(dict(zip(self.names, losses_T.tolist(), strict=True)))
        weights_T = self.weigh(losses_T.detach(), list(range(len(self.names)))).detach().to(gradients_TP)
        return weights_T, weights_T @ gradients_TP

    def epoch_end(self, train_losses: Mapping[str, float]) -> None:
        self.refuse(train_losses)

    def _everywhere(self, losses_T: Tensor, rows: list[int]) -> tuple[Tensor, list[int]]:
        """Detached losses and the numbers of their tasks: means over the processes; absent from one counts as zero."""
        losses_T = losses_T.detach()
        if engine.processes() == 1:
            return losses_T, rows
        table_2T = losses_T.new_zeros(2, len(self.names))
        table_2T[0, rows], table_2T[1, rows] = losses_T, 1.0
        dist.all_reduce(table_2T)
        present = table_2T[1].nonzero().flatten().tolist()
        return table_2T[0, present] / engine.processes(), present

    def _present(self, values_T: Tensor, rows: list[int], like: Tensor) -> Tensor:
        """The entries of the tasks present; no indexing, for which an accelerator waits, where that is all of them."""
        return (values_T if rows == list(range(len(values_T))) else values_T[rows]).to(like)


class PositiveLosses(LossLevel):
    """Base of the methods that take the logarithm or the inverse of a loss: it may be zero, and not negative.

    Attributes:
        least: task -> what its loss must not be below, 0 where it is not named.
    """

    least: Mapping[str, float] = {}

    def refuse(self, losses: Mapping[str, float]) -> None:
        for name, loss in losses.items():
            least = self.least.get(name, 0.0)
            if loss < least:
                raise KitError(
                    f"{self.label} needs losses of {least:g} or more, found {loss:g} for task {name!r}; take a "
                    f"weighting that does without, such as equal or rlw"
                )


def above_zero(option: str, value: float, usual: str) -> float:
    """An option's value. Raises KitError where it is not above 0."""
    if not value > 0:
        raise KitError(f"{option} is above 0, found {value}; {usual}")
    return value


def by_task(names: Sequence[str], option: str, values: Mapping[str, float] | None) -> dict[str, float]:
    """An option that gives a number to some tasks. Raises KitError for a name that is none of ``names``."""
    for name in values or {}:
        if name not in names:
            raise KitError(f"{option} names {name!r}, which is no task of this run: {nearest(name, names)}")
    return {name: float(value) for name, value in (values or {}).items()}


def numbers(values: Iterable[float], like: Tensor) -> Tensor:
    """Python floats as a tensor of another one's type, where it is; nothing waits for the copy."""
    return torch.tensor(list(values), dtype=like.dtype).to(like.device, non_blocking=True)


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
        weights = dict.fromkeys(self.names, 1.0) | by_task(self.names, "constants", constants)
        scale = 1.0 if reduction == "sum" else 1.0 / len(self.names)
        self.constants = [scale * weights[name] for name in self.names]

    def weigh(self, losses_T: Tensor, rows: list[int]) -> Tensor:
        return numbers([self.constants[row] for row in rows], losses_T)


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
        factor_T, s_T = (self._present(values, rows, losses_T) for values in (self.factor, self.log_variance))
        return factor_T * torch.exp(-s_T)

    def penalty(self, rows: list[int]) -> Tensor:
        return 0.5 * self._present(self.log_variance, rows, self.log_variance).sum()


@WEIGHTINGS.register("imtl-l")
class ImpartialLoss(LossLevel):
    """IMTL-L, the loss part of impartial multi-task learning (Liu et al., ICLR 2021): L = sum_t e^{s_t} l_t - s_t.

    One learned s_t per task, 0 at the start, trained as the log variances of ``uncertainty`` are; the weight is e^{s}.
    Equals twice ``uncertainty`` (form ``mtan``) at -s; the optimum is s_t = -log l_t, where every weighted loss is 1. A
    loss of 0 or below has no optimum: its s grows for as long as it stays there.
    Factor to LibMTL: 1 (the s train with the model there too).
    Cost: one forward, one backward.
    """

    paper = "Liu et al., Towards Impartial Multi-task Learning, ICLR 2021"
    accumulates = True

    def __init__(self, tasks: Sequence[TaskLike]):
        super().__init__(tasks)
        self.log_scale = nn.Parameter(torch.zeros(len(self.names)))

    def weigh(self, losses_T: Tensor, rows: list[int]) -> Tensor:
        return torch.exp(self._present(self.log_scale, rows, losses_T))

    def penalty(self, rows: list[int]) -> Tensor:
        return -self._present(self.log_scale, rows, self.log_scale).sum()


@WEIGHTINGS.register("uw-so")
class SoftOptimalUncertainty(PositiveLosses):
    """UW-SO, soft optimal uncertainty weighting (arXiv 2408.07985): w = softmax_t(1 / (tau l_t)), L = sum_t w_t l_t.

    1/l_t is where the weights of ``uncertainty`` want to go (up to a factor that all tasks share); the softmax tempers
    it. Weights sum to 1, over the tasks present. ``tau=1.0``, the default of the one implementation that is known; the
    paper tunes it per data set: unlike ``si``, the weights depend on the unit that all losses are in. Losses below 1e-8
    count as 1e-8: of several such tasks each has the same weight, of one alone, nearly all.
    Factor to LibMTL: none; LibMTL does not have it. T times these weights sum to T, as those of ``equal`` do.
    Cost: one forward, one backward.
    """

    paper = "UW-SO, GCPR 2024, arXiv 2408.07985"

    def __init__(self, tasks: Sequence[TaskLike], *, tau: float = 1.0):
        super().__init__(tasks)
        self.tau = above_zero("tau of uw-so", tau, "1.0 is usual, and it is to be tuned")

    def weigh(self, losses_T: Tensor, rows: list[int]) -> Tensor:
        return torch.softmax(1 / (self.tau * losses_T.clamp_min(EPS)), dim=0)


@WEIGHTINGS.register("si")
class ScaleInvariant(PositiveLosses):
    """Scale-invariant weighting, a baseline of Navon et al. (2022): L = sum_t log(l_t + eps), w_t = 1 / (l_t + eps).

    The factor of a loss drops out: metres or centimetres give the same update. Its gradient is that of UW-O, the
    optimal weights of ``uncertainty`` taken as constants. ``eps=1e-8`` bounds a weight by 1/eps, even at a loss of 0;
    a loss near or below eps is no longer weighed without regard to its scale. (Aligned-MTL's code takes log(1 + l).)
    Factor to LibMTL: none; LibMTL has log losses only as a part of DB-MTL.
    Cost: one forward, one backward.
    """

    paper = "Navon et al., Multi-Task Learning as a Bargaining Game, ICML 2022, arXiv 2202.01017"

    def __init__(self, tasks: Sequence[TaskLike], *, eps: float = EPS):
        super().__init__(tasks)
        self.eps = above_zero("eps of si", eps, "1e-8 is usual")

    def weigh(self, losses_T: Tensor, rows: list[int]) -> Tensor:
        return 1 / (losses_T + self.eps)


@WEIGHTINGS.register("gls")
class GeometricLoss(PositiveLosses):
    """GLS, the geometric loss strategy (Chennupati et al., 2019): L = (prod_t l_t)^{1/T}, so w_t = L / (T l_t).

    The direction is that of ``si``, L/T times as long: the step shrinks as the losses do. T counts the tasks present.
    Computed as exp(mean log(l + 1e-8)): no product over- or underflows, and a loss of 0 leaves the weights finite.
    Factor to LibMTL: 1 in the update; the weights that LibMTL *reports*, l_t / (T prod l), are not those of its update.
    Cost: one forward, one backward.
    """

    paper = "Chennupati et al., MultiNet++, 2019, arXiv 1904.08492"

    def weigh(self, losses_T: Tensor, rows: list[int]) -> Tensor:
        logs_T = torch.log(losses_T + EPS)
        return torch.exp(logs_T.mean() - logs_T) / len(rows)


@WEIGHTINGS.register("stch")
class SmoothTchebycheff(PositiveLosses):
    """STCH, a smooth maximum of log losses (Lin et al., ICML 2024, arXiv 2402.19078), as LibMTL has it.

    Three phases, with ``warmup_epochs`` = 4 (LibMTL's, as ``mu`` = 1.0 is): epochs 0 to 3 minimise sum_t log l_t, the
    weights of ``si``; epoch 4 does too, and its mean losses become the nadir; from epoch 5 on
    L = T mu log sum_t exp(y_t / mu) with y_t = log(l_t / nadir_t), that is w_t = T softmax_t(y / mu) / l_t. At mu = 1
    that is T / (nadir_t sum_s l_s / nadir_s), a ratio fixed by the nadir; the smaller mu, the more the task counts
    that has fallen least since then (mu -> 0: it alone).

    sum_t w_t l_t is T in every phase; T counts the tasks present. A task that is absent from epoch 4 has its nadir from
    the first epoch that has it, and the third phase waits for it. Losses count 1e-8 more than they are in logarithms
    and inverses. TorchJD's STCH (mu log sum exp(lambda_t (l_t - z_t)/mu), no logarithm, no nadir) is another
    parametrisation. Factor to LibMTL: 1.
    Cost: one forward, one backward.
    """

    paper = "Lin et al., Smooth Tchebycheff Scalarization, ICML 2024, arXiv 2402.19078"
    memory = ("epoch", "nadir")

    def __init__(self, tasks: Sequence[TaskLike], *, mu: float = 1.0, warmup_epochs: int = 4):
        super().__init__(tasks)
        if warmup_epochs < 0:
            raise KitError(f"warmup_epochs is 0 or more, found {warmup_epochs}; LibMTL has 4")
        self.mu, self.warmup_epochs = above_zero("mu of stch", mu, "LibMTL has 1.0"), warmup_epochs
        self.epoch = 0  # epochs that have ended
        self.nadir: dict[str, float] = {}

    def weigh(self, losses_T: Tensor, rows: list[int]) -> Tensor:
        inverse_T = 1 / (losses_T + EPS)
        if len(self.nadir) < len(self.names):
            return inverse_T
        nadir_T = numbers([math.log(self.nadir[self.names[row]] + EPS) for row in rows], losses_T)
        return len(rows) * torch.softmax((torch.log(losses_T + EPS) - nadir_T) / self.mu, dim=0) * inverse_T

    def epoch_end(self, train_losses: Mapping[str, float]) -> None:
        super().epoch_end(train_losses)
        if self.epoch >= self.warmup_epochs:
            self.nadir = {**train_losses, **self.nadir}  # the first mean stays
        self.epoch += 1
