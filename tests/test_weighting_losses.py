"""Loss-level weightings: their own objectives by autograd, other implementations, extreme losses, resuming."""

import copy
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from processes import on_two_ranks
from torch import nn

from mtlkit import weighting
from mtlkit.errors import KitError
from mtlkit.weighting import NamedTask
from mtlkit.weighting.adaptive import DISTRIBUTIONS

TASKS = [NamedTask("semantic", "classification"), NamedTask("depth"), NamedTask("normals")]
NAMES = [task.name for task in TASKS]
LOSSES = torch.tensor([1.2, 0.5, 0.3], dtype=torch.float64)
EYE = torch.eye(3, dtype=torch.float64)
ALL = ["equal", "uncertainty", "uw-so", "imtl-l", "si", "gls", "stch", "dwa", "rlw", "famo"]
POSITIVE = ["uw-so", "si", "gls", "stch", "famo"]
SUM_ONE = ["uw-so", "rlw", "famo"]
positive_losses = st.lists(st.floats(1e-3, 1e3), min_size=3, max_size=3)


def weights_of(name, losses=LOSSES, **options):
    return weighting.combine(name, torch.eye(len(losses), dtype=losses.dtype), losses, **options)[0]


def with_nadir(nadir, **options):
    """STCH in its third phase."""
    combiner = weighting.combiner("stch", len(nadir), warmup_epochs=0, **options)
    combiner.epoch_end(nadir)
    return combiner


class Trunk(nn.Module):
    """Three losses of one shared layer with batch normalisation, and a head each."""

    def __init__(self, seed=0):
        super().__init__()
        torch.manual_seed(seed)
        self.trunk = nn.Sequential(nn.Linear(4, 6), nn.BatchNorm1d(6), nn.Tanh())
        self.heads = nn.ModuleDict({name: nn.Linear(6, 1) for name in NAMES})

    def shared_parameters(self):
        return list(self.trunk.parameters())

    def losses(self, x, names=tuple(NAMES)):
        features = self.trunk(x)
        return {name: (self.heads[name](features) - 3 * NAMES.index(name)).square().mean() for name in names}


def batches(count, size=8):
    chance = torch.Generator().manual_seed(5)
    return [torch.randn(size, 4, generator=chance) for _ in range(count)]


def train(method, model, data, names=tuple(NAMES), lr=0.05):
    """Steps as in training; the weights of each."""
    optimizer = torch.optim.SGD([*model.parameters(), *method.parameters()], lr=lr)
    found = []
    for x in data:
        taken = method.step(lambda k=0, x=x: model.losses(x, names), model, optimizer)
        method.after_step(lambda k=0, x=x: model.losses(x, names), model)
        found.append(torch.stack(list(taken.weights.values())))
    return found


# --- the gradient of the method's own objective ---


def gls(losses):
    return losses.prod() ** (1 / len(losses))


def stch(losses, nadir=(2.0, 0.5, 0.4), mu=0.3):
    return len(losses) * mu * torch.logsumexp(torch.log(losses / losses.new_tensor(nadir)) / mu, dim=0)


def famo_at_start(losses):
    c = 1 / (1 / len(losses) / losses).sum().detach()
    return c * (losses.log() / len(losses)).sum()


@pytest.mark.parametrize(
    ("name", "objective"),
    [("si", lambda losses: losses.log().sum()), ("gls", gls), ("stch", stch), ("famo", famo_at_start)],
)
@given(losses=positive_losses)
@settings(max_examples=40, deadline=None)
def test_the_weights_are_the_derivatives_of_the_objective(name, objective, losses):
    leaf = torch.tensor(losses, dtype=torch.float64, requires_grad=True)
    objective(leaf).backward()
    combiner = with_nadir([2.0, 0.5, 0.4], mu=0.3) if name == "stch" else weighting.combiner(name, 3)
    weights, _ = combiner(EYE, leaf.detach())
    torch.testing.assert_close(weights, leaf.grad, rtol=1e-4, atol=1e-9)


