"""Evaluation: one pass of a model over a split, and every metric of every protocol from that one set of predictions.

Protocols of MTAN average over batches, so the batch of the recipe is a part of what they measure.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import pandas as pd
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.data import DataLoader, Dataset
from tqdm.auto import tqdm

from . import datasets, metrics
from .datasets import MultiTaskDataset
from .errors import KitError
from .recipes import Recipe
from .runs import Run
from .tasks import Task
from .transforms import AUGMENTATIONS, generator, normalised

FLOOR_SAMPLES = 200  # training samples that the best constant prediction is taken from

Batches = Iterable[dict[str, Tensor]]
Row = list[Any]  # task, metric, protocol, value; the metric "loss" has the protocol ""


class View(Dataset):
    """A dataset as a recipe sees it: augmented (in training), cut to the fields in use, normalised.

    Args:
        dataset: one split.
        fields: what a sample keeps.
        recipe: its augmentation, normalisation and seed.
        epoch: of training; None leaves the augmentation out.
    """

    def __init__(self, dataset: MultiTaskDataset, fields: Sequence[str], recipe: Recipe, epoch: int | None = None):
        self.dataset, self.fields, self.epoch, self.seed = dataset, fields, epoch, recipe.seed
        self.augment = AUGMENTATIONS.build(recipe.augmentation.name, **recipe.augmentation.options)
        self.normalise = recipe.normalise

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        sample = {field: value for field, value in self.dataset[index].items() if field in self.fields}
        if self.epoch is not None:
            sample = self.augment(sample, generator(self.seed, "augment", self.epoch, index))
        return normalised(sample, self.normalise)


def batches(dataset: MultiTaskDataset, fields: Sequence[str], recipe: Recipe, workers: int = 0) -> DataLoader:
    """A split in order, in batches of the recipe, without augmentation."""
    return DataLoader(View(dataset, fields, recipe), batch_size=recipe.batch, num_workers=workers)


@torch.no_grad()
def measure(
    model: torch.nn.Module,
    tasks: Sequence[Task],
    data: Batches,
    protocols: Sequence[str],
    autocast: Callable[[], contextlib.AbstractContextManager] = contextlib.nullcontext,
) -> list[Row]:
    """Losses and metrics of every task and protocol, from one prediction for each sample.

    Where a target is larger, the raw output is enlarged bilinearly for the loss, and the prediction as ``TaskMetric``
    says. A loss that draws (``edgeai-released``) draws the same in every evaluation, and none of training's numbers.

    Args:
        model: left in eval mode.
        tasks: which of its tasks.
        data: batches, on the model's device.
        protocols: names in ``metrics.PROTOCOLS``.
        autocast: the context that the model runs in.
    """
    model.eval()
    names = [task.name for task in tasks]
    meters = {(task.name, protocol): task.metrics(protocol) for task in tasks for protocol in protocols}
    losses: dict[str, list[Tensor]] = {name: [] for name in names}
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(0)
        for batch in data:
            with autocast():
                outputs = model({name: batch[name] for name in model.inputs}, names)
            for task in tasks:
                raw, target = outputs[task.name].float(), batch[task.name]
                losses[task.name].append(_loss(task, raw, target))
                prediction = task.predict(raw)
                for protocol in protocols:
                    meters[task.name, protocol].to(raw.device).update(prediction, target)
    rows: list[Row] = [[name, "loss", "", float(torch.stack(values).mean())] for name, values in losses.items()]
    return rows + list(_values(meters))


def _loss(task: Task, raw: Tensor, target: Tensor) -> Tensor:
    """The loss on a target of any size, to which a raw output is resized."""
    if raw.ndim == 4 and raw.shape[-2:] != target.shape[-2:]:
        raw = F.interpolate(raw, size=tuple(target.shape[-2:]), mode="bilinear", align_corners=False)
    return task.loss(raw, target)


def floor(train: MultiTaskDataset, tasks: Sequence[Task], data: Batches, protocols: Sequence[str]) -> list[Row]:
    """Metrics of the best constant prediction: the majority class, the median depth, the mean direction of training."""
    picked = [train[i] for i in range(0, len(train), math.ceil(len(train) / FLOOR_SAMPLES))]
    constants = {task.name: task.constant([sample[task.name][None] for sample in picked]) for task in tasks}
    meters = {(task.name, protocol): task.metrics(protocol) for task in tasks for protocol in protocols}
    for batch in data:
        for task in tasks:
            target = batch[task.name]
            size = target.shape[-2:] if target.ndim > 1 else ()  # of one label for an image there is no map
            raw = constants[task.name].view(1, -1, *[1] * len(size)).expand(len(target), -1, *size)
            prediction = task.predict(raw)
            for protocol in protocols:
                meters[task.name, protocol].update(prediction, target)
    return list(_values(meters))


def _values(meters: dict[tuple[str, str], Any]) -> Iterator[Row]:
    for (name, protocol), meter in meters.items():
        for metric, value in meter.compute().items():
            yield [name, metric, protocol, float(value)]


def measuring(tasks: Sequence[Task]) -> list[str]:
    """The protocols that measure every one of these tasks."""
    return [protocol for protocol in metrics.PROTOCOLS if all(_measures(protocol, task) for task in tasks)]


def _measures(protocol: str, task: Task) -> bool:
    try:
        task.metrics(protocol)
    except KitError:
        return False
    return True


def side_by_side(
    run: Run,
    protocols: Sequence[str] = (),
    which: str = "checkpoint",
    split: str = "test",
    progress: bool = True,
) -> pd.DataFrame:
    """The metrics of a trained run by several protocols, all from one set of predictions (on the CPU).

    Args:
        run: with its parameters.
        protocols: one column each; none is every one that measures the run's tasks.
        which: ``"checkpoint"`` (the last epoch), ``"best"`` or a snapshot.
        split: of the run's dataset.
        progress: show a bar.

    Returns:
        Index task/metric, in the order of the tasks; values as the metrics give them (fractions, metres, degrees).

    Raises:
        KitError: an unknown protocol or split, or a run without these parameters.
    """
    recipe, model = run.recipe, run.model(which)
    protocols = protocols or measuring(model.tasks)
    dataset = datasets.build(recipe.dataset.name, split, **recipe.dataset.options)
    fields = [*model.inputs, *(task.name for task in model.tasks)]
    data = tqdm(batches(dataset, fields, recipe), desc=f"evaluating on {split}", disable=not progress, unit="batch")
    rows = measure(model, model.tasks, data, protocols)
    table: dict[str, dict[str, float]] = {protocol: {} for protocol in protocols}
    for task, metric, protocol, value in rows:
        if protocol:
            table[protocol][f"{task}/{metric}"] = value
    return pd.DataFrame(table)
