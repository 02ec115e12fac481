"""Accuracy against cost in one figure: the average drop of every network over its size, and over its work for a task.

    average drop           - Δ_MTL in percent, as ASTMT has it: positive is worse; the single-task nets are at 0
    parameters             of all networks that the tasks need: one, or one for each task
    MACs of one task       those of all networks on one image, over the number of tasks. A network that does one task at
                           a time (``astmt``) spends just that on a pass; one that answers all tasks in one pass spends
                           all at once, and this is its share

A point stands for a row of a report, ours or a paper's. Rows on other images, or of another size, do not compare.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullLocator

from ..architectures import ARCHITECTURES
from ..errors import KitError
from ..recipes import Recipe
from .rows import Entry, _is_baseline

PARTS = {"squeeze_encoder": "SE enc", "squeeze_decoder": "SE dec", "adapters": "RA", "discriminator": "adversarial"}
MARKERS = "osD^vP*X"
COLOURS = ("#000000", "#8C6D46", "#5B3A8E", "#A50026", "#4D9221", "#4C5C68")


@dataclasses.dataclass(frozen=True)
class Point:
    """One network, or the nets of one task each.

    Attributes:
        label: as the legend has it.
        drops: average drop in percent, positive = worse, of each seed (and fold); (0.0,) of the single-task nets.
        parameters: of all its networks.
        macs: of one task.
        paper: whether it was published by others.
    """

    label: str
    drops: tuple[float, ...]
    parameters: float
    macs: float
    paper: bool = False

    @property
    def drop(self) -> float:
        return float(np.mean(self.drops))


def points(rows: Sequence[Entry]) -> list[Point]:
    """The rows that have a size and a Δ_MTL that is a number, and the baselines; others are left out.

    Raises:
        KitError: where none is left, or baselines alone.
    """
    found = []
    for entry in rows:
        tasks = {key.partition("/")[0] for scores in entry.seeds.values() for key in scores}
        baseline = _is_baseline(entry.runs[0].recipe) if entry.runs else not entry.rivals and not entry.delta
        drops = tuple(0.0 - value for value in entry.delta.values() if np.isfinite(value)) or (0.0,) * baseline
        if drops and entry.parameters and entry.macs:
            found.append(Point(_label(entry), drops, entry.parameters, entry.macs / len(tasks), not entry.runs))
    if all(point.drops == (0.0,) for point in found):
        what = "networks with a Δ_MTL, which is measured from single-task runs of the same kind"
        raise KitError(f"a trade-off is drawn of {what}, found none; type: mtlkit sweep astmt-people")
    return found


def setting(recipe: Recipe) -> str:
    """A recipe of ASTMT by what is switched on: ``multi-task + SE enc + SE dec``."""
    known = {name: option.default for name, option in ARCHITECTURES.options("astmt").items()}
    chosen = known | recipe.architecture.options
    if len(recipe.tasks) == 1:
        chosen["discriminator"] = False  # it has nobody to tell apart
    kind = "single task" if len(recipe.tasks) == 1 else "multi-task"
    return " + ".join([kind, *(said for part, said in PARTS.items() if chosen[part])])


def _label(entry: Entry) -> str:
    ours = entry.runs and entry.runs[0].recipe.architecture.name == "astmt"
    return setting(entry.runs[0].recipe) if ours else entry.name.removesuffix(", equal")


def draw(found: Sequence[Point]) -> Figure:
    """Two panels with one vertical axis; markers of published rows are hollow, bars are standard deviations."""
    figure, axes = plt.subplots(1, 2, figsize=(9.4, 3.4), sharey=True)
    for axis, sizes, title in (
        (axes[0], [point.parameters / 1e6 for point in found], "parameters, millions"),
        (axes[1], [point.macs / 1e9 for point in found], "GMACs of one task"),
    ):
        axis.axhline(0, color="black", lw=0.8, ls=":")
        for number, (point, size) in enumerate(zip(found, sizes, strict=True)):
            colour = COLOURS[number % len(COLOURS)]
            spread = np.std(point.drops, ddof=1) if len(point.drops) > 1 else None
            face = "none" if point.paper else colour
            axis.errorbar(size, point.drop, spread, fmt=MARKERS[number % len(MARKERS)], ms=8, color=colour, mfc=face,
                          capsize=4, ls="", label=point.label)  # fmt: skip
        _scale(axis, sizes)
        axis.set_xlabel(title)
    axes[0].set_ylabel("average drop in %, positive = worse")
    axes[0].margins(y=0.15)
    axes[1].legend(loc="upper left", bbox_to_anchor=(1.0, 1.0))
    return figure


def _scale(axis: Axes, sizes: Sequence[float]) -> None:
    if max(sizes) < 10 * min(sizes):
        axis.set_xlim(0, 1.15 * max(sizes))
        return
    axis.set(xscale="log", xlim=(min(sizes) / 1.6, 1.6 * max(sizes)))
    axis.xaxis.set_major_locator(LogLocator(subs=(1, 3) if max(sizes) < 1000 * min(sizes) else (1,)))
    axis.xaxis.set_minor_locator(NullLocator())
    axis.xaxis.set_major_formatter("{x:g}")
