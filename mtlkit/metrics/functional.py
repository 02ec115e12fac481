"""Pure functions: from predictions and targets to counts, sums of errors, angles and medians.

Nothing here reads a value back from the device: masks are multiplied or sent to an extra row, never indexed with.

Shapes: B batch, C channels, H/W size, K classes, T thresholds.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from ..errors import KitError
from ..losses import widen

# Apple's GPU has no float64. A float32 sum of batch sums is still right to about six digits.
WIDE = torch.float32 if torch.backends.mps.is_available() else torch.float64

# 0.05 degrees: fine for a median, and it makes the three thresholds below exact edges of bins.
BINS_PER_DEGREE = 20
BINS = 180 * BINS_PER_DEGREE


def confusion_matrix(prediction: Tensor, target: Tensor, classes: int) -> Tensor:
    """How often each true class (row) was predicted as each class (column), over the pixels whose target is a class.

    Args:
        prediction: integer class ids 0 ... K-1, any shape.
        target: integer class ids of the same shape; everything outside 0 ... K-1 is void and does not count.
        classes: K.

    Returns:
        int64 (K, K).

    Raises:
        KitError: shapes that differ, a prediction that is not of an integer type, or (found on the CPU alone) one
            outside 0 ... K-1.

    >>> confusion_matrix(torch.tensor([0, 1, 1, 0]), torch.tensor([0, 1, 0, -1]), 2).tolist()
    [[1, 1], [0, 1]]
    """
    return confusion_by_image(prediction[None], target[None], classes)[0, :classes]


def confusion_by_image(prediction: Tensor, target: Tensor, classes: int) -> Tensor:
    """The confusion matrix of each image, with an extra last row: what was predicted on its void pixels.

    Args:
        prediction: integer class ids 0 ... K-1, (B, ...).
        target: integer class ids of the same shape; everything outside 0 ... K-1 is void.
        classes: K.

    Returns:
        int64 (B, K+1, K).

    Raises:
        KitError: as ``confusion_matrix``.

    >>> confusion_by_image(torch.tensor([[0, 1, 1], [0, 0, 0]]), torch.tensor([[0, 0, -1], [0, 1, 1]]), 2).tolist()
    [[[1, 1], [0, 0], [0, 1]], [[1, 0], [2, 0], [0, 0]]]
    """
    _check_class_ids(prediction, target, classes)
    target = target.long()
    row = torch.where((target < 0) | (target >= classes), classes, target)
    images, cells = len(prediction), (classes + 1) * classes
    first_cell = torch.arange(images, device=target.device).view(-1, *[1] * (target.ndim - 1)) * cells
    cell = torch.add(prediction, row, alpha=classes)  # row * classes + prediction in one pass
    return _count(cell + first_cell, images * cells).view(images, classes + 1, classes)


def _check_class_ids(prediction: Tensor, target: Tensor, classes: int) -> None:
    if prediction.is_floating_point() or prediction.shape != target.shape:
        raise KitError(
            f"confusion_matrix: expected integer class ids of shape {tuple(target.shape)}, "
            f"found {prediction.dtype} {tuple(prediction.shape)}; give raw.argmax(dim=1)"
        )
    if prediction.device.type == "cpu" and prediction.numel():  # elsewhere the look would wait for the device
        low, high = (int(x) for x in prediction.aminmax())
        if low < 0 or high >= classes:
            expected, found = f"0 ... {classes - 1}", f"{low} ... {high}"
            raise KitError(f"confusion_matrix: expected class ids {expected}, found {found}; give raw.argmax(dim=1)")


def iou_from_confusion(confusion_RK: Tensor) -> Tensor:
    """Intersection over union of each class.

    Args:
        confusion_RK: integers (..., R, K); rows are the truth, columns the prediction. R is K, or K+1 with the last row
            of ``confusion_by_image``: then what is predicted on void pixels enlarges the union of its class.

    Returns:
        floats (..., K) in [0, 1]; NaN for a class whose union is empty.

    >>> iou_from_confusion(torch.tensor([[2, 1, 0], [1, 4, 0], [0, 0, 0]])).tolist()
    [0.5, 0.6666666666666666, nan]
    >>> iou_from_confusion(torch.tensor([[2, 1, 0], [1, 4, 0], [0, 0, 0], [0, 2, 7]])).tolist()
    [0.5, 0.5, 0.0]
    """
    hit = confusion_RK.diagonal(dim1=-2, dim2=-1)
    true = confusion_RK.sum(dim=-1)[..., : hit.shape[-1]]
    return hit.to(WIDE) / (confusion_RK.sum(dim=-2) + true - hit)


def depth_errors(prediction_B1HW: Tensor, target_B1HW: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Sums of the absolute and of the relative error |p - g| / g over the pixels whose target g is not 0.

    Args:
        prediction_B1HW: metres; may be negative.
        target_B1HW: metres; 0 is invalid.

    Returns:
        (sum of absolute errors in metres, sum of relative errors as fractions, number of valid pixels).

    >>> [x.item() for x in depth_errors(torch.tensor([1.0, 3.0, 9.0]), torch.tensor([2.0, 2.0, 0.0]))]
    [2.0, 1.0, 2]
    """
    prediction, target = widen(prediction_B1HW), widen(target_B1HW)
    valid = target != 0
    error = torch.where(valid, (prediction - target).abs(), 0.0)
    relative = error / torch.where(valid, target, 1.0)
    return error.sum(dtype=WIDE), relative.sum(dtype=WIDE), valid.sum()


