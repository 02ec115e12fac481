"""The training losses of the dense tasks: one number per task, the mean over the pixels that have a target.

The forms are those of MTAN (Liu, Johns and Davison, "End-to-End Multi-Task Learning with Attention", CVPR 2019)
as its released code computes them: all valid pixels of the batch are pooled, so an image with few valid pixels counts
little.

Known deviations from the released code, all three for safety and none visible on ordinary data:
    * a batch without any valid pixel gives a zero that is still attached to the graph (its gradient is zero); the
      released code divides by zero;
    * a raw normal vector of length zero is left at zero by a small epsilon; the released code divides by its length
      and gives NaN;
    * a true normal whose components happen to sum to zero counts; ``valid="mtan"`` drops it, as released.

Half-precision inputs are computed in float32 (float64 stays float64). Nothing here reads a value back from the
device: masks are multiplied or summed, never indexed with.

Shapes: B batch, C channels, H/W size, K classes.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from .errors import KitError, nearest

# Length under which a raw normal vector is no longer stretched to length one. It bounds the gradient of the
# normalisation by 1/EPSILON, and its square is still an ordinary float32.
EPSILON = 1e-6

NORMAL_RULES = ("any", "mtan")


def widen(x: Tensor) -> Tensor:
    """Half precision to float32; float32 and float64 stay as they are."""
    return x.float() if x.dtype in (torch.float16, torch.bfloat16) else x


def unit(raw_BCHW: Tensor, eps: float = EPSILON) -> Tensor:
    """Vectors stretched to length one along dimension 1; one shorter than ``eps`` is divided by ``eps`` instead.

    The same as ``torch.nn.functional.normalize``, which takes many times longer on this layout.

    >>> unit(torch.tensor([3.0, 0.0, 4.0]).view(1, 3, 1, 1)).flatten().tolist()
    [0.6000000238418579, 0.0, 0.800000011920929]
    """
    # the clamp stands before the root: the root's slope at zero is infinite, and 0 * infinity would be a NaN gradient
    return raw_BCHW / raw_BCHW.square().sum(dim=1, keepdim=True).clamp_min(eps**2).sqrt()


def valid_normals(target_B3HW: Tensor, rule: str = "any") -> Tensor:
    """The pixels that have a normal.

    Args:
        target_B3HW: unit vectors, all-zero where there is none.
        rule: ``"any"`` takes a pixel with any component other than zero (default); ``"mtan"``, as released, one whose
            components do not sum to zero, which also drops a few genuine normals.

    Returns:
        bool (B, H, W).

    Raises:
        KitError: an unknown rule.

    >>> upright = torch.tensor([0.0, -0.7071, 0.7071]).view(1, 3, 1, 1)  # its components sum to zero
    >>> valid_normals(upright).item(), valid_normals(upright, "mtan").item()
    (True, False)
    """
    if rule == "any":
        return target_B3HW.abs().amax(dim=1) != 0
    if rule == "mtan":
        return target_B3HW.sum(dim=1) != 0
    raise KitError(f"unknown rule valid={rule!r} for normals: {nearest(rule, NORMAL_RULES)}")


def cross_entropy(raw_BKHW: Tensor, target_BHW: Tensor) -> Tensor:
    """Negative log-likelihood of the softmax, mean over the pixels whose target is not -1.

    Args:
        raw_BKHW: logits, any real numbers; (B, K) where an image has one label.
        target_BHW: integer class ids 0 ... K-1; -1 is ignored; (B,) where an image has one label.

    Returns:
        A scalar in nats, >= 0; zero, with zero gradient, where every pixel is ignored.

    Raises:
        KitError: shapes that do not fit, a target that is not of an integer type, or (found on the CPU alone) an id
            outside -1 ... K-1.

    >>> cross_entropy(torch.zeros(1, 4, 1, 2), torch.tensor([[[2, -1]]])).item()  # log 4: four classes, equally likely
    1.3862943649291992
    """
    if target_BHW.is_floating_point():
        raise KitError(f"cross_entropy: expected integer class ids, found {target_BHW.dtype}; give target.long()")
    expected = (raw_BKHW.shape[0], *raw_BKHW.shape[2:])
    if tuple(target_BHW.shape) != expected:
        found = tuple(target_BHW.shape)
        raise KitError(f"cross_entropy: expected a target of shape {expected}, found {found}; resize the output first")
    target_BHW = target_BHW.long()
    try:
        total = F.cross_entropy(widen(raw_BKHW), target_BHW, ignore_index=-1, reduction="sum")
    except IndexError as error:
        last, found = raw_BKHW.shape[1] - 1, str(error).rstrip(".")
        raise KitError(f"cross_entropy: expected class ids -1 ... {last}, found: {found}; map void to -1") from error
    return total / (target_BHW != -1).sum().clamp(min=1)


def masked_l1(raw_B1HW: Tensor, target_B1HW: Tensor) -> Tensor:
    """Mean absolute difference over the pixels whose target is not 0.

    With several channels a pixel counts where the channel sum of its target is not 0, and its differences are summed
    over channels, as released.

    Args:
        raw_B1HW: the prediction, in the unit of the target (metres for depth); it may be negative.
        target_B1HW: the target; 0 is invalid.

    Returns:
        A scalar in the unit of the target, >= 0; zero, with zero gradient, where no pixel is valid.

    Raises:
        KitError: shapes that differ.

    >>> masked_l1(torch.tensor([[[[1.0, 5.0]]]]), torch.tensor([[[[3.0, 0.0]]]])).item()
    2.0
    """
    _same_shape("masked_l1", raw_B1HW, target_B1HW)
    target_B1HW = widen(target_B1HW)
    valid_B1HW = target_B1HW.sum(dim=1, keepdim=True) != 0
    error_B1HW = (widen(raw_B1HW) - target_B1HW).abs()
    return torch.where(valid_B1HW, error_B1HW, 0.0).sum() / valid_B1HW.sum().clamp(min=1)


def normal_cosine(raw_B3HW: Tensor, target_B3HW: Tensor, *, valid: str = "any", eps: float = EPSILON) -> Tensor:
    """One minus the mean cosine between the raw vectors, stretched to length one, and the target's normals.

    Args:
        raw_B3HW: vectors of any length. One shorter than ``eps`` is divided by ``eps`` instead of by its length: a
            zero vector has cosine 0.
        target_B3HW: unit vectors, all-zero where there is none.
        valid: which pixels count, see ``valid_normals``: ``"any"`` (default, corrected) or ``"mtan"`` (as released).
        eps: a length, > 0.

    Returns:
        A scalar in [0, 2]; zero, with zero gradient, where no pixel is valid.

    Raises:
        KitError: shapes that differ, or an unknown ``valid``.

    >>> wall = torch.tensor([0.0, 0.0, -1.0]).view(1, 3, 1, 1)
    >>> normal_cosine(5 * wall, wall).item(), normal_cosine(-wall, wall).item()
    (0.0, 2.0)
    """
    _same_shape("normal_cosine", raw_B3HW, target_B3HW)
    target_B3HW = widen(target_B3HW)
    valid_BHW = valid_normals(target_B3HW, valid)
    cosine_BHW = (unit(widen(raw_B3HW), eps) * target_B3HW).sum(dim=1)
    return torch.where(valid_BHW, 1 - cosine_BHW, 0.0).sum() / valid_BHW.sum().clamp(min=1)


def l1(raw_BCHW: Tensor, target_BCHW: Tensor) -> Tensor:
    """Mean absolute difference, every entry counts (ASTMT's loss of albedo).

    Args:
        raw_BCHW: the prediction, in the unit of the target.
        target_BCHW: the target.

    Returns:
        A scalar in the unit of the target, >= 0.

    Raises:
        KitError: shapes that differ.
    """
    _same_shape("l1", raw_BCHW, target_BCHW)
    return (widen(raw_BCHW) - widen(target_BCHW)).abs().mean()


def balanced_cross_entropy(raw_B1HW: Tensor, target_B1HW: Tensor, weight: float | None) -> Tensor:
    """Cross entropy of a yes-or-no task whose two answers weigh ``weight`` and 1 - ``weight``, mean over the pixels
    whose target is not -1.

    As in the released code of ASTMT (Maninis, Radosavovic and Kokkinos, CVPR 2019), but for pixels to ignore, which it
    does not know: there a target of 255 counts as 1.

    Args:
        raw_B1HW: logits, any real numbers.
        target_B1HW: 1 or 0; -1 is ignored.
        weight: of a pixel whose target is 1, in [0, 1]; None is the share of zeros in this batch (S. Xie and Z. Tu,
            "Holistically-Nested Edge Detection", ICCV 2015).

    Returns:
        A scalar in nats, >= 0; zero, with zero gradient, where every pixel is ignored.

    Raises:
        KitError: shapes that differ.

    >>> raw, target = torch.zeros(1, 1, 1, 3), torch.tensor([[[[1.0, 0.0, -1.0]]]])
    >>> balanced_cross_entropy(raw, target, 0.75).item()  # (0.75 + 0.25) log 2 over two pixels
    0.3465735912322998
    """
    _same_shape("balanced_cross_entropy", raw_B1HW, target_B1HW)
    target_B1HW = widen(target_B1HW)
    valid_B1HW = target_B1HW >= 0
    yes_B1HW = target_B1HW.clamp_min(0)
    if weight is None:
        weight = 1 - yes_B1HW.sum() / valid_B1HW.sum().clamp(min=1)
    factor_B1HW = weight * yes_B1HW + (1 - weight) * (1 - yes_B1HW)
    loss_B1HW = F.binary_cross_entropy_with_logits(widen(raw_B1HW), yes_B1HW, factor_B1HW, reduction="none")
    return torch.where(valid_B1HW, loss_B1HW, 0.0).sum() / valid_B1HW.sum().clamp(min=1)


def _same_shape(name: str, raw: Tensor, target: Tensor) -> None:
    if raw.shape != target.shape:
        # broadcasting would hide the mistake: (B, 1, H, W) - (B, H, W) is a (B, B, H, W) without a word
        expected, found = tuple(raw.shape), tuple(target.shape)
        raise KitError(f"{name}: expected a target of shape {expected}, found {found}; resize the output first")