def test_uw_so_tempers_the_inverse_losses():
    expected = torch.softmax(torch.tensor([1 / 1.2, 1 / 0.5, 1 / 0.3], dtype=torch.float64) / 2, dim=0)
    torch.testing.assert_close(weights_of("uw-so", tau=2.0), expected)


def test_the_reported_weights_of_gls_are_those_of_its_update():
    losses = torch.tensor([2.0, 1.0, 0.5], dtype=torch.float64)
    weights, direction = weighting.combine("gls", EYE, losses)
    assert weights.tolist() == pytest.approx([1 / 6, 1 / 3, 2 / 3], rel=1e-6)  # geometric mean 1, over T l
    torch.testing.assert_close(direction, weights)


def test_gls_of_many_tasks_neither_overflows_nor_underflows():
    for level in (1e-6, 1e6):
        losses = torch.full((40,), level)
        assert weights_of("gls", losses).tolist() == pytest.approx([1 / 40] * 40, rel=2e-2)


@pytest.mark.parametrize("name", ["imtl-l", "uncertainty"])
def test_learned_scales_end_where_the_weighted_losses_are_equal(name):
    options = {"form": "mtan"} if name == "uncertainty" else {}
    combiner = weighting.combiner(name, 3, learning_rate=0.05, **options)
    for _ in range(250):
        weights, _ = combiner(torch.eye(3), LOSSES.float())
    assert (weights * LOSSES).tolist() == pytest.approx([0.5 if options else 1.0] * 3, abs=2e-3)


# --- the phases of stch ---


def test_stch_minimises_log_losses_until_the_epoch_after_the_warm_up_gave_the_nadir():
    combiner = weighting.combiner("stch", 3)
    for epoch in range(5):
        assert combiner(EYE, LOSSES)[0].tolist() == pytest.approx((1 / LOSSES).tolist(), rel=1e-6), epoch
        combiner.epoch_end([float(epoch + 1)] * 3)
    assert combiner.method.nadir == dict.fromkeys(combiner.method.names, 5.0)
    combiner.epoch_end([0.1, 0.2, 0.3])  # later epochs change nothing
    expected = 3 * torch.softmax(LOSSES.log(), dim=0) / LOSSES
    torch.testing.assert_close(combiner(EYE, LOSSES)[0], expected, rtol=1e-6, atol=0)


def test_a_small_mu_leaves_the_task_that_fell_least():
    weights, _ = with_nadir([2.4, 2.0, 0.4], mu=0.01)(EYE, LOSSES)  # fell to 1/2, 1/4, 3/4
    assert (weights * LOSSES).tolist() == pytest.approx([0, 0, 3], abs=1e-6)


def test_stch_waits_for_the_nadir_of_every_task():
    method = weighting.build("stch", TASKS, warmup_epochs=0)
    method.epoch_end({"semantic": 1.0, "depth": 2.0})
    assert method.weigh(LOSSES, [0, 1, 2]).tolist() == pytest.approx((1 / LOSSES).tolist(), rel=1e-6)
    method.epoch_end({"semantic": 0.5, "normals": 3.0})
    assert method.nadir == {"semantic": 1.0, "depth": 2.0, "normals": 3.0}


# --- other implementations ---


