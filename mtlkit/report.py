"""Tables and ``report.html`` from run folders: mean ± standard deviation over seeds, Δ_MTL, cost, and the floor.

The baseline of a run is the run, or the runs of one task each, with the same dataset, backbone, width, size, epochs and
seed and the architecture ``single``. The floor is the best constant prediction: a model that does not clear it has
learned nothing.
"""

from __future__ import annotations

import base64
import dataclasses
import io
import json
import math
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import jinja2
import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from . import datasets, files, metrics, plots
from .errors import KitError, nearest
from .recipes import Recipe
from .runs import Run
from .transforms import NORMALISATIONS

FLOOR = "constant (floor)"


@dataclasses.dataclass
class Entry:
    """One row of a table: the same recipe over several seeds; single-task runs of different tasks join into one row.

    Attributes:
        name: what it is, in words.
        seeds: seed -> "task/metric" -> value.
        delta: seed -> Δ_MTL in percent; empty for the baseline and where there is none.
        parameters, macs, seconds: of all its networks together; seconds are the mean over seeds.
        runs: every run it was made from.
        chosen_on_test: True where a checkpoint was selected by a test metric.
        unconfirmed: metrics of a published row that were not checked against its paper.
    """

    name: str
    seeds: dict[int, dict[str, float]]
    delta: dict[int, float] = dataclasses.field(default_factory=dict)
    parameters: int | None = None
    macs: int | None = None
    seconds: float | None = None
    runs: list[Run] = dataclasses.field(default_factory=list)
    chosen_on_test: bool = False
    unconfirmed: frozenset[str] = frozenset()

    def values(self, key: str) -> list[float]:
        return [scores[key] for scores in self.seeds.values() if key in scores]


def entries(runs: Iterable[Run], protocol: str = "pooled", by: str = "metric") -> list[Entry]:
    """The rows of a table: the floor, the baselines, other nets of one task, then by size, equal weighting first.

    Args:
        runs: finished runs; others are left out.
        protocol: whose metric values.
        by: how Δ_MTL averages: ``"metric"`` or ``"task"``.

    Raises:
        KitError: when no run has finished, or none was measured by this protocol.
    """
    finished = [run for run in runs if run.finished]
    if not finished:
        raise KitError("no finished run to report; type: mtlkit sweep rooms-reproduce")
    measured = [run for run in finished if protocol in run.result["metrics"]]
    if not measured:
        raise KitError(f"no run was measured by protocol {protocol!r}; these have {_protocols(finished)}")
    measured.sort(key=_place)
    varying = _varying([run.recipe for run in measured])
    groups: dict[str, list[Run]] = {}
    for run in measured:
        groups.setdefault(_group(run.recipe), []).append(run)
    rows = [_entry(members, varying, protocol) for members in groups.values()]
    _add_delta(rows, by)
    return [_floor(measured, protocol), *rows]


def table(rows: Sequence[Entry]) -> pd.DataFrame:
    """The rows as a person reads them: percent where the papers print percent, mean ± standard deviation over seeds.

    ``?`` stands behind a published value that was not checked against its paper, † behind the name of a row whose
    epoch was chosen by a test metric.
    """
    keys = _keys(rows)
    plain = [_heading(key) for key in keys]  # two tasks may have metrics of one name
    headings = {k: f"{k.partition('/')[0]} {h}" if plain.count(h) > 1 else h for k, h in zip(keys, plain, strict=True)}
    lines = {}
    for entry in rows:
        line = {headings[key]: _cell(entry, key) for key in keys}
        line["Δ_MTL %"] = _spread(list(entry.delta.values()), 2, sign=True) if entry.delta else ""
        line["parameters"] = f"{entry.parameters / 1e6:.2f} M" if entry.parameters else ""
        line["GMACs"] = f"{entry.macs / 1e9:.3f}" if entry.macs else ""
        line["seconds"] = f"{entry.seconds:.0f}" if entry.seconds is not None else ""
        line["seeds"] = len(entry.seeds) if entry.runs else ""
        lines[entry.name + (" †" if entry.chosen_on_test else "")] = line
    return pd.DataFrame.from_dict(lines, orient="index")


