"""GradNorm and the pseudo form of TI: the golden steps, the derivative by autograd, the cheap step against the plain
one, several processes, what is refused.

Shapes: B batch, H/W size, T tasks.
"""

import functools

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from processes import on_two_ranks
from torch import nn

import mtlkit
from mtlkit import tasks, weighting
from mtlkit.architectures import MultiTaskModel, build
from mtlkit.errors import KitError
from mtlkit.weighting import NamedTask, gradnorm

TASKS = [tasks.semantic(["a", "b", "c"]), tasks.depth(), tasks.normals()]
NAMES = [task.name for task in TASKS]
METHODS = ("gradnorm", "pseudo-grad-norm")
RAW = torch.tensor([4.0, 1.0, 0.25], dtype=torch.float64)  # norms of the golden steps, for a weight of one
WIDTH = 0.0625
positive = st.lists(st.floats(1e-3, 1e3), min_size=3, max_size=3)


def double(values):
    return torch.tensor(values, dtype=torch.float64)


# --- the golden steps (the TI page, 7.2 and 3.2) ---


def test_one_step_of_gradnorm_by_sgd():
    rates = gradnorm.relative_rates(double([5.0, 0.8, 0.09]), double([10.0, 1.0, 0.1]))
    assert rates.tolist() == pytest.approx([0.681818, 1.090909, 1.227273], abs=1e-6)
    assert (1.75 * rates**1.5).tolist() == pytest.approx([0.985237, 1.993980, 2.379303], abs=1e-6)
    objective, gradient = gradnorm.imbalance(torch.ones_like(RAW), RAW, rates, alpha=1.5)
    assert objective.item() == pytest.approx(6.138046, abs=1e-6)
    assert gradient.tolist() == [4.0, -1.0, -0.25]
    initial = {"task0": 10.0, "task1": 1.0, "task2": 0.1}
    combiner = weighting.combiner("gradnorm", 3, optimiser="sgd", initial=initial)
    used, direction = combiner(torch.diag(RAW), double([5.0, 0.8, 0.09]))
    assert used.tolist() == [1, 1, 1] and torch.equal(direction, RAW), "new weights act from the next call on"
    assert combiner.method.weights.tolist() == pytest.approx([0.921109, 1.049041, 1.029851], abs=1e-6)
    assert combiner(torch.diag(RAW), double([5.0, 0.8, 0.09]))[0].sum().item() == pytest.approx(3.0)


GOLDEN = {
    1: (0.999885, 0.999942, 1.000173),
    2: (0.999770, 0.999885, 1.000345),
    10: (0.998848, 0.999424, 1.001728),
    100: (0.988480, 0.994188, 1.017332),
    1000: (0.888950, 0.941101, 1.169950),
    5000: (0.634020, 0.813964, 1.552016),
    10000: (0.541370, 0.796465, 1.662165),
    20000: (0.580053, 0.839469, 1.580478),
}
GOLDEN_NORMS = {1000: (3.83398, 0.978245, 0.265815), 20000: (2.278792, 0.835159, 0.398786)}


def test_the_pseudo_form_follows_the_released_trajectory():
    method = weighting.build("pseudo-grad-norm", [NamedTask(name) for name in "abc"])
    decay = double([0.9999, 0.9998, 0.9997])
    for k in range(1, 20001):
        method.update(RAW, double([10.0, 2.0, 0.5]) * decay**k, [0, 1, 2])
        if k in GOLDEN:
            assert method.weights == pytest.approx(GOLDEN[k], abs=1e-6), k
        if k in GOLDEN_NORMS:
            assert [method.averages[name][2] for name in "abc"] == pytest.approx(GOLDEN_NORMS[k], abs=1e-5), k


# --- the mathematics ---