def test_torchjd_agrees_on_objectives_with_learned_scales_and_on_the_geometric_mean():
    other = pytest.importorskip("torchjd.scalarization")
    cases = [("uncertainty", {"form": "mtan", "initial": 0.0}, other.UW(3)), ("imtl-l", {}, other.IMTLL(3))]
    for name, options, oracle in cases:
        method, leaf = weighting.build(name, TASKS, **options).double(), LOSSES.clone().requires_grad_()
        for parameter in [*method.parameters(), *oracle.double().parameters()]:
            with torch.no_grad():
                parameter.copy_(torch.tensor([0.3, -0.7, 0.1]))
        ours = (method.weigh(LOSSES, [0, 1, 2]) * LOSSES).sum() + method.penalty([0, 1, 2])
        theirs = oracle(leaf)
        torch.testing.assert_close(ours, theirs)
        ours.backward(), theirs.backward()
        torch.testing.assert_close(method.weigh(LOSSES, [0, 1, 2]).detach(), leaf.grad)
        for mine, their in zip(method.parameters(), oracle.parameters(), strict=True):
            torch.testing.assert_close(mine.grad, their.grad)
    leaf = LOSSES.clone().requires_grad_()
    other.GeometricMean()(leaf).backward()
    torch.testing.assert_close(weights_of("gls"), leaf.grad, rtol=1e-6, atol=0)


def test_torchjd_agrees_on_stch_once_log_ratios_are_its_objectives():
    other = pytest.importorskip("torchjd.scalarization")
    leaf, nadir = LOSSES.clone().requires_grad_(), torch.tensor([2.0, 0.5, 0.4], dtype=torch.float64)
    (3 * other.STCH(0.3, weights=torch.ones(3, dtype=torch.float64))(torch.log(leaf / nadir))).backward()
    torch.testing.assert_close(with_nadir(nadir.tolist(), mu=0.3)(EYE, LOSSES)[0], leaf.grad, rtol=1e-6, atol=0)


def test_torchjd_agrees_on_dwa():
    other = pytest.importorskip("torchjd.scalarization")
    oracle, combiner = other.DWA(temperature=0.7), weighting.combiner("dwa", 3, temperature=0.7)
    history = torch.rand(6, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0)) + 0.1
    for losses in history:
        leaf = losses.clone().requires_grad_()
        oracle(leaf).backward()
        torch.testing.assert_close(combiner(EYE, losses)[0], leaf.grad)
        oracle.step(), combiner.epoch_end(losses.tolist())


def test_torchjd_agrees_on_famo_over_many_steps():
    other = pytest.importorskip("torchjd.scalarization")
    oracle, combiner = (
        other.FAMO(3, min_losses=torch.tensor([0.0, 0.1, 0.0])).double(),
        weighting.combiner("famo", 3, min_losses={"task1": 0.1}),
    )
    combiner.method.double()
    draws = 0.2 + torch.rand(40, 2, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    for before, after in draws:
        leaf = before.clone().requires_grad_()
        oracle(leaf).backward()
        torch.testing.assert_close(combiner(EYE, before)[0], leaf.grad, rtol=1e-6, atol=0)
        oracle.update(after), combiner.after_step(after)


def test_torchjd_draws_the_same_random_weights():
    other = pytest.importorskip("torchjd.scalarization")
    torch.manual_seed(7)
    leaf = torch.ones(3, requires_grad=True)
    other.Random()(leaf).backward()
    torch.manual_seed(7)
    assert torch.equal(weights_of("rlw", torch.ones(3)), leaf.grad)


# --- famo, step by step ---


def test_famo_trains_as_a_straight_line_of_its_equations():
    """A model without anything random: every step and every logit from the published formulas and torch's own Adam."""
    a = torch.randn(3, 5, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(2))
    b = torch.tensor([1.0, 10.0, 0.1], dtype=torch.float64)

    class Quadratics(nn.Module):
        def __init__(self):
            super().__init__()
            self.theta = nn.Parameter(torch.ones(4, dtype=torch.float64))

        def losses(self):
            return {name: b[t] * (a[t] @ self.theta - 1).square().mean() for t, name in enumerate(NAMES)}

    model, twin = Quadratics(), Quadratics()
    method = weighting.build("famo", TASKS).double()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.02)
    logits = torch.zeros(3, dtype=torch.float64, requires_grad=True)
    adam = torch.optim.Adam([logits], lr=0.025, weight_decay=1e-3)
    for _ in range(30):
        taken = method.step(lambda k=0: model.losses(), model, optimizer)
        method.after_step(lambda k=0: model.losses(), model)

        before = torch.stack(list(twin.losses().values()))
        z = torch.softmax(logits, dim=0)
        c = 1 / (z / (before + 1e-8)).sum()
        (gradient,) = torch.autograd.grad((c * z).detach() @ torch.log(before + 1e-8), twin.theta)
        with torch.no_grad():
            twin.theta -= 0.02 * gradient
        after = torch.stack(list(twin.losses().values()))
        fall = (torch.log(before + 1e-8) - torch.log(after + 1e-8)).detach()
        (logits.grad,) = torch.autograd.grad(torch.softmax(logits, dim=0), logits, fall)
        adam.step()

        assert sum(taken.weights.values()).item() == pytest.approx(1.0)
        torch.testing.assert_close(model.theta, twin.theta)
        torch.testing.assert_close(method.logits, logits.detach())
    assert method.logits.abs().max() > 0.1  # it did something


