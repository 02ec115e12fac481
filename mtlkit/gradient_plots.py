"""What a run folder says of its task gradients, drawn: cosines, lengths, similarity and condition, and the weights that
were made of them.

Shapes: T tasks, B groups of neighbouring steps.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib import ticker
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from . import plots, viewers
from .errors import KitError
from .runs import Run

GROUPS = 24  # groups of steps over which noise is averaged
FAINTEST = 0.1  # the colours of cosines reach at least so far, lest noise look like a pattern


def cosine_heatmap(run: Run, groups: int = GROUPS, limit: float | None = None) -> Figure:
    """The cosine of each pair of task gradients: its mean over a run, and its course over the steps. Below 0 is
    conflict.

    Args:
        run: of a weighting that looks at the Gramian, with two tasks or more.
        groups: the course is a mean over so many groups of steps, at most.
        limit: the cosine at both ends of the colours; default: the largest one shown, at least 0.1.

    Raises:
        KitError: a run without gradients.csv, or without a pair of tasks.
    """
    cosines = statistic(run, "cosine")
    names = _tasks(run, cosines)
    pairs = [pair for pair in itertools.combinations(names, 2) if pair in cosines.columns]
    means, edges = _means(cosines[pairs], groups)
    table = pd.DataFrame(np.nan, index=names, columns=names)
    for (i, j), value in cosines[pairs].mean().items():
        table.loc[i, j] = table.loc[j, i] = value
    shown = np.abs([*means.to_numpy().ravel(), *table.to_numpy().ravel()])
    limit = limit or max(FAINTEST, float(np.nanmax(shown)))

    square = 1.1 + 0.55 * len(names)
    size = (square + 5.6, max(0.9 + 0.55 * len(names), 1.0 + 0.24 * len(pairs)))
    figure, (left, right) = plt.subplots(1, 2, figsize=size, width_ratios=(square, 5.0))
    image = plots.heat_map(left, table.round(2) + 0.0, table, limit)  # + 0.0: no "-0.00"
    for text in left.texts:
        text.set_fontsize(9)
    left.set_title("mean over the run")
    right.pcolormesh(edges, np.arange(len(pairs) + 1), means.T, cmap=image.cmap, vmin=-limit, vmax=limit)
    right.set_yticks(np.arange(len(pairs)) + 0.5, [" · ".join(pair) for pair in pairs])
    right.invert_yaxis()
    right.set(title="over the steps", xlabel="step")
    figure.colorbar(image, ax=right, label="cosine of the gradients", aspect=15)
    return figure


def gradient_curves(run: Run, groups: int = GROUPS) -> Figure:
    """Over the steps: the norm of each task's gradient, the ratio of the longest to the shortest, the similarity in
    length of each pair, and the condition number of the gradients (largest over smallest singular value).

    Lines are medians over groups of steps, bands reach from the 10th to the 90th percentile. The line of a pair has the
    colours of both tasks; with more than six pairs the median of them is drawn alone. A cross at the foot of the first
    panel is a step that left a task out.

    Raises:
        KitError: a run without gradients.csv, or without a pair of tasks.
    """
    norms = statistic(run, "norm")
    norms = norms[[(name, name) for name in _tasks(run, norms)]]
    colours = plots.line_colours([name for name, _ in norms.columns])
    similar = statistic(run, "gms")
    figure, axes = plt.subplots(2, 2, figsize=(8.8, 5.0), sharex=True)
    (lengths, ratios), (similarities, conditions) = axes

    for name, _ in norms.columns:
        _band(lengths, norms[name, name], groups, colours[name])
    lengths.set(title="norm of the gradient")
    _logarithmic(lengths)
    dropped = run.gradients.query("name == 'dropped'")
    feet = lengths.get_xaxis_transform()
    lengths.scatter(dropped.step, np.full(len(dropped), 0.03), c=dropped.i.map(colours), marker="x", transform=feet)
    lines = [plt.Line2D([], [], color=colour) for colour in colours.values()]
    ratios.legend(lines, list(colours), loc="upper left", bbox_to_anchor=(1.0, 1.0), ncols=1 + len(lines) // 10)

    positive = norms.where(norms > 0)
    _band(ratios, positive.max(axis=1) / positive.min(axis=1), groups)
    ratios.set(title="longest over shortest")
    _logarithmic(ratios)
    if len(similar.columns) > 6:
        _band(similarities, similar.median(axis=1), groups)
    else:
        for i, j in similar.columns:
            _band(similarities, similar[i, j], groups, colours[i], colours[j])
    similarities.set(title="magnitude similarity, 1 = equally long", ylim=(0, 1.05), xlabel="step")
    _band(conditions, statistic(run, "condition").iloc[:, 0], groups)
    conditions.set(title="condition number of G", xlabel="step")
    _logarithmic(conditions)
    return figure


def save(run: Run, folder: Path) -> Iterator[Path]:
    """Write the weights of a run over its steps, and, where it has gradients.csv, its cosines and gradients, into a
    folder, made where absent. Yields the paths.

    Raises:
        KitError: a run that has logged neither.
    """
    weights, gradients = len(run.weights) > 0, len(run.gradients) > 0
    if not (weights or gradients):
        raise KitError(
            f"{run.folder} has logged neither weights nor gradients; train it first, or choose a weighting that has "
            f"either: mtlkit weightings"
        )
    folder.mkdir(parents=True, exist_ok=True)
    if weights:
        drawn = plots.weight_trajectories({run.recipe.weighting.name: run})
        yield viewers.save_png(drawn, folder / "weights.png")
    if gradients:
        yield viewers.save_png(cosine_heatmap(run), folder / "cosines.png")
        yield viewers.save_png(gradient_curves(run), folder / "gradients.png")


def statistic(run: Run, name: str) -> pd.DataFrame:
    """One statistic of the task gradients: a row a step, a column (i, j) for each pair of tasks; NaN where a task was
    absent.

    Args:
        run: of a weighting that looks at the Gramian.
        name: ``norm``, ``cosine``, ``gms`` or ``condition``, as in ``Run.gradients``.

    Raises:
        KitError: a run that has not logged it.
    """
    table = run.gradients
    found = table[table.name == name]
    if found.empty:
        raise KitError(
            f"{run.folder} has no {name!r} in gradients.csv; it takes two tasks and a weighting that looks at the "
            f"Gramian: mtlkit run {run.recipe.name} -p weighting.name=pcgrad"
        )
    return found.pivot(index="step", columns=["i", "j"], values="value").replace([np.inf, -np.inf], np.nan)


def _tasks(run: Run, table: pd.DataFrame) -> list[str]:
    """The tasks of a table of pairs, in the order of the recipe."""
    seen = {name for pair in table.columns for name in pair}
    return [name for name in run.recipe.tasks if name in seen]


def _groups(steps: pd.Index, groups: int) -> np.ndarray:
    """The number of the group of each step."""
    return np.arange(len(steps)) * min(groups, len(steps)) // len(steps)


def _means(table: pd.DataFrame, groups: int) -> tuple[pd.DataFrame, np.ndarray]:
    """Means over groups of steps (B rows), and the B + 1 steps between which the groups lie."""
    number = _groups(table.index, groups)
    steps = pd.Series(table.index).groupby(number)
    return table.groupby(number).mean(), np.append(steps.min().to_numpy() - 0.5, table.index[-1] + 0.5)


def _logarithmic(axis: Axes) -> None:
    """A logarithmic axis whose numbers are written out, also where it spans less than one power of ten."""
    axis.set_yscale("log")
    axis.yaxis.set_major_locator(ticker.LogLocator(subs=(1, 2, 3, 5), numticks=9))
    axis.yaxis.set_major_formatter(ticker.FuncFormatter(lambda value, _: f"{value:g}"))
    axis.yaxis.set_minor_locator(ticker.NullLocator())


def _band(axis: Axes, values: pd.Series, groups: int, colour: str = "black", other: str | None = None) -> None:
    """The median over groups of steps, and where most of the steps lie; dashed in both colours where there are two."""
    number = _groups(values.index, groups)
    parts = values.groupby(number)
    steps = pd.Series(values.index).groupby(number).mean()
    style = {"ls": (0, (4, 4)), "gapcolor": other} if other else {}
    axis.plot(steps, parts.median(), color=colour, **style)
    axis.fill_between(steps, parts.quantile(0.1), parts.quantile(0.9), color=colour, alpha=0.15, lw=0)
