"""Loss-level weightings that remember earlier losses (dwa), draw (rlw), or look at the losses twice (famo).

Shapes: T tasks.
"""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from ..errors import KitError, nearest
from . import engine
from .base import WEIGHTINGS, Closure, OwnAdam, TaskLike, chance
from .losses import EPS, LossLevel, PositiveLosses, above_zero, by_task, numbers


@WEIGHTINGS.register("dwa")
class DynamicWeightAverage(LossLevel):
    """Dynamic weight average (Liu, Johns, Davison, CVPR 2019, arXiv 1803.10704, equation 7 of the published text).

    w_t = T softmax_t(r_t / tau), r_t = L_t(e-1) / L_t(e-2), with L_t(e) the mean *unweighted* training loss of epoch e
    (the author's answer to a reader's question); all ones in the first two epochs. ``temperature`` tau = 2 (the author:
    0.5 to 5 works, larger is flatter). Losses (1.2, 0.5, 0.3) after (1.5, 0.52, 0.31) give 0.945892, 1.025461,
    1.028647. Factor to LibMTL: 1. A task that no batch of an epoch has keeps the losses it had; one whose older mean is
    0 (or negative: such losses have no rate) counts as standing still, r = 1. Cost: one forward, one backward.
    """

    paper = "Liu, Johns, Davison, CVPR 2019, arXiv 1803.10704"
    accumulates = True
    memory = ("history", "weights")

    def __init__(self, tasks: Sequence[TaskLike], *, temperature: float = 2.0):
        super().__init__(tasks)
        self.temperature = above_zero("the temperature of dwa", temperature, "the paper uses 2.0")
        # Python floats: double precision also on accelerators that have none
        self.history: list[dict[str, float]] = []  # mean losses of the last two epochs, oldest first
        self.weights = [1.0] * len(self.names)

    def weigh(self, losses_T: Tensor, rows: list[int]) -> Tensor:
        return numbers([self.weights[row] for row in rows], losses_T)

    def epoch_end(self, train_losses: Mapping[str, float]) -> None:
        latest = {**(self.history[-1] if self.history else {}), **train_losses}
        self.history = [*self.history[-1:], latest]
        if len(self.history) == 2 and all(name in self.history[0] for name in self.names):
            older, newer = self.history
            rates = torch.tensor(
                [newer[n] / older[n] if older[n] > 0 else 1.0 for n in self.names], dtype=torch.float64
            )
            self.weights = (len(self.names) * torch.softmax(rates / self.temperature, dim=0)).tolist()


DISTRIBUTIONS = ["uniform", "normal", "dirichlet", "random_normal", "bernoulli", "constrained_bernoulli"]


@WEIGHTINGS.register("rlw")
class RandomLossWeighting(LossLevel):
    """RLW, random loss weighting (Lin et al., TMLR 2022, arXiv 2111.10603): new random weights at every step, sum 1.

    ``distribution``:

    - ``"normal"`` (default; LibMTL, nash-mtl, TorchJD): softmax of T standard normal numbers. The first draw of a seed
      is ``softmax(torch.randn(T))`` of that seed;
    - ``"uniform"``: softmax of T numbers uniform in [0, 1);
    - ``"random_normal"``: softmax of normal numbers whose means and standard deviations, one of each per task, were
      drawn once, uniform in [0, 1), and stay for the run: some tasks are preferred throughout;
    - ``"dirichlet"``: uniform on the simplex, Dirichlet(1, ..., 1);
    - ``"bernoulli"``: every task in or out by a fair coin, not all out; those in share the weight equally;
    - ``"constrained_bernoulli"``: one task alone.

    The other five names come from the comparison of Kurin et al. (arXiv 2201.04122); the bounds of ``random_normal``
    and the sum of 1 for ``bernoulli`` are this kit's (unconfirmed there; that code rescales all to sum T). Weights are
    drawn for the tasks present. ``generator``: where chance comes from; a run's own, saved and resumed, if not given.
    Factor to LibMTL: 1. T times these weights sum to T, as those of ``equal`` do.
    Cost: one forward, one backward.
    """

    paper = "Lin et al., Reasonable Effectiveness of Random Weighting, TMLR 2022, arXiv 2111.10603"
    memory = ("means", "spreads")

    def __init__(
        self,
        tasks: Sequence[TaskLike],
        *,
        distribution: str = "normal",
        generator: torch.Generator | None = None,
    ):
        super().__init__(tasks)
        if distribution not in DISTRIBUTIONS:
            hint = nearest(distribution, DISTRIBUTIONS)
            raise KitError(f"distribution is one of {DISTRIBUTIONS}, found {distribution!r}: {hint}")
        self.distribution, self.generator = distribution, chance(generator)
        self.means, self.spreads = [0.0] * len(self.names), [1.0] * len(self.names)
        if distribution == "random_normal":
            self.means, self.spreads = torch.rand(2, len(self.names), generator=self.generator).tolist()

    def weigh(self, losses_T: Tensor, rows: list[int]) -> Tensor:
        logits_T = self._draw(rows).to(losses_T.dtype)
        return torch.softmax(logits_T, dim=0).to(losses_T.device, non_blocking=True)

    def _draw(self, rows: list[int]) -> Tensor:
        """Logarithms of weights, up to a constant: (T,) float32 on the CPU, -inf for a task that is out."""
        size, chosen = len(rows), self.generator
        if self.distribution == "uniform":
            return torch.rand(size, generator=chosen)
        if self.distribution == "dirichlet":
            return torch.empty(size).exponential_(generator=chosen).log()
        if self.distribution == "constrained_bernoulli":
            return (torch.arange(size) == torch.randint(size, (), generator=chosen)).float().log()
        if self.distribution == "bernoulli":
            inside = torch.zeros(size)
            while not inside.any():
                inside = torch.randint(2, (size,), generator=chosen).float()
            return inside.log()
        normal = torch.randn(size, generator=chosen)
        if self.distribution == "normal":
            return normal
        means, spreads = (torch.tensor([values[row] for row in rows]) for values in (self.means, self.spreads))
        return means + spreads * normal


