"""Methods that need the full gradients, against straight-line implementations of their rules and against TorchJD.

Shapes: T tasks, P numbers in a gradient.
"""

import contextlib
import copy
import io

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from mtlkit import weighting
from mtlkit.errors import KitError
from mtlkit.weighting import NamedTask

FULL = ["graddrop", "db-mtl", "moco", "excess-mtl", "clip"]
TRACKING = ["db-mtl", "moco", "excess-mtl"]
VARIANTS = [*((name, {}) for name in FULL), ("graddrop", {"leak": 0.25}), ("clip", {"over": "tensor"})]
PAIR = torch.tensor([[1.0, 0.0], [-0.5, 1.0]], dtype=torch.float64)
TASKS = [NamedTask("semantic", "classification"), NamedTask("depth"), NamedTask("normals")]


def seeded(seed):
    return torch.Generator().manual_seed(seed)


def sequence(length=5, tasks=3, size=7, seed=0, dtype=torch.float64):
    """Gradients (T, P) of very different lengths, and losses (T,), call by call."""
    generator = seeded(seed)
    scale = torch.logspace(-2, 2, tasks, dtype=dtype)[:, None]
    return [
        (torch.randn(tasks, size, dtype=dtype, generator=generator) * scale,
         torch.rand(tasks, dtype=dtype, generator=generator) + 0.1)
        for _ in range(length)
    ]  # fmt: skip


def build(name, tasks=3, seed=5, **options):
    chance = {"generator": seeded(seed)} if name == "graddrop" else {}
    return weighting.combiner(name, tasks, **chance, **options)


# --- GradDrop ---


def test_graddrop_keeps_one_sign_of_an_entry_and_all_of_what_is_agreed():
    ends = {tuple(weighting.combine("graddrop", PAIR, generator=seeded(seed))[1].tolist()) for seed in range(40)}
    assert ends == {(1.0, 1.0), (-0.5, 1.0)}


def test_graddrop_is_the_published_rule_for_the_same_uniform_numbers():
    for seed, (gradients, losses) in enumerate(sequence()):
        for leak in (0.0, 0.3):
            _, direction = weighting.combine("graddrop", gradients, losses, leak=leak, generator=seeded(seed))
            uniform = torch.rand(7, dtype=torch.float64, generator=seeded(seed))
            expected = []
            for p in range(7):
                column = gradients[:, p].tolist()
                purity = 0.5 * (1 + sum(column) / sum(abs(g) for g in column))
                stays = [(g > 0 and purity > uniform[p]) or (g < 0 and purity < uniform[p]) for g in column]
                expected.append(sum(g if kept else leak * g for g, kept in zip(column, stays, strict=True)))
            assert direction.tolist() == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("leak", [None, 0.3])
def test_graddrop_agrees_with_torchjd_given_the_same_uniform_numbers(leak):
    aggregation = pytest.importorskip("torchjd.aggregation")
    theirs = aggregation.GradDrop(leak=None if leak is None else torch.full((3,), leak, dtype=torch.float64))
    for seed, (gradients, losses) in enumerate(sequence(size=50)):
        torch.manual_seed(seed)
        expected = theirs(gradients)
        _, ours = weighting.combine("graddrop", gradients, losses, leak=leak or 0.0, generator=seeded(seed))
        torch.testing.assert_close(ours, expected)


def test_graddrop_keeps_the_sign_as_often_as_its_purity_says():
    gradients = torch.tensor([[3.0], [-1.0]], dtype=torch.float64).expand(2, 20000)
    _, direction = weighting.combine("graddrop", gradients, generator=seeded(0))
    assert (direction == 3.0).double().mean().item() == pytest.approx(0.75, abs=0.015)


def test_a_full_leak_is_equal_weighting():
    gradients, losses = sequence()[0]
    torch.testing.assert_close(weighting.combine("graddrop", gradients, losses, leak=1.0)[1], gradients.sum(0))


# --- DB-MTL, MoCo, ExcessMTL: their rules in a straight line ---


