"""Gramian-level weightings: T weights from A = G G', the T x T inner products of the task gradients, and nothing else.

Every class says which problem it solves; ``solvers`` solves it. What they share (options, cost, heads) is in
``gradients``. Degenerate gradients: a row of zero has weight 0 where the method needs directions (IMTL-G, Nash-MTL,
FairGrad, ConFIG; the log says which was dropped); where a combination of gradients is zero, MGDA and IMTL-G give a
direction of zero, and Nash-MTL and FairGrad have no solution and say so.

Shapes: T tasks.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..errors import KitError, nearest
from . import solvers
from .base import WEIGHTINGS, TaskLike, chance
from .gradients import GramianLevel


@WEIGHTINGS.register("mgda")
class MGDA(GramianLevel):
    """Multiple-gradient descent: the shortest convex combination of the task gradients.

    w = argmin |w'G|^2 over the simplex; the direction lowers every loss, or is zero at a Pareto-stationary point. Found
    by an active set, exactly up to rounding, with a certified duality gap (released code: Frank-Wolfe, which stops
    early: TorchJD up to 22 %, LibMTL and Sener up to 13 % off where norms differ).

    Args:
        tasks: of the run.
        normalise: of the gradients before: ``"none"`` (default), ``"l2"`` g/|g|, ``"loss"`` g/l, ``"loss+"`` g/(l|g|)
            (Sener and Koltun's code). The normalised gradients are combined, so the weights do not sum to one then.
        **common: of ``GramianLevel``.

    A zero row is the shortest combination: the direction is zero. Factor to LibMTL, TorchJD and the paper: 1 (the
    weights sum to 1); nash-mtl and FAMO multiply by T, and scale the heads too.
    Cost: one forward, T backwards.
    """

    paper = "Sener, Koltun, NeurIPS 2018, arXiv 1810.04650; Désidéri 2012"
    NORMALISERS = ("none", "l2", "loss", "loss+")

    def __init__(self, tasks: Sequence[TaskLike], *, normalise: str = "none", **common: Any):
        super().__init__(tasks, **common)
        if normalise not in self.NORMALISERS:
            hint = nearest(normalise, self.NORMALISERS)
            raise KitError(f"normalise is one of {list(self.NORMALISERS)}, found {normalise!r}: {hint}")
        self.normalise = normalise

    def solve(self, gramian_TT: np.ndarray, losses_T: Tensor, present: list[int]) -> np.ndarray:
        scale = np.ones(len(present))
        if self.normalise in ("l2", "loss+"):
            scale = solvers.unit(gramian_TT)[1]
        if self.normalise in ("loss", "loss+"):
            losses = losses_T.detach().double().cpu().numpy()
            scale = scale * np.where(losses > 0, losses, 1.0)
        return solvers.min_norm(gramian_TT / scale / scale[:, None]) / scale


@WEIGHTINGS.register("mgda-ub")
class MGDAUpperBound(MGDA):
    """MGDA on the gradients of the representation (its upper bound), then one backward pass through the trunk.

    Sener and Koltun, section 3.3: where the trunk's Jacobian has full rank, a stationary point of the one is one of the
    other. Gradients are those of every image of the batch, side by side (their code; LibMTL sums over the batch first).
    Factor to LibMTL and the paper: 1. Cost: one forward, every head once, one backward: about that of equal weighting.
    """

    def __init__(
        self, tasks: Sequence[TaskLike], *, normalise: str = "none", at: str = "representation", **common: Any
    ):
        super().__init__(tasks, normalise=normalise, at=at, **common)


@WEIGHTINGS.register("cagrad")
class CAGrad(GramianLevel):
    """Conflict-averse gradient: of all directions within c |g0| of the mean gradient g0 the one that serves the
    worst-off task best.

    max_d min_t g_t'd, |d - g0| <= c |g0| (equation 3); its dual is w* = argmin g_w'g0 + c |g0| |g_w| over the simplex,
    and d = g0 + c |g0| g_w / |g_w|. Solved through its optimality conditions on A / trace A, exactly up to rounding
    (SLSQP, in LibMTL and nash-mtl, is 42 to 53 % off on gradients of very different norms; TorchJD gives zero there).

    Args:
        tasks: of the run.
        c: radius, in lengths of the mean gradient, 0 or more: 0 is the mean. 0.5 is LibMTL's, 0.4 the authors' for
            NYUv2.
        rescale: 0 (default): d as above; 1: / (1 + c^2), LibMTL's and the authors' default; 2: / (1 + c).
        **common: of ``GramianLevel``.

    With |g_w| = 0 at the optimum (a combination of gradients is zero and no task can gain; a zero row) the direction is
    the mean gradient. Factor to TorchJD: 1; to LibMTL: 1 + c^2 (that is ``rescale=1``); the authors' code and nash-mtl
    multiply by T besides.
    Cost: one forward, T backwards.
    """

    paper = "Liu, Liu, Jin, Stone, Liu, NeurIPS 2021, arXiv 2110.14048"

    def __init__(self, tasks: Sequence[TaskLike], *, c: float = 0.5, rescale: int = 0, **common: Any):
        super().__init__(tasks, **common)
        if not c >= 0:
            raise KitError(f"c of cagrad is 0 or more, found {c}; the authors use 0.4 for NYUv2")
        if rescale not in (0, 1, 2):
            raise KitError(f"rescale of cagrad is 0 (none), 1 (by 1 + c^2) or 2 (by 1 + c), found {rescale}")
        self.c, self.rescale = c, rescale

    def solve(self, gramian_TT: np.ndarray, losses_T: Tensor, present: list[int]) -> np.ndarray:
        return solvers.cagrad(gramian_TT, self.c) / (1.0, 1 + self.c**2, 1 + self.c)[self.rescale]


class Directional(GramianLevel):
    """Of the methods that leave out a gradient of zero, because it has no direction."""

    def dropped(self, gramian_TT: np.ndarray) -> list[int]:
        return np.flatnonzero(solvers.lengths(gramian_TT) == 0).tolist()


@WEIGHTINGS.register("imtl-g")
class IMTLG(Directional):
    """Impartial learning, gradients: the direction d = w'G, sum w = 1, whose projections on all gradients are equal.

    d'u_t is the same for every unit gradient u_t (equation 5). Weights may be negative. For independent gradients it is
    the closed form of the paper; anti-parallel gradients give weights 1/|g| and a direction of zero; collinear ones the
    limit of independent ones. Factor to LibMTL and TorchJD: 1; nash-mtl puts the weights on the losses, so that heads
    may receive negative ones.
    Cost: one forward, T backwards. (The authors use the representation: ``at="representation"``.)
    """

    paper = "Liu et al., ICLR 2021, openreview IMPnRXEWpvr"

    def solve(self, gramian_TT: np.ndarray, losses_T: Tensor, present: list[int]) -> np.ndarray:
        return solvers.imtl_g(gramian_TT)


class Bargaining(Directional):
    """Of Nash-MTL and FairGrad: A w = w^(-1/alpha)."""

    alpha = 1.0

    def solve(self, gramian_TT: np.ndarray, losses_T: Tensor, present: list[int]) -> np.ndarray:
        try:
            return solvers.bargain(gramian_TT, self.alpha)
        except solvers.NoSolution as error:
            names = [self.names[i] for i in present]
            raise solvers.NoSolution(f"{self.label} has no weights for the gradients of {names}: {error}") from error


@WEIGHTINGS.register("nash-mtl")
class NashMTL(Bargaining):
    """The Nash bargaining solution: w > 0 with A w = 1/w, elementwise.

    Every task gains the same: w_t g_t'd = 1 (the paper's alpha is our w). The direction has length sqrt(T), whatever
    the losses, so w_t is about 1/|g_t|: weights of 1e-3 or 1e3 are normal. Newton's method on the convex function 1/2
    w'Aw - sum log w (released: twenty convex-concave steps of a library's solver, wrong where norms span 1e3, and
    silently all ones where that library is absent).

    Args:
        tasks: of the run.
        **common: of ``GramianLevel``. ``max_norm=1.0`` is the authors' clip of the trunk's gradient, always active
            since
            sqrt(T) > 1; ``update_every=50`` their Nash-MTL-50; ``scale_heads=True`` puts the weights on the heads too,
            as their code does.

    Raises:
        KitError: in a step where a combination of gradients is zero: nothing to bargain for.

    Factor to LibMTL, nash-mtl and TorchJD: sqrt(T) (they clip to length 1), with ``max_norm=1.0`` 1.
    Cost: one forward, T backwards (released: T + 1).
    """

    paper = "Navon et al., ICML 2022, arXiv 2202.01017"


@WEIGHTINGS.register("fairgrad")
class FairGrad(Bargaining):
    """Alpha-fair bargaining: w > 0 with A w = w^(-1/alpha), elementwise (equation 6). alpha = 1 is Nash-MTL.

    Newton's method as for Nash-MTL (released: a least-squares solver, 6 to 57 % off where norms are very different).

    Args:
        tasks: of the run.
        alpha: above 0; larger gives the worse-off tasks more. 2.0 as in all the authors' scripts; 1.0 in LibMTL.
        **common: of ``GramianLevel``; ``max_norm=1.0`` is the authors' clip.

    Raises:
        KitError: as ``nash-mtl``.

    Factor to TorchJD: 1; the authors multiply by T before the clip; LibMTL puts w on the losses (heads scaled too).
    Cost: one forward, T backwards.
    """

    paper = "Ban, Ji, ICML 2024, arXiv 2402.15638"

    def __init__(self, tasks: Sequence[TaskLike], *, alpha: float = 2.0, **common: Any):
        super().__init__(tasks, **common)
        if not 0.1 <= alpha <= 100:
            raise KitError(f"alpha of fairgrad lies between 0.1 and 100, found {alpha}; the authors use 2.0")
        self.alpha = alpha


@WEIGHTINGS.register("aligned-mtl")
class AlignedMTL(GramianLevel):
    """Aligned-MTL: the gradients' matrix is replaced by the nearest one with equal singular values, then summed.

    A = V diag(ev) V', B = sqrt(s) V diag(ev^-1/2) V', w = B 1 (section 4). Directions that the gradients do not span
    are left out, by the eigenvalues of their cosines, below 1e-10 of the largest (the released tolerance, T eps of A's,
    lets rounding in where gradients are collinear, in float64, and the update collapses; LibMTL calls a function that
    PyTorch no longer has).

    Args:
        tasks: of the run.
        mode: s is the smallest eigenvalue that is left (``"min"``, the paper's), their ``"median"``, or their mean
            (``"rmse"``).
        **common: of ``GramianLevel``.

    Factor to the paper and LibMTL: 1 (a preference of ones); to TorchJD: T (a preference of 1/T).
    Cost: one forward, T backwards.
    """

    paper = "Senushkin et al., CVPR 2023, arXiv 2305.19000"
    MODES = ("min", "median", "rmse")

    def __init__(self, tasks: Sequence[TaskLike], *, mode: str = "min", **common: Any):
        super().__init__(tasks, **common)
        if mode not in self.MODES:
            raise KitError(
                f"mode of aligned-mtl is one of {list(self.MODES)}, found {mode!r}: {nearest(mode, self.MODES)}"
            )
        self.mode = mode

    def solve(self, gramian_TT: np.ndarray, losses_T: Tensor, present: list[int]) -> np.ndarray:
        return solvers.aligned(gramian_TT, self.mode)


class DualCone(GramianLevel):
    """Of UPGrad and DualProj, which project onto the cone of directions that conflict with no gradient.

    Args:
        tasks: of the run.
        ridge: added to the diagonal of A / trace A: 0 (default) solves the problem as stated; TorchJD and LibMTL have
            1e-4, which turns the direction by up to 25 % where norms are very different.
        **common: of ``GramianLevel``.
    """

    def __init__(self, tasks: Sequence[TaskLike], *, ridge: float = 0.0, **common: Any):
        super().__init__(tasks, **common)
        if not ridge >= 0:
            raise KitError(f"ridge is 0 or more, found {ridge}; TorchJD's is 1e-4")
        self.ridge = ridge

    def solve(self, gramian_TT: np.ndarray, losses_T: Tensor, present: list[int]) -> np.ndarray:
        return self.project(gramian_TT + self.ridge * np.trace(gramian_TT) * np.eye(len(present)))

    def project(self, gramian_TT: np.ndarray) -> np.ndarray:
        """Weights (T,) from A (T, T)."""
        raise NotImplementedError  # abstract


@WEIGHTINGS.register("upgrad")
class UPGrad(DualCone):
    """UPGrad: each g_t / T is projected onto the dual cone of all gradients; the projections are summed.

    v_t = argmin v'Av over v >= e_t / T, w = sum_t v_t. The direction conflicts with no gradient (g_t'd >= 0) and is
    linear in the length of each. ``ridge`` as in ``DualCone``. Factor to LibMTL and TorchJD: 1, up to their ridge (with
    ``ridge=1e-4``: the same).
    Cost: one forward, T backwards.
    """

    paper = "Quinton, Rey, 2024, arXiv 2406.16232"

    def project(self, gramian_TT: np.ndarray) -> np.ndarray:
        return solvers.upgrad(gramian_TT)


@WEIGHTINGS.register("dualproj")
class DualProj(DualCone):
    """DualProj: the mean gradient is projected onto the dual cone of all gradients (the rule of GEM).

    w = argmin v'Av over v >= 1/T: the direction nearest to the mean that conflicts with no gradient. ``ridge`` as in
    ``DualCone``. Factor to TorchJD: 1, up to its ridge; LibMTL has no such method. Cost: one forward, T backwards.
    """

    paper = "Lopez-Paz, Ranzato, NeurIPS 2017, arXiv 1706.08840 (GEM)"

    def project(self, gramian_TT: np.ndarray) -> np.ndarray:
        return solvers.dual_cone(gramian_TT, np.full(len(gramian_TT), 1.0 / len(gramian_TT)))


@WEIGHTINGS.register("config")
class ConFIG(Directional):
    """ConFIG: the direction of equal cosine with every gradient, as long as the sum of their projections on it.

    u = pinv(U) 1 for unit gradients U, g = (sum_t g_t'u / |u|) u / |u|. Published with the full gradients; u lies in
    their span, so that A is enough. Where no direction has equal cosines (opposite gradients) least squares decides; at
    zero the direction is zero. Factor to TorchJD and the authors: 1; LibMTL has no such method.
    Cost: one forward, T backwards.
    """

    paper = "Liu, Chu, Thuerey, ICLR 2025, arXiv 2408.11104"

    def solve(self, gramian_TT: np.ndarray, losses_T: Tensor, present: list[int]) -> np.ndarray:
        return solvers.config(gramian_TT)


class Surgery(GramianLevel):
    """Of PCGrad and GradVac: every gradient meets the others one by one.

    Args:
        tasks: of the run.
        order: of the meetings. None (default): drawn anew at every step, for each gradient, as published;
            ``"ascending"`` or ``"descending"`` order of the tasks; or a list for each task of the numbers of the
            others.
        generator: what the order is drawn from; default: one of the run's own, seeded as torch was.
        **common: of ``GramianLevel``.
    """

    def __init__(
        self,
        tasks: Sequence[TaskLike],
        *,
        order: str | list[list[int]] | None = None,
        generator: torch.Generator | None = None,
        **common: Any,
    ):
        super().__init__(tasks, **common)
        numbers, named = range(len(tasks)), ("ascending", "descending")
        if isinstance(order, str) and order not in named:
            raise KitError(f"order is one of {list(named)}, a list of lists or left out, found {order!r}")
        if isinstance(order, list) and [sorted(row) for row in order] != [
            [j for j in numbers if j != i] for i in numbers
        ]:
            raise KitError(f"order names, for each of {len(tasks)} tasks, every other one by its number, found {order}")
        self.order = order
        if order is None:
            self.generator = chance(generator)

    def orders(self, present: list[int]) -> list[list[int]]:
        """For each gradient of this step the others, as places among those present, in the order of their meeting."""
        size = len(present)
        if isinstance(self.order, list):
            return [[present.index(j) for j in self.order[i] if j in present] for i in present]
        if self.order is not None:
            numbers = list(range(size))[:: 1 if self.order == "ascending" else -1]
            return [[j for j in numbers if j != i] for i in range(size)]
        drawn = (torch.randperm(size, generator=self.generator).tolist() for _ in range(size))
        return [[j for j in permutation if j != i] for i, permutation in enumerate(drawn)]


@WEIGHTINGS.register("pcgrad")
class PCGrad(Surgery):
    """Projecting conflicting gradients: each gradient is projected onto the normal plane of every other that it
    conflicts with, one after the other; the results are summed.

    Algorithm 1: for each i, c = e_i; for j != i in random order: where c'A e_j < 0, c_j -= c'A e_j / A_jj. Gradients
    are projected on the *original* others. The weights are exact combinations of the originals, so that A is enough.
    ``order`` and ``generator`` as in ``Surgery``. A zero row conflicts with nothing.

    Factor to LibMTL, TorchJD and nash-mtl: 1 (sum); the often copied Pytorch-PCGrad has 1/T. LibMTL and nash-mtl also
    let a gradient meet itself, which changes rare cases.
    Cost: one forward, T backwards.
    """

    paper = "Yu et al., NeurIPS 2020, arXiv 2001.06782"

    def solve(self, gramian_TT: np.ndarray, losses_T: Tensor, present: list[int]) -> np.ndarray:
        return solvers.pcgrad(gramian_TT, self.orders(present))


@WEIGHTINGS.register("gradvac")
class GradVac(Surgery):
    """Gradient vaccine: where two gradients are less similar than they usually are, one is turned towards the other.

    phi_ij follows the cosine of gradient i, as turned so far, with gradient j: phi <- (1 - beta) phi + beta cos, from
    0. Where cos < phi: g_i += g_j |g_i| (phi sqrt(1 - cos^2) - cos sqrt(1 - phi^2)) / (|g_j| sqrt(1 - phi^2)) (equation
    4), after which the cosine is phi. Over the whole trunk at once (LibMTL: also by layer).

    Args:
        tasks: of the run.
        beta: how fast the usual similarity follows, in (0, 1]; 0.5 is LibMTL's and TorchJD's.
        order: as in ``Surgery``.
        generator: as in ``Surgery``.
        **common: of ``GramianLevel``.

    A zero row meets nobody. Factor to LibMTL and TorchJD: 1 (LibMTL reports weights of ones).
    Cost: one forward, T backwards.
    """

    paper = "Wang, Tsvetkov, Firat, Cao, ICLR 2021, arXiv 2010.05874"

    def __init__(self, tasks: Sequence[TaskLike], *, beta: float = 0.5, **common: Any):
        super().__init__(tasks, **common)
        if not 0 < beta <= 1:
            raise KitError(f"beta of gradvac lies in (0, 1], found {beta}; LibMTL's is 0.5")
        self.beta = beta
        self.register_buffer("target", torch.zeros(len(tasks), len(tasks), dtype=torch.float64))

    def solve(self, gramian_TT: np.ndarray, losses_T: Tensor, present: list[int]) -> np.ndarray:
        place = np.ix_(present, present)
        target_TT = self.target.cpu().numpy().copy()
        weights, target_TT[place] = solvers.gradvac(gramian_TT, self.orders(present), target_TT[place], self.beta)
        self.target = torch.from_numpy(target_TT)
        return weights
