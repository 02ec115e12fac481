"""ASTMT's losses give the numbers of its released code, to the digits, and stay right where that is not."""

import pytest
import torch
from torch.autograd import gradcheck

from mtlkit import losses, recipes, tasks
from mtlkit.errors import KitError


def pattern(shape, scale):
    """Numbers that any code can make: from -scale/2 to scale/2, float64."""
    k = torch.arange(torch.Size(shape).numel(), dtype=torch.int64)
    return (((k * 7919 + 13) % 1000).double() / 1000 - 0.4995).view(shape) * scale


def digits(value):
    return pytest.approx(value, rel=1e-9)


# --- what the released code gives -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("task", "expected"),
    [(tasks.edges(0.95), 0.222294844), (tasks.edges(0.8), 0.3169823298), (tasks.saliency(), 0.3189549858)],
    ids=["edges of PASCAL", "edges of NYUD", "saliency"],
)
def test_balanced_cross_entropy(task, expected):
    target = (31 * torch.arange(128) % 5 == 0).double().view(2, 1, 8, 8)
    assert target.mean() == 0.203125
    assert task.loss(pattern((2, 1, 8, 8), 6), target).item() == digits(expected)


def test_cross_entropy():
    target = (7 * torch.arange(128) % 21).view(2, 8, 8)
    target[0, 0] = -1
    assert losses.cross_entropy(pattern((2, 21, 8, 8), 6), target).item() == digits(4.274238968)


def normals():
    target = losses.unit(pattern((2, 3, 8, 8), 1).flip(3))
    target[0, :, :2] = 0
    return pattern((2, 3, 8, 8), 4), target


def distances():
    target = pattern((2, 1, 8, 8), 2).flip(2) + 3
    target[0, 0, :2] = 0
    return pattern((2, 1, 8, 8), 4) + 3, target


def test_normals():
    assert losses.normal_l1(*normals()).item() == digits(0.700520856)


def test_depth():
    assert losses.masked_l1(*distances()).item() == digits(1.18425)
    assert losses.astmt_depth(*distances(), released=True).item() == digits(11.72076786)


# --- what is corrected ------------------------------------------------------------------------------------------------


def test_released_and_corrected_depth_differ_where_pixels_are_invalid():
    raw, target = distances()
    found = [losses.astmt_depth(raw, target, released).item() for released in (False, True)]
    assert found[0] < found[1]
    whole = target.where(target != 0, 2.0)
    assert losses.astmt_depth(raw, whole, False).item() == digits(losses.astmt_depth(raw, whole, True).item())


def test_what_is_predicted_on_invalid_pixels_changes_the_released_loss_alone():
    raw, target = distances()
    other = raw.where(target != 0, raw + 7)
    assert losses.astmt_depth(other, target, False).item() == losses.astmt_depth(raw, target, False).item()
    assert losses.astmt_depth(other, target, True) > losses.astmt_depth(raw, target, True) + 1


def test_a_shifted_surface_has_wrong_slopes_at_the_border_alone():
    """Depth that is a metre off everywhere: 1 of L1; Sobel's filters see a step at the border of the picture, and there
    each of them sums to 4 away from the corners.
    """
    target = torch.full((1, 1, 6, 9), 3.0, dtype=torch.float64)
    across, down = 2 * (4 * 6 - 2), 2 * (4 * 9 - 2)  # beside a corner, one of the weights 1 falls outside, twice
    expected = 1 + (across + down) / 54
    assert losses.astmt_depth(target + 1, target, False).item() == pytest.approx(expected)


@pytest.mark.parametrize("released", [False, True])
def test_nothing_valid_is_a_zero_with_a_gradient_of_zero(released):
    for loss, channels in ((losses.normal_l1, 3), (lambda *pair: losses.astmt_depth(*pair, released), 1)):
        raw = torch.ones(1, channels, 4, 4, requires_grad=True)
        value = loss(raw, torch.zeros(1, channels, 4, 4))
        value.backward()
        assert value.item() == 0 and (raw.grad == 0).all()


@pytest.mark.parametrize("name", ["normals", "depth", "released depth"])
def test_gradients_are_those_of_the_function(name):
    raw, target = (x[:1, ..., :4, :4].clone() for x in (normals() if name == "normals" else distances()))
    loss = losses.normal_l1 if name == "normals" else lambda *pair: losses.astmt_depth(*pair, name == "released depth")
    assert gradcheck(lambda x: loss(x, target), raw.requires_grad_())


def test_a_recipe_names_them():
    named = {"depth": "astmt", "normals": "astmt"}
    recipe = recipes.load("rooms-tiny", {"losses": named})
    depth, facing = recipe.choose(
        {"semantic": tasks.semantic("ab"), "depth": tasks.depth(), "normals": tasks.normals()}
    )[1:]
    assert depth.loss(*distances()) == losses.astmt_depth(*distances(), released=False)
    assert facing.loss(*normals()) == losses.normal_l1(*normals())
    released = tasks.with_losses([tasks.disparity()], {"disparity": "astmt-released"})[0]
    assert released.loss(*distances()) == losses.astmt_depth(*distances(), released=True)
    with pytest.raises(KitError, match="normal_l1: expected a target of shape"):
        facing.loss(torch.zeros(1, 3, 4, 4), torch.zeros(1, 3, 4, 5))