def test_famo_turns_down_the_task_that_falls_faster():
    combiner = weighting.combiner("famo", 2)
    for _ in range(20):
        combiner(torch.eye(2), torch.ones(2))
        combiner.after_step(torch.tensor([0.8, 0.99]))
    weights, _ = combiner(torch.eye(2), torch.ones(2))
    assert weights[0] < 0.4


def test_the_second_look_of_famo_leaves_normalisation_and_gradients_alone():
    method, model, (x,) = weighting.build("famo", TASKS), Trunk(), batches(1)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    method.step(lambda k=0: model.losses(x), model, optimizer)
    buffers, gradients = copy.deepcopy(list(model.buffers())), [p.grad.clone() for p in model.parameters()]
    method.after_step(lambda k=0: model.losses(x), model)
    assert all(torch.equal(a, b) for a, b in zip(buffers, model.buffers(), strict=True))
    assert all(torch.equal(a, p.grad) for a, p in zip(gradients, model.parameters(), strict=True))
    assert all(m.track_running_stats for m in model.modules() if isinstance(m, nn.BatchNorm1d))
    assert method.logits.abs().max() > 0


def test_the_clip_of_famo_shortens_the_trunk_alone():
    free, clipped, (x,) = Trunk(), Trunk(), batches(1)
    train(weighting.build("famo", TASKS), free, [x])
    train(weighting.build("famo", TASKS, max_norm=1e-3), clipped, [x])
    norm = torch.linalg.vector_norm(torch.cat([p.grad.flatten() for p in clipped.trunk.parameters()]))
    assert norm.item() == pytest.approx(1e-3, rel=1e-2)
    heads = zip(free.heads.parameters(), clipped.heads.parameters(), strict=True)
    assert all(torch.equal(a.grad, b.grad) for a, b in heads)


def test_min_losses_are_taken_off():
    losses = torch.tensor([1.2, 0.5], dtype=torch.float64)
    weights = weighting.combine("famo", torch.eye(2).double(), losses, min_losses={"task0": 1.0})[0]
    assert (weights[0] / weights[1]).item() == pytest.approx(0.5 / 0.2)


# --- rlw ---


@pytest.mark.parametrize("distribution", DISTRIBUTIONS)
def test_random_weights_sum_to_one_and_repeat_by_seed(distribution):
    def draw(count=1000):
        chance = torch.Generator().manual_seed(3)
        combiner = weighting.combiner("rlw", 4, distribution=distribution, generator=chance)
        return torch.stack([combiner(torch.eye(4, dtype=torch.float64))[0] for _ in range(count)])

    weights = draw()
    assert torch.equal(weights, draw())
    torch.testing.assert_close(weights.sum(1), torch.ones(1000, dtype=torch.float64))
    assert (weights >= 0).all() and len(weights.unique(dim=0)) > 3
    if distribution == "random_normal":
        assert (weights.mean(0) - 0.25).abs().max() > 0.02  # tasks are not alike
    else:
        assert weights.mean(0).tolist() == pytest.approx([0.25] * 4, abs=0.08)
    if "bernoulli" in distribution:
        inside = (weights > 0).double()
        torch.testing.assert_close(weights, inside / inside.sum(1, keepdim=True))
        assert set(inside.sum(1).tolist()) == ({1} if distribution.startswith("constrained") else {1, 2, 3, 4})


