"""From the Gramian A = G G' of T task gradients to T weights: the mathematics of the Gramian-level methods, without a
model, a state or a library behind it.

Everything is float64. Nothing depends on the unit of a loss more than its method does: rows are first divided by their
lengths n (C = A / n n' has ones on its diagonal), so that gradients of norms 1e-3 and 1e3 are as easy as equal ones. A
problem without a solution, and an iteration that does not arrive, raise ``NoSolution``; there is no fallback.

Shapes: A and C (T, T), symmetric, positive semi-definite up to rounding; weights (T,).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ..errors import KitError

Array = np.ndarray
DEPENDENT = 1e-12  # what is left of a unit vector beside others, squared: below, it counts as a combination of them


class NoSolution(KitError):
    """The equations of a method have no solution for these gradients, or it was not found."""


def lengths(A: Array) -> Array:
    """Norms of the T gradients."""
    return np.sqrt(np.maximum(A.diagonal(), 0.0))


def unit(A: Array) -> tuple[Array, Array]:
    """C, the cosines, and n, the norms; a zero row has cosines 0 and counts as of norm 1."""
    n = lengths(A)
    n = np.where(n > 0, n, 1.0)
    return A / n / n[:, None], n


# --- a quadratic over x >= 0: the core of MGDA, UPGrad, DualProj and CAGrad ---


def nonnegative(M: Array, q: Array) -> Array | None:
    """argmin 1/2 x'Mx - q'x over x >= 0 for positive semi-definite M, by an active set (Lawson and Hanson's); None
    where it has no minimum.

    Exact up to rounding: a finite search over supports, each solved directly.
    """
    n = np.sqrt(M.diagonal())
    n = np.where(n > 0, n, 1.0)
    C, p = M / n / n[:, None], q / n
    size, x = len(q), np.zeros(len(q))
    support: list[int] = []
    tolerance = 1e-13 * max(np.abs(p).max(), 1e-300)
    for _ in range(30 * size):
        slope = p - C @ x
        slope[support] = -np.inf
        j = int(slope.argmax())
        if not slope[j] > tolerance * max(1.0, x.max()):
            return x / n
        while True:  # one more in the support; those that it drives out leave it
            ray = _dependent(C, support, j)
            if ray is None:
                break
            falling = ray < -1e-12
            if not falling.any():
                return None  # a ray along which the quadratic only falls
            steps = np.where(falling, x[support] / np.where(falling, -ray, 1.0), np.inf)
            leaver = int(steps.argmin())
            x[support] = np.maximum(x[support] + steps[leaver] * ray, 0.0)
            x[j] += steps[leaver]
            x[support.pop(leaver)] = 0.0
        support.append(j)
        _settle(C, p, x, support)
    raise NoSolution("an active set did not arrive; report these gradients")


def _dependent(C: Array, support: list[int], j: int) -> Array | None:
    """How the support moves when x_j grows and the sum stays, where unit vector j is its combination; else None."""
    column = C[support, j]
    own = _solve(C[np.ix_(support, support)], column) if len(support) > 1 else column
    return -own if C[j, j] - column @ own < DEPENDENT else None


def _settle(C: Array, p: Array, x: Array, support: list[int]) -> None:
    """Go to the minimum on the support, in place, dropping what would become negative on the way."""
    while support:
        goal = _solve(C[np.ix_(support, support)], p[support])
        if goal.min() > 0:
            x[support] = goal
            return
        now = x[support]
        blocked = goal <= 0
        steps = np.where(blocked, now / np.where(blocked & (now > goal), now - goal, 1.0), np.inf)
        leaver = int(steps.argmin())
        x[support] = np.maximum(now + steps[leaver] * (goal - now), 0.0)
        x[support.pop(leaver)] = 0.0


def _solve(M: Array, right: Array) -> Array:
    try:
        return np.linalg.solve(M, right)
    except np.linalg.LinAlgError:
        return np.linalg.lstsq(M, right, rcond=1e-12)[0]


# --- methods ---


def min_norm(A: Array) -> Array:
    """The shortest convex combination of the gradients (MGDA): weights on the simplex.

    min |G'x|^2 + (1'x - 1)^2 over x >= 0 has the same support, and x / 1'x is the answer.
    """
    n = lengths(A)
    if not n.all():  # a zero gradient is the shortest
        return (n == 0) / (n == 0).sum()
    scaled = A / A.diagonal().min()
    x = nonnegative(scaled + 1.0, np.ones(len(A)))
    return x / x.sum()


def dual_cone(A: Array, lower_T: Array) -> Array:
    """argmin v'Av over v >= lower: the shortest vector of the dual cone's projection (DualProj, UPGrad)."""
    return lower_T + nonnegative(A, -(A @ lower_T))


def upgrad(A: Array) -> Array:
    """Sum over tasks of the projections of g_t / T onto the dual cone of all gradients."""
    return sum(dual_cone(A, row) for row in np.eye(len(A)) / len(A))


def cagrad(A: Array, c: float) -> Array:
    """Weights of the direction d, |d - g0| <= c |g0|, that maximises min_t g_t'd; g0 is the mean gradient.

    For a bound t on every g_t'd the shortest change is G'v with v = argmin 1/2 v'Av - v'(t - b) over v >= 0, b = A 1/T.
    It grows with t, and on one support its length is the root of a quadratic, so that the t where it is c |g0| is found
    in a few supports. Where it stays shorter for every t that can be had (0 is a convex combination of gradients, and
    nothing is gained by more), the mean gradient is returned.
    """
    size, scale = len(A), np.trace(A)
    mean = np.full(size, 1.0 / size)
    b = A.mean(axis=1) / scale if scale > 0 else np.zeros(size)
    radius = c * np.sqrt(max(b.mean(), 0.0))
    if not radius > 1e-12:
        return mean
    A = A / scale
    low, high, support = b.min(), np.inf, np.arange(size) == b.argmin()
    for _ in range(200):
        t = _bound(A, b, radius, support)
        if not low < t < high:
            t = (low + high) / 2 if np.isfinite(high) else low + max(abs(low), radius)
        if not low < t < high:  # no number is left between them
            return mean
        v = nonnegative(A, t - b)
        if v is None:
            high = t
            continue
        length = np.sqrt(max(v @ A @ v, 0.0))
        if abs(length - radius) <= 1e-12 * radius:
            return mean + v
        low, high, support = (t, high, v > 0) if length < radius else (low, t, v > 0)
        if high - low <= 1e-15 * max(abs(low), abs(high)):
            return mean + v * (radius / length) if abs(length - radius) < 1e-6 * radius else mean
    raise NoSolution("cagrad did not arrive; report these gradients")


def _bound(A: Array, b: Array, radius: float, support: Array) -> float:
    """The larger t with |G'v| = radius, v = A^-1 (t - b) on the support; NaN where there is none."""
    try:
        p, q = np.linalg.solve(A[np.ix_(support, support)], np.stack([np.ones(support.sum()), b[support]], 1)).T
    except np.linalg.LinAlgError:
        return np.nan
    under = q.sum() ** 2 - p.sum() * (b[support] @ q - radius**2)
    return (q.sum() + np.sqrt(under)) / p.sum() if under >= 0 and p.sum() > 0 else np.nan


