"""What must be right before a run begins: its data, its tasks, its network, its weighting, its optimiser."""

from __future__ import annotations

import math

import torch

from .. import datasets, evaluation, initialisation, optimisers, tasks, weighting
from ..datasets import MultiTaskDataset
from ..errors import KitError, nearest
from ..recipes import Recipe


def load_data(recipe: Recipe) -> tuple[MultiTaskDataset, ...]:
    """The splits of a recipe: training, what it is evaluated on, and test where that is another one.

    Raises:
        KitError: for a split that the dataset does not have, or one to be evaluated on that has no labels.
    """
    names = dict.fromkeys(("train", recipe.evaluate_on, "test"))
    splits = [datasets.build(recipe.dataset.name, name, **recipe.dataset.options) for name in names]
    if not splits[1].labelled:
        raise KitError(f"the labels of test are not public in {recipe.dataset.name!r}; set evaluate_on = 'validation'")
    return tuple(splits)


def fingerprint(*splits: MultiTaskDataset) -> str:
    """What the data of a run are: a change of any split is a change of run."""
    return "+".join(split.fingerprint for split in splits)


def steps_of(recipe: Recipe, samples: int) -> int:
    """How many batches so many samples make."""
    return samples // recipe.batch if recipe.drop_last else math.ceil(samples / recipe.batch)


def check(recipe: Recipe, train: MultiTaskDataset) -> list[tasks.Task]:
    """The tasks of a recipe, once everything that needs its data or its network to judge has been found right.

    Raises:
        KitError: for a task that the dataset does not have, a metric that ``select`` cannot mean, an epoch without a
            batch, a last batch too small for the network, images of several sizes, a start that the network cannot
            have, a learning-rate multiplier for a group without parameters.
    """
    chosen = recipe.choose(train.tasks)
    first = {task.name: task.metrics(recipe.protocols[0]) for task in chosen if recipe.select}
    metrics = ["loss", *sorted(f"{name}/{spec.name}" for name, meter in first.items() for spec in meter.specs)]
    if recipe.select and recipe.select not in metrics:
        hint = nearest(recipe.select, metrics)
        raise KitError(f"select = {recipe.select!r} is no metric of this run: {hint}")
    with torch.device("meta"):
        model = recipe.network(chosen, recipe.input_size(train.size))
    initialisation.check(recipe, model)
    evaluation.check_sizes(recipe, train)
    for samples, what in _cut_into_batches(recipe, train):
        _check_batches(recipe, samples, what, model.smallest_batch)
    method = weighting.build(recipe.weighting.name, chosen, **recipe.weighting.options)
    method.check(model)
    if recipe.accumulate > 1 and not method.accumulates:
        raise KitError(
            f"weighting {method.label!r} looks at whole batches, found accumulate = {recipe.accumulate}; set 1"
        )
    optimisers.groups(recipe, model, method)
    return chosen


def _cut_into_batches(recipe: Recipe, train: MultiTaskDataset) -> list[tuple[int, str]]:
    """What an epoch cuts into batches, each for itself: numbers of samples, and what they are."""
    if recipe.loop != "per_domain":
        return [(len(train), "training samples")]
    found = getattr(train, "indices", {})
    if strangers := [name for name in recipe.tasks if name not in found]:
        raise KitError(
            f"loop 'per_domain' needs a dataset whose tasks are domains of images, such as visual-decathlon; found no "
            f"domain {strangers[0]!r} in {recipe.dataset.name!r}"
        )
    return [(len(found[name]), f"training samples of {name}") for name in recipe.tasks]


def _check_batches(recipe: Recipe, samples: int, what: str, smallest: int) -> None:
    if steps_of(recipe, samples) == 0:
        raise KitError(f"{samples} {what} make no batch of {recipe.batch}; lower batch, or set drop_last=false")
    last = recipe.batch if recipe.drop_last else (samples - 1) % recipe.batch + 1
    if last // recipe.accumulate < smallest:
        found = f"{samples} {what} in batches of {recipe.batch} leave a last one of {last}"
        parts = f", in {recipe.accumulate} parts" if recipe.accumulate > 1 else ""
        raise KitError(
            f"{smallest} images or more in every batch are what this network's batch normalisation needs, "
            f"found {found}{parts}; set drop_last=true, or another batch"
        )
