"""The training losses of the dense tasks: one number per task, the mean over the pixels that have a target.

Those of ASTMT and of edgeai stand at the end of the file, with what is released and what is corrected.

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

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from .errors import KitError, nearest

# Length under which a raw normal vector is no longer stretched to length one. It bounds the gradient of the
# normalisation by 1/EPSILON, and its square is still an ordinary float32.
EPSILON = 1e-6

NORMAL_RULES = ("any", "mtan")
SOBEL = ((1.0, 0.0, -1.0), (2.0, 0.0, -2.0), (1.0, 0.0, -1.0))  # across; transposed, down


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


def cross_entropy(raw_BKHW: Tensor, target_BHW: Tensor, weights: Sequence[float] | None = None) -> Tensor:
    """Negative log-likelihood of the softmax, mean over the pixels whose target is not -1.

    Args:
        raw_BKHW: logits, any real numbers; (B, K) where an image has one label.
        target_BHW: integer class ids 0 ... K-1; -1 is ignored; (B,) where an image has one label.
        weights: of the K classes: a pixel counts times that of its target, and the mean is still over the number of
            pixels, not over the sum of their weights; None is 1 for each.

    Returns:
        A scalar in nats, >= 0; zero, with zero gradient, where every pixel is ignored.

    Raises:
        KitError: shapes that do not fit, a target that is not of an integer type, another number of weights than of
            classes, or (found on the CPU alone) an id outside -1 ... K-1.

    >>> cross_entropy(torch.zeros(1, 4, 1, 2), torch.tensor([[[2, -1]]])).item()  # log 4: four classes, equally likely
    1.3862943649291992
    """
    if target_BHW.is_floating_point():
        raise KitError(f"cross_entropy: expected integer class ids, found {target_BHW.dtype}; give target.long()")
    expected = (raw_BKHW.shape[0], *raw_BKHW.shape[2:])
    if tuple(target_BHW.shape) != expected:
        found = tuple(target_BHW.shape)
        raise KitError(f"cross_entropy: expected a target of shape {expected}, found {found}; resize the output first")
    if weights is not None and len(weights) != raw_BKHW.shape[1]:
        found = f"{len(weights)} for {raw_BKHW.shape[1]} classes"
        raise KitError(f"cross_entropy: expected one weight for each class, found {found}; leave them out")
    target_BHW, raw_BKHW = target_BHW.long(), widen(raw_BKHW)
    weight_K = None if weights is None else raw_BKHW.new_tensor(weights)
    try:
        total = F.cross_entropy(raw_BKHW, target_BHW, weight_K, ignore_index=-1, reduction="sum")
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


def _same_shape(name: str, raw: Tensor, target: Tensor) -> None:
    if raw.shape != target.shape:
        # broadcasting would hide the mistake: (B, 1, H, W) - (B, H, W) is a (B, B, H, W) without a word
        expected, found = tuple(raw.shape), tuple(target.shape)
        raise KitError(f"{name}: expected a target of shape {expected}, found {found}; resize the output first")


# --- ASTMT ------------------------------------------------------------------------------------------------------------
# Maninis, Radosavovic and Kokkinos, "Attentive Single-Tasking of Multiple Tasks", CVPR 2019. Classes and parts have
# ``cross_entropy``. A batch without a valid pixel is skipped there, as it is by this kit's loops.


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


def l1(raw_BCHW: Tensor, target_BCHW: Tensor) -> Tensor:
    """Mean absolute difference, every entry counts: of albedo.

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