@pytest.mark.parametrize(("beta", "sigma"), [(0.9, 0.0), (0.9, 0.5), (0.0, 0.0)])
def test_db_mtl_follows_its_rule(beta, sigma):
    combiner = build("db-mtl", beta=beta, sigma=sigma)
    q = torch.zeros(3, 7, dtype=torch.float64)
    for k, (gradients, losses) in enumerate(sequence(), start=1):
        b = beta / k**sigma
        q = (1 - b) * gradients / (losses[:, None] + 1e-8) + b * q
        lengths = q.norm(dim=1)
        weights, direction = combiner(gradients, losses)
        torch.testing.assert_close(direction, lengths.max() * (q / lengths[:, None]).sum(0))
        assert weights is None


def test_the_first_step_of_db_mtl_is_short_because_its_buffer_starts_at_zero():
    gradients, losses = sequence()[0]
    first, plain = (weighting.combine("db-mtl", gradients, losses, beta=beta)[1] for beta in (0.9, 0.0))
    torch.testing.assert_close(first, 0.1 * plain)


@given(st.lists(st.floats(1e-6, 1e6), min_size=3, max_size=3))
@settings(max_examples=30, deadline=None)
def test_db_mtl_does_not_see_the_scales_of_the_losses(scales):
    factors = torch.tensor(scales, dtype=torch.float64)
    ends = []
    for factor in (torch.ones_like(factors), factors):
        combiner = build("db-mtl")
        for gradients, losses in sequence():
            _, direction = combiner(factor[:, None] * gradients, factor * (losses + 1.0))
        ends.append(direction)
    torch.testing.assert_close(*ends, rtol=0.05, atol=0)  # not exact: 1e-8 under the logarithm


@pytest.mark.parametrize(
    "options",
    [{}, {"beta": 0.99, "beta_sigma": 0.0, "gamma_sigma": 0.0}, {"gamma": 3.0, "rho": 0.2}],
)
def test_moco_follows_its_rule(options):
    given = {"beta": 0.5, "beta_sigma": 0.5, "gamma": 0.1, "gamma_sigma": 0.5, "rho": 0.0} | options
    combiner = build("moco", **options)
    y, share = torch.zeros(3, 7, dtype=torch.float64), torch.full((3,), 1 / 3, dtype=torch.float64)
    for k, (gradients, losses) in enumerate(sequence(), start=1):
        unit = gradients / gradients.norm(dim=1, keepdim=True)
        y = y - given["beta"] / k ** given["beta_sigma"] * (y - losses[:, None] * unit)
        slope = (y @ y.T + given["rho"] * torch.eye(3)) @ share
        share = torch.softmax(share - given["gamma"] / k ** given["gamma_sigma"] * slope, dim=0)
        weights, direction = combiner(gradients, losses)
        torch.testing.assert_close(direction, share @ y)
        assert weights is None
    assert combiner.method.shares == pytest.approx(share.tolist())


def test_excess_mtl_follows_its_rule():
    combiner = build("excess-mtl", eta=0.4)
    squares, first, w = torch.zeros(3, 7, dtype=torch.float64), None, torch.ones(3, dtype=torch.float64)
    for gradients, losses in sequence():
        squares = squares + gradients**2
        risk = (gradients**2 / torch.sqrt(squares + 1e-7)).sum(1)
        first = risk if first is None else first
        w = w * torch.exp(0.4 * risk / first)
        w = 3 * w / w.sum()
        weights, direction = combiner(gradients, losses)
        torch.testing.assert_close(weights, w)
        torch.testing.assert_close(direction, w @ gradients)


def test_excess_mtl_is_neutral_at_the_first_call():
    gradients, losses = sequence()[0]
    assert weighting.combine("excess-mtl", gradients, losses, eta=2.0)[0].tolist() == pytest.approx([1, 1, 1])


def test_excess_mtl_agrees_with_torchjd_but_for_its_first_call():
    """TorchJD's first call multiplies by exp(eta e) with the plain e, and its weights sum to 1."""
    aggregation = pytest.importorskip("torchjd.aggregation")
    theirs, ours = aggregation.ExcessMTLWeighting(robust_step_size=0.05), build("excess-mtl", eta=0.05)
    moved = None
    for gradients, losses in sequence(seed=3):
        gradients = gradients / gradients.norm(dim=1, keepdim=True)
        if moved is None:
            moved = (0.05 * (gradients**2 / torch.sqrt(gradients**2 + 1e-7)).sum(1)).exp()
        expected = theirs(gradients)
        weights = ours(gradients, losses)[0] * moved
        torch.testing.assert_close(weights / weights.sum(), expected)


