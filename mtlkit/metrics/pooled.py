"""Protocol ``pooled``: all pixels (or labels) of the split count alike, however it is cut into batches.

Shapes: B batch, C channels, H/W size, K classes, T thresholds.
"""

from __future__ import annotations

import torch
from torch import Tensor

from ..losses import valid_normals
from .base import Labels, Normals, Semantic, TaskMetric
from .functional import (
    BINS,
    BINS_PER_DEGREE,
    WIDE,
    angle_histogram,
    angular_error_degrees,
    confusion_matrix,
    depth_errors,
    iou_from_confusion,
    median_from_histogram,
    threshold_counts,
)
from .specs import ARD_RANGE, DEPTH_WITH_RMSE, LABELS, SALIENT, STREET_DEPTH, THRESHOLDS, MetricSpec


class PooledSemantic(Semantic):
    """mIoU over the classes that occur in prediction or target, and pixel accuracy; fractions."""

    confusion_KK: Tensor

    def __init__(self, classes: int) -> None:
        super().__init__(classes)
        self._add_sums("confusion_KK", shape=(classes, classes), dtype=torch.int64)

    def _add(self, prediction: Tensor, target: Tensor) -> None:
        self.confusion_KK += confusion_matrix(prediction, target, self.classes)

    def _mean(self, iou_K: Tensor) -> Tensor:
        return iou_K.nanmean()

    def compute(self) -> dict[str, Tensor]:
        accuracy = self.confusion_KK.diagonal().sum().to(WIDE) / self.confusion_KK.sum()
        return {"miou": self._mean(iou_from_confusion(self.confusion_KK)), "pixel_accuracy": accuracy}


class PooledParts(PooledSemantic):
    """mIoU over the parts, and what is none, that occur in prediction or target; a fraction."""

    task = "parts"

    def compute(self) -> dict[str, Tensor]:
        return {"miou": self._mean(iou_from_confusion(self.confusion_KK))}


class PooledMotion(PooledSemantic):
    """mIoU of what stands and what moves, and the IoU of each; fractions, NaN for one that occurs nowhere."""

    task = "motion"

    def __init__(self) -> None:
        super().__init__(classes=2)

    def compute(self) -> dict[str, Tensor]:
        iou_2 = iou_from_confusion(self.confusion_KK)
        return {"miou": self._mean(iou_2), "static_iou": iou_2[0], "moving_iou": iou_2[1]}


class PooledDepth(TaskMetric):
    """Mean absolute error in metres and mean relative error (a fraction) over all valid pixels of the split."""

    task = "depth"
    abs_sum: Tensor
    rel_sum: Tensor
    count: Tensor

    def __init__(self) -> None:
        super().__init__()
        self._add_sums("abs_sum", "rel_sum")
        self._add_sums("count", dtype=torch.int64)

    def _add(self, prediction: Tensor, target: Tensor) -> None:
        abs_sum, rel_sum, count = depth_errors(prediction, target)
        self.abs_sum += abs_sum
        self.rel_sum += rel_sum
        self.count += count

    def compute(self) -> dict[str, Tensor]:
        return {"abs_err": self.abs_sum / self.count, "rel_err": self.rel_sum / self.count}


class PooledRmseDepth(PooledDepth):
    """As depth, and the root of the mean squared error over all valid pixels of the split, in metres: how the
    multi-task survey measures NYUD (S. Vandenhende et al., TPAMI 2021).
    """

    specs = DEPTH_WITH_RMSE
    square_sum: Tensor

    def __init__(self) -> None:
        super().__init__()
        self._add_sums("square_sum")

    def _add(self, prediction: Tensor, target: Tensor) -> None:
        super()._add(prediction, target)
        self.square_sum += torch.where(target != 0, (prediction - target).square(), 0.0).sum(dtype=WIDE)

    def compute(self) -> dict[str, Tensor]:
        return {"rmse": (self.square_sum / self.count).sqrt(), **super().compute()}


class PooledStreetDepth(PooledDepth):
    """As depth, and the mean relative error over the pixels of the split whose true depth is above 3 and at most 80 m:
    what the name "ARD, 3 to 80 m" says, without what protocol ``edgeai`` makes of nearer and farther pixels.
    """

    specs = STREET_DEPTH
    far_sum: Tensor
    far_count: Tensor

    def __init__(self) -> None:
        super().__init__()
        self._add_sums("far_sum")
        self._add_sums("far_count", dtype=torch.int64)

    def _add(self, prediction: Tensor, target: Tensor) -> None:
        super()._add(prediction, target)
        within = torch.where((target > ARD_RANGE[0]) & (target <= ARD_RANGE[1]), target, 0.0)
        _, far_sum, far_count = depth_errors(prediction, within)
        self.far_sum += far_sum
        self.far_count += far_count

    def compute(self) -> dict[str, Tensor]:
        return super().compute() | {"ard": self.far_sum / self.far_count}