def normal_l1(raw_B3HW: Tensor, target_B3HW: Tensor) -> Tensor:
    """Mean absolute difference between the components of the raw vectors, stretched to length one, and of the target's
    normals: three for each pixel that has one.

    Args:
        raw_B3HW: vectors of any length, as in ``normal_cosine``.
        target_B3HW: unit vectors, all-zero where there is none.

    Returns:
        A scalar in [0, 2 / sqrt 3]; zero, with zero gradient, where no pixel is valid.

    Raises:
        KitError: shapes that differ.

    >>> wall = torch.tensor([0.0, 0.0, -1.0]).view(1, 3, 1, 1)
    >>> round(normal_l1(-5 * wall, wall).item(), 4)  # (0 + 0 + 2) / 3
    0.6667
    """
    _same_shape("normal_l1", raw_B3HW, target_B3HW)
    target_B3HW = widen(target_B3HW)
    valid_B1HW = valid_normals(target_B3HW)[:, None]
    error_B3HW = torch.where(valid_B1HW, unit(widen(raw_B3HW)) - target_B3HW, 0.0)
    return error_B3HW.abs().sum() / (3 * valid_B1HW.sum()).clamp(min=1)


def astmt_depth(raw_B1HW: Tensor, target_B1HW: Tensor, released: bool) -> Tensor:
    """``masked_l1`` plus the absolute differences between the slopes of prediction and target, across and down by
    Sobel's filters with zeros around the picture; summed over all pixels, and divided by the number of valid ones.

    Pixels without a target are 0 in both pictures that the filters see. As released, they are so in the target's alone:
    the slopes of a prediction count there and around, and pull it towards 0.

    Args:
        raw_B1HW: the prediction, in the unit of the target; it may be negative.
        target_B1HW: the target; 0 is invalid.
        released: as released, or corrected.

    Returns:
        A scalar in the unit of the target, >= 0; zero, with zero gradient, where no pixel is valid.

    Raises:
        KitError: shapes that differ.

    >>> raw, target = torch.full((2, 1, 1, 1, 2), 3.0)
    >>> astmt_depth(raw, target, released=True).item()
    0.0
    >>> target[..., 1] = 0  # released, the other pixel sees a prediction of 3 beside it, and a target of 0: 2 * 3
    >>> astmt_depth(raw, target, released=True).item(), astmt_depth(raw, target, released=False).item()
    (6.0, 0.0)
    """
    l1 = masked_l1(raw_B1HW, target_B1HW)
    raw_B1HW, target_B1HW = widen(raw_B1HW), widen(target_B1HW)
    valid_B1HW = target_B1HW != 0
    seen_B1HW = valid_B1HW.any() if released else valid_B1HW
    error_B1HW = torch.where(seen_B1HW, raw_B1HW - target_B1HW, 0.0)  # the filters are linear
    across_33 = error_B1HW.new_tensor(SOBEL)
    slopes_B2HW = F.conv2d(error_B1HW, torch.stack([across_33, across_33.T])[:, None], padding=1)
    return l1 + slopes_B2HW.abs().sum() / valid_B1HW.sum().clamp(min=1)


# --- edgeai -----------------------------------------------------------------------------------------------------------
# The two-stream network of edgeai (Texas Instruments, edgeai-torchvision, r8.0) on Cityscapes; where nothing is valid,
# its losses are NaN and dropped, here a zero as everywhere.

# number of classes -> weight of each: 19 of Cityscapes; road, sky, pedestrian, vehicle, background; static and moving
EDGEAI_WEIGHTS: dict[int, tuple[float, ...]] = {
    19: (
        0.05570516, 0.32337477, 0.08998544, 1.03602707, 1.03413147, 1.68195437, 5.58540548, 3.56563995, 0.12704978, 1.0,
        0.46783719, 1.34551528, 5.29974114, 0.28342531, 0.9396095, 0.81551811, 0.42679146, 3.6399074, 2.78376194,
    ),
    5: (0.22567085, 1.89944273, 5.24032014, 1.0, 0.13516443),
    2: (0.05, 0.95),
}  # fmt: skip
RELEASED_CHANCE = 0.2  # that a call of the released cross entropy uses the weights at all
SCALE_POWER, SCALE_EPSILON = 0.45, 1e-6  # of the Charbonnier penalty of ``scale_loss``


