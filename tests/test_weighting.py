"""Weightings against the papers' and the released code's numbers, and what every method promises."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from processes import on_two_ranks
from torch import nn

from mtlkit import weighting
from mtlkit.errors import KitError
from mtlkit.weighting import WEIGHTINGS, NamedTask

TASKS = [NamedTask("semantic", "classification"), NamedTask("depth"), NamedTask("normals")]
LOSSES = torch.tensor([1.2, 0.5, 0.3], dtype=torch.float64)
losses_T = st.lists(st.floats(1e-3, 1e3), min_size=3, max_size=3)


class Toy(nn.Module):
    """A trunk of one layer and three scalar heads."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.trunk = nn.Linear(4, 5)
        self.heads = nn.ModuleDict({task.name: nn.Linear(5, 1) for task in TASKS})

    def losses(self, x, names=("semantic", "depth", "normals")):
        features = torch.tanh(self.trunk(x))
        return {name: (self.heads[name](features) - i).square().mean() for i, name in enumerate(names)}


def step(method, model, x, lr=0.1, names=("semantic", "depth", "normals")):
    groups = [{"params": model.parameters()}, {"params": list(method.parameters())}]
    optimizer = torch.optim.SGD([g for g in groups if g["params"] != []], lr=lr)
    return method.step(lambda k=0: model.losses(x, names), model, optimizer)


def test_mtan_form_of_uncertainty_gives_the_released_objective():
    method = weighting.build("uncertainty", TASKS, form="mtan")
    losses = LOSSES.float()
    objective = (method.weigh(losses, [0, 1, 2]) * losses).sum() + method.penalty([0, 1, 2])
    assert objective.item() == pytest.approx(0.898721, abs=1e-6)


def test_kendall_doubles_the_weight_of_classification():
    weights, _ = weighting.combine("uncertainty", torch.eye(3), LOSSES, tasks=TASKS)
    assert weights.tolist() == pytest.approx([1.648721, 0.824361, 0.824361], abs=1e-6)


def test_uncertainty_converges_to_the_log_of_the_losses():
    combiner = weighting.combiner("uncertainty", 3, learning_rate=0.05)
    for _ in range(500):
        combiner(torch.eye(3), LOSSES.float())
    assert combiner.method.log_variance.detach().double().numpy() == pytest.approx(LOSSES.log().numpy(), abs=1e-3)


def test_dwa_matches_the_released_example_from_the_third_epoch_on():
    combiner = weighting.combiner("dwa", 3)
    eye = torch.eye(3, dtype=torch.float64)
    assert combiner(eye)[0].tolist() == [1, 1, 1]
    combiner.epoch_end([1.5, 0.52, 0.31])
    assert combiner(eye)[0].tolist() == [1, 1, 1]
    combiner.epoch_end(LOSSES.tolist())
    assert combiner(eye)[0].tolist() == pytest.approx([0.945892, 1.025461, 1.028647], abs=1e-6)