def bargain(A: Array, alpha: float = 1.0) -> Array:
    """w > 0 with A w = w^(-1/alpha): Nash bargaining for alpha = 1 (Nash-MTL), alpha-fairness in general (FairGrad).

    Newton's method on the convex function 1/2 w'Aw - sum phi(w), phi' = w^(-1/alpha), in coordinates y in which T
    gradients at right angles have y = 1. Rows of zero have no w; they get weight 0.
    """
    n = lengths(A)
    kept = n > 0
    weights = np.zeros(len(A))
    if not kept.any():
        return weights
    n, power = n[kept], 1.0 / alpha
    C = A[np.ix_(kept, kept)] / n / n[:, None]
    closest = min_norm(C)
    if closest @ C @ closest < 1e-13:
        raise NoSolution("a combination of the gradients is 0 (two are opposite, say): there is nothing to bargain for")
    # w = d y / n: the equation of row i is sum_j C_ij d_j y_j = d_i y_i^-power, with d^(1 + power) = n^(power - 1)
    d = np.exp(np.log(n) * (power - 1) / (power + 1))
    d, common = d / d.max(), d.max()
    y = _newton(C * d * d[:, None], d * d, power)
    weights[kept] = y * d * common / n
    return weights


def _newton(H: Array, s: Array, power: float) -> Array:
    """y > 0 with H y = s y^-power, H positive semi-definite of diagonal s."""
    y, before = np.ones(len(s)), np.inf
    for _ in range(200):
        pull = s * y**-power
        gradient = H @ y - pull
        scale = np.sqrt(y / (power * pull))  # of each coordinate, so that unequal ones are solved equally well
        step = -scale * np.linalg.solve(np.eye(len(s)) + H * scale * scale[:, None], scale * gradient)
        change = np.abs(step / y).max()
        if change < 1e-12 or (change < 0.1 and change > 0.5 * before):  # the rest of the way is rounding
            return y + step if change < before else y
        # near the end a difference of objectives is rounding; Newton's own step squares the error
        y, before = y + (1.0 if change < 0.1 else _damping(H, s, power, y, step, gradient @ step)) * step, change
    raise NoSolution("Newton's method did not arrive; report these gradients")


def _damping(H: Array, s: Array, power: float, y: Array, step: Array, slope: float) -> float:
    """The longest of 1, 1/2, 1/4, ... steps that stays positive and lowers the objective."""
    shrinks = step < 0
    size = min(1.0, 0.99 * np.min(-y[shrinks] / step[shrinks])) if shrinks.any() else 1.0
    value = _objective(H, s, power, y)
    while size > 1e-12:
        if _objective(H, s, power, y + size * step) <= value + 1e-4 * size * slope + 1e-15 * abs(value):
            return size
        size /= 2
    raise NoSolution("Newton's method found no way down; report these gradients")


