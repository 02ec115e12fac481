"""The losses are the means over valid pixels that MTAN states, and stay finite where its released code does not."""

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch.autograd import gradcheck

from mtlkit import losses, tasks
from mtlkit.errors import KitError


def draw(seed=0, shape=(2, 5, 6), classes=4, dtype=torch.float32):
    """Raw outputs and targets of the three tasks; about a quarter of the pixels has no target."""
    rng = torch.Generator().manual_seed(seed)
    b, h, w = shape
    void = torch.rand(b, h, w, generator=rng) < 0.25
    ids = torch.randint(classes, (b, h, w), generator=rng).masked_fill(void, -1)
    metres = (0.5 + 9 * torch.rand(b, 1, h, w, generator=rng, dtype=dtype)).masked_fill(void[:, None], 0)
    normals = F.normalize(torch.randn(b, 3, h, w, generator=rng, dtype=dtype), dim=1).masked_fill(void[:, None], 0)
    raws = [torch.randn(b, c, h, w, generator=rng, dtype=dtype) for c in (classes, 1, 3)]
    return {
        "semantic": (losses.cross_entropy, raws[0], ids),
        "depth": (losses.masked_l1, raws[1], metres),
        "normals": (losses.normal_cosine, raws[2], normals),
    }


TASKS = ("semantic", "depth", "normals")


# what a reader can check by hand


def test_cross_entropy_of_one_sure_and_one_unsure_pixel():
    raw = torch.log(torch.tensor([[0.75, 0.25], [0.5, 0.5], [0.1, 0.9]]).T.reshape(1, 2, 1, 3))  # log-probabilities
    target = torch.tensor([[[0, 1, -1]]])
    assert losses.cross_entropy(raw, target).item() == pytest.approx(-(math.log(0.75) + math.log(0.5)) / 2)


def test_l1_is_a_mean_over_valid_pixels_of_the_whole_batch():
    # one valid pixel in the first image, three in the second: pooled (1 + 3 + 3 + 3) / 4, not the mean of image means
    target = torch.tensor([[5.0, 0, 0], [5, 5, 5]]).view(2, 1, 1, 3)
    raw = target + torch.tensor([[1.0, 9, 9], [-3, 3, -3]]).view(2, 1, 1, 3)
    assert losses.masked_l1(raw, target).item() == pytest.approx(2.5)


def test_l1_of_several_channels_counts_pixels_and_sums_channels():
    target = torch.tensor([[1.0, 2, 3], [0, 0, 0]]).T.reshape(1, 3, 1, 2)
    assert losses.masked_l1(target + 1, target).item() == pytest.approx(3.0)


@pytest.mark.parametrize("degrees", [0, 60, 90, 180])
@pytest.mark.parametrize("length", [1e-3, 1.0, 1e3])
def test_normals_lose_one_minus_the_cosine_whatever_the_length(degrees, length):
    a = math.radians(degrees)
    raw = length * torch.tensor([math.sin(a), 0, -math.cos(a)]).view(1, 3, 1, 1)
    wall = torch.tensor([0.0, 0, -1]).view(1, 3, 1, 1)
    assert losses.normal_cosine(raw, wall).item() == pytest.approx(1 - math.cos(a), abs=1e-6)


def test_a_normal_whose_components_sum_to_zero_counts_unless_as_released():
    tilted = torch.tensor([0.5, -0.5, 0.0]).view(1, 3, 1, 1) * math.sqrt(2)
    assert losses.normal_cosine(-tilted, tilted).item() == pytest.approx(2)
    assert losses.normal_cosine(-tilted, tilted, valid="mtan").item() == 0


# against plain NumPy


def test_losses_equal_a_plain_loop_over_pixels():
    batch = draw(seed=3, dtype=torch.float64)
    sums = {name: [] for name in TASKS}
    for b, y, x in np.ndindex(2, 5, 6):
        raw = {name: batch[name][1][b, :, y, x].numpy() for name in TASKS}
        k = int(batch["semantic"][2][b, y, x])
        depth, normal = batch["depth"][2][b, 0, y, x].item(), batch["normals"][2][b, :, y, x].numpy()
        if k >= 0:
            sums["semantic"].append(np.log(np.exp(raw["semantic"]).sum()) - raw["semantic"][k])
            sums["depth"].append(abs(raw["depth"][0] - depth))
            sums["normals"].append(1 - raw["normals"] @ normal / np.linalg.norm(raw["normals"]))
    for name, (loss, raw, target) in batch.items():
        assert loss(raw, target).item() == pytest.approx(np.mean(sums[name]), rel=1e-9)


# gradients


@pytest.mark.parametrize("name", TASKS)
def test_gradients_are_right(name):
    loss, raw, target = draw(seed=1, shape=(2, 2, 3), dtype=torch.float64)[name]
    assert gradcheck(lambda r: loss(r, target), raw.requires_grad_())


@pytest.mark.parametrize("name", TASKS)
def test_pixels_without_a_target_get_no_gradient(name):
    loss, raw, target = draw(seed=2)[name]
    (gradient,) = torch.autograd.grad(loss(raw.requires_grad_(), target), raw)
    void = draw(seed=2)["semantic"][2] == -1
    moved = (gradient != 0).any(dim=1)
    assert void.any() and not moved[void].any() and moved[~void].all()


@pytest.mark.parametrize("name", TASKS)
def test_nothing_valid_gives_an_attached_zero(name):
    loss, raw, target = draw()[name]
    nothing = torch.full_like(target, -1 if name == "semantic" else 0)
    value = loss(raw.requires_grad_(), nothing)
    (gradient,) = torch.autograd.grad(value, raw)
    assert value.item() == 0
    assert torch.equal(gradient, torch.zeros_like(raw))


