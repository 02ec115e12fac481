"""Evaluation: one pass of a model over a split, and every metric of every protocol from that one set of predictions.

Protocols of MTAN average over batches, so the batch of the recipe is a part of what they measure.

Where a recipe says ``resize``, the images are fed at that size (bilinear, with antialiasing when they shrink; ASTMT's
code: bicubic) and the targets keep their own: predictions are brought to the size of their targets, as ``TaskMetric``
says. So images of different sizes make a batch; their targets stay a list in it, and each image is measured for itself.
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
from torch.utils.data import DataLoader, Dataset, Subset, default_collate
from tqdm.auto import tqdm

from . import datasets, metrics, statistics
from .architectures import MultiTaskModel
from .datasets import MultiTaskDataset
from .errors import KitError
from .recipes import Recipe
from .runs import Run
from .tasks import Task
from .transforms import AUGMENTATIONS, DOMAIN, Resize, generator, normalised, told, unaugmented

FLOOR_SAMPLES = 200  # training samples that the best constant prediction is taken from
MOST_BATCHES = 200  # of a domain, that the statistics of batch normalisation are taken from
INPUTS = ("image", "flow")  # what networks are fed

Batch = dict[str, Tensor | list[Tensor]]  # targets are a list where they differ in size
Batches = Iterable[Batch]
Row = list[Any]  # task, metric, protocol, value; the metric "loss" has the protocol ""


class View(Dataset):
    """A dataset as a recipe sees it: augmented (in training), resized (else), cut to the fields in use, normalised.

    Args:
        dataset: one split.
        fields: what a sample keeps.
        recipe: its augmentation, size in evaluation, normalisation and seed.
        epoch: of training; None is evaluation.
    """

    def __init__(self, dataset: MultiTaskDataset, fields: Sequence[str], recipe: Recipe, epoch: int | None = None):
        self.dataset, self.fields, self.epoch, self.seed = dataset, fields, epoch, recipe.seed
        self.augment = told(
            AUGMENTATIONS.build(recipe.augmentation.name, **recipe.augmentation.options), dataset.domains
        )
        self.resize = Resize(*recipe.resize) if recipe.resize else None
        self.normalise, self.moments = recipe.normalise, dataset.moments

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        kept = {*self.fields, DOMAIN}  # by which it is augmented and normalised, whoever asks for it or not
        sample = {field: value for field, value in self.dataset[index].items() if field in kept}
        if self.epoch is None:
            sample = self.resized(unaugmented(self.augment, sample))
        else:
            sample = self.augment(sample, generator(self.seed, "augment", self.epoch, index))
        sample = normalised(sample, self.normalise, self.moments)
        return {field: value for field, value in sample.items() if field in self.fields}

    def resized(self, sample: dict[str, Tensor]) -> dict[str, Tensor]:
        """With its inputs in the size that the recipe feeds in evaluation."""
        inputs = {field: sample[field] for field in INPUTS if field in sample}
        if self.resize is None or not inputs:
            return sample
        height, width = next(iter(inputs.values())).shape[-2:]
        return sample | self.resize.carry(inputs, self.resize.draw((height, width)))


def batches(
    dataset: MultiTaskDataset,
    fields: Sequence[str],
    recipe: Recipe,
    workers: int = 0,
    indices: Sequence[int] | None = None,
) -> DataLoader:
    """A split in order, or these samples of it, in batches of the recipe, without augmentation."""
    view = View(dataset, fields, recipe)
    samples = view if indices is None else Subset(view, indices)
    return DataLoader(samples, batch_size=recipe.batch, num_workers=workers, collate_fn=collate)


def glimpse(
    train: MultiTaskDataset, domain: str, fields: Sequence[str], recipe: Recipe, workers: int = 0
) -> DataLoader:
    """Training images of a domain, without augmentation: all, or evenly spread ones; what its statistics are taken
    from (``statistics.refreshed``).
    """
    indices = train.indices[domain]
    step = math.ceil(len(indices) / (MOST_BATCHES * recipe.batch))
    return batches(train, fields, recipe, workers, indices[::step])


def collate(samples: Sequence[dict[str, Tensor]]) -> Batch:
    """Samples as a batch. Raises KitError where the inputs differ in size; targets that do stay a list."""
    batch: Batch = {}
    for field in samples[0]:
        values = [sample[field] for sample in samples]
        sizes = sorted({tuple(value.shape[-2:]) for value in values})
        if len(sizes) > 1 and field in INPUTS:
            (h, w), (other_h, other_w) = sizes[0], sizes[-1]
            raise KitError(
                f"images of different sizes make no batch, found {h} x {w} and {other_h} x {other_w}; set resize, for "
                "example resize = [512, 512]"
            )
        batch[field] = default_collate(values) if len(sizes) == 1 else values
    return batch


def check_sizes(recipe: Recipe, dataset: MultiTaskDataset) -> None:
    """Raise KitError where images differ in size and nothing makes them one: the augmentation for training, ``resize``
    for evaluation.
    """
    if dataset.one_size or recipe.batch == 1:
        return
    augment = AUGMENTATIONS.build(recipe.augmentation.name, **recipe.augmentation.options)
    blanks = [{"image": torch.zeros(3, *size)} for size in ((48, 64), (64, 48))]
    if len({augment(blank, generator())["image"].shape for blank in blanks}) > 1:
        raise KitError(
            f"images of {dataset.name!r} differ in size, and augmentation {recipe.augmentation.name!r} leaves them so: "
            'set augmentation = {name = "astmt", height = 512, width = 512}, or batch = 1'
        )
    if not recipe.resize:
        raise KitError(
            f"images of {dataset.name!r} differ in size: set resize = [512, 512] for evaluation, or batch = 1"
        )


@torch.no_grad()
def measure(
    model: torch.nn.Module,
    tasks: Sequence[Task],
    data: Batches,
    protocols: Sequence[str],
    autocast: Callable[[], contextlib.AbstractContextManager] = contextlib.nullcontext,
) -> list[Row]:
    """Losses and metrics of every task and protocol, from one prediction for each sample.

    Where a target has another size, the raw output is resized bilinearly for the loss, and the prediction as
    ``TaskMetric`` says; where targets differ in size, the loss of a batch is the mean over its images. A loss that
    draws (``edgeai-released``) draws the same in every evaluation, and none of training's numbers.

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
                found, targets = [], _whole(batch[task.name])
                for raw, target in zip(outputs[task.name].float().chunk(len(targets)), targets, strict=True):
                    found.append(_loss(task, raw, target))
                    prediction = task.predict(raw)
                    for protocol in protocols:
                        meters[task.name, protocol].to(raw.device).update(prediction, target)
                losses[task.name].append(torch.stack(found).mean())
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
        for task, target in ((t, target) for t in tasks for target in _whole(batch[t.name])):
            size = target.shape[-2:] if target.ndim > 1 else ()  # of one label for an image there is no map
            raw = constants[task.name].view(1, -1, *[1] * len(size)).expand(len(target), -1, *size)
            prediction = task.predict(raw)
            for protocol in protocols:
                meters[task.name, protocol].update(prediction, target)
    return list(_values(meters))