# --- clip ---


def test_clip_holds_the_sum_to_the_longest_or_the_mean_length():
    gradients = torch.tensor([[3.0, 0.0], [3.0, 4.0]], dtype=torch.float64)  # lengths 3 and 5, the sum sqrt 52
    for limit, length in (("longest", 5.0), ("mean", 4.0)):
        weights, direction = weighting.combine("clip", gradients, limit=limit)
        assert weights.tolist() == pytest.approx([length / 52**0.5] * 2)
        assert direction.norm().item() == pytest.approx(length)


def test_clip_leaves_a_short_sum_as_it_is():
    weights, direction = weighting.combine("clip", PAIR)
    assert weights.tolist() == [1.0, 1.0] and direction.tolist() == [0.5, 1.0]


def test_clip_by_tensors_holds_each_one():
    a, b = torch.tensor([[4.0, 3.0], [4.0, -3.0]]), torch.tensor([[1.0], [-1.0]])
    gramian = (a @ a.T + b @ b.T).double()
    method = weighting.build("clip", TASKS[:2], over="tensor")
    mixture = method.mix([[a[0], b[0]], [a[1], b[1]]], torch.ones(2), [0, 1])
    assert mixture.direction[0].tolist() == pytest.approx([5.0, 0.0]) and mixture.direction[1].tolist() == [0.0]
    assert mixture.weights is None
    torch.testing.assert_close(mixture.gramian, gramian)


@given(st.integers(0, 10**6), st.integers(1, 5))
@settings(max_examples=40, deadline=None)
def test_clip_is_never_longer_than_its_limit_and_keeps_the_direction(seed, tasks):
    gradients, losses = sequence(1, tasks, 4, seed)[0]
    _, direction = weighting.combine("clip", gradients, losses)
    assert direction.norm() <= gradients.norm(dim=1).max() * (1 + 1e-12)
    cosine = torch.nn.functional.cosine_similarity(direction, gradients.sum(0), dim=0)
    assert cosine.item() == pytest.approx(1.0)


# --- what all of them promise ---

ROW = torch.tensor([1.0, -2.0, 0.5])
DEGENERATE = {
    "a zero row": torch.stack([ROW, 0 * ROW]),
    "zero rows": torch.zeros(2, 3),
    "collinear": torch.stack([ROW, 3 * ROW]),
    "anti-parallel": torch.stack([ROW, -ROW]),
    "very unequal": torch.stack([1e-10 * ROW, 1e10 * ROW.flip(0)]),
    "one task": ROW[None],
}


@pytest.mark.parametrize(("name", "options"), VARIANTS)
@pytest.mark.parametrize("case", DEGENERATE)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_degenerate_gradients_give_finite_directions(name, options, case, dtype):
    for scale in (1e-10, 1.0, 1e10):
        gradients = scale * DEGENERATE[case].to(dtype)
        combiner = build(name, len(gradients), **options)
        for losses in (torch.ones(len(gradients)), torch.full((len(gradients),), 1e-10)):
            weights, direction = combiner(gradients, losses.to(dtype))
            assert direction.isfinite().all() and direction.dtype == dtype
            assert weights is None or weights.isfinite().all()


def test_a_zero_row_adds_nothing():
    gradients = torch.stack([ROW, 0 * ROW]).double()
    assert torch.equal(weighting.combine("graddrop", gradients)[1], gradients[0])
    assert weighting.combine("clip", gradients)[1].tolist() == ROW.tolist()
    assert weighting.combine("db-mtl", gradients)[1].tolist() == pytest.approx((0.1 * ROW).tolist())
    tracked = 0.5 * ROW.double() / ROW.double().norm()
    direction = weighting.combine("moco", gradients)[1]
    torch.testing.assert_close(direction / direction.norm(), tracked / tracked.norm())
    weights, _ = weighting.combine("excess-mtl", gradients, eta=1.0)
    torch.testing.assert_close(weights, 2 * torch.softmax(torch.tensor([1.0, 0.0], dtype=torch.float64), 0))