def test_the_first_normal_draw_of_a_seed_is_the_one_line_of_the_paper():
    torch.manual_seed(11)
    expected = torch.softmax(torch.randn(3), dim=0)
    torch.manual_seed(11)
    assert torch.equal(weights_of("rlw", torch.ones(3)), expected)


# --- extreme losses ---


@pytest.mark.parametrize("name", ALL)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize(
    "losses", [(0.0, 0.0, 0.0), (0.0, 1.0, 2.0), (1e-10, 1.0, 1e10), (1e-10,) * 3, (1e10,) * 3, (0.0, 1e10, 1e10)]
)
def test_zero_tiny_and_huge_losses_give_finite_weights(name, dtype, losses):
    losses = torch.tensor(losses, dtype=dtype)
    combiners = [weighting.combiner(name, 3)]
    if name == "stch":
        combiners.append(with_nadir([1.0, 1e-10, 1e10]))
    for combiner in combiners:
        for _ in range(7):  # and whatever a method remembers of them
            weights, _ = combiner(torch.eye(3, dtype=dtype), losses)
            combiner.after_step(losses.flip(0))
            combiner.epoch_end(losses.flip(0).tolist())
            assert weights.dtype == dtype and weights.isfinite().all() and (weights >= 0).all()
            if name in SUM_ONE:
                assert weights.sum().item() == pytest.approx(1.0, rel=1e-5)


def test_what_a_loss_of_zero_weighs():
    zero = torch.tensor([0.0, 1.0], dtype=torch.float64)
    assert weights_of("si", zero).tolist() == pytest.approx([1e8, 1.0], rel=1e-6)
    assert weights_of("gls", zero).tolist() == pytest.approx([0.5e4, 0.5e-4], rel=1e-6)
    for name in ("uw-so", "famo"):
        assert weights_of(name, zero).tolist() == pytest.approx([1, 0], abs=2e-8)
        assert weights_of(name, torch.zeros(2)).tolist() == [0.5, 0.5]


@pytest.mark.parametrize("name", POSITIVE)
def test_a_negative_loss_is_refused_in_one_line(name):
    message = f"{name} needs losses of 0 or more, found -0.2 for task 'depth'"
    losses = torch.tensor([1.0, -0.2, 1.0])
    with pytest.raises(KitError, match=message):
        weights_of(name, losses, tasks=TASKS)
    method, model = weighting.build(name, TASKS), Trunk()
    with pytest.raises(KitError, match=message):
        method.step(lambda k=0: dict(zip(NAMES, losses, strict=True)), model, torch.optim.SGD(model.parameters(), 0.1))
    with pytest.raises(KitError, match=message):
        method.epoch_end({"semantic": 1.0, "depth": -0.2})


def test_famo_refuses_a_loss_below_its_bound():
    with pytest.raises(KitError, match="needs losses of 0.4 or more, found 0.3 for task 'task2'"):
        weights_of("famo", min_losses={"task2": 0.4})


@pytest.mark.parametrize("name", ["equal", "uncertainty", "imtl-l", "dwa", "rlw"])
def test_the_others_take_negative_losses(name):
    combiner = weighting.combiner(name, 3)
    for _ in range(3):
        assert combiner(torch.eye(3), torch.tensor([1.0, -0.2, 0.0]))[0].isfinite().all()
        combiner.epoch_end([1.0, -0.2, 0.0])


# --- properties ---