@given(positive, positive, positive, st.floats(0, 3))
@settings(max_examples=50, deadline=None)
def test_the_derivative_is_that_of_the_objective_with_its_target_held_constant(norms, weights, left, alpha):
    rates = gradnorm.relative_rates(double(left), torch.ones(3, dtype=torch.float64))
    shared = double(norms).diag().requires_grad_()  # a layer in which every task has its own weight
    own = double(weights).requires_grad_()
    losses = shared.sum(1)
    lengths = torch.stack(
        [torch.autograd.grad(own[t] * losses[t] * norms[t], shared, create_graph=True)[0][t, t].abs() for t in range(3)]
    )
    expected = (lengths - (lengths.mean() * rates**alpha).detach()).abs().sum()
    objective, gradient = gradnorm.imbalance(own.detach(), double(norms), rates, alpha)
    torch.testing.assert_close(objective, expected.detach())
    torch.testing.assert_close(gradient, torch.autograd.grad(expected, own)[0])


@given(positive, st.floats(1e-3, 1e3))
@settings(max_examples=50, deadline=None)
def test_rates_see_neither_the_unit_of_a_loss_nor_a_common_factor(losses, factor):
    first = double([2.0, 3.0, 5.0])
    rates = gradnorm.relative_rates(double(losses), first)
    assert rates.mean().item() == pytest.approx(1.0)
    torch.testing.assert_close(rates, gradnorm.relative_rates(factor * double(losses), first))
    unit = double([1.0, factor, 1.0])
    torch.testing.assert_close(rates, gradnorm.relative_rates(unit * double(losses), unit * first))


@pytest.mark.parametrize("alpha", [0.0, 0.5, 1.0])
def test_gradnorm_comes_to_rest_where_all_but_the_largest_weight_meet_their_targets(alpha):
    combiner = weighting.combiner("gradnorm", 3, alpha=alpha, initial={f"task{t}": 1.0 for t in range(3)})
    losses = double([0.9, 0.3, 0.1])
    for lr in (0.025, 1e-3, 1e-4):  # the gradient is a sign: the weights hop around the goal by a step
        combiner.method.adam.lr = lr
        for _ in range(500):
            combiner(torch.diag(RAW), losses)
    weights = combiner.method.weights.double()
    pulls = (losses / losses.mean()) ** alpha
    assert weights.argmax() == 2
    pulls[2] = 3 - pulls[:2].sum()  # pulls over their mean average to one; for alpha = 0 and 1 targets do so already
    expected = pulls / RAW
    torch.testing.assert_close(weights, 3 * expected / expected.sum(), rtol=5e-3, atol=0)


@pytest.mark.parametrize("rate", gradnorm.RATES)
def test_the_pseudo_form_comes_to_rest_where_norms_follow_the_rates(rate):
    options = {"lr": 0.05, "short": 1.0, "rate": rate, "alpha": 0.75}
    combiner = weighting.combiner("pseudo-grad-norm", 3, **options)
    combiner(torch.diag(RAW), double([1.0, 1.0, 1.0]))  # Q stays here
    left = double([0.5, 0.8, 0.9])
    for _ in range(3000):
        weights = combiner(torch.diag(RAW), left)[0]
    rates = left.softmax(0) if rate == "dwa" else left
    expected = rates**0.75 / RAW
    torch.testing.assert_close(weights, 3 * expected / expected.sum(), rtol=1e-3, atol=0)


@given(st.lists(positive, min_size=2, max_size=6), st.sampled_from(METHODS), st.floats(1e-4, 1e4))
@settings(max_examples=50, deadline=None)
def test_weights_stay_positive_and_sum_to_the_number_of_tasks(stream, name, scale):
    combiner = weighting.combiner(name, 3)
    for values in stream * 5:
        combiner(scale * torch.diag(double(values)), double(values[::-1]))
        weights = torch.tensor(combiner.method.weights_of([0, 1, 2]))
        assert weights.min() > 0 and weights.sum().item() == pytest.approx(3.0, rel=1e-5)


@pytest.mark.parametrize("name", METHODS)
def test_losses_and_gradients_of_zero_are_no_accident(name):
    combiner = weighting.combiner(name, 3)
    for losses, norms in (([0.0] * 3, [0.0] * 3), ([0.0, 1.0, 2.0], [0.0, 1.0, 1.0]), ([1.0] * 3, [1.0] * 3)):
        combiner(torch.diag(double(norms)), double(losses))
    weights = torch.tensor(combiner.method.weights_of([0, 1, 2]))
    assert weights.isfinite().all() and weights.min() > 0 and weights.sum().item() == pytest.approx(3.0)


