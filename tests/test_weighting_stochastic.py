"""Methods that need more than one batch a step: MoDo and SDMGrad against TorchJD, projections against their conditions,
Auto-Lambda's derivative against the exact one.
"""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from mtlkit import weighting
from mtlkit.errors import KitError
from mtlkit.weighting import NamedTask
from mtlkit.weighting.stochastic import onto_simplex

DOUBLE = ["modo", "sdmgrad"]
ALL = [*DOUBLE, "auto-lambda"]
TASKS = [NamedTask("semantic", "classification"), NamedTask("depth"), NamedTask("normals")]
NAMES = [task.name for task in TASKS]
G12 = torch.tensor([[1.0, 0.0], [-0.5, 1.0]], dtype=torch.float64)


class Toy(nn.Module):
    """A trunk with normalisation and dropout, and three scalar heads."""

    def __init__(self, dropout=0.0):
        super().__init__()
        torch.manual_seed(0)
        self.tasks = TASKS
        self.trunk = nn.Sequential(nn.Linear(4, 5), nn.BatchNorm1d(5), nn.Tanh(), nn.Dropout(dropout))
        self.heads = nn.ModuleDict({name: nn.Linear(5, 1) for name in NAMES})

    def shared_parameters(self):
        return list(self.trunk.parameters())

    def task_parameters(self, name):
        return list(self.heads[name].parameters())

    def losses(self, x, names=NAMES):
        z = self.trunk(x)
        return {name: (self.heads[name](z) - NAMES.index(name)).square().mean() for name in names}


class Batches:
    """Independent batches of a step, by number; notes which were asked for."""

    def __init__(self, model, seed=0, present=(NAMES, NAMES, NAMES)):
        self.model, self.present, self.asked = model, present, []
        self.inputs = torch.randn(6, 8, 4, generator=torch.Generator().manual_seed(seed))

    def __call__(self, k=0):
        self.asked.append(k)
        return self.model.losses(self.inputs[k], self.present[k % 3])


def sgd(model, lr=0.1):
    return torch.optim.SGD(model.parameters(), lr=lr)


def task_gradients(losses, parameters):
    """(T, P)"""
    rows = [torch.autograd.grad(loss, parameters, retain_graph=True) for loss in losses.values()]
    return torch.stack([torch.cat([g.reshape(-1) for g in row]) for row in rows])


def noisy_gradients(tasks=3, seed=0, noise=0.5, count=3):
    generator = torch.Generator().manual_seed(seed)
    mean = torch.randn(tasks, 9, dtype=torch.float64, generator=generator)
    return [mean + noise * torch.randn(tasks, 9, dtype=torch.float64, generator=generator) for _ in range(count)]


# --- the simplex ---


@given(st.lists(st.floats(-1e3, 1e3), min_size=1, max_size=8), st.sampled_from([1e-10, 1.0, 1e10]))
@settings(max_examples=100, deadline=None)
def test_a_projection_meets_the_conditions_of_the_nearest_point(point, scale):
    x = scale * np.array(point)
    nearest = onto_simplex(x)
    assert (nearest >= 0).all() and nearest.sum() == pytest.approx(1.0)
    gap = x - nearest  # one number where the coordinate is above 0, no larger number elsewhere
    inside, slack = gap[nearest > 0], 1e-9 * max(1.0, np.abs(x).max())
    assert np.ptp(inside) <= slack and (gap <= inside.max() + slack).all()


def test_a_point_of_the_simplex_is_its_own_projection():
    point = np.array([0.25, 0.0, 0.75])
    assert onto_simplex(point).tolist() == point.tolist()


# --- modo and sdmgrad: the mathematics ---


def test_modo_by_hand():
    # A w = (0.25, 0.375) at w = (1/2, 1/2); with rho w it is (0.3, 0.425): w - 0.1 of that sums to 0.9275
    weights, direction = weighting.combine("modo", G12, extra=[G12, G12], gamma=0.1, rho=0.1)
    assert weights.tolist() == pytest.approx([0.50625, 0.49375])
    assert direction.tolist() == pytest.approx([0.50625 - 0.5 * 0.49375, 0.49375])


