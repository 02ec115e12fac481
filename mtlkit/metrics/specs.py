"""What is measured of each task: name, direction, unit and heading of every number."""

from __future__ import annotations

from dataclasses import dataclass

THRESHOLDS = (11.25, 22.5, 30.0)  # degrees, the three that papers on NYUv2 report


@dataclass(frozen=True)
class MetricSpec:
    """One number of a task.

    Attributes:
        name: its key in ``TaskMetric.compute()``.
        higher_is_better: the direction, for delta_mtl and for marking the best of a column.
        unit: ``"m"``, ``"deg"``, or empty: a fraction, or (errors of disparity) the dataset's own recorded unit.
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
    "disparity": (
        MetricSpec("abs_err", False, "", False, "abs. err."),
        MetricSpec("rel_err", False, "", False, "rel. err."),
    ),
    "normals": (
        MetricSpec("mean", False, "deg", False, "mean angle"),
        MetricSpec("median", False, "deg", False, "median angle"),
        *(MetricSpec(f"within_{t:g}", True, "", True, f"within {t:g}°") for t in THRESHOLDS),
    ),
}