def _whole(targets: Tensor | list[Tensor]) -> list[Tensor]:
    """Targets in as few tensors (B, ...) as they fit in."""
    return [targets] if isinstance(targets, Tensor) else [target[None] for target in targets]


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
    jobs: int = 1,
) -> pd.DataFrame:
    """The metrics of a trained run by several protocols, all from one set of predictions (on the CPU).

    Args:
        run: with its parameters.
        protocols: one column each; none is every one that measures the run's tasks.
        which: ``"checkpoint"`` (the last epoch), ``"best"`` or a snapshot.
        split: of the run's dataset.
        progress: show a bar.
        jobs: processes that count edges; see ``metrics.edges.counting_in``.

    Returns:
        Index task/metric, in the order of the tasks; values as the metrics give them (fractions, metres, degrees).

    Raises:
        KitError: an unknown protocol or split, a run without these parameters, or one whose network was trained once
            more for every domain.
    """
    recipe, model = run.recipe, run.model(which)
    protocols = protocols or measuring(model.tasks)
    dataset = datasets.build(recipe.dataset.name, split, **recipe.dataset.options)
    fields = [*model.inputs, *(task.name for task in model.tasks)]
    say = {"desc": f"evaluating on {split}", "disable": not progress}
    if recipe.loop == "per_domain":
        rows = _by_domain(recipe, model, tqdm(model.tasks, unit="domain", **say), dataset, fields, protocols)
    else:
        data = tqdm(batches(dataset, fields, recipe), unit="batch", **say)
        with metrics.edges.counting_in(jobs):
            rows = measure(model, model.tasks, data, protocols)
    table: dict[str, dict[str, float]] = {protocol: {} for protocol in protocols}
    for task, metric, protocol, value in rows:
        if protocol:
            table[protocol][f"{task}/{metric}"] = value
    shown = dict.fromkeys(f"{task}/{metric}" for task, metric, protocol, _ in rows if protocol)
    return pd.DataFrame(table, index=list(shown))


def _by_domain(
    recipe: Recipe,
    model: MultiTaskModel,
    tasks: Iterable[Task],
    dataset: MultiTaskDataset,
    fields: Sequence[str],
    protocols: Sequence[str],
) -> list[Row]:
    """As the loop ``per_domain`` measures: each task on its domain, by the statistics of that."""
    if recipe.statistics == "train":
        raise KitError("statistics = 'train' trains once more for every domain; the numbers are in result.json")
    train = datasets.build(recipe.dataset.name, "train", **recipe.dataset.options)
    rows: list[Row] = []
    for task in tasks:
        seen = glimpse(train, task.name, fields, recipe) if recipe.statistics == "refresh" else ()
        with statistics.refreshed(model, seen, [task.name]):
            data = batches(dataset, fields, recipe, indices=dataset.indices[task.name])
            rows += measure(model, [task], data, protocols)
    return rows