@pytest.mark.parametrize("name", ["si", "gls", "famo"])
@given(losses=positive_losses, scale=st.floats(1e-2, 1e2))
@settings(max_examples=30, deadline=None)
def test_the_unit_of_a_loss_leaves_the_direction_alone(name, losses, scale):
    """A loss times s has a gradient times s; log objectives see no difference, but for their eps and their length."""
    plain = torch.tensor(losses, dtype=torch.float64)
    units = torch.tensor([scale, 1.0, 1.0], dtype=torch.float64)
    directions = [weighting.combine(name, torch.diag(u), plain * u)[1] for u in (torch.ones_like(units), units)]
    if name != "si":
        directions = [d / d.norm() for d in directions]
    torch.testing.assert_close(*directions, rtol=1e-2, atol=0)  # eps is 1e-3 of the smallest loss tried


@pytest.mark.parametrize("name", [name for name in ALL if name != "rlw"])
@given(losses=positive_losses, order=st.permutations(range(3)))
@settings(max_examples=20, deadline=None)
def test_the_order_of_the_tasks_does_not_matter(name, losses, order):
    plain = torch.tensor(losses, dtype=torch.float64)
    order = list(order)
    torch.testing.assert_close(weights_of(name, plain)[order], weights_of(name, plain[order]))


@pytest.mark.parametrize("name", ALL)
def test_float64_gradients_get_float64_weights(name):
    losses = torch.tensor([1.1, 1 / 3, 0.7], dtype=torch.float64)
    options = {"constants": {"task0": 1 / 3}} if name == "equal" else {}
    weights = weights_of(name, losses, **options)
    assert weights.dtype == torch.float64
    exact = {
        "equal": [1 / 3, 1, 1],
        "uncertainty": [0.5 * math.exp(0.5)] * 3,
        "si": (1 / (losses + 1e-8)).tolist(),
        "famo": (1 / (losses + 1e-8) / (1 / (losses + 1e-8)).sum()).tolist(),
    }
    if name in exact:
        assert weights.tolist() == pytest.approx(exact[name], rel=1e-14)
    if name in SUM_ONE:
        assert weights.sum().item() == pytest.approx(1.0, rel=1e-14)


# --- absent tasks, resuming, several processes ---


@pytest.mark.parametrize("name", ALL)
def test_absent_tasks_leave_the_others_a_complete_set_of_weights(name):
    method, model = weighting.build(name, TASKS), Trunk()
    for names in (("normals", "semantic"), ("depth",), tuple(NAMES)):
        (weights,) = train(method, model, batches(1), names)
        assert len(weights) == len(names) and weights.isfinite().all()
        if name in SUM_ONE:
            assert weights.sum().item() == pytest.approx(1.0, rel=1e-6)
        if name in ("si", "stch"):
            losses = torch.stack(list(Trunk().losses(batches(1)[0], names).values()))
            assert weights.shape == losses.shape


def test_famo_keeps_the_logit_of_an_absent_task_but_for_decay():
    method, model = weighting.build("famo", TASKS, gamma=0.0), Trunk()
    train(method, model, batches(3), ("semantic", "normals"))
    assert method.logits[1] == 0 and method.logits[0] != 0


@pytest.mark.parametrize("name", [*ALL, *(f"rlw {distribution}" for distribution in DISTRIBUTIONS)])
def test_resumed_in_the_middle_it_goes_on_bit_by_bit(name):
    name, *distribution = name.split()
    options = {"distribution": distribution[0]} if distribution else {}
    if name == "stch":
        options = {"warmup_epochs": 1}
    method, model, data = weighting.build(name, TASKS, **options), Trunk(), batches(8)
    for epoch in range(4):
        train(method, model, data[epoch : epoch + 1])
        method.epoch_end({task: 1.0 / (epoch + t + 1) for t, task in enumerate(NAMES)})
    state = method.state_dict()
    kept = str(state["_extra_state"])
    twin, other = weighting.build(name, TASKS, **options), copy.deepcopy(model)
    twin.load_state_dict(state)
    results = []
    for each, net in ((method, model), (twin, other)):
        found = train(each, net, data[4:6])
        each.epoch_end(dict(zip(NAMES, (0.3, 0.2, 0.1), strict=True)))
        results.append([*found, *train(each, net, data[6:]), *net.state_dict().values(), *each.parameters()])
    assert all(torch.equal(a, b) for a, b in zip(*results, strict=True))
    assert str(state["_extra_state"]) == kept  # what was handed out has not moved since


