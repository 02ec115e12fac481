"""The optimiser of a recipe: its parameter groups, and its learning rate over the epochs."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import nn

from .errors import KitError
from .recipes import Recipe, Schedule


def groups(recipe: Recipe, model: nn.Module, method: nn.Module) -> list[dict[str, Any]]:
    """Optimiser settings: a group per parameter group of the model, one without decay for the weighting's own.

    Raises KitError for a multiplier of a group that has no parameters.
    """
    table = recipe.optimiser
    found = {name: list(parameters) for name, parameters in model.parameter_groups().items()}
    found["weighting"] = list(method.parameters())
    for name in table.multipliers:
        if not found.get(name):
            filled = sorted(group for group, parameters in found.items() if parameters)
            raise KitError(f"optimiser.multipliers names group {name!r}, which has no parameters; groups: {filled}")
    return [
        {
            "params": parameters,
            "name": name,
            "base_lr": table.lr * table.multipliers.get(name, 1.0),
            "weight_decay": 0.0 if name == "weighting" else table.weight_decay,
        }
        for name, parameters in found.items()
        if parameters
    ]


def build(recipe: Recipe, model: nn.Module, method: nn.Module) -> torch.optim.Optimizer:
    """The optimiser of a recipe over the parameters of a model and of its weighting."""
    table, settings = recipe.optimiser, groups(recipe, model, method)
    if table.name == "sgd":
        return torch.optim.SGD(settings, lr=table.lr, momentum=table.momentum, nesterov=table.nesterov)
    kind = torch.optim.AdamW if table.name == "adamw" else torch.optim.Adam
    return kind(settings, lr=table.lr, fused=True)


WARMUP_START = 1e-3  # what the rate of epoch 0 is multiplied by in a warm-up; edgeai's


def schedule_factor(schedule: Schedule, epoch: int, epochs: int) -> float:
    """What the learning rate is multiplied by in an epoch, counted from 0.

    A warm-up of n epochs is linear, e/n in epoch e, but 1/1000 in epoch 0, as in the code of edgeai (Texas
    Instruments), whose rate is whole in epoch n.

    >>> [schedule_factor(Schedule(name="step", every=2, factor=0.5), e, 6) for e in range(5)]
    [1.0, 1.0, 0.5, 0.5, 0.25]
    >>> [schedule_factor(Schedule(name="step", milestones=[3], factor=0.5, warmup=2), e, 6) for e in range(5)]
    [0.001, 0.5, 1.0, 0.5, 0.5]
    """
    factor = _decay(schedule, epoch, epochs)
    return factor * (epoch / schedule.warmup or WARMUP_START) if epoch < schedule.warmup else factor


def _decay(schedule: Schedule, epoch: int, epochs: int) -> float:
    if schedule.milestones:
        return schedule.factor ** sum(milestone <= epoch for milestone in schedule.milestones)
    if schedule.name == "step":
        return schedule.factor ** (epoch // schedule.every)
    if schedule.name == "poly":
        return (1 - epoch / epochs) ** schedule.power
    if schedule.name == "astmt":
        return (1 - max(0, epoch - 1) / epochs) ** schedule.power
    if schedule.name == "cosine":
        return 0.5 * (1 + math.cos(math.pi * epoch / epochs))
    return 1.0


def begin_epoch(optimizer: torch.optim.Optimizer, recipe: Recipe, epoch: int, resumed: bool = False) -> None:
    """Give an optimiser the learning rate of an epoch; at the start of a phase it forgets all it has gathered, and with
    ``astmt-released`` in every epoch.

    Args:
        optimizer: of ``build``.
        recipe: its schedule and phases.
        epoch: counted from 0 over all phases.
        resumed: whether the epoch has begun already; then nothing is forgotten.
    """
    phase, first = recipe.phase(epoch)
    if not resumed and (epoch == first or recipe.schedule.name == "astmt-released"):
        optimizer.state.clear()
    factor = schedule_factor(recipe.schedule, epoch - first, phase.epochs)
    if phase.lr:
        factor *= phase.lr / recipe.optimiser.lr
    for group in optimizer.param_groups:
        group["lr"] = group["base_lr"] * factor