# --- the step, on networks ---


class Tiny(MultiTaskModel):
    """A trunk of two layers and a head for each task, without batch normalisation."""

    stride = 1

    def __init__(self, cut=True):
        super().__init__(TASKS)
        torch.manual_seed(0)
        self.cut = cut
        self.first, self.last = nn.Conv2d(3, 4, 1), nn.Conv2d(4, 5, 1)
        self.heads = nn.ModuleDict({task.name: nn.Conv2d(5, task.channels, 1) for task in TASKS})

    def compute(self, streams, names, features):
        z = torch.tanh(self.last(torch.tanh(self.first(streams["image"]))))
        if features is not None:
            features["z"] = z
        return {name: self.heads[name](z) for name in names}

    def task_modules(self, name):
        return [self.heads[name]]

    def representation(self):
        return "z" if self.cut else None

    def last_shared_feature(self):
        return "z"

    def last_shared_layer(self):
        return self.last


class Uncut:
    """A model that hides where trunk and heads part."""

    def __init__(self, model):
        self.model = model

    def representation(self):
        return None

    def __call__(self, *inputs):
        return self.model(*inputs)

    def __getattr__(self, name):
        return getattr(self.model, name)


def images(seed, batch=2, size=(32, 32)):
    return torch.rand(batch, 3, *size, generator=torch.Generator().manual_seed(seed))


def losses_of(model, image_BCHW, names=NAMES, k=0):
    """Losses of three scales, each of one output."""
    outputs = model(image_BCHW, names)
    scale = {"semantic": 1.0, "depth": 10.0, "normals": 0.1}
    return {
        name: scale[name] * (out - image_BCHW.mean(1, keepdim=True)).square().mean() for name, out in outputs.items()
    }


def train(name, model, steps=3, seen=lambda step: NAMES, method=None, seed=0, size=(32, 32), **options):
    """Some steps of SGD; the method and what every step said."""
    method = method or weighting.build(name, TASKS, **options)
    method.check(model)
    parameters = list(model.parameters())
    optimizer, taken = torch.optim.SGD(parameters, lr=0.05), []
    for s in range(steps):
        image_BCHW = images(seed + s, size=size).to(parameters[0])
        taken.append(method.step(functools.partial(losses_of, model, image_BCHW, seen(s)), model, optimizer))
    return method, taken


def same(ours, theirs, **tolerance):
    for a, b in zip(ours.parameters(), theirs.parameters(), strict=True):
        torch.testing.assert_close(a, b, **tolerance)