def _objective(H: Array, s: Array, power: float, y: Array) -> float:
    gain = np.log(y) if power == 1 else y ** (1 - power) / (1 - power)
    return 0.5 * (y @ H @ y) - s @ gain


def imtl_g(A: Array) -> Array:
    """Weights of sum 1 (they may be negative) of the direction whose projections on all gradients are equal.

    With y = n w and k the projection: C y = k, sum y / n = 1. Of several solutions the shortest (y, k) is taken, which
    is the limit of independent gradients. Rows of zero get weight 0.
    """
    n = lengths(A)
    kept = n > 0
    weights = np.zeros(len(A))
    if not kept.any():
        return weights
    n, size = n[kept], int(kept.sum())
    bordered = np.zeros((size + 1, size + 1))
    bordered[:size, :size] = A[np.ix_(kept, kept)] / n / n[:, None]
    bordered[:size, size] = -1.0
    bordered[size, :size] = n.min() / n
    right = np.zeros(size + 1)
    right[size] = 1.0
    found = np.linalg.lstsq(bordered, right, rcond=1e-11)[0][:size] / n
    weights[kept] = found / found.sum()
    return weights


def aligned(A: Array, mode: str = "min") -> Array:
    """Weights that give the gradients' span equal singular values (Aligned-MTL), for a preference of ones.

    B = sqrt(s) V diag(ev^-1/2) V', w = B 1, with the eigenvalues ev of A; s is the smallest of them (``"min"``), their
    ``"median"`` or their mean (``"rmse"``). Which count as zero is decided on the cosines (below 1e-10 of the largest),
    so that short gradients count; and ev are squares of singular values of a factor of A, which keeps the digits that
    the eigenvalues of A itself lose when norms span 1e6.
    """
    C, n = unit(A)
    values, vectors = np.linalg.eigh(C)
    kept = values > 1e-10 * max(values[-1], 1e-300)
    if not kept.any():
        return np.zeros(len(A))
    factor = n[:, None] * vectors[:, kept] * np.sqrt(values[kept])  # T x rank; times its transpose: A
    V, singular, _ = np.linalg.svd(factor, full_matrices=False)
    ev = singular**2
    s = {"min": ev.min(), "median": np.median(ev), "rmse": ev.mean()}[mode]
    return np.sqrt(s) * (V @ (V.sum(axis=0) / singular))


def config(A: Array) -> Array:
    """ConFIG: the direction of equal cosine with all gradients, as long as the sum of their projections on it.

    x = U'v with C v = 1 (least squares), g = (sum_t g_t'x / |x|) x / |x|. Rows of zero get weight 0.
    """
    C, n = unit(A)
    kept = lengths(A) > 0
    v = np.where(kept, np.linalg.pinv(C, rcond=1e-10, hermitian=True) @ kept.astype(float), 0.0)
    squared = v @ C @ v
    return (n * kept) @ (C @ v) / squared * v / n if squared > 1e-20 else np.zeros(len(A))


Order = Sequence[Sequence[int]]


def pcgrad(A: Array, order: Order) -> Array:
    """Each gradient, projected in turn onto the normal plane of every other that it conflicts with; summed.

    ``order[i]`` are the other tasks in the order in which gradient i meets them.
    """
    total = np.zeros(len(A))
    for i, others in enumerate(order):
        mine = np.zeros(len(A))
        mine[i] = 1.0
        for j in others:
            product = mine @ A[j]
            if product < 0:
                mine[j] -= product / A[j, j]
        total += mine
    return total


def gradvac(A: Array, order: Order, target: Array, beta: float) -> tuple[Array, Array]:
    """Each gradient, turned towards every other that it is less similar to than the two usually are; summed.

    Args:
        A: (T, T).
        order: as in ``pcgrad``.
        target: phi (T, T), the usual cosine of gradient i, as turned so far, with gradient j.
        beta: how fast it follows: phi <- (1 - beta) phi + beta cos.

    Returns:
        weights (T,), the new phi (T, T).
    """
    n, total, target = lengths(A), np.zeros(len(A)), target.copy()
    for i, others in enumerate(order):
        mine = np.zeros(len(A))
        mine[i] = 1.0
        for j in others:
            length = np.sqrt(max(mine @ A @ mine, 0.0))
            if not length * n[j] > 0:
                continue
            cosine = np.clip((mine @ A[j]) / (length * n[j]), -1.0, 1.0)
            phi = min(target[i, j], 1.0 - 1e-9)  # at 1 no finite multiple of g_j would do
            if cosine < phi:
                turn = phi * np.sqrt(1 - cosine**2) - cosine * np.sqrt(1 - phi**2)
                mine[j] += length * turn / (n[j] * np.sqrt(1 - phi**2))
            target[i, j] = (1 - beta) * phi + beta * cosine
        total += mine
    return total, target