def test_modo_without_noise_and_pull_ends_at_the_direction_of_least_norm():
    combiner = weighting.combiner("modo", 2, gamma=0.1, rho=0.0)
    for _ in range(300):
        weights, _ = combiner(G12, extra=[G12, G12])
    assert weights.tolist() == pytest.approx([7 / 13, 6 / 13], abs=1e-6)


@pytest.mark.parametrize(("strength", "expected"), [(0.0, [7 / 13, 6 / 13]), (1e6, [0.5, 0.5])])
def test_sdmgrad_lies_between_least_norm_and_the_mean(strength, expected):
    combiner = weighting.combiner("sdmgrad", 2, strength=strength, lr=0.3 / (1 + strength))
    for _ in range(50):
        weights, _ = combiner(G12, extra=[G12, G12])
    assert weights.tolist() == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize("strength", [0.1, 0.3, 1.0, 3.0])
def test_sdmgrad_is_least_norm_with_a_share_for_every_task(strength):
    unequal = G12 * torch.tensor([[1.0], [4.0]])  # the weights of least norm are (0.88, 0.12)
    combiner = weighting.combiner("sdmgrad", 2, strength=strength, lr=0.3)
    for _ in range(20):
        weights, _ = combiner(unequal, extra=[unequal, unequal])
    share = max(0.12, strength / (2 * (1 + strength)))
    assert weights.tolist() == pytest.approx([1 - share, share], abs=1e-6)


@pytest.mark.parametrize("tasks", [2, 3, 6])
@pytest.mark.parametrize(
    ("name", "options", "theirs"),
    [
        ("modo", {"gamma": 0.1}, {"gamma": 0.1, "rho": 0.1}),
        ("modo", {"rho": 0.0}, {"gamma": 1e-3, "rho": 0.0}),
        ("sdmgrad", {"lr": 0.5}, {"lr": 0.5}),
        ("sdmgrad", {"lr": 0.5, "strength": 0.6, "iterations": 7}, {"lr": 0.5, "lambda_": 0.6, "n_iter": 7}),
    ],
)
def test_a_sequence_of_steps_agrees_with_torchjd(name, options, theirs, tasks):
    aggregation = pytest.importorskip("torchjd.aggregation")
    oracle = {"modo": aggregation.MoDoWeighting, "sdmgrad": aggregation.SDMGradWeighting}[name](**theirs)
    combiner = weighting.combiner(name, tasks, **options)
    for seed in range(6):
        first, second, third = noisy_gradients(tasks, seed)
        weights, direction = combiner(first, extra=[second, third])
        expected = oracle(first @ second.T)
        torch.testing.assert_close(weights, expected, rtol=0, atol=1e-6)  # its scale has a small constant added
        torch.testing.assert_close(direction, weights @ third)


def test_the_published_rate_of_sdmgrad_agrees_with_torchjd():
    # a rate of 10 throws w from corner to corner and makes small differences grow: one call from the start
    oracle = pytest.importorskip("torchjd.aggregation").SDMGradWeighting
    for seed in range(10):
        first, second, third = noisy_gradients(seed=seed)
        weights, _ = weighting.combine("sdmgrad", first, extra=[second, third])
        torch.testing.assert_close(weights, oracle()(first @ second.T), rtol=0, atol=1e-4)


@pytest.mark.parametrize("name", DOUBLE)
def test_the_direction_depends_on_every_one_of_the_three_batches(name):
    options = {"gamma": 0.1} if name == "modo" else {"lr": 0.5}
    batches, others = noisy_gradients(), noisy_gradients(seed=1)
    _, expected = weighting.combine(name, batches[0], extra=batches[1:], **options)
    for k in range(3):  # the authors' SDMGrad sees only the last
        changed = [others[i] if i == k else batch for i, batch in enumerate(batches)]
        _, direction = weighting.combine(name, changed[0], extra=changed[1:], **options)
        assert (direction - expected).norm() > 1e-3 * expected.norm()


