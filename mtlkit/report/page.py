"""The page ``report.html`` with its figures: what a table cannot show."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from pathlib import Path

import jinja2
import numpy as np
from matplotlib.figure import Figure

from .. import datasets, files, metrics, plots
from ..evaluation import View
from ..runs import Run
from .rows import FLOOR, Entry, fold_of
from .tables import footnotes, table


def figures(rows: Sequence[Entry], protocol: str = "pooled") -> dict[str, Figure]:
    """The figures of a report, by title: Δ_MTL, learning curves, task weights, predictions side by side."""
    made = {}
    delta = {entry.name: float(np.mean(list(entry.delta.values()))) for entry in rows if entry.delta}
    if delta:
        spread = {e.name: float(np.std(list(e.delta.values()), ddof=1)) for e in rows if len(e.delta) > 1}
        made["Δ_MTL against the single-task baselines"] = plots.delta_bars(delta, spread)
    made["Learning curves"] = plots.learning_curves(first_seed(rows), protocol)
    weighted = {entry.name: entry.runs[0] for entry in rows if entry.runs and len(entry.runs[0].recipe.tasks) > 1}
    if weighted:
        made["Task weights"] = plots.weight_trajectories(weighted)
    made["Predictions on the first samples of the held-out split"] = side_by_side(rows)
    return made


def first_seed(rows: Sequence[Entry]) -> dict[str, list[Run]]:
    """The runs of each row's smallest seed (and fold), by the name of the row; a baseline may be several single-task
    runs.
    """
    return {entry.name: entry.at(min(entry.seeds)) for entry in rows if entry.runs}


def side_by_side(rows: Sequence[Entry], indices: Sequence[int] = (0, 1), cell: float = 1.2) -> Figure:
    """What every row predicts for the same samples: a row a task, a column a model; ``cell`` is in inches.

    Where the dataset has folds, the samples are held out in one of them; a row without a run of it stays empty.
    """
    runs = [entry for entry in rows if entry.runs]
    first = min(runs[0].seeds)
    recipe = runs[0].at(first)[0].recipe
    dataset = datasets.build(recipe.dataset.name, recipe.evaluate_on, **recipe.dataset.options)
    pictures, names = [], []
    predicted = [_predictions(entry, fold_of(first), dataset, indices) for entry in runs]
    order = metrics.sort_tasks(task for found in predicted for task in found)
    for place, index in enumerate(indices):
        sample = dataset[index]
        for name in order:
            task = dataset.tasks[name]
            limits = plots.value_limits(sample[name]) if name in ("depth", "disparity") else None
            line = [plots.picture("image", sample["image"]), plots.cell_of(task, sample[name], limits)]
            line += [plots.cell_of(task, p[name][place], limits) if name in p else "" for p in predicted]
            pictures.append(line)
            names.append(name)
    return plots.picture_grid(
        pictures, ["image", "target", *(entry.name.replace(", ", "\n") for entry in runs)], names, cell=cell
    )


def _predictions(entry: Entry, fold: int | None, dataset, indices: Sequence[int]) -> dict[str, list]:
    """task -> predictions for the samples, by the entry's runs of its smallest seed, of this fold."""
    import torch

    found: dict[str, list] = {}
    repeats = [repeat for repeat in entry.seeds if fold_of(repeat) == fold]
    for run in entry.at(min(repeats)) if repeats else []:
        model = run.model()
        view = View(dataset, model.inputs, run.recipe)
        samples = [view[i] for i in indices]
        with torch.no_grad():
            outputs = model({name: torch.stack([sample[name] for sample in samples]) for name in model.inputs})
        for task in model.tasks:
            found[task.name] = list(task.predict(outputs[task.name]))
    return found


def write_html(rows: Sequence[Entry], path: Path, protocol: str = "pooled", title: str = "") -> Path:
    """Write one self-contained page: the table, the figures, the recipes, links to the executed notebooks.

    The figures are written as PNG too, into ``figures/`` beside it. Returns the path of the page.
    """
    pictures = {name: _png(figure) for name, figure in figures(rows, protocol).items()}
    (path.parent / "figures").mkdir(parents=True, exist_ok=True)
    for name, png in pictures.items():
        with files.replacing(
            path.parent / "figures" / f"{name.split()[0].lower().replace('δ', 'delta')}.png"
        ) as temporary:
            temporary.write_bytes(png)
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("mtlkit"), autoescape=True, undefined=jinja2.StrictUndefined
    )
    runs = [
        {
            "folder": run.folder.name,
            "label": run.recipe.label,
            "seconds": f"{run.result['seconds']:.0f}",
            "device": run.result["device"],
            "versions": ", ".join(f"{k} {v}" for k, v in run.result["versions"].items()),
            "notebook": _link(run.folder / "output.ipynb", path.parent),
            "recipe": run.recipe.toml(),
        }
        for entry in rows
        for run in entry.runs
    ]
    page = environment.get_template("report.html").render(
        title=title or "mtlkit report",
        protocol=protocol,
        table=table(rows).T.to_html(border=0, escape=True),
        figures={name: base64.b64encode(png).decode() for name, png in pictures.items()},
        runs=runs,
        footnotes=footnotes(rows),
        floor=FLOOR,
    )
    files.write_text(path, page)
    return path


def _png(figure: Figure) -> bytes:
    import matplotlib.pyplot as plt

    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=100, bbox_inches="tight")
    plt.close(figure)
    return buffer.getvalue()


def _link(target: Path, start: Path) -> str:
    if not target.is_file():
        return ""
    try:
        return target.resolve().relative_to(start.resolve()).as_posix()
    except ValueError:
        return target.resolve().as_uri()
