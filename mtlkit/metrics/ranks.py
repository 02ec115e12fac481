"""Which place a method has on average, metric by metric: a comparison that needs no baseline."""

from __future__ import annotations

import math
from collections.abc import Mapping
from statistics import fmean

from ..errors import KitError, nearest
from .delta import direction
from .specs import counted

TIES = ("dense", "competition")


def mean_rank(
    table: Mapping[str, Mapping[str, float]],
    higher_is_better: Mapping[str, bool] | None = None,
    ties: str = "dense",
) -> dict[str, float]:
    """The mean over metrics of the place that each method has among the methods of the table; 1 is best in everything.

    It says nothing about how much better a method is, and it depends on which methods are in the table: one row more
    moves the others, and may turn their order round. Ranks from two papers do not compare. Give it what is to compete
    and nothing else; the papers leave the single-task baseline out.

    Args:
        table: method -> metric -> value, every method with the same metrics; from a ``DataFrame`` with a row for each
            method, ``frame.T.to_dict()``. Details do not count (``MetricSpec.detail``).
        higher_is_better: metric -> direction; goes before those of ``SPECS``, which it must supply for metrics that
            are not there.
        ties: what equal values do. ``"dense"`` (default): they share a place, and the next value has the next (1, 2,
            2, 3), as in the released code of SDMGrad (NeurIPS 2023). ``"competition"``: the next value has as many
            values before it as there are (1, 2, 2, 4).

    Returns:
        Method -> mean rank. NaN takes the last place of its metric, behind every number: a method without a value
        must not gain by it, nor spoil the others.

    Raises:
        KitError: no method, no metric, methods with different metrics, a metric without a direction, unknown ``ties``.

    >>> rows = {"a": {"semantic/miou": 0.5}, "b": {"semantic/miou": 0.5}, "c": {"semantic/miou": 0.4}}
    >>> mean_rank(rows), mean_rank(rows, ties="competition")
    ({'a': 1.0, 'b': 1.0, 'c': 2.0}, {'a': 1.0, 'b': 1.0, 'c': 3.0})
    """
    if ties not in TIES:
        raise KitError(f"unknown ties={ties!r} for mean_rank: {nearest(ties, TIES)}")
    places: dict[str, list[int]] = {name: [] for name in table}
    for key in counted(_metrics(table)):
        higher = direction(key, higher_is_better or {}, "mean_rank")
        column = [_badness(values[key], higher) for values in table.values()]
        for name, own in zip(table, column, strict=True):
            better = [other for other in column if other < own]
            places[name].append(1 + len(set(better) if ties == "dense" else better))
    return {name: fmean(found) for name, found in places.items()}


def _metrics(table: Mapping[str, Mapping[str, float]]) -> list[str]:
    first = list(next(iter(table.values()), {}))
    if not first:
        raise KitError("mean_rank: expected methods with metrics, found none; give {method: {metric: value}}")
    for name, values in table.items():
        if odd := sorted(values.keys() ^ set(first)):
            found = f"{odd[0]!r} only in {'' if odd[0] in values else 'others than '}{name!r}"
            raise KitError(f"mean_rank: expected the same metrics in every row, found {found}; leave one of them out")
    return first


def _badness(value: float, higher: bool) -> tuple[bool, float]:
    """Sorts the best first, and what is not a number last."""
    value = float(value)
    return (True, 0.0) if math.isnan(value) else (False, -value if higher else value)
