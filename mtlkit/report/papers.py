"""The papers' tables, ``data/published/NAME.csv``, to stand beside ours."""

from __future__ import annotations

import pandas as pd

from .. import files
from ..errors import KitError, nearest
from .rows import Entry

_UNITS = {"%": 0.01, "m": 1.0, "cm": 0.01, "deg": 1.0, "": 1.0}  # as printed -> those of the metrics


def published(name: str) -> list[Entry]:
    """The rows of one table.

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
        values = {cell.metric: cell.value * _UNITS[cell.unit] for cell in cells.itertuples()}
        delta = values.pop("delta_mtl", None)
        values.pop("relative_parameters", None)  # to two digits: a count of ours says more
        entry = Entry(f"{name}: " + ", ".join(filter(None, (architecture, weighting))), {0: values})
        entry.delta = {} if delta is None else {0: 100 * delta}
        entry.unconfirmed = frozenset(cells.metric[cells.status == "unconfirmed"])
        rows.append(entry)
    return rows
