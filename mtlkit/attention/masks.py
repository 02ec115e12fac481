"""The masks of a trained run on images it was not trained on, and what those of two tasks share.

Shapes: C channels of a mask, h/w its size, H/W of the image, T tasks, N values of the masks of one task.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator, Mapping, Sequence

import numpy as np
import pandas as pd
import torch
from torch import Tensor
from torch.utils.data import default_collate

from .. import datasets
from ..datasets import MultiTaskDataset
from ..errors import KitError, nearest
from ..evaluation import View
from ..recipes import Recipe
from ..recording import record
from ..runs import Run

Maps = Mapping[str, Tensor]  # task -> its masks at one level (C, h, w), or one picture of them (h, w)


@dataclasses.dataclass(frozen=True)
class Attention:
    """The masks of one model on one image.

    Attributes:
        name: of the sample.
        image: (3, H, W) in [0, 1].
        targets: task -> target.
        masks: level -> task -> (C, h, w).
    """

    name: str
    image: Tensor
    targets: Maps
    masks: Mapping[str, Maps]

    def at(self, level: str | None) -> tuple[str, Maps]:
        """A level (None: the first) and its masks. Raises KitError for an unknown one."""
        level = level or next(iter(self.masks))
        if level not in self.masks:
            raise KitError(f"there is no level {level!r}: {nearest(level, self.masks)}")
        return level, self.masks[level]


@torch.no_grad()
def looks(run: Run, indices: Iterable[int] | None = None, which: str = "checkpoint") -> Iterator[Attention]:
    """The masks of a trained run on its held-out split, normalised as in training.

    Args:
        run: with its parameters.
        indices: of the samples; None is the first eight, or as many as there are.
        which: ``"checkpoint"`` (the last epoch), ``"best"`` or a snapshot such as ``"epoch-0003"``.

    Raises:
        KitError: an architecture without masks, or samples or parameters that are not there.
    """
    recipe, model = run.recipe, run.model(which)
    if not any(name.startswith("mask/") for name in model.taps()):
        raise KitError(f"architecture {recipe.architecture.name!r} has no attention masks; look at a run of 'mtan'")
    dataset = datasets.build(recipe.dataset.name, recipe.evaluate_on, **recipe.dataset.options)
    for index in range(min(8, len(dataset))) if indices is None else indices:
        fed = as_fed(dataset, index, model.inputs, recipe)
        with record(model, "mask/*") as seen:
            model(fed)
        masks: dict[str, dict[str, Tensor]] = {}
        for name, mask_1Chw in seen.items():
            _, task, level = name.split("/", 2)
            masks.setdefault(level, {})[task] = mask_1Chw[0]
        sample = dataset[index]
        targets = {task.name: sample[task.name] for task in model.tasks}
        yield Attention(dataset.info(index).name, sample["image"], targets, masks)


def as_fed(dataset: MultiTaskDataset, index: int, inputs: Sequence[str], recipe: Recipe) -> dict[str, Tensor]:
    """A batch of one held-out sample, normalised as in training. Raises KitError for a sample that is not there."""
    if not 0 <= index < len(dataset):
        raise KitError(f"{recipe.evaluate_on!r} has the samples 0 to {len(dataset) - 1}, found {index}")
    return default_collate([View(dataset, inputs, recipe)[index]])


def look(run: Run, index: int = 0, which: str = "checkpoint") -> Attention:
    """``looks`` at one sample."""
    return next(looks(run, [index], which))


def telling_channels(masks: Maps, count: int = 3) -> list[int]:
    """The channels where tasks differ most, the first one most: standard deviation over tasks, averaged over pixels.

    With one task: those that vary most over pixels.
    """
    stacked_TChw = torch.stack(list(masks.values()))
    spread_C = stacked_TChw.std(0).mean((1, 2)) if len(masks) > 1 else stacked_TChw[0].std((1, 2))
    return spread_C.argsort(descending=True, stable=True)[:count].tolist()


# --- what masks share ---


def correlation(seen: Iterable[Attention]) -> dict[str, pd.DataFrame]:
    """Level -> Pearson correlation of the masks of every two tasks (T x T), over pixels, channels and samples.

    Near 1, two tasks let the same channels through at the same pixels; near 0, they choose without regard to each
    other. A mask with one value everywhere has no correlation: NaN.

    Args:
        seen: from ``looks``; held one at a time.

    Raises:
        KitError: fewer than two tasks.
    """
    moments: dict[str, _Moments] = {}
    tasks: list[str] = []
    for attention in seen:
        tasks = list(attention.targets)
        if len(tasks) < 2:
            raise KitError(f"masks of two tasks or more can be compared, found {tasks}; look at a run of several tasks")
        for level, masks in attention.masks.items():
            values_TN = torch.stack([masks[task].flatten() for task in tasks]).double().numpy()
            moments.setdefault(level, _Moments(len(tasks))).add(values_TN)
    return {level: pd.DataFrame(found.pearson(), tasks, tasks) for level, found in moments.items()}


class _Moments:
    """Means and products of deviations, joined batch by batch without cancellation (Chan, Golub, LeVeque 1983)."""

    def __init__(self, tasks: int):
        self.count, self.mean_T, self.products_TT = 0, np.zeros(tasks), np.zeros((tasks, tasks))

    def add(self, values_TN: np.ndarray) -> None:
        mean_T, more = values_TN.mean(1), values_TN.shape[1]
        deviation_TN, shift_T, total = values_TN - mean_T[:, None], mean_T - self.mean_T, self.count + more
        self.products_TT += deviation_TN @ deviation_TN.T + np.outer(shift_T, shift_T) * self.count * more / total
        self.mean_T += shift_T * more / total
        self.count = total

    def pearson(self) -> np.ndarray:
        spread_T = np.sqrt(np.diag(self.products_TT))
        rounding_T = np.finfo(np.float32).eps * np.abs(self.mean_T) * np.sqrt(self.count)
        spread_T[spread_T <= rounding_T] = np.nan
        return self.products_TT / np.outer(spread_T, spread_T)


def mean_off_diagonal(tables: Mapping[str, pd.DataFrame]) -> pd.Series:
    """Level -> mean over the pairs of different tasks that have a correlation; NaN where none has."""
    pairs = {level: table.to_numpy()[~np.eye(len(table), dtype=bool)] for level, table in tables.items()}
    return pd.Series({level: pd.Series(values).mean() for level, values in pairs.items()})
