"""One number that compares two models: the mean relative improvement over all metrics."""

from __future__ import annotations

import math
from collections.abc import Mapping
from statistics import fmean

from ..errors import KitError, nearest
from .specs import SPECS, counted, in_order, mains

# sign of "better". Nash-MTL's Delta m% and ASTMT's average drop are the same number: how much worse, in percent.
CONVENTIONS = {"kit": 1.0, "nash": -1.0, "astmt": -1.0}
WAYS = ("metric", "task", "main")  # over what Δ_MTL is a mean


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
        values: ``{"semantic/miou": 0.39, "depth/abs_err": 0.55, ...}``. Details do not count (``MetricSpec.detail``).
        baseline: the same metrics of the baseline, none of them negative.
        by: ``"metric"`` (default) is the mean over metrics, as in the Nash-MTL tables, so that normals with five
            metrics weigh more than depth with two; ``"task"`` is the mean over tasks of the mean over each task's
            metrics; ``"main"`` is the mean over one metric for each task, the first that tables show (``mains``), as
            ASTMT's average drop: mIoU of classes, parts and saliency, F of edges, the mean angle, the RMSE of depth.
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
    if by not in WAYS:
        raise KitError(f"unknown by={by!r} for delta_mtl: {nearest(by, WAYS)}")
    if convention not in CONVENTIONS:
        raise KitError(f"unknown convention {convention!r} for delta_mtl: {nearest(convention, CONVENTIONS)}")
    if not values or values.keys() != baseline.keys():
        odd = sorted(values.keys() ^ baseline.keys())
        found = f"{odd[0]!r} in only one of them" if odd else "none"
        raise KitError(f"delta_mtl: expected the same metrics in both, found {found}; give both the same keys")
    gains: dict[str, list[float]] = {}
    for key in mains(values) if by == "main" else counted(values):
        group = key.partition("/")[0] if by == "task" else key
        higher = direction(key, higher_is_better or {})
        gains.setdefault(group, []).append(_gain(key, values[key], baseline[key], higher))
    percent = 100 * fmean(fmean(group) for group in gains.values())
    return CONVENTIONS[convention] * percent + 0.0  # + 0.0: a table should not print -0.0


def _gain(key: str, value: float, base: float, higher: bool) -> float:
    value, base = float(value), float(base)
    if base < 0:  # the sign of the change would turn round
        raise KitError(f"delta_mtl: expected a baseline >= 0 for {key!r}, found {base:g}; leave it out of both")
    if base == 0 or not (math.isfinite(value) and math.isfinite(base)):
        return math.nan
    return (value - base) / base if higher else (base - value) / base


def direction(key: str, given: Mapping[str, bool], asked_by: str = "delta_mtl") -> bool:
    """True where more of a metric is better: as ``given``, else as ``SPECS`` has it.

    Raises:
        KitError: in neither; it names who asked.
    """
    if key in given:
        return given[key]
    if found := in_order([key]):
        return found[key].higher_is_better
    task = key.partition("/")[0]
    hint = nearest(key, [f"{task}/{spec.name}" for spec in SPECS.get(task, ())] or SPECS)
    raise KitError(f"{asked_by}: no direction for {key!r}: {hint}; or give higher_is_better={{{key!r}: True}}")
