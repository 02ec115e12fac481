"""The papers' tables, ``data/published/NAME.csv``, to stand beside ours."""

from __future__ import annotations

import pandas as pd

from .. import files, metrics
from ..errors import KitError, nearest
from .rows import Entry

_UNITS = {"%": 0.01, "m": 1.0, "cm": 0.01, "deg": 1.0, "G": 1e9, "": 1.0}  # as printed -> those of the metrics


UNCHECKED = ("transcribed", "unconfirmed")  # not read in the paper, nor in its repository


def published(name: str) -> list[Entry]:
    """The rows of one table.

    Its columns are architecture, weighting, metric, value as printed, unit, and status: ``confirmed``, ``repository``
    (read in a public one), ``quoted`` (in public by others), ``transcribed`` (by others, not checked against the
    paper), ``computed`` (equal to our count), ``differs`` (from our count) or ``unconfirmed``. ``delta_mtl`` is
    positive, ``delta_m`` negative where a row is better than the baseline; ``Entry.delta`` always has the former.
    ``parameters`` and ``macs`` are those of all networks of a row, as of an ``Entry``.

    Raises:
        KitError: no such table.
    """
    folder = files.checkout() / "data" / "published"
    path = folder / f"{name}.csv"
    if not path.is_file():
        raise KitError(f"no published table {name!r}: {nearest(name, [found.stem for found in folder.glob('*.csv')])}")
    found = pd.read_csv(path, keep_default_na=False)
    return [_entry(name, *row, cells) for row, cells in found.groupby(["architecture", "weighting"], sort=False)]


def _entry(table: str, architecture: str, weighting: str, cells: pd.DataFrame) -> Entry:
    values = {cell.metric: cell.value * _UNITS[cell.unit] for cell in cells.itertuples()}
    unconfirmed = set(cells.metric[cells.status.isin(UNCHECKED)])
    # a count of ours says more; a rank is that among other rows; a mean and a score are computed from the rest
    for other in ("relative_parameters", "mean_rank", "mean_accuracy", "score"):
        values.pop(other, None)
        unconfirmed.discard(other)
    if "delta_m" in values:
        values["delta_mtl"] = -values.pop("delta_m") + 0.0  # no -0.0
        unconfirmed = {"delta_mtl" if metric == "delta_m" else metric for metric in unconfirmed}
    delta = values.pop("delta_mtl", None)
    parameters, macs = values.pop("parameters", None), values.pop("macs", None)
    domains = [key.removesuffix("/accuracy") for key in values]
    entry = Entry(f"{table}: " + ", ".join(filter(None, (architecture, weighting))), {0: values})
    entry.delta = {} if delta is None else {0: 100 * delta}
    entry.parameters, entry.macs = parameters and round(parameters), macs and round(macs)
    entry.unconfirmed = frozenset(unconfirmed)
    if set(domains) == set(metrics.BASELINE_ERRORS):
        entry.baseline_errors = metrics.BASELINE_ERRORS
    entry.rivals = table if weighting else ""  # without one it is a net for each task, or none of several tasks
    return entry
