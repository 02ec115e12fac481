"""The rows of a table from run folders: which runs make one row, and which baseline its Δ_MTL is measured from."""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Iterable, Mapping
from typing import Any

from .. import metrics
from ..architectures import ARCHITECTURES
from ..datasets import DATASETS
from ..errors import KitError
from ..recipes import Recipe
from ..runs import Run
from . import summaries

FLOOR = "constant (floor)"
SINGLES = ("single", "wrn_single")  # a net for each task
Repeat = int | tuple[int, int]  # a seed; seed and fold where the dataset has folds


@dataclasses.dataclass
class Entry:
    """One row of a table: the same recipe over several seeds and folds; single-task runs of different tasks join into
    one row.

    Attributes:
        name: what it is, in words.
        seeds: seed -> "task/metric" -> value; of a dataset with folds, (seed, fold) -> the same.
        delta: seed -> Δ_MTL in percent; empty for the baseline and where there is none.
        parameters, macs, seconds: of all its networks together; seconds are the mean over seeds and folds.
        runs: every run it was made from.
        summary: which epochs its numbers are of, a name of ``summaries``; empty for the floor and for a paper's row.
        rivals: what the rows have in common among which it has a rank: the data, the tasks, the summary, or a paper's
            table; empty where it has none, as the floor and rows of one net for each task.
        random_start: True where ImageNet weights were wanted and could not be had.
        unconfirmed: metrics of a published row that were not checked against its paper.
        baseline_errors: of each of its domains, where it has a decathlon score; empty where it has none.
    """

    name: str
    seeds: dict[Repeat, dict[str, float]]
    delta: dict[Repeat, float] = dataclasses.field(default_factory=dict)
    parameters: int | None = None
    macs: int | None = None
    seconds: float | None = None
    runs: list[Run] = dataclasses.field(default_factory=list)
    summary: str = ""
    rivals: str = ""
    random_start: bool = False
    unconfirmed: frozenset[str] = frozenset()
    baseline_errors: Mapping[str, float] = dataclasses.field(default_factory=dict)

    def values(self, key: str) -> list[float]:
        return [scores[key] for scores in self.seeds.values() if key in scores]

    @property
    def score(self) -> dict[Repeat, float]:
        """The decathlon score of each repetition that has all its domains."""
        keys = {domain: f"{domain}/accuracy" for domain in self.baseline_errors}
        return {
            repeat: metrics.decathlon_score({d: scores[key] for d, key in keys.items()}, self.baseline_errors)
            for repeat, scores in self.seeds.items()
            if keys and set(keys.values()) <= set(scores)
        }

    @property
    def chosen_on_test(self) -> bool:
        """True where its epoch was chosen by a number of the test split."""
        return self.summary == "best-test"

    @property
    def seed_numbers(self) -> list[int]:
        """The seeds, without folds."""
        return sorted({repeat[0] if isinstance(repeat, tuple) else repeat for repeat in self.seeds})

    @property
    def folds(self) -> list[int]:
        """The folds; none where the dataset has none."""
        return sorted({fold_of(repeat) for repeat in self.seeds} - {None})

    def at(self, repeat: Repeat) -> list[Run]:
        """The runs of one seed (and fold)."""
        return [run for run in self.runs if repeat_of(run.recipe) == repeat]


def fold_of(repeat: Repeat) -> int | None:
    """The fold of a repetition; None where the dataset has none."""
    return repeat[1] if isinstance(repeat, tuple) else None


def repeat_of(recipe: Recipe) -> Repeat:
    """Which repetition of its row a run is: its seed, or seed and fold where the dataset has folds."""
    fold = recipe.canonical()["dataset"].get("fold")
    return recipe.seed if fold is None else (recipe.seed, fold)