def test_stretching_to_length_one_is_what_torch_does():
    raw = draw(seed=5)["normals"][1]
    torch.testing.assert_close(losses.unit(raw), F.normalize(raw, dim=1))


def test_a_zero_vector_has_cosine_zero_and_a_bounded_gradient():
    raw = torch.zeros(1, 3, 1, 1, requires_grad=True)
    value = losses.normal_cosine(raw, torch.tensor([0.0, 0, -1]).view(1, 3, 1, 1))
    (gradient,) = torch.autograd.grad(value, raw)
    assert value.item() == 1
    assert gradient.isfinite().all() and gradient.norm() <= 1.001 / losses.EPSILON


def test_huge_logits_stay_finite():
    raw = torch.tensor([1e4, -1e4]).view(1, 2, 1, 1).requires_grad_()
    value = losses.cross_entropy(raw, torch.tensor([[[1]]]))
    assert value.item() == pytest.approx(2e4)
    assert torch.autograd.grad(value, raw)[0].isfinite().all()


# precision


@pytest.mark.parametrize("name", TASKS)
@pytest.mark.parametrize("half", [torch.bfloat16, torch.float16])
def test_half_precision_is_computed_in_float32(name, half):
    loss, raw, target = draw(seed=4, shape=(2, 40, 50))[name]
    raw = raw.to(half)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        value = loss(raw, target)
    assert value.dtype == torch.float32
    exact = loss(raw.double(), target if name == "semantic" else target.double())
    assert value.item() == pytest.approx(exact.item(), rel=1e-5)


@pytest.mark.parametrize("name", TASKS)
def test_nothing_is_read_back_from_the_device(name):
    # tensors on "meta" have no values: every look at one raises
    loss, raw, target = draw()[name]
    assert loss(raw.to("meta"), target.to("meta")).shape == ()
    with pytest.raises((RuntimeError, NotImplementedError)):
        target.to("meta").nonzero()


# bad input


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: losses.cross_entropy(torch.zeros(1, 3, 4, 4), torch.zeros(1, 4, 4)), r"integer.*float32.*\.long"),
        (lambda: losses.cross_entropy(torch.zeros(1, 3, 4, 4), torch.zeros(1, 8, 8).long()), r"\(1, 4, 4\).*8, 8\)"),
        (lambda: losses.cross_entropy(torch.zeros(1, 3, 2, 2), torch.full((1, 2, 2), 255)), r"-1 \.\.\. 2.*255"),
        (lambda: losses.masked_l1(torch.zeros(2, 1, 4, 4), torch.zeros(2, 4, 4)), r"\(2, 1, 4, 4\).*\(2, 4, 4\)"),
        (lambda: losses.normal_cosine(torch.zeros(1, 3, 2, 2), torch.zeros(1, 3, 2, 2), valid="mtam"), "'mtan'"),
    ],
)
def test_bad_input_is_one_clear_line(call, words):
    with pytest.raises(KitError, match=words) as caught:
        call()
    assert "\n" not in str(caught.value)


# edges: numbers that ASTMT's released code gives for a pattern anyone can make


def pattern(shape, scale):
    k = np.arange(np.prod(shape)).reshape(shape)
    return torch.from_numpy((((k * 7919 + 13) % 1000) / 1000 - 0.4995) * scale)


@pytest.mark.parametrize(("weight", "expected"), [(0.95, 0.222294844), (0.8, 0.3169823298)])
def test_balanced_cross_entropy_is_that_of_the_released_code(weight, expected):
    raw = pattern((2, 1, 8, 8), 6)
    target = ((31 * torch.arange(128)) % 5 == 0).double().view(2, 1, 8, 8)
    assert losses.balanced_cross_entropy(raw, target, weight).item() == pytest.approx(expected, rel=1e-8)
    # pixels that are ignored change nothing, whatever is predicted there
    wider = torch.cat([raw, torch.full_like(raw, math.inf)], dim=2)
    ignored = torch.cat([target, -torch.ones_like(target)], dim=2)
    assert losses.balanced_cross_entropy(wider, ignored, weight).item() == pytest.approx(expected, rel=1e-8)


def test_the_best_constant_edge_probability_is_a_minimum_of_the_loss():
    task, target = tasks.edges(0.8), torch.tensor([1.0, 0, 0, 0, 0, 0, 0, -1]).view(1, 1, 2, 4)
    best = task.constant([target]).view(1, 1, 1, 1)
    around = [task.loss((best + step).expand_as(target), target).item() for step in (-0.05, 0, 0.05)]
    assert min(around) == around[1]
    assert task.predict(best).item() == pytest.approx(0.8 / (0.8 + 0.2 * 6))
    assert task.valid(target).sum() == 7 and task.valid(target).shape == (1, 2, 4)


def test_balanced_cross_entropy_without_any_valid_pixel_is_zero():
    raw = torch.zeros(1, 1, 2, 2, requires_grad=True)
    loss = losses.balanced_cross_entropy(raw, -torch.ones(1, 1, 2, 2), 0.95)
    loss.backward()
    assert loss.item() == 0 and (raw.grad == 0).all()


def test_a_task_without_metrics_says_so_in_one_line():
    with pytest.raises(KitError, match="does not measure task 'edges'") as error:
        tasks.edges().metrics("mtan")
    assert "\n" not in str(error.value)