def masked_smooth_l1(raw_B1HW: Tensor, target_B1HW: Tensor) -> Tensor:
    """Smooth L1 (beta 1) in metres: e^2 / 2 of a difference below 1, else e - 1/2; mean over the pixels whose target is
    not 0. Else as ``masked_l1``.
    """
    error_B1HW, count = _valid_errors("masked_smooth_l1", raw_B1HW, target_B1HW)
    return F.smooth_l1_loss(error_B1HW, torch.zeros_like(error_B1HW), reduction="sum") / count


def scale_loss(raw_B1HW: Tensor, target_B1HW: Tensor) -> Tensor:
    """How far the mean prediction is from the mean target, over the pixels whose target is not 0: Charbonnier's
    penalty (d^2 + 1e-6)^0.45 of the difference d of the two means, less its value at 0. Else as ``masked_l1``.
    """
    error_B1HW, count = _valid_errors("scale_loss", raw_B1HW, target_B1HW)
    squared = (error_B1HW.sum() / count).square()
    least = torch.full_like(squared, SCALE_EPSILON)
    return (squared + least) ** SCALE_POWER - least**SCALE_POWER


def edgeai_depth(raw_B1HW: Tensor, target_B1HW: Tensor) -> Tensor:
    """``masked_smooth_l1`` plus ``scale_loss``, as released; both in metres.

    Args:
        raw_B1HW: metres; may be negative.
        target_B1HW: metres; 0 is invalid.

    Returns:
        A scalar >= 0; zero, with zero gradient, where no pixel is valid.

    Raises:
        KitError: shapes that differ.

    >>> raw, target = torch.tensor([[[[3.0, 5.0]]]]), torch.tensor([[[[3.5, 0.0]]]])
    >>> round(edgeai_depth(raw, target).item(), 4)  # 0.125 + 0.5339
    0.6589
    """
    return masked_smooth_l1(raw_B1HW, target_B1HW) + scale_loss(raw_B1HW, target_B1HW)


def edgeai_cross_entropy(raw_BKHW: Tensor, target_BHW: Tensor, weights: Sequence[float], released: bool) -> Tensor:
    """Cross entropy with weights of the classes.

    Corrected, the weights count at every call, and the mean is over the pixels that are not ignored. As released, a
    call uses the weights with a chance of 0.2, by torch's random state on the CPU, and else none; and the ignored
    pixels count in the number that the sum is divided by.

    Args:
        raw_BKHW: logits, any real numbers.
        target_BHW: integer class ids 0 ... K-1; -1 is ignored.
        weights: one for each class, see ``EDGEAI_WEIGHTS``.
        released: as released, or corrected.

    Returns:
        A scalar >= 0; zero, with zero gradient, where every pixel is ignored.

    Raises:
        KitError: as ``cross_entropy``.

    >>> raw, target = torch.zeros(1, 2, 1, 2), torch.tensor([[[1, -1]]])
    >>> round(edgeai_cross_entropy(raw, target, (0.05, 0.95), released=False).item(), 4)  # 0.95 log 2
    0.6585
    """
    if not released:
        return cross_entropy(raw_BKHW, target_BHW, weights)
    drawn = bool(torch.rand(()) < RELEASED_CHANCE)
    mean = cross_entropy(raw_BKHW, target_BHW, weights if drawn else None)
    return mean * (target_BHW != -1).sum() / target_BHW.numel()


def _valid_errors(name: str, raw_B1HW: Tensor, target_B1HW: Tensor) -> tuple[Tensor, Tensor]:
    """Prediction less target, 0 where that is invalid, and the number of valid pixels, at least 1."""
    _same_shape(name, raw_B1HW, target_B1HW)
    valid_B1HW = target_B1HW != 0
    return torch.where(valid_B1HW, widen(raw_B1HW) - widen(target_B1HW), 0.0), valid_B1HW.sum().clamp(min=1)
