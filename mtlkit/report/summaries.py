"""Which epochs the numbers of a run are of, by name: three habits that give three results from one training.

    last-10            the mean of the last ten evaluations, ``last-1`` the last epoch. MTAN, Nash-MTL and what is built
                       on them report ``last-10``. A recipe says it by ``average_last``.
    best-validation    the test metrics after the epoch that was best on the validation split. A recipe says it by
                       ``evaluate_on = "validation"`` and ``select``.
    best-test          the test metrics of the epoch that was best on the test split itself, as LibMTL does where it is
                       given no validation split: too good by what chance alone gives the best of many epochs. A recipe
                       says it by ``select`` alone; a report marks it with †.

What is best is what the recipe selects by; where it selects nothing, the smallest sum of the losses on that split.
"""

from __future__ import annotations

import math
import re
from statistics import fmean

import pandas as pd

from .. import metrics
from ..errors import KitError
from ..recipes import Recipe
from ..runs import Run

_BEST = {"best-validation": "validation", "best-test": "test"}  # name -> split that the epoch is chosen on


def of(recipe: Recipe) -> str:
    """The name of what the recipe itself makes its result of."""
    if recipe.select:
        return f"best-{recipe.evaluate_on}"
    return f"last-{min(recipe.average_last, math.ceil(recipe.epochs / recipe.evaluate_every))}"


def words(name: str) -> str:
    """As a table says it.

    >>> [words(name) for name in ("last-1", "last-10", "best-validation", "best-test")]
    ['last epoch', 'last-10 mean', 'best on validation', 'best on test †']
    """
    if split := _BEST.get(name):
        return f"best on {split}{' †' if split == 'test' else ''}"
    return "last epoch" if name == "last-1" else f"{name} mean"


def scores(run: Run, protocol: str, name: str) -> dict[str, float]:
    """The test metrics of a finished run under any of the names, from its ``metrics.csv``.

    Args:
        run: finished.
        protocol: whose metric values.
        name: as above; ``last-`` with any number of evaluations from 1.

    Returns:
        ``"task/metric"`` -> value, the mean over the epochs where there are several.

    Raises:
        KitError: an unknown name; a run that was not measured so, for the test split is measured but once where a run
            is evaluated on validation, and validation never where it is evaluated on test.
    """
    if name not in _BEST and not re.fullmatch("last-[1-9][0-9]*", name):
        raise KitError(f"unknown summary {name!r}; valid: last-10 (any number), {', '.join(_BEST)}")
    recipe, history = run.recipe, run.metrics
    split = _BEST.get(name, recipe.evaluate_on)
    if split != recipe.evaluate_on:
        raise KitError(
            f"{name!r} needs {split} numbers of every epoch, found evaluate_on = {recipe.evaluate_on!r} in "
            f"{run.folder}; train it with -p evaluate_on={split}, or leave --summary out"
        )
    used = _epochs(run, history[history.split == split], name)
    test = history[(history.split == "test") & (history.protocol == protocol)]
    there = sorted(test.epoch.unique().tolist())
    if missing := sorted(set(used) - set(there)):
        raise KitError(
            f"{name!r} needs test numbers of epoch {missing[0]} (the first is 0), found those of "
            f"{', '.join(map(str, there)) or 'none'} in {run.folder}, which is evaluated on {recipe.evaluate_on}; its "
            f"own summary is {of(recipe)!r}: leave --summary out"
        )
    found: dict[str, list[float]] = {}
    for row in test[test.epoch.isin(used)].itertuples():
        found.setdefault(f"{row.task}/{row.metric}", []).append(row.value)
    return {key: fmean(values) for key, values in found.items()}


def _epochs(run: Run, history: pd.DataFrame, name: str) -> list[int]:
    """The epochs that a name means, from the rows of the split that it looks at."""
    if name in _BEST:
        return [_best(run.recipe, history)]
    wanted, measured = int(name.removeprefix("last-")), sorted(history.epoch.unique().tolist())
    if len(measured) < wanted:
        raise KitError(
            f"{name!r} needs {wanted} evaluated epochs, found {len(measured)} in {run.folder}; "
            f"type at most: --summary last-{len(measured)}"
        )
    return measured[-wanted:]


def _best(recipe: Recipe, history: pd.DataFrame) -> int:
    """As training selects: the first of equal epochs, and one without a value only where all are."""
    rows, higher = history[history.metric == "loss"], False
    if recipe.select not in ("", "loss"):
        task, _, metric = recipe.select.partition("/")
        found = (history.task == task) & (history.metric == metric) & (history.protocol == recipe.protocols[0])
        rows, higher = history[found], metrics.in_order([recipe.select])[recipe.select].higher_is_better
    by_epoch = rows.groupby("epoch").value.agg(lambda values: values.sum(skipna=False))
    numbers = by_epoch.dropna()
    if numbers.empty:
        return int(by_epoch.index[0])
    return int(numbers.idxmax() if higher else numbers.idxmin())
