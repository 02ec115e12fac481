"""What each task takes from which, place by place: cross-stitch's matrices, and the weights of NDDR's convolutions.

In every table a row is the task that goes on with the mixture, a column the task whose feature goes in.

Shapes: C channels, T tasks.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor
from tqdm.auto import tqdm

from .. import plots, viewers
from ..architectures import MultiTaskModel
from ..errors import KitError
from ..tasks import colour_of

LEAST_CHANGE = 0.01  # at either end of the colours, so that rounding does not glow


@dataclasses.dataclass(frozen=True)
class Mixture:
    """What one unit makes of the features of all tasks.

    Attributes:
        now: T x T, rows to, columns from. Cross-stitch: the factors, mean over channels. NDDR: the share of a task's
            features in the absolute weights; rows sum to 1.
        start: the same before any training.
        channels_TTC: the same for each channel; C is 1 where all channels have one factor.
    """

    now: pd.DataFrame
    start: pd.DataFrame
    channels_TTC: Tensor

    @property
    def change(self) -> pd.DataFrame:
        """``now`` less ``start``."""
        return self.now - self.start


Mixtures = Mapping[str, Mixture]  # place -> what the unit there does, in the order of the network


def matrices(model: MultiTaskModel) -> dict[str, Mixture]:
    """Place -> what the unit there makes of the features. Computes nothing, needs no image.

    Raises:
        KitError: a network without such units; with one task there is nobody to exchange with.
    """
    names = [task.name for task in model.tasks]
    units = {place: unit for place, unit in getattr(model, "exchange", {}).items() if hasattr(unit, "by_channel")}
    if not units:
        raise KitError(
            f"{type(model).__name__} for the tasks {names} has no matrices; take 'cross_stitch' or 'nddr' with two "
            "tasks or more"
        )

    def table(matrix_TT: Tensor) -> pd.DataFrame:
        return pd.DataFrame(matrix_TT.cpu().numpy(), names, names)

    return {
        place: Mixture(table(unit.matrix()), table(unit.start()), unit.by_channel().cpu())
        for place, unit in units.items()
    }


def own_share(tables: Mapping[str, pd.DataFrame]) -> pd.DataFrame:
    """How much of what a task goes on with is its own, place x task in [0, 1]: |a_ii| / sum over j of |a_ij|."""
    shares = {place: np.diag(table.abs()) / table.abs().sum(axis=1) for place, table in tables.items()}
    return pd.DataFrame(shares).T


# --- figures ---


def matrix_maps(mixtures: Mixtures, name: str) -> Figure:
    """The matrix of every place, coloured by how it has changed, and below what is each task's own over the depth."""
    now, change = ({p: getattr(m, what) for p, m in mixtures.items()} for what in ("now", "change"))
    figure, axis = plots.heat_maps(now, change, _largest_change(mixtures), "change since the start")
    _over_places(axis, list(mixtures))
    for task, line in own_share(now).items():
        axis.plot(line.to_numpy(), color=colour_of(task), marker="o")
    start = own_share({place: mixture.start for place, mixture in mixtures.items()}).mean(axis=1)
    axis.plot(start.to_numpy(), color="grey", ls=":")
    axis.set(title="share of the task's own feature (dotted: the start)", ylim=(0, 1.05))
    figure.suptitle(f"{name}: what each task (row) takes from which (column)")
    return figure


def channel_spread(mixtures: Mixtures, name: str) -> Figure:
    """How far channels differ: a panel for each task that takes, a line (mean) and a band (the middle 80 % of the
    channels) for each task that gives.
    """
    names = list(next(iter(mixtures.values())).now)
    figure, axes = plt.subplots(1, len(names), figsize=(3.6 * len(names) + 1.2, 3.0), squeeze=False, sharey=True)
    for i, (axis, to) in enumerate(zip(axes[0], names, strict=True)):
        _over_places(axis, list(mixtures))
        axis.set_title(f"to {to}", color=colour_of(to))
        for j, source in enumerate(names):
            values = [mixture.channels_TTC[i, j].numpy() for mixture in mixtures.values()]
            low, high = np.transpose([np.percentile(v, [10, 90]) for v in values])
            axis.fill_between(range(len(values)), low, high, color=colour_of(source), alpha=0.2, lw=0)
            axis.plot([v.mean() for v in values], color=colour_of(source), marker="o", ms=4, label=f"from {source}")
            axis.plot([m.start.iloc[i, j] for m in mixtures.values()], color="grey", ls=":")
    axes[0, -1].legend(loc="upper left", bbox_to_anchor=(1.0, 1.0))
    figure.suptitle(f"{name}: what channels take (mean, middle 80 %; dotted: the start)")
    return figure


def matrix_viewer(history: Mapping[str, Mixtures], name: str) -> viewers.Viewer:
    """The matrix of one place, and beside it the sorted factors or shares of all its channels.

    Args:
        history: epoch -> what there was after it. Of several the control "epoch" plays, of one the control "place".
        name: of what is looked at.
    """
    every = [mixture for mixtures in history.values() for mixture in mixtures.values()]
    limit = max(map(_largest_change, history.values()))
    ends = [float(pick(mixture.channels_TTC)) for mixture in every for pick in (Tensor.min, Tensor.max)]
    frames, title = [], f"{name}: what each task takes from which"
    places = list(next(iter(history.values())))
    for place in tqdm(places, desc="matrices of every place", leave=False):
        for epoch, mixtures in history.items():
            heading = f"{place}, {epoch}" if len(history) > 1 else place
            frames.append(viewers.small_png(_frame(mixtures[place], heading, limit, (min(ends), max(ends)))))
    if len(history) == 1:
        return viewers.Viewer({"place": places}, frames, title, play="place")
    return viewers.Viewer({"place": places, "epoch": list(history)}, frames, title, play="epoch")


# --- small parts ---


def _frame(mixture: Mixture, heading: str, limit: float, ends: tuple[float, float]) -> Figure:
    names = list(mixture.now)
    figure, axes = plt.subplots(1, len(names) + 1, figsize=(2.4 * len(names) + 3.0, 2.6))
    plots.heat_map(axes[0], mixture.now, mixture.change, limit)
    axes[0].set_title(heading)
    margin = 0.05 * max(ends[1] - ends[0], LEAST_CHANGE)
    for i, (axis, to) in enumerate(zip(axes[1:], names, strict=True)):
        for j, source in enumerate(names):
            values = mixture.channels_TTC[i, j].sort(descending=True).values
            axis.axhline(mixture.start.iloc[i, j], color="grey", ls=":", lw=1)
            axis.plot(np.linspace(0, 1, len(values)), values, color=colour_of(source), label=f"from {source}",
                      marker="o" if len(values) == 1 else "")  # fmt: skip
        axis.set(ylim=(ends[0] - margin, ends[1] + margin), xticks=[], xlabel="channels, sorted")
        axis.set_title(f"to {to}", color=colour_of(to))
    axes[-1].legend(loc="upper left", bbox_to_anchor=(1.0, 1.0))
    return figure


def _largest_change(mixtures: Mixtures) -> float:
    return max(LEAST_CHANGE, *(float(mixture.change.abs().to_numpy().max()) for mixture in mixtures.values()))


def _over_places(axis: Axes, places: list[str]) -> None:
    axis.set_xticks(range(len(places)), places, rotation=30, ha="right", rotation_mode="anchor")
    axis.margins(x=0.05)