def footnotes(rows: Sequence[Entry]) -> list[str]:
    """What the marks in a table mean, where there are any."""
    notes = []
    if any(entry.chosen_on_test for entry in rows):
        notes.append("† its epoch was chosen by a metric on the test split: compare with care")
    if any(entry.unconfirmed for entry in rows):
        notes.append("? published, not checked against the paper")
    return notes


def records(rows: Sequence[Entry]) -> list[dict[str, Any]]:
    """The rows for a program: means, standard deviations and single values, nothing rounded."""
    return [
        {
            "name": entry.name,
            "metrics": {key: _statistics(entry.values(key)) for key in _keys([entry])},
            "delta_mtl": _statistics(list(entry.delta.values())) if entry.delta else None,
            "parameters": entry.parameters,
            "macs": entry.macs,
            "seconds": entry.seconds,
            "seeds": sorted(entry.seeds),
            "chosen_on_test": entry.chosen_on_test,
            "runs": [str(run.folder) for run in entry.runs],
        }
        for entry in rows
    ]


def tidy(rows: Sequence[Entry], protocol: str) -> pd.DataFrame:
    """The rows as they are kept in ``data/results``: one line a value, with where it comes from."""
    lines = []
    for entry in rows:
        values = {key: _statistics(entry.values(key)) for key in _keys([entry])}
        if entry.delta:
            values["delta_mtl"] = _statistics(list(entry.delta.values()))
        origin = entry.runs[0].result if entry.runs else {"device": "", "versions": {}}
        for metric, found in values.items():
            lines.append(
                {
                    "name": entry.name,
                    "protocol": protocol,
                    "metric": metric,
                    "mean": found["mean"],
                    "std": found["std"],
                    "seeds": " ".join(map(str, sorted(entry.seeds))),
                    "runs": " ".join(run.folder.name for run in entry.runs),
                    "device": origin["device"],
                    "versions": ", ".join(f"{name} {version}" for name, version in origin["versions"].items()),
                }
            )
    return pd.DataFrame(lines)


def published(name: str) -> list[Entry]:
    """The rows of a paper's table, ``data/published/NAME.csv``, to stand beside ours.

    Its columns are architecture, weighting, metric, value as printed, unit, and status: ``confirmed``, ``quoted`` (in
    public by others), ``computed`` (equal to our count), ``differs`` (from our count) or ``unconfirmed``.

    Raises:
        KitError: no such table.
    """
    folder = files.checkout() / "data" / "published"
    path = folder / f"{name}.csv"
    if not path.is_file():
        raise KitError(f"no published table {name!r}: {nearest(name, [found.stem for found in folder.glob('*.csv')])}")
    found = pd.read_csv(path, keep_default_na=False)
    rows = []
    for (architecture, weighting), cells in found.groupby(["architecture", "weighting"], sort=False):
        values = {cell.metric: cell.value * _PUBLISHED_UNITS[cell.unit] for cell in cells.itertuples()}
        delta = values.pop("delta_mtl", None)
        values.pop("relative_parameters", None)  # to two digits: a count of ours says more
        entry = Entry(f"{name}: " + ", ".join(filter(None, (architecture, weighting))), {0: values})
        entry.delta = {} if delta is None else {0: 100 * delta}
        entry.unconfirmed = frozenset(cells.metric[cells.status == "unconfirmed"])
        rows.append(entry)
    return rows


_PUBLISHED_UNITS = {"%": 0.01, "m": 1.0, "cm": 0.01, "deg": 1.0, "": 1.0}  # to those of the metrics


# --- the rows ---


def _place(run: Run) -> tuple:
    recipe, weighting = run.recipe, run.recipe.weighting.name
    kind = (recipe.architecture.name != "single") + (not _one_task_each(recipe))
    return kind, run.result["parameters"] if kind else 0, weighting != "equal", weighting


