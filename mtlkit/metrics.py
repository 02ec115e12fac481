"""How a task is measured: pure functions, accumulators over a whole split, one number that compares two models.

A *protocol* is a paper's way of averaging; the same predictions give different numbers under different protocols, so
the name always stands beside the number:

    pooled  all pixels of the split count alike: one confusion matrix, sums of errors, the median of all angles. It
            does not depend on how the split is cut into batches. Classes absent from prediction and target are left
            out of the mean IoU.
    mtan    as the released code of MTAN (CVPR 2019) does since November 2020: the confusion matrix is pooled, but the
            mean IoU is over all classes and NaN where one of them is absent; depth and normals are averaged per
            batch, and every batch weighs the same, the smaller last one too. So its median is a mean of medians. A
            batch without a valid pixel makes the mean NaN, as 0/0 does there.

Every state is a sum, so accumulators of several processes combine exactly. The pooled median comes from a fixed
histogram of 3600 bins over 0 ... 180 degrees, right to one bin (0.05 degrees). An accumulator that has seen nothing
gives NaN. ``update`` reads nothing back from the device: masks are multiplied or sent to an extra row, never indexed
with.

Shapes: B batch, C channels, H/W size, K classes.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Mapping
from dataclasses import dataclass
from statistics import fmean

import torch
import torch.nn.functional as F
import torchmetrics
from torch import Tensor

from .errors import KitError, nearest
from .losses import unit, valid_normals, widen

# Apple's GPU has no float64. A float32 sum of batch sums is still right to about six digits.
WIDE = torch.float32 if torch.backends.mps.is_available() else torch.float64

# 0.05 degrees: fine for a median, and it makes the three thresholds below exact edges of bins.
BINS_PER_DEGREE = 20
BINS = 180 * BINS_PER_DEGREE
THRESHOLDS = (11.25, 22.5, 30.0)  # degrees, the three that papers on NYUv2 report


@dataclass(frozen=True)
class MetricSpec:
    """One number of a task.

    Attributes:
        name: its key in ``TaskMetric.compute()``.
        higher_is_better: the direction, for delta_mtl and for marking the best of a column.
        unit: ``"m"``, ``"deg"``, or empty for a fraction.
        percent: whether a table shows it times 100.
        label: the heading of its column.
    """

    name: str
    higher_is_better: bool
    unit: str
    percent: bool
    label: str


SPECS: dict[str, tuple[MetricSpec, ...]] = {
    "semantic": (
        MetricSpec("miou", True, "", True, "mIoU"),
        MetricSpec("pixel_accuracy", True, "", True, "pixel acc."),
    ),
    "depth": (
        MetricSpec("abs_err", False, "m", False, "abs. err."),
        MetricSpec("rel_err", False, "", False, "rel. err."),
    ),
    "normals": (
        MetricSpec("mean", False, "deg", False, "mean angle"),
        MetricSpec("median", False, "deg", False, "median angle"),
        *(MetricSpec(f"within_{t:g}", True, "", True, f"within {t:g}°") for t in THRESHOLDS),
    ),
}


# --- the functional core ---


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
    target = target.long()
    void = (target < 0) | (target >= classes)
    cells = torch.where(void, classes, target) * classes + prediction  # void pixels fill an extra last row
    return _count(cells, (classes + 1) * classes).view(classes + 1, classes)[:classes]


def iou_from_confusion(confusion_KK: Tensor) -> Tensor:
    """Intersection over union of each class.

    Args:
        confusion_KK: rows are the truth, columns the prediction.

    Returns:
        floats (K,) in [0, 1]; NaN for a class absent from both.

    >>> iou_from_confusion(torch.tensor([[2, 1, 0], [1, 4, 0], [0, 0, 0]])).tolist()
    [0.5, 0.6666666666666666, nan]
    """
    hit_K = confusion_KK.diagonal().to(WIDE)
    return hit_K / (confusion_KK.sum(0) + confusion_KK.sum(1) - confusion_KK.diagonal())


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


def _count(indices: Tensor, size: int) -> Tensor:
    """How often each of 0 ... size-1 occurs, int64 (size,)."""
    indices = indices.flatten()
    if indices.device.type == "cpu":
        return torch.bincount(indices, minlength=size)
    return _count_by_adding(indices, size)  # bincount waits for the device there: it looks for the largest index


def _count_by_adding(indices: Tensor, size: int) -> Tensor:
    zeros = torch.zeros(size, dtype=torch.int64, device=indices.device)
    return zeros.scatter_add_(0, indices, torch.ones_like(indices))


# --- accumulators ---


class TaskMetric(torchmetrics.Metric):
    """Accumulates one task's metrics over a split: ``update`` batch by batch, then ``compute()`` gives a dict.

    The dict has a scalar tensor for each metric of ``SPECS[task]``, in that order. The prediction is what
    ``Task.predict`` gives. One of another size than the target is resized to it: class ids to the nearest pixel,
    everything else bilinearly. A subclass says which task it measures, adds a batch, and computes.
    """

    full_state_update = False
    task: str

    def update(self, prediction: Tensor, target: Tensor) -> None:
        """Add one batch.

        Args:
            prediction: class ids (B, h, w), depth (B, 1, h, w) in metres, or normals (B, 3, h, w).
            target: the same with the size (H, W); invalid pixels as in ``Task``.

        Raises:
            KitError: a prediction whose shape differs from the target's in more than h and w.
        """
        if prediction.ndim != target.ndim or prediction.shape[:-2] != target.shape[:-2]:
            expected, found = (*target.shape[:-2], "h", "w"), tuple(prediction.shape)
            raise KitError(
                f"{self.task}: expected a prediction of shape {expected}, found {found}; give task.predict(raw)"
            )
        self._add(self._resize(prediction, target.shape[-2:]), widen(target))

    def _resize(self, prediction: Tensor, size: torch.Size) -> Tensor:
        prediction = widen(prediction)
        if prediction.shape[-2:] == size:
            return prediction
        return F.interpolate(prediction, size=tuple(size), mode="bilinear", align_corners=False)

    def _add(self, prediction: Tensor, target: Tensor) -> None:
        raise NotImplementedError  # abstract

    def _add_sums(self, *names: str, shape: tuple[int, ...] = (), dtype: torch.dtype = WIDE) -> None:
        """Declare states that start at zero and are summed over processes."""
        for name in names:
            self.add_state(name, torch.zeros(shape, dtype=dtype), dist_reduce_fx="sum")


class PooledSemantic(TaskMetric):
    """mIoU over the classes that occur in prediction or target, and pixel accuracy; fractions."""

    task = "semantic"
    confusion_KK: Tensor

    def __init__(self, classes: int) -> None:
        super().__init__()
        if classes < 1:
            raise KitError(f"semantic: expected classes >= 1, found {classes}; give the dataset's number of classes")
        self.classes = classes
        self._add_sums("confusion_KK", shape=(classes, classes), dtype=torch.int64)

    def _resize(self, prediction: Tensor, size: torch.Size) -> Tensor:
        if prediction.shape[-2:] == size or prediction.is_floating_point():  # floats are refused by confusion_matrix
            return prediction
        # interpolation wants floats, and float32 holds every class id exactly
        return F.interpolate(prediction[:, None].float(), size=tuple(size), mode="nearest-exact")[:, 0].long()

    def _add(self, prediction: Tensor, target: Tensor) -> None:
        self.confusion_KK += confusion_matrix(prediction, target, self.classes)

    def _mean(self, iou_K: Tensor) -> Tensor:
        return iou_K.nanmean()

    def compute(self) -> dict[str, Tensor]:
        accuracy = self.confusion_KK.diagonal().sum().to(WIDE) / self.confusion_KK.sum()
        return {"miou": self._mean(iou_from_confusion(self.confusion_KK)), "pixel_accuracy": accuracy}


class MtanSemantic(PooledSemantic):
    """As released: the plain mean over all classes, NaN as soon as one occurs in neither prediction nor target."""

    def _mean(self, iou_K: Tensor) -> Tensor:
        return iou_K.mean()


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


class MtanDepth(PooledDepth):
    """As released: both means are taken in each batch, then averaged over batches (which ``count`` counts here)."""

    def _add(self, prediction: Tensor, target: Tensor) -> None:
        abs_sum, rel_sum, pixels = depth_errors(prediction, target)
        self.abs_sum += abs_sum / pixels
        self.rel_sum += rel_sum / pixels
        self.count += 1


class Normals(TaskMetric):
    """What both protocols for normals share: predictions are stretched to length one after they are resized."""

    task = "normals"

    def _resize(self, prediction: Tensor, size: torch.Size) -> Tensor:
        # also where the size fits: a unit vector in half precision may be 0.4 % too long, which acos turns into
        # several degrees
        return unit(super()._resize(prediction, size))


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
        angle_BHW, valid_BHW = angular_error_degrees(prediction, target), valid_normals(target)
        self.angle_sum += torch.where(valid_BHW, angle_BHW, 0.0).sum(dtype=WIDE)
        self.histogram += angle_histogram(angle_BHW, valid_BHW)

    def compute(self) -> dict[str, Tensor]:
        count = self.histogram.sum()
        under = {f"within_{t:g}": self.histogram[: int(t * BINS_PER_DEGREE)].sum() for t in THRESHOLDS}
        shares = {name: pixels.to(WIDE) / count for name, pixels in under.items()}
        return {"mean": self.angle_sum / count, "median": median_from_histogram(self.histogram), **shares}


class MtanNormals(Normals):
    """As released: mean, median and shares are taken in each batch, then averaged over batches.

    Valid is a target whose components do not sum to zero.
    """

    sums_5: Tensor
    batches: Tensor

    def __init__(self) -> None:
        super().__init__()
        self._add_sums("sums_5", shape=(2 + len(THRESHOLDS),))
        self._add_sums("batches", dtype=torch.int64)

    def _add(self, prediction: Tensor, target: Tensor) -> None:
        angle_BHW, valid_BHW = angular_error_degrees(prediction, target), valid_normals(target, "mtan")
        count = valid_BHW.sum()
        mean = torch.where(valid_BHW, angle_BHW, 0.0).sum(dtype=WIDE) / count
        shares = [((angle_BHW < t) & valid_BHW).sum().to(WIDE) / count for t in THRESHOLDS]
        self.sums_5 += torch.stack([mean, masked_median(angle_BHW, valid_BHW).to(WIDE), *shares])
        self.batches += 1

    def compute(self) -> dict[str, Tensor]:
        return dict(zip((spec.name for spec in SPECS["normals"]), self.sums_5 / self.batches, strict=True))


ACCUMULATORS: dict[str, dict[str, type[TaskMetric]]] = {
    "pooled": {"semantic": PooledSemantic, "depth": PooledDepth, "normals": PooledNormals},
    "mtan": {"semantic": MtanSemantic, "depth": MtanDepth, "normals": MtanNormals},
}
PROTOCOLS = tuple(ACCUMULATORS)


def build(task_name: str, protocol: str = "pooled", **options: int) -> TaskMetric:
    """A fresh accumulator.

    Args:
        task_name: a key of ``SPECS``.
        protocol: one of ``PROTOCOLS``.
        options: ``classes`` for ``semantic``; the others take none.

    Raises:
        KitError: an unknown task or protocol, a missing or unknown option.
    """
    if protocol not in ACCUMULATORS:
        raise KitError(f"unknown protocol {protocol!r}: {nearest(protocol, PROTOCOLS)}")
    known = ACCUMULATORS[protocol]
    if task_name not in known:
        raise KitError(f"protocol {protocol!r} does not measure task {task_name!r}: {nearest(task_name, known)}")
    expected = sorted(inspect.signature(known[task_name]).parameters)
    if sorted(options) != expected:
        raise KitError(f"metrics of {task_name!r}: expected the options {expected}, found {sorted(options)}")
    return known[task_name](**options)


# --- one number for two models ---

# sign of "better". Nash-MTL's Delta m% and ASTMT's average drop are the same number: how much worse, in percent.
CONVENTIONS = {"kit": 1.0, "nash": -1.0, "astmt": -1.0}


def delta_mtl(
    values: Mapping[str, float],
    baseline: Mapping[str, float],
    *,
    by: str = "metric",
    convention: str = "kit",
    higher_is_better: Mapping[str, bool] | None = None,
) -> float:
    """How much better than the single-task baseline, in percent: the mean relative improvement.

    100/N sum_i (-1)^l_i (M_i - B_i)/B_i with l_i = 1 where lower is better (Maninis, Radosavovic and Kokkinos,
    "Attentive Single-Tasking of Multiple Tasks", CVPR 2019, with the opposite sign). It is not symmetric: the
    baseline is the yardstick.

    Args:
        values: ``{"semantic/miou": 0.39, "depth/abs_err": 0.55, ...}``.
        baseline: the same metrics of the baseline, none of them negative.
        by: ``"metric"`` (default) is the mean over metrics, as in the Nash-MTL tables, so that normals with five
            metrics weigh more than depth with two; ``"task"`` is the mean over tasks of the mean over each task's
            metrics.
        convention: ``"kit"`` (default): positive is better. ``"nash"`` (Delta m%) and ``"astmt"`` (average drop):
            positive is worse.
        higher_is_better: metric -> direction; goes before those of ``SPECS``, which it must supply for metrics that
            are not there.

    Returns:
        Percent; NaN where a change is undefined: a value or a baseline that is NaN or infinite, a baseline of 0.

    Raises:
        KitError: metrics that differ between the two, no metric at all, a negative baseline, a metric without a
            direction, an unknown ``by`` or ``convention``.

    >>> delta_mtl({"semantic/miou": 0.75, "depth/abs_err": 0.5}, {"semantic/miou": 0.5, "depth/abs_err": 1.0})
    50.0
    """
    if by not in ("metric", "task"):
        raise KitError(f"unknown by={by!r} for delta_mtl: {nearest(by, ('metric', 'task'))}")
    if convention not in CONVENTIONS:
        raise KitError(f"unknown convention {convention!r} for delta_mtl: {nearest(convention, CONVENTIONS)}")
    if not values or values.keys() != baseline.keys():
        odd = sorted(values.keys() ^ baseline.keys())
        found = f"{odd[0]!r} in only one of them" if odd else "none"
        raise KitError(f"delta_mtl: expected the same metrics in both, found {found}; give both the same keys")
    gains: dict[str, list[float]] = {}
    for key in values:
        group = key.partition("/")[0] if by == "task" else key
        gains.setdefault(group, []).append(_gain(key, values[key], baseline[key], _higher(key, higher_is_better or {})))
    percent = 100 * fmean(fmean(group) for group in gains.values())
    return CONVENTIONS[convention] * percent + 0.0  # + 0.0: a table should not print -0.0


def _gain(key: str, value: float, base: float, higher: bool) -> float:
    value, base = float(value), float(base)
    if base < 0:  # the sign of the change would turn round
        raise KitError(f"delta_mtl: expected a baseline >= 0 for {key!r}, found {base:g}; leave it out of both")
    if base == 0 or not (math.isfinite(value) and math.isfinite(base)):
        return math.nan
    return (value - base) / base if higher else (base - value) / base


def _higher(key: str, given: Mapping[str, bool]) -> bool:
    if key in given:
        return given[key]
    task, _, name = key.partition("/")
    known = {f"{task}/{spec.name}": spec.higher_is_better for spec in SPECS.get(task, ())}
    if key not in known:
        hint = nearest(key, known or SPECS)
        raise KitError(f"delta_mtl: no direction for {key!r}: {hint}; or give higher_is_better={{{key!r}: True}}")
    return known[key]
