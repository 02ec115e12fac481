"""Gramian-level weightings: the hand-checkable case, exact solutions, oracles, properties, degenerate cases.

Shapes: T tasks, P numbers in a gradient.
"""

import itertools

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import minimize, nnls

from mtlkit import KitError, weighting
from mtlkit.weighting import WEIGHTINGS, solvers

GRAMIAN = [n for n in WEIGHTINGS if WEIGHTINGS[n].level == "gramian" and WEIGHTINGS[n].batches_per_step == 1]
HAND = torch.tensor([[1.0, 0.0], [-0.5, 1.0]], dtype=torch.float64)
ORDERED = {"pcgrad": {"order": "ascending"}, "gradvac": {"order": "ascending"}}  # no chance


def combine(name, gradients, **options):
    return weighting.combine(name, gradients, **ORDERED.get(name, {}) | options)


def matrix(family, T=3, P=10, seed=0):
    """Test gradients by family, float64."""
    generator = torch.Generator().manual_seed(seed)
    G = torch.randn(T, P, dtype=torch.float64, generator=generator)
    if family == "conflict":
        G = G - 1.5 * G.mean(0)
    elif family == "unequal":
        G = G * torch.logspace(-3, 3, T, dtype=torch.float64)[:, None]
    elif family == "collinear":
        G[1] = 2 * G[0]
    elif family == "zero row":
        G[0] = 0
    elif family == "rank 2":
        G = G[:, :2] @ torch.randn(2, P, dtype=torch.float64, generator=generator)
    return G


FAMILIES = ["random", "conflict", "unequal", "collinear", "zero row", "rank 2"]


# --- the page's numbers ---


@pytest.mark.parametrize(
    ("name", "options", "weights", "direction"),
    [
        ("pcgrad", {}, (1.5, 1.4), (0.8, 1.4)),
        ("gradvac", {}, (1.5, 1.4), (0.8, 1.4)),  # from phi = 0 its first call is PCGrad
        ("mgda", {}, (7 / 13, 6 / 13), (0.307692, 0.461538)),
        ("mgda-ub", {}, (7 / 13, 6 / 13), (0.307692, 0.461538)),
        ("cagrad", {"c": 0.5}, (0.801306, 0.686834), (0.457889, 0.686834)),
        ("cagrad", {"c": 0.5, "rescale": 1}, (0.801306 / 1.25, 0.686834 / 1.25), (0.457889 / 1.25, 0.686834 / 1.25)),
        ("imtl-g", {}, (0.527864, 0.472136), (0.291796, 0.472136)),
        ("nash-mtl", {}, (1.344997, 1.203002), (0.743496, 1.203002)),
        ("nash-mtl", {"max_norm": 1.0}, (1.344997 / 2**0.5, 1.203002 / 2**0.5), (0.525731, 0.850651)),
        ("aligned-mtl", {}, (1.041514, 0.946830), (0.568098, 0.946830)),
        ("upgrad", {}, (0.75, 0.70), (0.4, 0.7)),
        ("upgrad", {"ridge": 1e-4}, (0.749944, 0.699964), (0.399962, 0.699964)),
        ("dualproj", {}, (0.5, 0.5), (0.25, 0.5)),
        ("config", {}, None, (0.585410, 0.947214)),
        ("fairgrad", {"alpha": 2.0}, (1.470635, 1.292055), (0.824608, 1.292055)),
    ],
)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_hand_checkable_case(name, options, weights, direction, dtype):
    found, d = combine(name, HAND.to(dtype), **options)
    assert d.dtype == dtype and d.tolist() == pytest.approx(direction, abs=1.1e-6)
    if weights:
        assert found.tolist() == pytest.approx(weights, abs=1.1e-6)


# --- independent exact solutions ---


def supports(T):
    return itertools.chain.from_iterable(itertools.combinations(range(T), r) for r in range(1, T + 1))