@pytest.mark.parametrize("name", METHODS)
@pytest.mark.parametrize("network", ["tiny", "split"])
def test_the_cheap_step_is_the_plain_one(name, network):
    make = Tiny if network == "tiny" else functools.partial(mtlkit.build, "split", TASKS, width=WIDTH)
    torch.manual_seed(0)
    cheap, plain = make().double(), make().double()
    plain.load_state_dict(cheap.state_dict())
    options = {"lr": 0.1} if name == "pseudo-grad-norm" else {}
    (ours, steps), (theirs, others) = train(name, cheap, **options), train(name, Uncut(plain), **options)
    present = [0, 1, 2]
    assert ours.weights_of(present) == pytest.approx(theirs.weights_of(present), rel=1e-6)
    assert ours.weights_of(present) != pytest.approx([1, 1, 1], abs=1e-3)
    same(cheap, plain, rtol=1e-6, atol=1e-8)
    for a, b in zip(steps, others, strict=True):
        assert list(a.losses) == list(b.losses) == NAMES
        for task in NAMES:
            torch.testing.assert_close(a.losses[task], b.losses[task], rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize("name", METHODS)
@pytest.mark.parametrize("cut", [True, False])
def test_the_gradient_is_that_of_the_weighted_sum_with_the_weights_from_before(name, cut):
    model, twin = Tiny(cut), Tiny(cut)
    options = {"lr": 0.1} if name == "pseudo-grad-norm" else {}
    method, _ = train(name, model, **options)
    twin.load_state_dict(model.state_dict())
    before = method.weights_of([0, 1, 2])
    _, (taken,) = train(name, model, steps=1, method=method, seed=7)
    assert [taken.weights[task].item() for task in NAMES] == pytest.approx(before)
    total = sum(weight * loss for weight, loss in zip(before, losses_of(twin, images(7)).values(), strict=True))
    total.backward()
    for ours, expected in zip(model.parameters(), twin.parameters(), strict=True):
        torch.testing.assert_close(ours.grad, expected.grad, rtol=1e-4, atol=1e-6)


def test_norms_are_of_the_last_shared_layer_and_of_activations():
    found = {}
    for name in METHODS:
        method, model = weighting.build(name, TASKS), Tiny()
        method.update = lambda norms, losses, present, name=name: found.update({name: norms})
        train(name, model, steps=1, method=method)
    model = Tiny()
    with model.noting_features() as features:
        losses = losses_of(model, images(0))
    for name, place in (("gradnorm", [*model.last.parameters()]), ("pseudo-grad-norm", [features["z"]])):
        for norm, loss in zip(found[name], losses.values(), strict=True):
            gradients = torch.autograd.grad(loss, place, retain_graph=True)
            expected = torch.cat([g.flatten() for g in gradients]).norm()
            torch.testing.assert_close(norm, expected)


@pytest.mark.parametrize("name", METHODS)
def test_both_work_where_no_feature_is_a_cut(name):
    torch.manual_seed(0)
    model = build("mtan", TASKS, width=WIDTH)
    assert model.representation() is None
    method, taken = train(name, model, steps=2, size=(64, 64))
    assert len(taken) == 2 and sum(method.weights_of([0, 1, 2])) == pytest.approx(3.0)
    assert all(p.grad is not None for p in model.parameters())


def test_gradnorm_works_on_a_unit_that_tasks_reach_in_parts():
    torch.manual_seed(0)
    method, _ = train("gradnorm", build("cross_stitch", TASKS, width=WIDTH), steps=1)
    assert min(method.weights_of([0, 1, 2])) > 0


@pytest.mark.parametrize("name", METHODS)
def test_norms_are_float32_where_a_network_computes_in_bfloat16(name):
    model, method, found = Tiny(), weighting.build(name, TASKS), []
    method.update = lambda norms, losses, present: found.append(norms.dtype)

    def closure(k=0):
        with torch.autocast("cpu", dtype=torch.bfloat16):
            outputs = model(images(0))
        return {task: out.float().square().mean() for task, out in outputs.items()}

    method.step(closure, model, torch.optim.SGD(model.parameters(), lr=0.1))
    assert found == [torch.float32]


# --- tasks that come and go, and state ---


def comings_and_goings(step):
    return [["semantic", "depth"], NAMES, ["normals"], NAMES][step % 4]


@pytest.mark.parametrize("name", METHODS)
def test_an_absent_task_keeps_its_weight(name):
    model, method = Tiny(), weighting.build(name, TASKS)
    for step in range(4):
        before = method.weights_of([0, 1, 2])
        present = comings_and_goings(step)
        _, (taken,) = train(name, model, steps=1, method=method, seen=lambda _, present=present: present, seed=step)
        after = method.weights_of([0, 1, 2])
        assert set(taken.losses) == set(taken.weights) == set(present)
        for task, old, new in zip(NAMES, before, after, strict=True):
            assert task in present or old == new
        assert sum(after) == pytest.approx(3.0)


def test_a_task_seen_later_is_compared_with_its_own_first_loss():
    model, method = Tiny(), weighting.build("gradnorm", TASKS)
    firsts = [
        train("gradnorm", model, 1, lambda _: NAMES[:2], method)[1][0],
        train("gradnorm", model, 1, method=method)[1][0],
    ]
    expected = [firsts[0].losses["semantic"], firsts[0].losses["depth"], firsts[1].losses["normals"]]
    torch.testing.assert_close(method.first, torch.stack(expected))


@pytest.mark.parametrize("name", METHODS)
def test_a_resumed_run_goes_on_bit_by_bit(name, tmp_path):
    whole, (first, second) = Tiny(), (Tiny(), Tiny())
    reference, _ = train(name, whole, steps=6, seen=comings_and_goings)
    half, _ = train(name, first, steps=3, seen=comings_and_goings)
    torch.save({"method": half.state_dict(), "model": first.state_dict()}, tmp_path / "half.pt")
    state = torch.load(tmp_path / "half.pt", weights_only=True)
    resumed = weighting.build(name, TASKS)
    resumed.load_state_dict(state["method"])
    second.load_state_dict(state["model"])
    train(name, second, 3, lambda step: comings_and_goings(step + 3), resumed, seed=3)
    assert resumed.weights_of([0, 1, 2]) == reference.weights_of([0, 1, 2])
    same(second, whole, rtol=0, atol=0)


# --- what is refused ---


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("gradnorm", {"alpha": -1.0}, "0 .equal norms. or more, found -1.0; the paper"),
        ("gradnorm", {"lr": 0.0}, "above 0, found 0.0; the paper uses 0.025"),
        ("gradnorm", {"optimiser": "adm"}, "did you mean 'adam'"),
        ("gradnorm", {"initial": {"dpth": 1.0}}, "no task of this run"),
        ("gradnorm", {"initial": {"depth": 0.0}}, "above 0, found 0.0 for 'depth'"),
        ("pseudo-grad-norm", {"alpha": -0.1}, "released: 0.75"),
        ("pseudo-grad-norm", {"lr": 2.0}, r"in \(0, 1\], found 2.0; released: 0.0001"),
        ("pseudo-grad-norm", {"long": 0.0}, "released: 1e-06"),
        ("pseudo-grad-norm", {"rate": "mean"}, "rate is one of"),
    ],
)
def test_bad_options_are_named(name, options, message):
    with pytest.raises(KitError, match=message):
        weighting.build(name, TASKS, **options)


