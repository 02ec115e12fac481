"""From losses to ``.grad``: the one place where backward passes are run and gradients of several processes are
averaged.
"""

from __future__ import annotations

from collections.abc import Iterable

import torch.distributed as dist
from torch import Tensor, nn


def backward(objective: Tensor, parameters: Iterable[nn.Parameter]) -> None:
    """One backward pass of a scalar, then the mean of the gradients over the processes, if there are several."""
    objective.backward()
    average_gradients(parameters)


def average_gradients(parameters: Iterable[nn.Parameter]) -> None:
    """Replace every ``.grad`` by its mean over all processes; a parameter without one on this rank counts as zero."""
    if not (dist.is_available() and dist.is_initialized()) or dist.get_world_size() == 1:
        return
    world = dist.get_world_size()
    for parameter in parameters:
        if parameter.grad is None:  # every rank must take part in every collective
            parameter.grad = parameter.new_zeros(parameter.shape)
        dist.all_reduce(parameter.grad)
        parameter.grad /= world
