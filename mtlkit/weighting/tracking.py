"""Methods that remember gradients, entry by entry: DB-MTL, MoCo, ExcessMTL.

A memory is a tensor for each task and shared parameter; in ``state_dict()`` it has the size of T copies of the shared
parameters. It is replaced at every step and never changed in place, so that a state taken earlier stays as it was.

Shapes: T tasks, P numbers in a gradient.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from ..errors import KitError
from . import engine
from .base import WEIGHTINGS, Rows, TaskLike
from .full import refuse_scaled_heads
from .gradients import GradientLevel, Mixture

EPSILON = 1e-8  # DB-MTL: under the logarithm
FLOOR = 1e-7  # ExcessMTL: under the root

Places = Sequence[int]  # which of the shared parameters the tensors of a row belong to


class _Remembering(GradientLevel):
    """With a tensor for each task and shared parameter, ``buffers``; zero before the first step that reaches it.

    The memory of a task that is absent from a batch stays.
    """

    memory = ("buffers",)

    def __init__(self, tasks: Sequence[TaskLike], **common: Any):
        super().__init__(tasks, **common)
        if self.at != "parameters":
            raise KitError(
                f"{self.label} remembers the gradient of every parameter; a representation is another one in every "
                f"batch: leave at = 'parameters'"
            )
        self.buffers: dict[str, dict[int, Tensor]] = {}

    def blend(self, found: engine.TaskGradients, model: nn.Module) -> Mixture:
        number = {id(parameter): i for i, parameter in enumerate(model.shared_parameters())}
        places = [number[id(target)] for target in found.targets]
        return self.mix(found.rows, engine.mean_losses(found), self._rows(list(found.losses)), places)

    def _recall(self, task: int, row: list[Tensor], places: Places) -> list[Tensor]:
        """What is remembered of these parameters, where their gradients are (a resumed state comes on the CPU)."""
        kept = self.buffers.get(self.names[task], {})
        return [kept[i].to(g) if i in kept else torch.zeros_like(g) for i, g in zip(places, row, strict=True)]

    def _remember(self, task: int, tensors: list[Tensor], places: Places) -> None:
        name = self.names[task]
        kept = self.buffers.get(name, {}) | dict(zip(places, tensors, strict=True))
        self.buffers = self.buffers | {name: kept}


@WEIGHTINGS.register("db-mtl")
class DualBalancing(_Remembering):
    """Dual-balancing multi-task learning (Lin et al. 2023, arXiv 2308.12029).

    The losses become log(l_t + 1e-8); their gradients go into buffers q_t <- b_k q_t + (1 - b_k) g_t with b_k = beta /
    k^sigma in step k = 1, 2, ...; the direction is max_s |q_s| sum_t q_t / |q_t|: every task at the length of the
    longest. ``beta`` 0.9 and ``sigma`` 0 are LibMTL's defaults. As in LibMTL a buffer starts at 0, so that the first
    direction is 1 - beta times that of beta = 0, and there is no correction for it.

    Heads receive the gradient of log(l_t + 1e-8), the loss of this method, without memory and without the common
    length. There are no weights: a direction holds earlier gradients.
    A buffer of zero (no gradient yet) adds nothing. Opposite buffers give 0. A negative loss has no logarithm and is
    refused.
    Factor to LibMTL: 1.
    Cost: one forward, T backwards through what is shared, T copies of the shared parameters as memory.
    """

    paper = "Lin et al. 2023, arXiv 2308.12029"
    memory = ("buffers", "count")

    def __init__(self, tasks: Sequence[TaskLike], *, beta: float = 0.9, sigma: float = 0.0, **common: Any):
        super().__init__(tasks, **common)
        refuse_scaled_heads(self)
        if not 0 <= beta < 1:
            raise KitError(f"beta of db-mtl is 0 (no memory) or more and below 1, found {beta}; LibMTL uses 0.9")
        _not_negative("sigma of db-mtl", sigma, "LibMTL uses 0.0")
        self.beta, self.sigma = beta, sigma
        self.count = 0  # steps so far

    def blend(self, found: engine.TaskGradients, model: nn.Module) -> Mixture:
        engine.scale_heads(model, dict(zip(found.losses, _log_slopes(engine.mean_losses(found)), strict=True)))
        return super().blend(found, model)

    @torch.no_grad()
    def mix(self, rows: Rows, losses_T: Tensor, present: list[int], places: Places | None = None) -> Mixture:
        places = range(len(rows[0])) if places is None else places
        slopes = _log_slopes(losses_T)
        self.count += 1
        kept = self.beta / self.count**self.sigma
        for task, row, slope in zip(present, rows, slopes, strict=True):
            before = self._recall(task, row, places)
            torch._foreach_mul_(row, (1 - kept) * slope)  # the memory of the row becomes the buffer's
            torch._foreach_add_(row, before, alpha=kept)
            self._remember(task, row, places)
        lengths = _lengths(rows)
        direction = _sum(rows, [1 / length if length else 0.0 for length in lengths])
        torch._foreach_mul_(direction, max(lengths))
        return Mixture(direction)


@WEIGHTINGS.register("moco")
class MoCo(_Remembering):
    """Multi-objective gradient correction (Fernando et al., ICLR 2023, openreview dLAYGdKTi2), in LibMTL's form.

    Tracked gradients y_t <- y_t - beta_k (y_t - l_t g_t / |g_t|), weights lambda <- softmax(lambda - gamma_k (Y Y' +
    rho I) lambda), direction sum_t lambda_t y_t, with beta_k = beta / k^beta_sigma and gamma_k = gamma / k^gamma_sigma
    in step k = 1, 2, ...; y starts at 0, lambda at 1/T. Defaults are LibMTL's: ``beta`` 0.5, ``gamma`` 0.1, both
    sigmas 0.5, ``rho`` 0 (the published NYUv2 table: beta 0.99, gamma 0.1, sigmas 0).

    There are no weights to log or to scale heads by: the direction is of the y_t, not of the g_t; ``shares`` holds
    lambda. Heads are unweighted. Tasks of a batch share among them what their lambdas sum to, and their direction is
    scaled as if that were 1.
    A zero gradient has no direction and counts as zero: its y_t decays. Opposite y_t cancel in proportion to lambda.
    Factor to LibMTL: 1.
    Cost: one forward, T backwards through what is shared, T copies of the shared parameters as memory.
    """

    paper = "Fernando et al., ICLR 2023, openreview dLAYGdKTi2"
    memory = ("buffers", "count", "shares")

    def __init__(
        self,
        tasks: Sequence[TaskLike],
        *,
        beta: float = 0.5,
        beta_sigma: float = 0.5,
        gamma: float = 0.1,
        gamma_sigma: float = 0.5,
        rho: float = 0.0,
        **common: Any,
    ):
        super().__init__(tasks, **common)
        refuse_scaled_heads(self)
        if not 0 < beta <= 1:
            raise KitError(f"beta of moco is above 0 and at most 1 (no memory), found {beta}; LibMTL uses 0.5")
        _not_negative("beta_sigma of moco", beta_sigma, "LibMTL uses 0.5")
        _not_negative("gamma of moco", gamma, "LibMTL uses 0.1")
        _not_negative("gamma_sigma of moco", gamma_sigma, "LibMTL uses 0.5")
        _not_negative("rho of moco", rho, "LibMTL uses 0.0")
        self.beta, self.beta_sigma, self.gamma, self.gamma_sigma, self.rho = beta, beta_sigma, gamma, gamma_sigma, rho
        self.count = 0  # steps so far
        self.shares = [1 / len(self.names)] * len(self.names)  # lambda

    @torch.no_grad()
    def mix(self, rows: Rows, losses_T: Tensor, present: list[int], places: Places | None = None) -> Mixture:
        places = range(len(rows[0])) if places is None else places
        self.count += 1
        new = self.beta / self.count**self.beta_sigma
        for task, row, loss, length in zip(present, rows, losses_T.tolist(), _lengths(rows), strict=True):
            before = self._recall(task, row, places)
            torch._foreach_mul_(row, new * loss / length if length else 0.0)
            torch._foreach_add_(row, before, alpha=1 - new)
            self._remember(task, row, places)
        return Mixture(_sum(rows, self._share(engine.gramian(rows), present)))

    def _share(self, tracked_TT: Tensor, present: list[int]) -> list[float]:
        """One step of lambda, given Y Y'."""
        lambda_T = torch.tensor([self.shares[task] for task in present], dtype=torch.float64)
        mass = float(lambda_T.sum())
        lambda_T = lambda_T / mass if mass else torch.full_like(lambda_T, 1 / len(present))
        slope_T = tracked_TT @ lambda_T + self.rho * lambda_T
        lambda_T = torch.softmax(lambda_T - self.gamma / self.count**self.gamma_sigma * slope_T, dim=0)
        moved = dict(zip(present, (mass * lambda_T).tolist(), strict=True))
        self.shares = [moved.get(task, share) for task, share in enumerate(self.shares)]
        return lambda_T.tolist()