@pytest.mark.parametrize(
    ("name", "network", "chosen", "message"),
    [
        ("gradnorm", "single", TASKS, "last layer that all tasks share"),
        ("gradnorm", "split", TASKS[:1], "last layer that all tasks share"),
        ("pseudo-grad-norm", "single", TASKS, "last feature that all tasks read"),
        ("pseudo-grad-norm", "cross_stitch", TASKS, "take gradnorm"),
    ],
)
def test_a_network_without_the_place_is_refused(name, network, chosen, message):
    model = build(network, chosen, width=WIDTH)
    with pytest.raises(KitError, match=message):
        weighting.build(name, chosen).check(model)


@pytest.mark.parametrize("name", METHODS)
def test_a_frozen_trunk_is_refused(name):
    model = Tiny()
    model.first.requires_grad_(False), model.last.requires_grad_(False)
    with pytest.raises(KitError):
        weighting.build(name, TASKS).check(model)


# --- several processes ---


def half(rank):
    found = {}
    for name in METHODS:
        for cut in (True, False):
            model, method = Tiny(cut), weighting.build(name, TASKS)
            optimizer = torch.optim.SGD(model.parameters(), lr=0.05)
            for s in range(3):
                part = images(s)[rank : rank + 1]
                method.step(functools.partial(losses_of, model, part, NAMES), model, optimizer)
            found[name, cut] = (method.weights_of([0, 1, 2]), [p.detach().numpy() for p in model.parameters()])
    model, method = Tiny(cut=False), weighting.build("gradnorm", TASKS)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05)
    method.step(functools.partial(losses_of, model, images(0), NAMES[: 2 + rank]), model, optimizer)
    found["absent on one"] = method.weights_of([0, 1, 2])
    return found


def test_two_processes_weigh_as_one_with_both_halves_of_the_batch(tmp_path):
    first, second = on_two_ranks(half, tmp_path)
    assert first["absent on one"] == second["absent on one"]
    for name in METHODS:
        for cut in (True, False):
            model = Tiny(cut)
            method, _ = train(name, model)
            for weights, parameters in (first[name, cut], second[name, cut]):
                assert weights == pytest.approx(method.weights_of([0, 1, 2]), rel=1e-5)
                for ours, whole in zip(parameters, model.parameters(), strict=True):
                    torch.testing.assert_close(torch.from_numpy(ours), whole.detach(), rtol=1e-4, atol=1e-6)