def angular_error_degrees(prediction_B3HW: Tensor, target_B3HW: Tensor) -> Tensor:
    """The angle acos(clamp(<p, g>, -1, 1)) between unit vectors, as MTAN's released code measures it.

    Near 0 and 180 degrees the cosine is flat and float32 resolves about 0.03 degrees: equal vectors may be that far
    apart.

    Returns:
        degrees (B, H, W) in [0, 180]; meaningless (90) where a vector is all-zero.

    >>> along_x, along_y = torch.eye(3)[:2].view(2, 1, 3, 1, 1)
    >>> round(angular_error_degrees(along_x, along_y).item(), 3)
    90.0
    """
    cosine_BHW = (widen(prediction_B3HW) * widen(target_B3HW)).sum(dim=1)
    return torch.rad2deg(torch.acos(cosine_BHW.clamp(-1, 1)))


def angle_histogram(angle: Tensor, valid: Tensor) -> Tensor:
    """How many valid angles fall in each 0.05 degrees: bin i holds i/20 <= angle < (i+1)/20, the last one 180 too.

    NaN goes to the last bin: a network that gives NaN must not look good.

    Args:
        angle: degrees in [0, 180].
        valid: bool, of the same shape.

    Returns:
        int64 (3600,).
    """
    bins = (angle.nan_to_num(nan=180.0) * BINS_PER_DEGREE).long().clamp(0, BINS - 1)
    return _count(torch.where(valid, bins, BINS), BINS + 1)[:BINS]


def median_from_histogram(histogram: Tensor) -> Tensor:
    """The median in degrees of an ``angle_histogram``, spread evenly inside its bin; NaN of an empty one.

    It lies in the same bin as the lower of the two middle values.

    >>> round(median_from_histogram(angle_histogram(torch.tensor([10.0, 20.0, 90.0]), torch.ones(3).bool())).item(), 3)
    20.025
    """
    upto = histogram.cumsum(0)
    half = upto[-1].to(WIDE) / 2
    middle = (upto < half).sum()
    inside = (half - (upto[middle] - histogram[middle])) / histogram[middle]
    return (middle + inside) / BINS_PER_DEGREE


def masked_median(values: Tensor, valid: Tensor) -> Tensor:
    """The median of the valid values, the lower of the middle two (as ``torch.median``); NaN where none is valid.

    >>> masked_median(torch.tensor([4.0, 1.0, 9.0, 2.0]), torch.tensor([True, True, False, True])).item()
    2.0
    """
    if values.device.type == "cpu":
        return torch.where(valid, values, math.nan).nanmedian()
    return _median_by_sorting(values, valid)  # nanmedian waits for the device there


def _median_by_sorting(values: Tensor, valid: Tensor) -> Tensor:
    ordered = torch.where(valid, values, math.inf).flatten().sort().values
    count = valid.sum()
    median = ordered.gather(0, ((count - 1).clamp(min=0) // 2).reshape(1))[0]
    return torch.where(count > 0, median, math.nan)


def eight_bits(x: Tensor) -> Tensor:
    """Numbers in [0, 1] as the bytes 0 ... 255 of a picture, cut and not rounded; the type stays.

    >>> eight_bits(torch.tensor([0.0, 0.5, 1.0])).tolist()
    [0.0, 127.0, 255.0]
    """
    return (x * 255).floor().clamp(0, 255)


def threshold_counts(score_B1HW: Tensor, target_B1HW: Tensor, thresholds: Sequence[float]) -> Tensor:
    """Hits, predicted and true pixels of a yes-or-no task at several thresholds, in one pass.

    Args:
        score_B1HW: a pixel is predicted where this is at least the threshold; NaN is below all.
        target_B1HW: 1 or 0; below 0 does not count.
        thresholds: T numbers, growing.

    Returns:
        int64 (B, T, 3).

    >>> threshold_counts(torch.tensor([[[[0.9, 0.6, 0.5]]]]), torch.tensor([[[[1, 0, 1]]]]), (0.5, 0.7)).tolist()
    [[[2, 3, 2], [1, 1, 2]]]
    """
    images, levels = len(score_B1HW), len(thresholds) + 1
    limits_T = torch.tensor(thresholds, dtype=score_B1HW.dtype, device=score_B1HW.device)
    level = torch.bucketize(score_B1HW.nan_to_num(nan=-math.inf).contiguous(), limits_T, right=True)
    kind = torch.where(target_B1HW < 0, 2, (target_B1HW > 0).long())  # no, yes, void
    first_cell = 3 * levels * torch.arange(images, device=level.device).view(-1, 1, 1, 1)
    counts_B3L = _count(first_cell + kind * levels + level, images * 3 * levels).view(images, 3, levels)
    above_BT, hits_BT = (counts_B3L[:, k].flip(1).cumsum(1).flip(1)[:, 1:] for k in (0, 1))
    true_BT = counts_B3L[:, 1].sum(dim=1, keepdim=True).expand_as(hits_BT)
    return torch.stack([hits_BT, above_BT + hits_BT, true_BT], dim=2)


def _count(indices: Tensor, size: int) -> Tensor:
    """How often each of 0 ... size-1 occurs, int64 (size,)."""
    indices = indices.flatten()
    if indices.device.type == "cpu":
        return torch.bincount(indices, minlength=size)
    return _count_by_adding(indices, size)  # bincount waits for the device there: it looks for the largest index


def _count_by_adding(indices: Tensor, size: int) -> Tensor:
    zeros = torch.zeros(size, dtype=torch.int64, device=indices.device)
    return zeros.scatter_add_(0, indices, torch.ones_like(indices))