@WEIGHTINGS.register("excess-mtl")
class ExcessRisk(_Remembering):
    """Weights that follow the excess risk of each task (He et al., ICML 2024, arXiv 2402.02009).

    S_t <- S_t + g_t g_t entry by entry; e_t = sum_P g_t^2 / sqrt(S_t + 1e-7), divided by what it was for the task's
    first gradient that is not zero; w_t <- w_t exp(eta e_t), then scaled so that the weights sum to T; w starts at 1.
    ``eta`` 0.01 is LibMTL's configuration (its README's run: 1; TorchJD: 1.0).

    At the first call every ratio e_t is 1, and the weights stay 1, as in LibMTL; TorchJD's first call moves them by the
    plain e_t, and its weights sum to 1. Kept as log w_t in double precision, so that no ratio is too large.
    The weights multiply losses: ``scale_heads`` is on by default. Tasks of a batch share among them what their weights
    sum to.
    A zero gradient has no excess risk, e_t = 0, from the first call on (LibMTL: NaN).
    Factor to LibMTL: 1.
    Cost: one forward, T backwards through what is shared (LibMTL one more), T copies of the shared parameters as
    memory.
    """

    paper = "He et al., ICML 2024, arXiv 2402.02009"
    memory = ("buffers", "first", "logits")

    def __init__(self, tasks: Sequence[TaskLike], *, eta: float = 1e-2, scale_heads: bool = True, **common: Any):
        super().__init__(tasks, scale_heads=scale_heads, **common)
        _not_negative("eta of excess-mtl", eta, "LibMTL uses 0.01")
        self.eta = eta
        self.first: dict[str, float] = {}  # task -> e_t of its first gradient
        self.logits = [0.0] * len(self.names)  # log w_t

    @torch.no_grad()
    def mix(self, rows: Rows, losses_T: Tensor, present: list[int], places: Places | None = None) -> Mixture:
        places = range(len(rows[0])) if places is None else places
        risks = torch.stack([self._risk(task, row, places) for task, row in zip(present, rows, strict=True)]).tolist()
        starts = {self.names[task]: risk for task, risk in zip(present, risks, strict=True) if risk}
        self.first = starts | self.first
        ratios = [risk / self.first[self.names[t]] if risk else 0.0 for t, risk in zip(present, risks, strict=True)]
        weights = self._reweigh(ratios, present)
        return Mixture(engine.weighted_sum(rows, weights), weights)

    def _risk(self, task: int, row: list[Tensor], places: Places) -> Tensor:
        """e_t, a scalar; the root of S_t, which overflows later than S_t, is brought up to date."""
        total = torch.zeros((), dtype=torch.float64, device=row[0].device)
        floor = row[0].new_full((), FLOOR**0.5)
        roots = [torch.hypot(root, g) for root, g in zip(self._recall(task, row, places), row, strict=True)]
        for root, gradient in zip(roots, row, strict=True):
            total += (gradient / torch.hypot(root, floor)).mul_(gradient).sum()
        self._remember(task, roots, places)
        return total

    def _reweigh(self, ratios: list[float], present: list[int]) -> list[float]:
        before_T = torch.tensor([self.logits[task] for task in present], dtype=torch.float64)
        moved_T = before_T + self.eta * torch.tensor(ratios, dtype=torch.float64)
        moved_T = moved_T.log_softmax(0) + before_T.logsumexp(0)
        moved = dict(zip(present, moved_T.tolist(), strict=True))
        self.logits = [moved.get(task, logit) for task, logit in enumerate(self.logits)]
        return moved_T.exp().tolist()


def _log_slopes(losses_T: Tensor) -> list[float]:
    """Derivatives of log(l + 1e-8)."""
    losses = losses_T.tolist()
    if any(loss < 0 for loss in losses):
        raise KitError(f"db-mtl takes the logarithm of losses and needs them 0 or above, found {losses}; take another")
    return [1 / (loss + EPSILON) for loss in losses]


def _lengths(rows: Rows) -> list[float]:
    """|g_t|, summed in float64."""
    parts = [torch.stack(torch._foreach_norm(row, 2, dtype=torch.float64)) for row in rows]
    return torch.stack(parts).square().sum(1).sqrt().tolist()


def _sum(rows: Rows, factors: Sequence[float]) -> list[Tensor]:
    """sum_t f_t row_t in memory of its own; the rows stay as they are."""
    total = torch._foreach_mul(rows[0], factors[0])
    for row, factor in zip(rows[1:], factors[1:], strict=True):
        torch._foreach_add_(total, row, alpha=factor)
    return total


def _not_negative(what: str, value: float, origin: str) -> None:
    if not value >= 0:
        raise KitError(f"{what} is 0 or above, found {value}; {origin}")