def _one_task_each(recipe: Recipe) -> bool:
    """True where several runs of different tasks make one row of a table."""
    return recipe.architecture.name == "single" or len(recipe.tasks) == 1


def _group(recipe: Recipe) -> str:
    """Runs with the same group differ in the seed alone, or are single-task runs of different tasks."""
    content = recipe.canonical()
    del content["seed"]
    if _one_task_each(recipe):
        del content["tasks"], content["weighting"]
    return json.dumps(content, sort_keys=True)


def _baseline_key(recipe: Recipe, seed: int) -> str:
    content = recipe.canonical()
    network = {key: content["architecture"].get(key) for key in ("backbone", "width")}
    return json.dumps([content["dataset"], network, content["epochs"], seed], sort_keys=True)


def _entry(runs: list[Run], varying: list[str], protocol: str) -> Entry:
    recipe = runs[0].recipe
    entry = Entry(name=_name(recipe, varying), seeds={}, runs=runs)
    networks: dict[tuple, Run] = {}
    for run in runs:
        entry.seeds.setdefault(run.recipe.seed, {}).update(_numbers(run.result["metrics"][protocol]))
        networks[tuple(run.recipe.tasks)] = run
        selected = run.result.get("selected")
        entry.chosen_on_test |= bool(selected) and selected["split"] == "test"
    entry.parameters = sum(run.result["parameters"] for run in networks.values())
    entry.macs = sum(run.result["macs"] for run in networks.values())
    entry.seconds = sum(run.result["seconds"] for run in runs) / len(entry.seeds)
    return entry


def _add_delta(rows: list[Entry], by: str) -> None:
    """Δ_MTL of every row that has a baseline with its seed and all its metrics."""
    baselines: dict[str, dict[str, float]] = {}
    for entry in rows:
        if entry.runs[0].recipe.architecture.name == "single":
            for seed, scores in entry.seeds.items():
                baselines.setdefault(_baseline_key(entry.runs[0].recipe, seed), {}).update(scores)
    for entry in rows:
        if entry.runs[0].recipe.architecture.name == "single":
            continue
        for seed, scores in entry.seeds.items():
            baseline = baselines.get(_baseline_key(entry.runs[0].recipe, seed), {})
            if set(scores) <= set(baseline):
                entry.delta[seed] = metrics.delta_mtl(scores, {key: baseline[key] for key in scores}, by=by)


def _floor(runs: list[Run], protocol: str) -> Entry:
    scores: dict[str, float] = {}
    for run in runs:
        scores.update(_numbers(run.result["floor"].get(protocol, {})))
    return Entry(name=FLOOR, seeds={0: scores})


def _numbers(scores: dict[str, float | None]) -> dict[str, float]:
    """Metrics as ``result.json`` holds them: null stands for NaN, such as the mean IoU of ``mtan`` where a class is
    absent.
    """
    return {key: math.nan if value is None else value for key, value in scores.items()}


def _varying(recipes: list[Recipe]) -> list[str]:
    """Dotted keys, apart from the name-giving ones, that differ between the recipes."""
    flat = [_flatten(recipe.model_dump(exclude={"name", "about", "seed", "tasks"})) for recipe in recipes]
    keys = sorted(set().union(*flat) - {"architecture.name", "weighting.name"})
    return [key for key in keys if len({json.dumps(f.get(key)) for f in flat}) > 1]


