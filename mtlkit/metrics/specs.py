"""What is measured of each task: name, direction, unit and heading of every number."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

THRESHOLDS = (11.25, 22.5, 30.0)  # degrees, the three that papers on NYUv2 report

ARD_RANGE = (3.0, 80.0)  # metres, of edgeai
SALIENT = tuple((20 + 5 * i) / 100 for i in range(15))  # 0.2 ... 0.9: a pixel is salient from one of these on (ASTMT)


@dataclass(frozen=True)
class MetricSpec:
    """One number of a task.

    Attributes:
        name: its key in ``TaskMetric.compute()``.
        higher_is_better: the direction, for delta_mtl and for marking the best of a column.
        unit: ``"m"``, ``"deg"``, or empty: a fraction, or (errors of disparity) the dataset's own recorded unit.
        percent: whether a table shows it times 100.
        label: the heading of its column.
        detail: a part of another number of the task: it is shown, and does not count where models are compared by all
            their numbers (``delta_mtl``, ``mean_rank``).
    """

    name: str
    higher_is_better: bool
    unit: str
    percent: bool
    label: str
    detail: bool = False


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
    "motion": (
        MetricSpec("miou", True, "", True, "mIoU"),
        MetricSpec("static_iou", True, "", True, "static IoU", detail=True),
        MetricSpec("moving_iou", True, "", True, "moving IoU", detail=True),
    ),
    "edges": (
        MetricSpec("ods_f", True, "", True, "odsF"),
        MetricSpec("ois_f", True, "", True, "oisF", detail=True),
        MetricSpec("ap", True, "", True, "AP", detail=True),
    ),
    "parts": (MetricSpec("miou", True, "", True, "mIoU"),),
    "saliency": (
        MetricSpec("miou", True, "", True, "max. mIoU"),
        MetricSpec("max_f", True, "", True, "max. F"),
    ),
    "albedo": (MetricSpec("rmse", False, "", False, "RMSE"),),
}

# Of depth on streets. The third is the "ARD%" of edgeai (Texas Instruments): percent there, a fraction here.
STREET_DEPTH = (*SPECS["depth"], MetricSpec("ard", False, "", True, "ARD"))

# Of ASTMT (CVPR 2019), and of what compares itself with it. The second is on logarithms, another form of the first.
RMSE = MetricSpec("rmse", False, "m", False, "RMSE")
LOG_RMSE = MetricSpec("log_rmse", False, "", False, "log RMSE", detail=True)
DEPTH_WITH_RMSE = (RMSE, *SPECS["depth"])
NORMALS_WITH_RMSE = (*SPECS["normals"], MetricSpec("rmse", False, "deg", False, "RMSE"))

# Every number of a task where some protocol or dataset has more than ``SPECS``; what a paper compares by comes first.
_EVERY = {
    "depth": (RMSE, *STREET_DEPTH, LOG_RMSE),
    "disparity": (replace(RMSE, unit=""), *SPECS["disparity"], LOG_RMSE),
    "normals": NORMALS_WITH_RMSE,
}

# Of a task with one label for an image: there are as many of those as datasets, so they have no names here. The second
# number is for classes in an order, such as age groups.
LABELS = (
    MetricSpec("accuracy", True, "", True, "accuracy"),
    MetricSpec("one_off", True, "", True, "1-off"),
)


def specs_of(task: str) -> tuple[MetricSpec, ...]:
    """What is measured of the task with this name: a name that is not in ``SPECS`` is one of a label for an image.

    >>> [spec.name for spec in specs_of("depth")], [spec.name for spec in specs_of("gender")]
    (['abs_err', 'rel_err'], ['accuracy', 'one_off'])
    """
    return SPECS.get(task, LABELS)


def sort_tasks(names: Iterable[str]) -> list[str]:
    """Names of tasks as tables and figures show them: in the order of ``SPECS``, then the others as they come; each
    once.
    """
    present = dict.fromkeys(names)
    return [name for name in dict.fromkeys([*SPECS, *present]) if name in present]


def in_order(keys: Iterable[str]) -> dict[str, MetricSpec]:
    """The keys ``task/metric`` that have a specification, as tables show them.

    >>> list(in_order(["gender/accuracy", "depth/rel_err", "depth/abs_err", "depth/loss"]))
    ['depth/abs_err', 'depth/rel_err', 'gender/accuracy']
    """
    present = dict.fromkeys(keys)
    tasks = sort_tasks(key.partition("/")[0] for key in present)
    found = {f"{task}/{spec.name}": spec for task in tasks for spec in _all_specs(task)}
    return {key: spec for key, spec in found.items() if key in present}


def counted(keys: Iterable[str]) -> list[str]:
    """The keys ``task/metric`` that count where models are compared: those that are no detail, or all where all are.

    >>> counted(["motion/miou", "motion/static_iou", "motion/moving_iou", "mine/own"])
    ['motion/miou', 'mine/own']
    """
    keys = list(keys)
    details = {key for key, spec in in_order(keys).items() if spec.detail}
    return [key for key in keys if key not in details] or keys


def mains(keys: Iterable[str]) -> list[str]:
    """Of the keys ``task/metric`` one for each task: its first as tables show them, which is the number that papers
    compare by; of a task without specifications its first as they come.

    >>> mains(["depth/abs_err", "normals/median", "normals/mean", "depth/rmse", "mine/own", "mine/other"])
    ['depth/rmse', 'normals/mean', 'mine/own']
    """
    keys = list(keys)
    first: dict[str, str] = {}
    for key in [*in_order(keys), *keys]:
        first.setdefault(key.partition("/")[0], key)
    return list(first.values())


def _all_specs(task: str) -> tuple[MetricSpec, ...]:
    """As ``specs_of``, with what only some datasets and protocols have."""
    return _EVERY.get(task, specs_of(task))