def test_opposite_gradients_cancel_where_lengths_are_balanced():
    gradients = torch.stack([ROW, -ROW]).double()
    for name in ("db-mtl", "moco", "excess-mtl", "clip"):
        assert weighting.combine(name, gradients)[1].abs().max() < 1e-12


def test_weights_of_excess_mtl_stay_finite_however_much_a_risk_grows():
    combiner = build("excess-mtl", 2, eta=1.0)
    combiner(torch.tensor([[1e-10], [1e-10]], dtype=torch.float64))
    weights, _ = combiner(torch.tensor([[1e10], [1e-10]], dtype=torch.float64))
    assert weights.tolist() == [2.0, 0.0]
    assert combiner(torch.tensor([[1e10], [1e10]], dtype=torch.float64))[0].sum().item() == pytest.approx(2.0)


@pytest.mark.parametrize(("name", "options"), VARIANTS)
def test_permuted_tasks_give_the_same_direction(name, options):
    ends = []
    for order in ([0, 1, 2], [2, 0, 1]):
        combiner = build(name, **options)
        for gradients, losses in sequence():
            _, direction = combiner(gradients[order], losses[order])
        ends.append(direction)
    torch.testing.assert_close(*ends)


@pytest.mark.parametrize("name", FULL)
def test_gradients_cut_in_several_tensors_are_the_same_gradients(name):
    whole, cut = build(name, 3).method, build(name, 3).method
    sizes = [3, 8, 1]
    for gradients, losses in sequence(size=12):
        _, expected = whole.combine(gradients, losses)
        rows = [[part.clone() for part in row.split(sizes)] for row in gradients]
        rows = [[a, b.view(2, 4), c] for a, b, c in rows]
        mixture = cut.mix(rows, losses, [0, 1, 2])
        assert [part.shape for part in mixture.direction] == [(3,), (2, 4), (1,)]
        torch.testing.assert_close(torch.cat([part.flatten() for part in mixture.direction]), expected)


@pytest.mark.parametrize(("name", "options"), VARIANTS)
def test_resumed_in_the_middle_it_goes_on_bit_for_bit(name, options):
    first, second = build(name, **options), build(name, seed=9, **options)
    calls = sequence(8)
    for gradients, losses in calls[:4]:
        first(gradients, losses)
    saved = first.method.state_dict()
    file = io.BytesIO()
    torch.save(saved, file)
    at_once = copy.deepcopy(saved)
    ends = [first(*call)[1] for call in calls[4:]]
    file.seek(0)
    second.method.load_state_dict(torch.load(file, weights_only=True))
    for expected, call in zip(ends, calls[4:], strict=True):
        assert torch.equal(second(*call)[1], expected)
    third = build(name, **options)
    third.method.load_state_dict(saved)  # a state that was taken is not changed by the steps that follow
    torch.testing.assert_close(saved, at_once, rtol=0, atol=0)
    assert torch.equal(third(*calls[4])[1], ends[0])


@pytest.mark.parametrize("name", FULL)
def test_nothing_that_was_handed_out_changes_later(name):
    combiner, calls = build(name), sequence()
    before = [gradients.clone() for gradients, _ in calls]
    directions = [combiner(*call)[1] for call in calls[:3]]
    kept = [direction.clone() for direction in directions]
    directions[2].zero_()  # what became of a direction is nothing to the method
    twin = build(name)
    for call in calls[:3]:
        twin(*call)
    assert torch.equal(combiner(*calls[3])[1], twin(*calls[3])[1])
    assert all(torch.equal(a, b) for a, b in zip(directions[:2], kept[:2], strict=True))
    assert all(torch.equal(gradients, b) for (gradients, _), b in zip(calls, before, strict=True))


# --- in a network ---