def test_two_batches_give_the_true_gramian_in_the_mean_and_one_batch_does_not():
    true = noisy_gradients(noise=0.0)[0]
    noise = torch.randn(4000, 2, *true.shape, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    first, second = true + noise[:, 0], true + noise[:, 1]
    double, single = ((first @ other.transpose(1, 2)).mean(0) for other in (second, first))
    torch.testing.assert_close(double, true @ true.T, atol=0.25, rtol=0)
    torch.testing.assert_close(single, true @ true.T + true.shape[1] * torch.eye(3), atol=0.35, rtol=0)


@given(st.permutations(range(4)), st.integers(0, 1000))
@settings(max_examples=30, deadline=None)
def test_the_order_of_the_tasks_does_not_matter(order, seed):
    first, second, third = noisy_gradients(4, seed)
    for name, options in (("modo", {"gamma": 0.1}), ("sdmgrad", {"lr": 0.5})):
        weights, _ = weighting.combine(name, first, extra=[second, third], **options)
        permuted, _ = weighting.combine(name, first[order], extra=[second[order], third[order]], **options)
        torch.testing.assert_close(permuted, weights[order], rtol=0, atol=1e-9)


@pytest.mark.parametrize("scale", [1e-10, 1e-3, 1e10])
def test_sdmgrad_does_not_see_the_scale_of_the_gradients(scale):
    first, second, third = noisy_gradients()
    weights, direction = weighting.combine("sdmgrad", first, extra=[second, third])
    scaled, long = weighting.combine("sdmgrad", scale * first, extra=[scale * second, scale * third])
    torch.testing.assert_close(scaled, weights)
    torch.testing.assert_close(long, scale * direction)


@pytest.mark.parametrize("name", DOUBLE)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_gradients_of_zero_leave_the_weights_equal(name, dtype):
    zero = torch.zeros(3, 5, dtype=dtype)
    weights, direction = weighting.combine(name, zero, extra=[zero, zero])
    assert weights.dtype == direction.dtype == dtype and direction.tolist() == [0.0] * 5
    assert weights.tolist() == pytest.approx([1 / 3] * 3)


def test_batches_that_contradict_each_other_leave_the_weights_of_sdmgrad():
    weights, _ = weighting.combine("sdmgrad", G12, extra=[-G12, G12])
    assert weights.tolist() == pytest.approx([0.5, 0.5])


# --- modo and sdmgrad: steps of a model ---


@pytest.mark.parametrize("name", DOUBLE)
def test_a_step_is_the_combination_of_the_gradients_of_three_batches(name):
    model, twin = Toy(), Toy()
    batches, same = Batches(model), Batches(twin)
    taken = weighting.build(name, TASKS).step(batches, model, sgd(model))
    assert batches.asked == [0, 1, 2]
    losses = [same(k) for k in range(3)]
    first, second, third = (task_gradients(each, twin.shared_parameters()).double() for each in losses)
    weights, direction = weighting.combine(name, first, extra=[second, third])
    assert [float(taken.weights[n]) for n in NAMES] == pytest.approx(weights.tolist(), abs=1e-5)
    found = torch.cat([p.grad.reshape(-1) for p in model.shared_parameters()])
    torch.testing.assert_close(found.double(), direction, rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(taken.gramian, third @ third.T, rtol=1e-4, atol=1e-6)
    for task in NAMES:  # heads: the third batch alone, unweighted
        own = torch.autograd.grad(losses[2][task], twin.task_parameters(task), retain_graph=True)
        for parameter, gradient in zip(model.task_parameters(task), own, strict=True):
            torch.testing.assert_close(parameter.grad, gradient)


@pytest.mark.parametrize("name", DOUBLE)
def test_tasks_that_two_batches_have_in_common_divide_anew_what_they_had(name):
    model = Toy()
    options = {"gamma": 0.5} if name == "modo" else {}
    method = weighting.build(name, TASKS, **options)
    present = (["semantic", "depth"], ["depth", "semantic", "normals"], ["normals", "depth"])
    before = model.heads["semantic"].weight.clone()
    taken = method.step(Batches(model, present=present), model, sgd(model))
    assert method.simplex[2] == pytest.approx(1 / 3) and sum(method.simplex) == pytest.approx(1.0)
    assert method.simplex[0] != pytest.approx(1 / 3)
    assert set(taken.losses) == set(taken.weights) == {"normals", "depth"}
    assert torch.equal(before, model.heads["semantic"].weight)


@pytest.mark.parametrize("name", DOUBLE)
def test_batches_without_a_task_in_common_move_no_weight(name):
    model = Toy()
    method = weighting.build(name, TASKS)
    taken = method.step(Batches(model, present=(["semantic"], ["depth"], NAMES)), model, sgd(model))
    assert method.simplex == [1 / 3] * 3 and set(taken.losses) == set(NAMES)


@pytest.mark.parametrize("name", ALL)
def test_parts_of_a_batch_add_up_to_the_batch(name):
    def step(parts):
        model = Toy().eval()  # normalisation would see the parts
        method = weighting.build(name, TASKS)
        method.parts, whole = parts, Batches(model)

        def closure(k):
            share = whole.inputs[k // parts].chunk(parts)[k % parts]
            return {task: loss / parts for task, loss in model.losses(share).items()}

        taken = method.step(closure, model, sgd(model))
        return taken, [p.detach() for p in model.parameters()], method.state_dict()

    (whole, parameters, _), (halves, others, _) = step(1), step(2)
    for task in NAMES:
        torch.testing.assert_close(whole.losses[task], halves.losses[task])
        torch.testing.assert_close(whole.weights[task], halves.weights[task], rtol=1e-4, atol=1e-6)
    for one, other in zip(parameters, others, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-6)


# --- auto-lambda ---


class Quadratic(nn.Module):
    """Three losses, each a square of a distance in all parameters, float64."""

    def __init__(self):
        super().__init__()
        draw = torch.Generator().manual_seed(5)
        self.trunk = nn.Parameter(torch.randn(6, dtype=torch.float64, generator=draw))
        self.rest = nn.Parameter(torch.randn(2, dtype=torch.float64, generator=draw))
        self.maps = torch.randn(2, 3, 5, 8, dtype=torch.float64, generator=draw)

    def losses(self, k, trunk=None, rest=None):
        theta = torch.cat([self.trunk if trunk is None else trunk, self.rest if rest is None else rest])
        return {name: (self.maps[k, t] @ theta - 1).square().mean() for t, name in enumerate(NAMES)}


@pytest.mark.parametrize("primary", [None, ["depth"]])
def test_the_derivative_of_auto_lambda_is_that_through_a_gradient_step(primary):
    model = Quadratic()
    method = weighting.build("auto-lambda", TASKS, primary=primary)
    optimizer = torch.optim.Adam([{"params": [model.trunk], "lr": 0.02}, {"params": [model.rest], "lr": 0.07}])
    found = method.derivative(model.losses, model, optimizer)

    lambdas = torch.full((3,), 0.1, dtype=torch.float64, requires_grad=True)
    objective = (lambdas * torch.stack(list(model.losses(0).values()))).sum()
    trunk, rest = torch.autograd.grad(objective, [model.trunk, model.rest], create_graph=True)
    ahead = model.losses(1, model.trunk - 0.02 * trunk, model.rest - 0.07 * rest)
    exact = torch.autograd.grad(sum(ahead[name] for name in primary or NAMES), lambdas)[0]
    torch.testing.assert_close(found.double(), exact, rtol=1e-5, atol=1e-8)


def test_looking_ahead_leaves_no_trace():
    model = Toy(dropout=0.5)
    method, batches = weighting.build("auto-lambda", TASKS), Batches(model)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    random = torch.get_rng_state()
    places = [p.data_ptr() for p in model.parameters()]
    assert method.derivative(batches, model, sgd(model)) is not None
    assert batches.asked == [0, 1, 0, 0]
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert torch.equal(torch.get_rng_state(), random) and [p.data_ptr() for p in model.parameters()] == places


def test_parameters_come_back_when_a_pass_fails():
    model = Toy()
    before = [p.clone() for p in model.parameters()]
    batches = Batches(model)

    def closure(k):
        if len(batches.asked) == 2:
            raise MemoryError
        return batches(k)

    with pytest.raises(MemoryError):
        weighting.build("auto-lambda", TASKS).step(closure, model, sgd(model))
    assert all(torch.equal(p, old) for p, old in zip(model.parameters(), before, strict=True))


def test_dropout_draws_alike_in_all_passes_over_a_batch():
    model, seen = Toy(dropout=0.5), []
    model.trunk[3].register_forward_hook(lambda layer, read, output: seen.append(output == 0))
    weighting.build("auto-lambda", TASKS).step(Batches(model), model, sgd(model))
    first, _, above, below, real = seen
    assert all(torch.equal(first, other) for other in (above, below, real))


def test_a_step_of_auto_lambda_is_the_weighted_sum_with_the_new_weights():
    model, twin = Toy(), Toy()
    method = weighting.build("auto-lambda", TASKS, lr=0.01)
    taken = method.step(Batches(model), model, sgd(model))
    weights = [float(taken.weights[name]) for name in NAMES]
    assert weights == pytest.approx(method.lambdas.tolist())
    assert all(abs(weight - 0.1) == pytest.approx(0.01, rel=1e-3) for weight in weights)  # Adam's first step
    total = sum(w * loss for w, loss in zip(weights, Batches(twin)(0).values(), strict=True))
    for parameter, gradient in zip(
        model.parameters(), torch.autograd.grad(total, list(twin.parameters())), strict=True
    ):
        torch.testing.assert_close(parameter.grad, gradient)


def test_the_weight_of_an_opposing_task_ends_at_zero():
    model = nn.Linear(1, 1)
    method = weighting.build("auto-lambda", TASKS[1:], primary=["depth"], lr=0.02)

    def closure(k):  # what one task gains the other loses
        return {"depth": (model.bias - 1).square().sum(), "normals": (model.bias + 1).square().sum()}

    for _ in range(20):
        method.step(closure, model, sgd(model, lr=0.01))
    assert method.lambdas[0] > 0.2 and method.lambdas[1] == 0.0


class Regression(nn.Module):
    """Linear regression: a primary task, one with the same coefficients, and one whose targets are noise."""

    tasks = (NamedTask("primary"), NamedTask("helpful"), NamedTask("noise"))

    def __init__(self):
        super().__init__()
        self.coefficients = nn.Parameter(torch.zeros(10))
        self.generator = torch.Generator().manual_seed(1)
        self.truth = torch.randn(10, generator=self.generator)

    def draw(self):
        """Losses of a new batch: each target its own inputs."""
        x = torch.randn(3, 8, 10, generator=self.generator)
        y = x @ self.truth
        y[2] = 5 * torch.randn(8, generator=self.generator)
        errors = (x @ self.coefficients - y).square().mean(1)
        return dict(zip([task.name for task in self.tasks], errors, strict=True))


def test_noise_loses_its_weight_and_a_helpful_task_gains():
    model = Regression()
    method = weighting.build("auto-lambda", model.tasks, primary=["primary"], lr=1e-3)
    optimizer = sgd(model, lr=0.02)
    for _ in range(150):
        seeds = {}

        def closure(k, seeds=seeds):  # the same batch for the same number
            if k in seeds:
                model.generator.set_state(seeds[k])
            else:
                seeds[k] = model.generator.get_state()
            return model.draw()

        method.step(closure, model, optimizer)
    primary, helpful, noise = method.lambdas.tolist()
    assert helpful > 0.12 and primary > 0.12 and noise < 0.08


def test_auto_lambda_without_a_primary_task_at_hand_keeps_its_weights():
    model = Toy()
    method = weighting.build("auto-lambda", TASKS, primary=["depth"])
    taken = method.step(Batches(model, present=(["semantic", "normals"], ["semantic"], [])), model, sgd(model))
    assert set(taken.weights) == {"semantic", "normals"} and method.lambdas.tolist() == pytest.approx([0.1] * 3)


def test_a_task_absent_from_the_batch_keeps_its_lambda():
    model = Toy()
    method = weighting.build("auto-lambda", TASKS)
    method.step(Batches(model, present=(["semantic", "normals"], NAMES, [])), model, sgd(model))
    moved = [weight != pytest.approx(0.1, abs=1e-6) for weight in method.lambdas.tolist()]
    assert moved == [True, False, True]


def test_auto_lambda_has_no_weights_without_a_model():
    with pytest.raises(KitError, match="nothing without a model"):
        weighting.combine("auto-lambda", G12, extra=[G12])


# --- all three ---


@pytest.mark.parametrize("name", ALL)
def test_a_method_resumed_in_the_middle_goes_on_bit_by_bit(name):
    def run(stop=None):
        model, method = Toy(dropout=0.3), weighting.build(name, TASKS)
        optimizer = sgd(model)
        for number in range(6):
            if number == stop:
                state, network = method.state_dict(), {n: v.clone() for n, v in model.state_dict().items()}
                method, model = weighting.build(name, TASKS), Toy(dropout=0.3)
                method.load_state_dict(state), model.load_state_dict(network)
                optimizer = sgd(model)
            torch.manual_seed(number)
            taken = method.step(Batches(model, number), model, optimizer)
        return torch.stack(list(taken.weights.values())), *[p.detach() for p in model.parameters()]

    assert all(torch.equal(one, other) for one, other in zip(run(), run(stop=3), strict=True))


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("modo", {"gamma": 0.0}, "above 0, found 0.0; LibMTL uses 0.001"),
        ("modo", {"rho": -1.0}, "0 or more, found -1.0"),
        ("modo", {"at": "representation"}, "unknown option 'at'"),
        ("sdmgrad", {"strength": -0.1}, "0 or more, found -0.1"),
        ("sdmgrad", {"lr": 0.0}, "the authors use 10"),
        ("sdmgrad", {"iterations": 0}, "1 or more, found 0"),
        ("sdmgrad", {"momentum": 1.0}, "below 1, found 1.0"),
        ("sdmgrad", {"iterations": 2.5}, "should be int"),
        ("auto-lambda", {"primary": ["dept"]}, "did you mean 'depth'"),
        ("auto-lambda", {"primary": []}, "names no task"),
        ("auto-lambda", {"initial": -0.1}, "0 or more"),
        ("auto-lambda", {"lr": 0.0}, "above 0"),
    ],
)
def test_bad_options_are_named(name, options, message):
    with pytest.raises(KitError, match=message):
        weighting.build(name, TASKS, **options)


@pytest.mark.parametrize("name", DOUBLE)
def test_a_missing_batch_is_asked_for(name):
    with pytest.raises(KitError, match="needs the gradients of 3 independent batches, found 2"):
        weighting.combine(name, G12, extra=[G12])


@pytest.mark.parametrize("name", DOUBLE)
def test_gradients_of_different_networks_are_refused(name):
    with pytest.raises(KitError, match=r"one shape .*\(2, 2\).* found .*\(2, 3\)"):
        weighting.combine(name, G12, extra=[torch.ones(2, 3), G12])