def shortest(A):
    """|w'G|^2 of MGDA by trying every support."""
    best = np.inf
    for support in map(list, supports(len(A))):
        size = len(support)
        system = np.zeros((size + 1, size + 1))
        system[:size, :size], system[size, :size], system[:size, size] = A[np.ix_(support, support)], 1, 1
        w = np.linalg.lstsq(system, np.eye(size + 1)[size], rcond=None)[0][:size]
        if w.min() >= -1e-9:
            w = np.maximum(w, 0) / np.maximum(w, 0).sum()
            best = min(best, w @ A[np.ix_(support, support)] @ w)
    return best


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize(("T", "P"), [(2, 5), (3, 10), (4, 20), (6, 5)])
def test_mgda_is_the_shortest_of_all_supports(family, T, P):
    A = (G := matrix(family, T, P).numpy()) @ G.T
    w = solvers.min_norm(A)
    assert w.min() >= 0 and w.sum() == pytest.approx(1)
    assert w @ A @ w == pytest.approx(shortest(A), abs=1e-12 * np.trace(A))


@pytest.mark.parametrize("T", [10, 20, 40])
def test_mgda_has_a_certified_duality_gap_beyond_what_can_be_enumerated(T):
    A = (G := matrix("conflict", T, 30, seed=T).numpy()) @ G.T
    w = solvers.min_norm(A)
    assert w @ A @ w - (A @ w).min() <= 1e-9 * A.diagonal().min()


@pytest.mark.parametrize("family", [f for f in FAMILIES if f != "rank 2"])
@pytest.mark.parametrize("T", [2, 3, 5, 10])
@pytest.mark.parametrize("alpha", [0.5, 1.0, 2.0, 5.0])
def test_bargaining_solves_its_equations(family, T, alpha):
    A = (G := matrix(family, T, 3 * T, seed=T).numpy()) @ G.T
    if family == "conflict":  # 1.5 times the mean taken away: the mean of what is left is not 0, but against each
        A = A + 0.05 * np.diag(A.diagonal())
    w = solvers.bargain(A, alpha)
    kept = A.diagonal() > 0
    assert (w[kept] > 0).all() and (w[~kept] == 0).all()
    np.testing.assert_allclose((A @ w)[kept] * w[kept] ** (1 / alpha), 1, rtol=1e-6)
    if alpha == 1:
        assert w @ A @ w == pytest.approx(kept.sum())


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("seed", range(3))
def test_upgrad_and_dualproj_are_non_negative_least_squares(family, seed):
    """v >= u shortest is |G'(x + u)|, x >= 0: scipy's active set finds the same vector."""
    G = matrix(family, 5, 8, seed).numpy()
    up = np.zeros(8)
    for u in [*np.eye(5) / 5, np.full(5, 0.2)]:
        x, _ = nnls(G.T, -G.T @ u)
        expected = G.T @ (x + u)
        np.testing.assert_allclose(G.T @ solvers.dual_cone(G @ G.T, u), expected, atol=1e-9 * np.abs(G).max())
        if u.max() == 0.2 and np.count_nonzero(u) == 1:
            up += expected
    np.testing.assert_allclose(combine("upgrad", torch.from_numpy(G))[1].numpy(), up, atol=1e-9 * np.abs(G).max())


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("T", [2, 3, 6, 10])
@pytest.mark.parametrize("c", [0.1, 0.4, 0.9])
def test_cagrad_has_no_duality_gap(family, T, c):
    """Primal: the worst task's gain; dual: g_w'g0 + c |g0| |g_w|, on the Gramian over its trace."""
    A = (G := matrix(family, T, 12, seed=T).numpy()) @ G.T
    A /= np.trace(A)
    g0 = A.mean(1)
    radius = c * np.sqrt(A.mean())
    d = solvers.cagrad(A, c)
    v = d - 1 / T
    assert np.sqrt(max(v @ A @ v, 0)) <= radius * (1 + 1e-9)
    if np.abs(v).max() > 1e-12:
        w = v / v.sum()
        gap = w @ g0 + radius * np.sqrt(w @ A @ w) - (A @ d).min()
        assert w.min() >= 0 and abs(gap) < 1e-8
    else:  # the mean: nothing to be gained by any convex combination

        def dual(w):
            return w @ g0 + radius * np.sqrt(max(w @ A @ w, 1e-30))

        lowest = minimize(
            dual, np.full(T, 1 / T), bounds=[(0, 1)] * T, constraints={"type": "eq", "fun": lambda w: w.sum() - 1}
        )
        assert lowest.fun >= min(0.0, g0.min()) - 1e-6


