"""Tables and ``report.html`` from run folders: mean ± standard deviation over seeds or folds, Δ_MTL, cost, the floor.

The baseline of a run is the run, or the runs of one task each, with the same dataset (and fold), backbone, width, size,
epochs and seed and the architecture ``single``. The floor is the best constant prediction: a model that does not clear
it has learned nothing. Which epochs the numbers are of, each row says: ``summaries``.
"""

from . import summaries, tradeoff
from .page import figures, first_seed, side_by_side, write_html
from .papers import published
from .rows import FLOOR, Entry, entries
from .tables import footnotes, mean_ranks, records, table, tidy

__all__ = [
    "FLOOR",
    "Entry",
    "entries",
    "figures",
    "first_seed",
    "footnotes",
    "mean_ranks",
    "published",
    "records",
    "side_by_side",
    "summaries",
    "table",
    "tidy",
    "tradeoff",
    "write_html",
]