class Toy(nn.Module):
    """A trunk, a layer that only the second and third task read, and three heads; it stands for an architecture."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.trunk, self.side = nn.Linear(4, 5), nn.Linear(5, 5)
        self.heads = nn.ModuleDict({task.name: nn.Linear(5, 1) for task in TASKS})
        self.tasks, self.noted = TASKS, {}

    def forward(self, x, names):
        self.noted["representation"] = z = torch.tanh(self.trunk(x))
        seen = {name: z if name == "semantic" else z + self.side(z) for name in names}
        return {name: (self.heads[name](seen[name]) - 1).square().mean() for name in names}

    def representation(self):
        return "z"

    @contextlib.contextmanager
    def noting_features(self):
        yield self.noted

    def shared_parameters(self):
        return [*self.side.parameters(), *self.trunk.parameters()]

    def task_parameters(self, name):
        return list(self.heads[name].parameters())


ALL = ("semantic", "depth", "normals")


def step(method, model, x, names=ALL):
    method.check(model)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    return method.step(lambda k=0: model(x, names), model, optimizer)


def batches(count):
    return torch.randn(count, 6, 4, generator=seeded(2))


def own_gradients(model, x, name):
    return torch.autograd.grad(model(x, [name])[name], model.task_parameters(name))


@pytest.mark.parametrize("name", FULL)
def test_heads_receive_their_own_gradient(name):
    x, model = batches(1)[0], Toy()
    taken = step(weighting.build(name, TASKS), model, x)
    twin = Toy()
    for task, loss in taken.losses.items():
        factor = 1 / (loss.item() + 1e-8) if name == "db-mtl" else 1.0
        if name == "excess-mtl":
            factor = taken.weights[task].item()
        for parameter, gradient in zip(model.task_parameters(task), own_gradients(twin, x, task), strict=True):
            torch.testing.assert_close(parameter.grad, factor * gradient)


@pytest.mark.parametrize("name", FULL)
def test_a_step_is_what_combine_says_of_the_same_gradients(name):
    model = Toy()
    method, combiner = build(name, TASKS).method, build(name, TASKS)
    for x in batches(3):
        losses, shared = model(x, ALL), model.shared_parameters()
        rows = [torch.autograd.grad(losses[n], shared, retain_graph=True, allow_unused=True) for n in ALL]
        rows = [[torch.zeros_like(p) if g is None else g for p, g in zip(shared, row, strict=True)] for row in rows]
        flat = [torch.cat([g.flatten() for g in row]) for row in rows]
        _, expected = combiner(torch.stack(flat), torch.stack([losses[n].detach() for n in ALL]))
        step(method, model, x)
        found = torch.cat([p.grad.flatten() for p in model.shared_parameters()])
        torch.testing.assert_close(found, expected)


@pytest.mark.parametrize("name", TRACKING)
def test_the_memory_of_an_absent_task_stays(name):
    """Without depth and normals no task reaches the side layer: the rows are then of fewer parameters."""
    model, method = Toy(), weighting.build(name, TASKS)
    x = batches(4)
    step(method, model, x[0])
    before = method.buffers
    step(method, model, x[1], names=("semantic",))
    for task in ("depth", "normals"):
        assert all(torch.equal(before[task][i], method.buffers[task][i]) for i in range(4))
    assert not torch.equal(before["semantic"][2], method.buffers["semantic"][2])
    assert {i: tensor.shape for i, tensor in method.buffers["semantic"].items()} == dict(
        enumerate([(5, 5), (5,), (5, 4), (5,)])
    )
    assert method.buffers["semantic"][0].eq(0).all()
    taken = step(method, model, x[2], names=("depth", "semantic"))
    assert set(taken.losses) == {"semantic", "depth"}
    twin_state = method.state_dict()
    resumed = weighting.build(name, TASKS)
    resumed.load_state_dict(twin_state)
    twin = Toy()
    twin.load_state_dict(model.state_dict())
    step(method, model, x[3]), step(resumed, twin, x[3])
    for ours, theirs in zip(model.parameters(), twin.parameters(), strict=True):
        assert torch.equal(ours, theirs)


@pytest.mark.parametrize("name", ["moco", "excess-mtl"])
def test_tasks_of_a_batch_share_what_they_have(name):
    combiner = build(name, TASKS, **({"gamma": 5.0} if name == "moco" else {"eta": 3.0}))
    method = combiner.method

    def shares():
        return method.shares if name == "moco" else [float(torch.tensor(x).exp()) for x in method.logits]

    for gradients, losses in sequence(2):
        combiner(gradients, losses)
    before = shares()
    gradients, losses = sequence(3)[2]
    method.mix([[gradients[0].clone()], [gradients[2].clone()]], losses[[0, 2]], [0, 2])
    after = shares()
    assert after[1] == before[1] and after != before
    assert sum(after) == pytest.approx(sum(before))


def test_moco_starts_anew_among_tasks_that_have_no_share_left():
    method = build("moco", TASKS).method
    method.shares = [1.0, 0.0, 0.0]
    mixture = method.mix([[ROW.double()], [2 * ROW.double()]], torch.ones(2), [1, 2])
    assert mixture.direction[0].norm().item() == pytest.approx(0.5)


def test_graddrop_at_the_representation_lets_the_sign_of_z_times_g_decide():
    x, model = batches(1)[0], Toy()
    step(weighting.build("graddrop", TASKS, at="representation", leak=0.1, generator=seeded(3)), model, x)
    twin = Toy()
    losses = twin(x, ALL)
    z = twin.noted["representation"]
    rows = [torch.autograd.grad(losses[name], z, retain_graph=True)[0] for name in ALL]
    signed = [(z.detach().sign() * g).sum(0) for g in rows]
    purity = 0.5 * (1 + sum(signed) / sum(s.abs() for s in signed))
    uniform = torch.rand(5, generator=seeded(3))
    total = torch.zeros_like(z)
    for g, s in zip(rows, signed, strict=True):
        mask = ((purity > uniform) & (s > 0)) | ((purity < uniform) & (s < 0))
        total += (0.1 + 0.9 * mask) * g
    expected = torch.autograd.grad(z, list(twin.trunk.parameters()), total)
    for parameter, gradient in zip(model.trunk.parameters(), expected, strict=True):
        torch.testing.assert_close(parameter.grad, gradient)


def test_clip_at_the_representation_scales_the_summed_gradient():
    x, model, twin = batches(1)[0], Toy(), Toy()
    for net in (model, twin):
        for name in ("depth", "normals"):  # heads that agree
            net.heads[name].load_state_dict(net.heads["semantic"].state_dict())
    taken = step(weighting.build("clip", TASKS, at="representation", limit="mean"), model, x)
    weights = {float(weight) for weight in taken.weights.values()}
    assert len(weights) == 1 and 0 < min(weights) < 1
    sum(twin(x, ALL).values()).backward()
    for ours, plain in zip(model.trunk.parameters(), twin.trunk.parameters(), strict=True):
        torch.testing.assert_close(ours.grad, min(weights) * plain.grad)


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("graddrop", {"leak": 1.5}, "between 0 and 1, found 1.5"),
        ("graddrop", {"scale_heads": True}, "graddrop has no weights"),
        ("db-mtl", {"beta": 1.0}, "below 1, found 1.0"),
        ("db-mtl", {"sigma": -0.5}, "sigma of db-mtl is 0 or above, found -0.5; LibMTL uses 0.0"),
        ("db-mtl", {"scale_heads": True}, "db-mtl has no weights"),
        ("moco", {"beta": 0.0}, "above 0 and at most 1 .no memory., found 0.0"),
        ("moco", {"gamma": float("nan")}, "gamma of moco is 0 or above, found nan"),
        ("moco", {"scale_heads": True}, "moco has no weights"),
        ("excess-mtl", {"eta": -1.0}, "eta of excess-mtl is 0 or above"),
        ("clip", {"limit": "longst"}, "did you mean 'longest'"),
        ("clip", {"over": "tensors"}, "did you mean 'tensor'"),
        ("clip", {"over": "tensor", "scale_heads": True}, "clip has no weights"),
        *((name, {"at": "representation"}, "leave at = 'parameters'") for name in TRACKING),
    ],
)
def test_bad_options_are_named(name, options, message):
    with pytest.raises(KitError, match=message):
        weighting.combine(name, PAIR, **options)


def test_a_negative_loss_has_no_logarithm():
    with pytest.raises(KitError, match="needs them 0 or above"):
        weighting.combine("db-mtl", PAIR, torch.tensor([1.0, -0.5]))