@WEIGHTINGS.register("famo")
class FastAdaptive(PositiveLosses):
    """FAMO, fast adaptive multi-task optimisation (Liu et al., NeurIPS 2023, arXiv 2306.03792): all losses are to fall
    at the same rate, which the losses before and after a step tell without task gradients.

    With z = softmax(xi), D_t = l_t - b_t + 1e-8: L = c sum_t z_t log D_t and c = 1 / sum_t (z_t / D_t), a constant, so
    w_t = c z_t / D_t, sum 1. After the update the losses of the same batch are computed again, without gradients and
    with frozen running statistics of batch normalisation (the released code lets them move twice a step); then one
    Adam step of xi on the gradient J' delta, with delta_t = log D_t(before) - log D_t(after) and J that of the softmax:
    a task that fell more than the others loses weight.

    ``lr=0.025``; ``gamma=1e-3`` is the weight decay of that Adam (LibMTL, TorchJD, the released script for NYUv2; its
    Cityscapes script 1e-2). ``min_losses`` are the b_t, task by task, 0 where not named; a loss below is refused.
    ``max_norm``: the released code clips the gradient of the trunk to length 1.0; None (default) leaves it as it is.
    A loss of 0 takes nearly all the weight while it lasts. A task absent from a batch keeps its xi but for Adam's
    momentum and decay. Factor to LibMTL: 1, and 1 to the released code without its clip.
    Cost: two forwards (the second without gradients), one backward.
    """

    paper = "Liu et al., FAMO: Fast Adaptive Multitask Optimization, NeurIPS 2023, arXiv 2306.03792"
    memory = ("rows", "before")

    def __init__(
        self,
        tasks: Sequence[TaskLike],
        *,
        lr: float = 0.025,
        gamma: float = 1e-3,
        min_losses: Mapping[str, float] | None = None,
        max_norm: float | None = None,
    ):
        super().__init__(tasks)
        if gamma < 0:
            raise KitError(f"gamma of famo is 0 or more, found {gamma}; 1e-3 is usual")
        if max_norm is not None:
            above_zero("max_norm of famo", max_norm, "the released code has 1.0; leave it out for no clip")
        self.least, self.max_norm = by_task(self.names, "min_losses", min_losses), max_norm
        self.register_buffer("logits", torch.zeros(len(self.names)))
        self.adam = OwnAdam(len(self.names), above_zero("lr of famo", lr, "0.025 is usual"), weight_decay=gamma)
        # of the step that after_step will look back on
        self.rows: list[int] = []
        self.before = torch.zeros(0)

    def weigh(self, losses_T: Tensor, rows: list[int]) -> Tensor:
        self.rows, self.before = rows, self._log_distance(losses_T, rows)
        return torch.softmax(self._present(self.logits, rows, losses_T) - self.before, dim=0)  # c z / D

    @torch.no_grad()
    def after_step(self, closure: Closure, model: nn.Module | None = None) -> None:
        if not self.rows:
            return
        with contextlib.nullcontext() if model is None else engine.frozen_statistics(model):
            losses = closure()
        losses_T, rows = self._everywhere(torch.stack(list(losses.values())), self._rows(list(losses)))
        fall_T = self.before.to(losses_T) - self._log_distance(losses_T, rows)
        z_T = torch.softmax(self._present(self.logits, rows, losses_T), dim=0)
        gradient_T = torch.zeros_like(self.logits)
        gradient_T[rows] = (z_T * (fall_T - z_T @ fall_T)).to(gradient_T)
        self.adam.step(self.logits, gradient_T)
        self.rows = []

    def trim(self, model: nn.Module) -> None:
        if self.max_norm is not None:
            nn.utils.clip_grad_norm_(model.shared_parameters(), self.max_norm)

    def _log_distance(self, losses_T: Tensor, rows: list[int]) -> Tensor:
        """log D. A loss that has slipped below its bound counts as at it: no NaN gets into the logits."""
        if self.least:
            losses_T = losses_T - numbers([self.least.get(self.names[row], 0.0) for row in rows], losses_T)
        return torch.log(losses_T.clamp_min(0) + EPS)