def test_famo_resumes_between_a_step_and_its_second_look(tmp_path):
    combiner = weighting.combiner("famo", 3)
    combiner(EYE, LOSSES)
    torch.save(combiner.method.state_dict(), tmp_path / "state.pt")
    twin = weighting.combiner("famo", 3)
    twin.method.load_state_dict(torch.load(tmp_path / "state.pt", weights_only=True))
    for each in (combiner, twin):
        each.after_step(LOSSES * torch.tensor([0.5, 0.9, 0.7]))
    assert combiner.method.logits.abs().max() > 0
    assert torch.equal(combiner.method.logits, twin.method.logits)


SPREAD = ["si", "gls", "famo", "rlw"]
SHARES = [(0, 4, tuple(NAMES)), (4, 8, ("depth", "semantic"))]  # of the batch, and the tasks with targets there


class Flat(Trunk):
    """Without normalisation, whose statistics would be those of half a batch."""

    def __init__(self):
        super().__init__()
        self.trunk = nn.Linear(4, 6)


def spread_losses(model, x, shares):
    """What all processes together see: means over them, a task without targets on one counts as zero there."""
    parts = [model.losses(x[a:b], names) for a, b, names in shares]
    return {name: sum(part[name] for part in parts if name in part) / len(shares) for name in NAMES}


def run_steps(name, closure_of, steps=3):
    torch.manual_seed(0)
    model, method = Flat(), weighting.build(name, TASKS)
    optimizer = torch.optim.SGD([*model.parameters(), *method.parameters()], lr=0.05)
    for x in batches(steps):
        method.step(lambda k=0, x=x: closure_of(model, x), model, optimizer)
        method.after_step(lambda k=0, x=x: closure_of(model, x), model)
    return [p.detach() for p in [*model.parameters(), *method.parameters(), *method.buffers()]]


def shared_out(rank):
    start, end, names = SHARES[rank]
    found = {name: run_steps(name, lambda model, x: model.losses(x[start:end], names)) for name in SPREAD}
    return {name: [value.numpy() for value in values] for name, values in found.items()}


def test_two_processes_weigh_as_one_with_all_the_data(tmp_path):
    found = on_two_ranks(shared_out, tmp_path)
    for name in SPREAD:
        whole = run_steps(name, lambda model, x: spread_losses(model, x, SHARES))
        for each in found:
            for ours, expected in zip(each[name], whole, strict=True):
                torch.testing.assert_close(torch.from_numpy(ours), expected, msg=lambda text, name=name: name + text)


# --- options ---


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("uw-so", {"tau": 0.0}, "tau of uw-so is above 0, found 0.0"),
        ("si", {"eps": -1e-8}, "eps of si is above 0"),
        ("stch", {"mu": 0.0}, "mu of stch is above 0"),
        ("stch", {"warmup_epochs": -1}, "warmup_epochs is 0 or more, found -1; LibMTL has 4"),
        ("rlw", {"distribution": "nomal"}, "did you mean 'normal'"),
        ("famo", {"lr": 0.0}, "lr of famo is above 0"),
        ("famo", {"gamma": -1.0}, "gamma of famo is 0 or more"),
        ("famo", {"max_norm": 0.0}, "max_norm of famo is above 0"),
        ("famo", {"min_losses": {"task7": 0.0}}, "min_losses names 'task7', which is no task of this run"),
        ("dwa", {"temperature": float("nan")}, "above 0, found nan"),
    ],
)
def test_bad_options_are_named(name, options, message):
    with pytest.raises(KitError, match=message):
        weighting.combine(name, torch.eye(2), **options)