def entries(
    runs: Iterable[Run], protocol: str = "pooled", by: str | None = None, summary: str | None = None
) -> list[Entry]:
    """The rows of a table: the floor, the baselines, other nets of one task, then by size, equal weighting first.

    Args:
        runs: finished runs; others are left out.
        protocol: whose metric values.
        by: how Δ_MTL averages, see ``metrics.delta_mtl``; default: over metrics, and under protocol ``astmt`` over the
            main metric of each task, as ASTMT's average drop, which has the opposite sign.
        summary: which epochs the numbers are of, a name of ``summaries``; default: what each run's recipe says.

    Raises:
        KitError: when no run has finished, none was measured by this protocol, or one of them has not the epochs that
            the summary asks for.
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
    rows = [_entry(members, varying, protocol, summary) for members in groups.values()]
    _add_delta(rows, by or ("main" if protocol == "astmt" else "metric"))
    return [_floor(measured, protocol), *rows]


def _place(run: Run) -> tuple:
    recipe, weighting = run.recipe, run.recipe.weighting.name
    kind = (not _is_baseline(recipe)) + (not _one_task_each(recipe))
    return kind, run.result["parameters"] if kind else 0, weighting != "equal", weighting


def _is_baseline(recipe: Recipe) -> bool:
    """A single-task net: architecture ``single`` or ``wrn_single``, or another of which one task alone is that."""
    name = recipe.architecture.name
    return name in SINGLES or (len(recipe.tasks) == 1 and ARCHITECTURES[name].alone)


def _one_task_each(recipe: Recipe) -> bool:
    """True where several runs of different tasks make one row of a table."""
    return recipe.architecture.name in SINGLES or len(recipe.tasks) == 1


def _group(recipe: Recipe) -> str:
    """Runs with the same group differ in seed and fold alone, or are single-task runs of different tasks."""
    content = recipe.canonical()
    del content["seed"]
    content["dataset"].pop("fold", None)
    if _one_task_each(recipe):
        del content["tasks"], content["weighting"]
        content["architecture"].pop("inputs", None)  # one task reads the frame, another flow too
        content.pop("losses", None)  # each names its own, and selects by its own metric
        content["select"] = bool(content["select"])
    return json.dumps(content, sort_keys=True)


def _data(recipe: Recipe) -> dict[str, Any]:
    """The dataset with its options, apart from the fold."""
    return {key: value for key, value in recipe.canonical()["dataset"].items() if key != "fold"}


def _baseline_key(recipe: Recipe) -> str:
    content = recipe.canonical()
    options = content["architecture"]
    family = options["name"] if options["name"] == "two_stream" else "segnet"  # dense: SegNet
    network = [options.get("backbone", family), options.get("width")]
    return json.dumps([content["dataset"], network, content["epochs"], recipe.seed], sort_keys=True)


def _entry(runs: list[Run], varying: list[str], protocol: str, summary: str | None) -> Entry:
    recipe = runs[0].recipe
    entry = Entry(name=_name(recipe, varying), seeds={}, runs=runs, summary=summary or summaries.of(recipe))
    if not _one_task_each(recipe):
        entry.rivals = json.dumps([_data(recipe), sorted(recipe.tasks), entry.summary], sort_keys=True)
    networks: dict[tuple, Run] = {}
    for run in runs:
        scores = summaries.scores(run, protocol, summary) if summary else run.result["metrics"][protocol]
        entry.seeds.setdefault(repeat_of(run.recipe), {}).update(_numbers(scores))
        networks[tuple(run.recipe.tasks)] = run
        entry.random_start |= bool(run.random_start)
    errors = DATASETS[recipe.dataset.name].baseline_errors
    domains = dict.fromkeys(t for run in runs for t in run.recipe.tasks)
    if all(domain in errors for domain in domains):
        entry.baseline_errors = {domain: errors[domain] for domain in domains}
    entry.parameters = sum(run.result["parameters"] for run in networks.values())
    entry.macs = sum(run.result["macs"] for run in networks.values())
    entry.seconds = sum(run.result["seconds"] for run in runs) / len(entry.seeds)
    return entry


def _add_delta(rows: list[Entry], by: str) -> None:
    """Δ_MTL of every row that has a baseline with its seed, its fold and all its metrics."""
    baselines: dict[str, dict[str, float]] = {}
    for entry in rows:
        if _is_baseline(entry.runs[0].recipe):
            for repeat, scores in entry.seeds.items():
                baselines.setdefault(_baseline_key(entry.at(repeat)[0].recipe), {}).update(scores)
    for entry in rows:
        if _is_baseline(entry.runs[0].recipe):
            continue
        for repeat, scores in entry.seeds.items():
            baseline = baselines.get(_baseline_key(entry.at(repeat)[0].recipe), {})
            if set(scores) <= set(baseline):
                entry.delta[repeat] = metrics.delta_mtl(scores, {key: baseline[key] for key in scores}, by=by)


def _floor(runs: list[Run], protocol: str) -> Entry:
    """It depends on the data alone, so on folds and not on seeds."""
    scores: dict[Repeat, dict[str, float]] = {}
    for run in runs:
        repeat = repeat_of(run.recipe.model_copy(update={"seed": 0}))
        scores.setdefault(repeat, {}).update(_numbers(run.result["floor"].get(protocol, {})))
    return Entry(name=FLOOR, seeds=scores)


def _numbers(scores: dict[str, float | None]) -> dict[str, float]:
    """Metrics as ``result.json`` holds them: null stands for NaN, such as the mean IoU of ``mtan`` where a class is
    absent.
    """
    return {key: math.nan if value is None else value for key, value in scores.items()}


_NAMED = {"architecture.name", "weighting.name", "dataset.fold"}


def _varying(recipes: list[Recipe]) -> list[str]:
    """Dotted keys, apart from the name-giving ones, that differ between the recipes: in value, or by standing in some
    recipes of an architecture and weighting and not in others. What comes with an architecture tells nothing new, nor
    does what comes with being the net of one task alone.
    """
    groups: dict[tuple[str, ...], list[dict[str, Any]]] = {}
    for recipe in recipes:
        alone = tuple(recipe.tasks) if _one_task_each(recipe) else ()
        flat = _flatten(recipe.model_dump(exclude={"name", "about", "seed", "tasks"}))
        groups.setdefault(alone, []).append(flat)
    keys = sorted({key for flat in groups.values() for f in flat for key in f} - _NAMED)
    return [key for key in keys if any(_differs(key, flat) for flat in groups.values())]


def _differs(key: str, flat: list[dict[str, Any]]) -> bool:
    values = {json.dumps(f[key]) for f in flat if key in f}
    kinds = {(f["architecture.name"], f["weighting.name"], key in f) for f in flat}
    return len(values) > 1 or len({kind[:2] for kind in kinds}) < len(kinds)


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
    own = {"architecture.inputs"} if _one_task_each(recipe) else set()  # of one task, where others read more
    parts += [_said(key, flat[key]) for key in varying if key not in own and flat.get(key) not in (None, "", [])]
    return ", ".join(parts)


def _said(key: str, value: Any) -> str:
    """A setting in the name of a row: ``lr=0.001``, ``from single``; of phases, their epochs: ``phases=300+100``."""
    parts = value if isinstance(value, list) else [value]
    parts = [part["epochs"] if isinstance(part, dict) else part for part in parts]
    text = "+".join(map(str, parts))
    return f"from {text}" if key == "init_from" else f"{key.split('.')[-1]}={text}"


def _protocols(runs: list[Run]) -> str:
    return ", ".join(sorted({name for run in runs for name in run.result["metrics"]}))