@pytest.mark.parametrize("family", ["random", "conflict", "unequal"])
def test_imtl_g_is_the_closed_form_of_the_paper(family):
    G = matrix(family, 4, 12)
    U = G / G.norm(dim=1, keepdim=True)
    D, V = G[0] - G[1:], U[0] - U[1:]
    tail = G[0] @ V.T @ torch.linalg.inv(D @ V.T)
    expected = torch.cat([1 - tail.sum()[None], tail])
    weights, direction = combine("imtl-g", G)
    torch.testing.assert_close(weights, expected, rtol=1e-6, atol=1e-9)
    projections = U @ direction
    torch.testing.assert_close(projections, projections[:1].expand(4), rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("family", [f for f in FAMILIES if f != "rank 2"])
def test_config_has_equal_cosines_and_the_sum_of_projections(family):
    G = matrix(family, 3, 10)
    _, d = combine("config", G)
    length = G.norm(dim=1)
    kept = length > 0
    projections = (G @ d)[kept] / length[kept]
    torch.testing.assert_close(projections, projections[:1].expand(len(projections)), rtol=1e-6, atol=1e-9)
    assert float((G @ d).sum() / d.norm()) == pytest.approx(float(d.norm()))


def test_aligned_makes_singular_values_equal():
    G = matrix("unequal", 3, 10)
    V, singular, W = np.linalg.svd(G.numpy(), full_matrices=False)
    for mode, s in (("min", singular[2]), ("median", singular[1]), ("rmse", np.sqrt((singular**2).mean()))):
        weights, direction = combine("aligned-mtl", G, mode=mode)
        np.testing.assert_allclose(direction.numpy(), s * V.sum(0) @ W, rtol=1e-6)
        np.testing.assert_allclose(weights.numpy(), s * (V / singular) @ V.sum(0), rtol=1e-6)


def straight_pcgrad(G, order):
    """The algorithm on the gradients themselves."""
    total = torch.zeros_like(G[0])
    for i, others in enumerate(order):
        g = G[i].clone()
        for j in others:
            if (product := g @ G[j]) < 0:
                g = g - product / (G[j] @ G[j]) * G[j]
        total += g
    return total


@pytest.mark.parametrize("family", FAMILIES)
def test_pcgrad_is_the_algorithm_on_the_gradients(family):
    G = matrix(family, 4, 9)
    for order in ("ascending", "descending", [[2, 1, 3], [3, 0, 2], [0, 1, 3], [1, 2, 0]]):
        rows = (
            order
            if isinstance(order, list)
            else [[j for j in range(4) if j != i][:: 1 if order[0] == "a" else -1] for i in range(4)]
        )
        torch.testing.assert_close(combine("pcgrad", G, order=order)[1], straight_pcgrad(G, rows))


def test_gradvac_follows_the_usual_similarity():
    """Three calls, against the rule on the gradients themselves."""
    combiner = weighting.combiner("gradvac", 3, order="ascending", beta=0.5)
    phi = torch.zeros(3, 3, dtype=torch.float64)
    for seed in range(3):
        G = matrix("random" if seed == 0 else "conflict", 3, 8, seed)
        expected = torch.zeros(8, dtype=torch.float64)
        for i in range(3):
            g = G[i].clone()
            for j in (k for k in range(3) if k != i):
                cosine = torch.cosine_similarity(g, G[j], dim=0)
                if cosine < phi[i, j]:
                    turn = phi[i, j] * (1 - cosine**2).sqrt() - cosine * (1 - phi[i, j] ** 2).sqrt()
                    g = g + G[j] * g.norm() * turn / (G[j].norm() * (1 - phi[i, j] ** 2).sqrt())
                phi[i, j] = 0.5 * phi[i, j] + 0.5 * cosine
            expected += g
        torch.testing.assert_close(combiner(G)[1], expected)


# --- TorchJD, where it is right ---


@pytest.mark.parametrize(
    ("name", "options", "other", "factor"),
    [
        ("pcgrad", {}, None, 1),
        ("imtl-g", {}, "IMTLG", 1),
        ("aligned-mtl", {}, "AlignedMTL", 3),
        ("aligned-mtl", {"mode": "rmse"}, "AlignedMTL-rmse", 3),
        ("config", {}, "ConFIG", 1),
        ("upgrad", {"ridge": 1e-4}, "UPGrad", 1),
        ("dualproj", {"ridge": 1e-4}, "DualProj", 1),
        ("cagrad", {"c": 0.4}, "CAGrad", 1),
        ("nash-mtl", {"max_norm": 1.0}, "NashMTL", 1),
        ("fairgrad", {"alpha": 2.0}, "FairGrad", 1),
    ],
)
@pytest.mark.parametrize("family", ["random", "conflict"])
def test_torchjd_agrees_in_ordinary_cases(name, options, other, factor, family):
    aggregation = pytest.importorskip("torchjd.aggregation")
    G = matrix(family, 3, 10, seed=3)
    if family == "conflict":
        G[0] += 0.5 * G.norm()
    if other is None:
        torch.manual_seed(0)
        orders = [
            straight_pcgrad(G, o)
            for o in itertools.product(*[itertools.permutations([j for j in range(3) if j != i]) for i in range(3)])
        ]
        theirs = aggregation.PCGrad()(G)
        assert min(float((theirs - mine).norm()) for mine in orders) < 1e-9
        return
    kind, _, mode = other.partition("-")
    arguments = {"CAGrad": {"c": 0.4}, "NashMTL": {"n_tasks": 3}, "FairGrad": {"alpha": 2.0}}.get(kind, {})
    arguments |= {"scale_mode": mode} if mode else {}
    try:
        theirs = getattr(aggregation, kind)(**arguments)(G)
    except ImportError as error:  # its optional solvers are not everywhere
        pytest.skip(str(error))
    ours = combine(name, G, **options)[1]
    torch.testing.assert_close(ours, factor * theirs, rtol=2e-3, atol=1e-5)


# --- where LibMTL or TorchJD are wrong, and why ours is right ---


def test_mgda_is_converged_where_frank_wolfe_is_not():
    """TorchJD stops at a change of 1e-3: its vector is longer than the shortest, and some task loses by it."""
    aggregation = pytest.importorskip("torchjd.aggregation")
    worst = 0.0
    for seed in range(10):
        G = matrix("unequal", 4, 20, seed)
        ours, theirs = combine("mgda", G)[1], aggregation.MGDA()(G)
        assert ours.norm() <= theirs.norm() * (1 + 1e-9)
        assert ((G @ ours) >= (1 - 1e-6) * ours.norm() ** 2).all()
        worst = max(worst, float(theirs.norm() / ours.norm()))
    assert worst > 1.01


def test_cagrad_is_not_zero_on_unequal_gradients():
    """TorchJD declares unequal gradients stationary and returns 0; the ball around the mean holds no 0 for c < 1."""
    G = matrix("unequal", 4, 20)
    direction = combine("cagrad", G, c=0.5)[1]
    g0 = G.mean(0)
    assert float((direction - g0).norm()) == pytest.approx(0.5 * float(g0.norm()), rel=1e-6)
    assert direction.norm() >= 0.5 * g0.norm() * (1 - 1e-9)


def test_nash_is_right_where_norms_span_six_powers_of_ten():
    """Twenty convex-concave steps of the released code end 97 % too long there."""
    G = matrix("unequal", 3, 10)
    weights, direction = combine("nash-mtl", G)
    torch.testing.assert_close((G @ direction) * weights, torch.ones(3, dtype=torch.float64))
    assert float(direction.norm()) == pytest.approx(3**0.5)


def test_aligned_survives_collinear_rows_in_float64():
    """The released tolerance lets an eigenvalue of 1e-16 in, and the update collapses to about 0."""
    G = matrix("collinear", 2, 10)
    weights, direction = combine("aligned-mtl", G)
    assert weights.tolist() == pytest.approx([0.6 / 5**0.5 * 5**0.5, 1.2], rel=1e-9) or direction.norm() > 0.1
    values = np.linalg.eigvalsh((G @ G.T).numpy())
    assert float(direction.norm()) == pytest.approx(
        float(np.sqrt(values[-1])) * abs(np.dot([1, 2], [1, 1])) / 5**0.5, rel=1e-9
    )


def test_upgrad_without_ridge_conflicts_with_nothing_on_unequal_gradients():
    """The ridge of 1e-4 turns the direction by up to a quarter there, and a task loses."""
    lowest = []
    for seed in range(20):
        G = matrix("unequal", 3, 10, seed)
        G[0] -= 0.9 * G[0].norm() * G[2] / G[2].norm()  # the shortest against the longest
        scale = G.norm(dim=1)
        exact, ridged = (combine("upgrad", G, ridge=ridge)[1] for ridge in (0.0, 1e-4))
        assert ((G @ exact) >= -1e-9 * scale * exact.norm()).all()
        lowest.append(float(((G @ ridged) / scale / ridged.norm()).min()))
    assert min(lowest) < -1e-4


def test_nash_never_falls_back_to_ones():
    with pytest.raises(KitError, match=r"nash-mtl has no weights .*task0.*task1"):
        combine("nash-mtl", torch.tensor([[1.0, 0.0], [-2.0, 0.0]]))


# --- degenerate cases: chosen, documented ---


def test_opposite_gradients():
    G = torch.tensor([[1.0, 0.0], [-2.0, 0.0]], dtype=torch.float64)
    for name in ("nash-mtl", "fairgrad"):
        with pytest.raises(KitError, match="nothing to bargain for"):
            combine(name, G)
    weights, direction = combine("imtl-g", G)
    assert weights.tolist() == pytest.approx([2 / 3, 1 / 3]) and direction.abs().max() < 1e-9
    for name in ("mgda", "upgrad", "dualproj", "pcgrad", "config"):
        assert combine(name, G)[1].abs().max() < 1e-9, name


def test_a_zero_row():
    G = matrix("zero row")
    for name in ("imtl-g", "nash-mtl", "fairgrad", "config"):
        weights, direction = combine(name, G)
        alone = combine(name, G[1:])
        assert weights[0] == 0 and torch.equal(weights[1:], alone[0]) or name == "config"
        torch.testing.assert_close(direction, alone[1])
    assert combine("mgda", G)[1].abs().max() == 0
    torch.testing.assert_close(combine("cagrad", G)[1], G.mean(0))
    assert torch.equal(combine("pcgrad", G)[1], combine("pcgrad", G[1:])[1])


def test_a_dropped_task_is_named_in_the_step():
    from mtlkit.weighting.gradients import Mixture

    method = weighting.build("nash-mtl", [weighting.NamedTask(n) for n in "abc"])
    mixture = method.mix([[row] for row in matrix("zero row")], torch.ones(3), [0, 1, 2])
    assert isinstance(mixture, Mixture) and mixture.dropped == [0]


@pytest.mark.parametrize("name", GRAMIAN)
def test_all_gradients_zero_give_a_direction_of_zero(name):
    weights, direction = combine(name, torch.zeros(3, 4))
    assert direction.abs().max() == 0 and weights.isfinite().all()


@pytest.mark.parametrize("name", GRAMIAN)
def test_one_task_keeps_its_direction(name):
    G = matrix("random", 1, 6)
    weights, direction = combine(name, G)
    assert float(torch.cosine_similarity(direction, G[0], dim=0)) == pytest.approx(1) and weights[0] > 0


# --- properties ---

rows = st.integers(2, 6).flatmap(
    lambda T: st.tuples(
        st.just(T), st.integers(T + 1, 12), st.integers(0, 10**6), st.sampled_from(["random", "conflict"])
    )
)
NON_CONFLICTING = ["mgda", "upgrad", "dualproj"]
EQUIVARIANT = [n for n in GRAMIAN if n not in ("pcgrad", "gradvac")]  # those meet in an order
SCALE_POWER = {"nash-mtl": 0.0, "fairgrad": -1 / 3, "aligned-mtl": 1.0}  # of the direction, in the scale of G


@given(rows)
@settings(max_examples=60, deadline=None)
def test_directions_that_conflict_with_no_task(case):
    T, P, seed, family = case
    G = matrix(family, T, P, seed)
    for name in NON_CONFLICTING:
        d = combine(name, G)[1]
        assert ((G @ d) >= -1e-9 * G.norm(dim=1) * max(1.0, float(d.norm()))).all(), name


@given(rows)
@settings(max_examples=30, deadline=None)
def test_permuting_the_tasks_permutes_the_weights(case):
    T, P, seed, family = case
    G = matrix(family, T, P, seed)
    order = torch.randperm(T, generator=torch.Generator().manual_seed(seed))
    for name in EQUIVARIANT:
        try:
            first = combine(name, G)[1]
        except KitError:
            continue
        torch.testing.assert_close(combine(name, G[order])[1], first, rtol=1e-5, atol=1e-7, msg=name)


@given(rows, st.floats(-10, 10))
@settings(max_examples=40, deadline=None)
def test_the_direction_scales_as_the_method_says(case, power):
    T, P, seed, family = case
    G, scale = matrix(family, T, P, seed), 10.0**power
    for name in GRAMIAN:
        try:
            first = combine(name, G)[1]
        except KitError:
            continue
        expected = first * scale ** SCALE_POWER.get(name, 1.0)
        torch.testing.assert_close(
            combine(name, scale * G)[1], expected, rtol=1e-5, atol=1e-7 * float(expected.abs().max()), msg=name
        )


@pytest.mark.parametrize("scale", [0.0, 1e-10, 1e3, 1e5, 1e10, 1e15])
@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("name", GRAMIAN)
def test_the_direction_is_finite_at_every_scale(name, family, scale):
    for dtype in (torch.float32, torch.float64):
        G = (scale * matrix(family, 4, 9)).to(dtype)
        try:
            weights, direction = combine(name, G)
        except solvers.NoSolution:  # four gradients in a plane may surround 0
            assert name in ("nash-mtl", "fairgrad") and family == "rank 2"
            continue
        assert direction.isfinite().all() and weights.isfinite().all()
        size = float((weights.abs() @ G.abs()).max())
        torch.testing.assert_close(weights @ G, direction, rtol=1e-4, atol=1e-6 * size)


@given(rows)
@settings(max_examples=30, deadline=None)
def test_stationary_points_stay(case):
    """Where a convex combination of the gradients is zero, MGDA, UPGrad and DualProj do not move."""
    T, P, seed, _ = case
    G = matrix("random", T, P, seed)
    share = torch.rand(T, dtype=torch.float64, generator=torch.Generator().manual_seed(seed)) + 0.1
    G[-1] = -(share[:-1] @ G[:-1]) / share[-1]
    for name in NON_CONFLICTING:
        assert combine(name, G)[1].norm() < 1e-6 * G.norm(), name


# --- options ---


def test_mgda_combines_the_normalised_gradients():
    G, losses = matrix("unequal", 3, 10), torch.tensor([1.0, 10.0, 0.1], dtype=torch.float64)
    for normalise, scale in {"l2": G.norm(dim=1), "loss": losses, "loss+": losses * G.norm(dim=1)}.items():
        expected = combine("mgda", G / scale[:, None])[1]
        torch.testing.assert_close(weighting.combine("mgda", G, losses, normalise=normalise)[1], expected)


def test_chance_comes_from_the_generator():
    G = matrix("conflict", 4, 6)
    drawn = [
        weighting.combine("pcgrad", G, generator=torch.Generator().manual_seed(seed))[1].tolist()
        for seed in (1, 1, 2, 3)
    ]
    assert drawn[0] == drawn[1] and len({tuple(d) for d in drawn}) > 1


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("pcgrad", {"order": "upwards"}, "ascending"),
        ("pcgrad", {"order": [[1], [1]]}, "every other one"),
        ("gradvac", {"beta": 0.0}, "found 0.0"),
        ("cagrad", {"c": -1.0}, "0 or more"),
        ("cagrad", {"rescale": 3}, "found 3"),
        ("fairgrad", {"alpha": 0.0}, "found 0.0"),
        ("aligned-mtl", {"mode": "mn"}, "did you mean 'min'"),
        ("mgda", {"normalise": "l1"}, "valid: l2, loss"),
        ("upgrad", {"ridge": -1.0}, "0 or more"),
        ("mgda", {"update_every": 0}, "1 .*or more"),
        ("mgda", {"max_norm": 0.0}, "above 0"),
        ("mgda", {"at": "trunk"}, "parameters"),
        ("mgda", {"atx": "trunk"}, "did you mean 'at'"),
    ],
)
def test_bad_options_are_named(name, options, message):
    with pytest.raises(KitError, match=message):
        weighting.combine(name, HAND, **options)
