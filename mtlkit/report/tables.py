"""Rows as tables: for a person, for a program, for the repository."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from .. import metrics
from . import summaries
from .rows import Entry


def table(rows: Sequence[Entry]) -> pd.DataFrame:
    """The rows as a person reads them: percent where the papers print percent, mean ± standard deviation over seeds
    and folds.

    ``?`` stands behind a published value that was not checked against its paper, † behind the name of a row whose
    epoch was chosen by a test metric, ‡ behind one that began at random for want of ImageNet weights. The mean rank is
    there where two rows compete, ``summary`` (which epochs the numbers are of) where there are runs.
    """
    keys = metrics.in_order(_present(rows))
    plain = [_heading(key) for key in keys]  # two tasks may have metrics of one name
    headings = {k: f"{k.partition('/')[0]} {h}" if plain.count(h) > 1 else h for k, h in zip(keys, plain, strict=True)}
    ranks = mean_ranks(rows)
    lines = {}
    for entry in rows:
        line = {headings[key]: _cell(entry, key) for key in keys}
        line["Δ_MTL %"] = _spread(list(entry.delta.values()), 2, sign=True) + _doubt(entry, "delta_mtl")
        if any(other.baseline_errors for other in rows):
            line["score ↑"] = _spread(list(entry.score.values()), 0) + (
                "?" if entry.score and entry.unconfirmed else ""
            )
        if ranks:
            line["mean rank ↓"] = f"{ranks[entry.name]:.2f}" if entry.name in ranks else ""
        line["parameters"] = f"{entry.parameters / 1e6:.2f} M{_doubt(entry, 'parameters')}" if entry.parameters else ""
        line["GMACs"] = f"{entry.macs / 1e9:.3f}{_doubt(entry, 'macs')}" if entry.macs else ""
        line["seconds"] = f"{entry.seconds:.0f}" if entry.seconds is not None else ""
        line["seeds"] = len(entry.seed_numbers) if entry.runs else ""
        if any(other.folds for other in rows):
            line["folds"] = len(entry.folds) or ""
        if any(other.summary for other in rows):
            line["summary"] = summaries.words(entry.summary) if entry.summary else ""
        marks = (" †" if entry.chosen_on_test else "") + (" ‡" if entry.random_start else "")
        lines[entry.name + marks] = line
    return pd.DataFrame.from_dict(lines, orient="index")


def mean_ranks(rows: Sequence[Entry]) -> dict[str, float]:
    """Name of a row -> its mean rank among the given rows that it competes with: those of several tasks at once with
    the same data, tasks, metrics and summary, or of one paper's table. Dense (``metrics.mean_rank``), by the means over
    seeds and folds. A row without a rival has none.
    """
    groups: dict[tuple, dict[str, dict[str, float]]] = {}
    for entry in rows:
        keys = metrics.in_order(_present([entry]))
        if entry.rivals and keys:
            means = {key: float(np.mean(entry.values(key))) for key in keys}
            groups.setdefault((entry.rivals, *keys), {})[entry.name] = means
    return {
        name: rank for group in groups.values() if len(group) > 1 for name, rank in metrics.mean_rank(group).items()
    }


def footnotes(rows: Sequence[Entry]) -> list[str]:
    """What the marks in a table mean, where there are any."""
    notes = []
    if repeated := dict.fromkeys(_repeats(entry) for entry in rows if entry.folds and entry.runs):
        notes.append(f"± standard deviation over {' or '.join(repeated)}")
    if any(entry.chosen_on_test for entry in rows):
        notes.append("† its epoch was chosen by a metric on the test split: compare with care")
    if any(entry.random_start for entry in rows):
        notes.append("‡ began at random: ImageNet weights could not be fetched")
    if mean_ranks(rows):
        notes.append(
            "mean rank: mean over the metrics of the place among these rows, equal values share one (dense); another "
            "row in the table changes it"
        )
    for domains in dict.fromkeys(tuple(entry.baseline_errors) for entry in rows if entry.score):
        notes.append(
            f"score: decathlon score over {len(domains)} domains, each 250 points at its baseline error, 1000 at most"
        )
    if any(entry.unconfirmed for entry in rows):
        notes.append("? published, not checked against the paper")
    return notes


def records(rows: Sequence[Entry]) -> list[dict[str, Any]]:
    """The rows for a program: means, standard deviations and single values, nothing rounded."""
    ranks = mean_ranks(rows)
    return [
        {
            "name": entry.name,
            "metrics": {key: _statistics(entry.values(key)) for key in metrics.in_order(_present([entry]))},
            "delta_mtl": _statistics(list(entry.delta.values())) if entry.delta else None,
            "mean_rank": ranks.get(entry.name),
            "score": _statistics(list(entry.score.values())) if entry.score else None,
            "parameters": entry.parameters,
            "macs": entry.macs,
            "seconds": entry.seconds,
            "seeds": entry.seed_numbers,
            "folds": entry.folds,
            "summary": entry.summary or None,
            "chosen_on_test": entry.chosen_on_test,
            "random_start": entry.random_start,
            "runs": [str(run.folder) for run in entry.runs],
        }
        for entry in rows
    ]


def tidy(rows: Sequence[Entry], protocol: str) -> pd.DataFrame:
    """The rows as they are kept in ``data/results``: one line a value, with where it comes from."""
    lines = []
    for entry in rows:
        values = {key: _statistics(entry.values(key)) for key in metrics.in_order(_present([entry]))}
        if entry.delta:
            values["delta_mtl"] = _statistics(list(entry.delta.values()))
        if entry.score:
            values["score"] = _statistics(list(entry.score.values()))
        origin = entry.runs[0].result if entry.runs else {"device": "", "versions": {}}
        for metric, found in values.items():
            lines.append(
                {
                    "name": entry.name,
                    "protocol": protocol,
                    "summary": entry.summary,
                    "metric": metric,
                    "mean": found["mean"],
                    "std": found["std"],
                    "seeds": " ".join(map(str, entry.seed_numbers)),
                    **({"folds": " ".join(map(str, entry.folds))} if entry.folds else {}),
                    "runs": " ".join(run.folder.name for run in entry.runs),
                    "device": origin["device"],
                    "versions": ", ".join(f"{name} {version}" for name, version in origin["versions"].items()),
                }
            )
    return pd.DataFrame(lines)


# --- numbers as text ---


def _present(rows: Sequence[Entry]) -> list[str]:
    return [key for entry in rows for scores in entry.seeds.values() for key in scores]


def _repeats(entry: Entry) -> str:
    seeds, folds = len(entry.seed_numbers), len(entry.folds)
    return f"{folds} fold{'s' * (folds > 1)}" + (f" of {seeds} seeds" if seeds > 1 else "")


def _spec(key: str) -> metrics.MetricSpec:
    return metrics.in_order([key])[key]


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
    return text + _doubt(entry, key)


def _doubt(entry: Entry, key: str) -> str:
    return "?" if key in entry.unconfirmed else ""


def _spread(values: list[float], digits: int, sign: bool = False) -> str:
    if not values:
        return ""
    mean = f"{np.mean(values):{'+' if sign else ''}.{digits}f}"
    return mean if len(values) == 1 else f"{mean} ± {np.std(values, ddof=1):.{digits}f}"


def _statistics(values: list[float]) -> dict[str, Any]:
    spread = float(np.std(values, ddof=1)) if len(values) > 1 else None
    return {"mean": float(np.mean(values)), "std": spread, "values": values}