def test_equal_mean_is_the_sum_over_the_number_of_tasks():
    x = torch.randn(3, 7, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    summed, averaged = (weighting.combine("equal", x, reduction=r)[1] for r in ("sum", "mean"))
    torch.testing.assert_close(summed, 3 * averaged)
    torch.testing.assert_close(summed, x.sum(0))


def test_constants_weigh_the_tasks_they_name():
    weights, _ = weighting.combine("equal", torch.eye(3), tasks=TASKS, constants={"depth": 2.5})
    assert weights.tolist() == [1.0, 2.5, 1.0]


@given(losses_T)
@settings(max_examples=50, deadline=None)
def test_dwa_weights_sum_to_the_number_of_tasks(first):
    combiner = weighting.combiner("dwa", 3)
    combiner.epoch_end(first)
    combiner.epoch_end(LOSSES.tolist())
    assert combiner(torch.eye(3, dtype=torch.float64))[0].sum().item() == pytest.approx(3.0)


@given(losses_T, st.floats(1e-6, 1e6))
@settings(max_examples=50, deadline=None)
def test_dwa_does_not_see_the_scale_of_the_losses(first, scale):
    weights = []
    for factor in (1.0, scale):
        combiner = weighting.combiner("dwa", 3)
        combiner.epoch_end([factor * loss for loss in first])
        combiner.epoch_end([factor * loss for loss in LOSSES.tolist()])
        weights.append(combiner(torch.eye(3, dtype=torch.float64))[0])
    torch.testing.assert_close(*weights)


def test_a_high_temperature_makes_dwa_equal():
    combiner = weighting.combiner("dwa", 3, temperature=1e6)
    combiner.epoch_end([10.0, 1.0, 0.1])
    combiner.epoch_end([1.0, 1.0, 1.0])
    assert combiner(torch.eye(3))[0].tolist() == pytest.approx([1, 1, 1], abs=1e-4)


# --- the contract, for every registered method ---


@pytest.mark.parametrize("name", WEIGHTINGS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_combine_gives_a_direction_of_the_rows(name, dtype):
    needed = WEIGHTINGS[name].batches_per_step
    batches = torch.randn(needed, 3, 10, dtype=dtype, generator=torch.Generator().manual_seed(1))
    if WEIGHTINGS[name].needs_model:
        with pytest.raises(KitError, match=f"{name} is nothing without a model"):
            weighting.combine(name, batches[0], LOSSES)
        return
    if needed > 1:
        with pytest.raises(KitError, match=f"{name} needs the gradients of {needed} independent batches, found 1"):
            weighting.combine(name, batches[0], LOSSES)
    weights, direction = weighting.combine(name, batches[0], LOSSES, extra=list(batches[1:]))
    assert direction.shape == (10,) and direction.dtype == dtype and direction.isfinite().all()
    if weights is not None:
        assert weights.shape == (3,) and weights.dtype == dtype
        torch.testing.assert_close(direction, weights @ batches[-1])


@pytest.mark.parametrize("name", WEIGHTINGS)
def test_a_loss_level_step_is_the_weighted_sum_of_task_gradients(name):
    if WEIGHTINGS[name].level != "loss":
        return
    x = torch.randn(6, 4, generator=torch.Generator().manual_seed(2))
    model, twin = Toy(), Toy()
    taken = step(weighting.build(name, TASKS), model, x)
    expected = sum(taken.weights[n] * loss for n, loss in twin.losses(x).items())
    gradients = torch.autograd.grad(expected, list(twin.parameters()))
    for parameter, gradient in zip(model.parameters(), gradients, strict=True):
        torch.testing.assert_close(parameter.grad, gradient)


@pytest.mark.parametrize("name", WEIGHTINGS)
def test_a_method_says_where_it_was_published_and_its_scale(name):
    assert WEIGHTINGS[name].paper
    assert "LibMTL" in WEIGHTINGS[name].__doc__ and "Cost" in WEIGHTINGS[name].__doc__


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("uncertanty", {}, "did you mean 'uncertainty'"),
        ("dwa", {"temprature": 2.0}, "did you mean 'temperature'"),
        ("dwa", {"temperature": "hot"}, "should be float, found 'hot'"),
        ("dwa", {"temperature": 0.0}, "above 0, found 0.0"),
        ("equal", {"reduction": "men"}, "did you mean 'mean'"),
        ("equal", {"constants": {"task7": 1.0}}, "is no task of this run"),
        ("uncertainty", {"form": "kendal"}, "did you mean 'kendall'"),
    ],
)
def test_bad_options_are_named(name, options, message):
    with pytest.raises(KitError, match=message):
        weighting.combine(name, torch.eye(2), **options)


@pytest.mark.parametrize("gradients", [torch.ones(3), torch.ones(2, 3, 1), torch.ones(2, 2, dtype=torch.int64)])
def test_gradients_of_the_wrong_form_are_refused(gradients):
    with pytest.raises(KitError, match=r"\(T, P\)"):
        weighting.combine("equal", gradients)


def test_gradients_that_are_not_finite_are_refused():
    with pytest.raises(KitError, match="NaN or infinity"):
        weighting.combine("equal", torch.tensor([[1.0, float("nan")]]))


# --- several processes ---


def half(rank):
    model, method = Toy(), weighting.build("uncertainty", TASKS)
    x = torch.randn(6, 4, generator=torch.Generator().manual_seed(4))
    step(method, model, x[rank * 3 : rank * 3 + 3])
    return [p.grad.numpy() for p in [*model.parameters(), *method.parameters()]]


def test_two_processes_step_as_one_with_both_halves_of_the_batch(tmp_path):
    model, method = Toy(), weighting.build("uncertainty", TASKS)
    step(method, model, torch.randn(6, 4, generator=torch.Generator().manual_seed(4)))
    expected = [p.grad for p in [*model.parameters(), *method.parameters()]]
    for gradients in on_two_ranks(half, tmp_path):
        for ours, whole in zip(gradients, expected, strict=True):
            torch.testing.assert_close(torch.from_numpy(ours), whole)