def _flatten(content: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    flat = {}
    for key, value in content.items():
        flat |= _flatten(value, f"{prefix}{key}.") if isinstance(value, dict) else {prefix + key: value}
    return flat


def _name(recipe: Recipe, varying: list[str]) -> str:
    flat = _flatten(recipe.model_dump())
    if recipe.architecture.name == "mtan" and len(recipe.tasks) == 1:
        parts = ["stan"]
    elif _one_task_each(recipe):
        parts = [recipe.architecture.name]
    else:
        parts = [recipe.architecture.name, recipe.weighting.name]
    parts += [f"{key.split('.')[-1]}={flat[key]}" for key in varying if key in flat]
    return ", ".join(parts)


def _protocols(runs: list[Run]) -> str:
    return ", ".join(sorted({name for run in runs for name in run.result["metrics"]}))


# --- numbers as text ---


def _keys(rows: Sequence[Entry]) -> list[str]:
    present = {key for entry in rows for scores in entry.seeds.values() for key in scores}
    return [f"{task}/{s.name}" for task, specs in metrics.SPECS.items() for s in specs if f"{task}/{s.name}" in present]


def _spec(key: str) -> metrics.MetricSpec:
    task, _, name = key.partition("/")
    return next(spec for spec in metrics.SPECS[task] if spec.name == name)


def _heading(key: str) -> str:
    spec = _spec(key)
    unit = "%" if spec.percent else {"deg": "°"}.get(spec.unit, spec.unit)
    return f"{spec.label}{' ' + unit if unit else ''} {'↑' if spec.higher_is_better else '↓'}"


def _scale(key: str) -> float:
    return 100.0 if _spec(key).percent else 1.0


def _digits(key: str) -> int:
    return 2 if _spec(key).percent or _spec(key).unit == "deg" else 4


def _cell(entry: Entry, key: str) -> str:
    text = _spread([_scale(key) * value for value in entry.values(key)], _digits(key))
    return text + ("?" if key in entry.unconfirmed else "")


def _spread(values: list[float], digits: int, sign: bool = False) -> str:
    if not values:
        return ""
    mean = f"{np.mean(values):{'+' if sign else ''}.{digits}f}"
    return mean if len(values) == 1 else f"{mean} ± {np.std(values, ddof=1):.{digits}f}"


def _statistics(values: list[float]) -> dict[str, Any]:
    spread = float(np.std(values, ddof=1)) if len(values) > 1 else None
    return {"mean": float(np.mean(values)), "std": spread, "values": values}


# --- the page ---


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
    """The runs of each row's smallest seed, by the name of the row; a baseline may be several single-task runs."""
    return {
        entry.name: [run for run in entry.runs if run.recipe.seed == min(entry.seeds)] for entry in rows if entry.runs
    }


def side_by_side(rows: Sequence[Entry], indices: Sequence[int] = (0, 1), cell: float = 1.2) -> Figure:
    """What every row predicts for the same samples: a row a task, a column a model; ``cell`` is in inches."""
    runs = [entry for entry in rows if entry.runs]
    recipe = runs[0].runs[0].recipe
    dataset = datasets.build(recipe.dataset.name, recipe.evaluate_on, **recipe.dataset.options)
    pictures, names = [], []
    predicted = [_predictions(entry, dataset, indices) for entry in runs]
    order = [task for task in metrics.SPECS if any(task in p for p in predicted)]
    for place, index in enumerate(indices):
        sample = dataset[index]
        for task in order:
            limits = plots.value_limits(sample[task]) if task in ("depth", "disparity") else None
            blank = np.full((*dataset.size, 3), 255, np.uint8)
            line = [plots.picture("image", sample["image"]), plots.picture(task, sample[task], limits)]
            line += [plots.picture(task, p[task][place], limits) if task in p else blank for p in predicted]
            pictures.append(line)
            names.append(task)
    return plots.picture_grid(
        pictures, ["image", "target", *(entry.name.replace(", ", "\n") for entry in runs)], names, cell=cell
    )


def _predictions(entry: Entry, dataset, indices: Sequence[int]) -> dict[str, list]:
    """task -> predictions for the samples, by the entry's runs of its smallest seed."""
    import torch

    found: dict[str, list] = {}
    for run in entry.runs:
        if run.recipe.seed != min(entry.seeds):
            continue
        model, normalise = run.model(), NORMALISATIONS[run.recipe.normalise]
        images = torch.stack([normalise(dataset[i]["image"]) for i in indices])
        with torch.no_grad():
            outputs = model(images)
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