class PooledDisparity(PooledDepth):
    """As depth, in the dataset's recorded unit."""

    task = "disparity"


class PooledNormals(Normals):
    """Mean, median (degrees) and shares under the thresholds (fractions) over all valid pixels of the split.

    Valid is a target with any component other than zero.
    """

    angle_sum: Tensor
    histogram: Tensor

    def __init__(self) -> None:
        super().__init__()
        self._add_sums("angle_sum")
        self._add_sums("histogram", shape=(BINS,), dtype=torch.int64)

    def _add(self, prediction: Tensor, target: Tensor) -> None:
        self._add_angles(angular_error_degrees(prediction, target), valid_normals(target))

    def _add_angles(self, angle_BHW: Tensor, valid_BHW: Tensor) -> None:
        self.angle_sum += torch.where(valid_BHW, angle_BHW, 0.0).sum(dtype=WIDE)
        self.histogram += angle_histogram(angle_BHW, valid_BHW)

    def compute(self) -> dict[str, Tensor]:
        count = self.histogram.sum()
        under = {f"within_{t:g}": self.histogram[: int(t * BINS_PER_DEGREE)].sum() for t in THRESHOLDS}
        shares = {name: pixels.to(WIDE) / count for name, pixels in under.items()}
        return {"mean": self.angle_sum / count, "median": median_from_histogram(self.histogram), **shares}


class PooledSaliency(TaskMetric):
    """The largest IoU of the salient pixels, and the largest F (beta 1), over the thresholds of ``SALIENT``; fractions.
    Whatever counts, counts over all pixels of the split.
    """

    task = "saliency"
    counts_T3: Tensor

    def __init__(self) -> None:
        super().__init__()
        self._add_sums("counts_T3", shape=(len(SALIENT), 3), dtype=torch.int64)

    def _add(self, prediction: Tensor, target: Tensor) -> None:
        self.counts_T3 += threshold_counts(prediction, target, SALIENT).sum(dim=0)

    def compute(self) -> dict[str, Tensor]:
        hits_T, predicted_T, true_T = self.counts_T3.to(WIDE).unbind(dim=1)
        both_T = predicted_T + true_T
        return {"miou": (hits_T / (both_T - hits_T)).max(), "max_f": (2 * hits_T / both_T).max()}


class PooledAlbedo(TaskMetric):
    """The root of the mean squared error over all pixels and channels of the split."""

    task = "albedo"
    square_sum: Tensor
    count: Tensor

    def __init__(self) -> None:
        super().__init__()
        self._add_sums("square_sum")
        self._add_sums("count", dtype=torch.int64)

    def _add(self, prediction: Tensor, target: Tensor) -> None:
        self.square_sum += (prediction - target).square().sum(dtype=WIDE)
        self.count += target.numel()

    def compute(self) -> dict[str, Tensor]:
        return {"rmse": (self.square_sum / self.count).sqrt()}


class PooledLabels(Labels):
    """Share of the images whose class is right and, of classes in an order, of those at most one class off; an image
    whose label is not known does not count.

    The accuracy that AFANet's code takes over all samples, and the "exact" and "1-off" of papers on Adience (Levi and
    Hassner, CVPR Workshops 2015), which are percent there and fractions here.
    """

    hits: Tensor
    near: Tensor
    count: Tensor

    def __init__(self, ordered: bool) -> None:
        super().__init__()
        self.ordered = ordered
        self._add_sums("hits", "near", "count", dtype=torch.int64)

    @property
    def specs(self) -> tuple[MetricSpec, ...]:
        return LABELS if self.ordered else LABELS[:1]

    def _add(self, prediction: Tensor, target: Tensor) -> None:
        known_B, off_B = target >= 0, (prediction - target).abs()
        self.hits += (known_B & (off_B == 0)).sum()
        self.near += (known_B & (off_B <= 1)).sum()
        self.count += known_B.sum()

    def compute(self) -> dict[str, Tensor]:
        shares = {"accuracy": self.hits.to(WIDE) / self.count, "one_off": self.near.to(WIDE) / self.count}
        return shares if self.ordered else {"accuracy": shares["accuracy"]}
