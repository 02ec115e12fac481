"""From losses to ``.grad``: the one place where backward passes are run and gradients of several processes are
averaged.

Shapes: T tasks.
"""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Iterable, Iterator, Sequence

import torch
import torch.distributed as dist
from torch import Tensor, nn

from ..errors import KitError
from .base import Closure, Losses, Rows

PIECE = 65536  # numbers of a gradient that are made float64 at once: what a few such pieces take stays in the cache

# --- one backward pass ---


def backward(objective: Tensor, parameters: Iterable[nn.Parameter]) -> None:
    """One backward pass of a scalar, then the mean of the gradients over the processes, if there are several."""
    objective.backward()
    average_gradients(parameters)


# --- task by task ---


@dataclasses.dataclass
class TaskGradients:
    """The gradient of every task on what the tasks share.

    Attributes:
        losses: task -> loss of the batch, detached, in the order of ``rows``.
        targets: what the gradients are of: the shared parameters that any task reaches, or the representation.
        rows: T lists of tensors, shaped as ``targets``.
    """

    losses: Losses
    targets: list[Tensor]
    rows: Rows


def of_parameters(closure: Closure, model: nn.Module, k: int = 0, parts: int = 1, heads: bool = True) -> TaskGradients:
    """One forward pass of batch ``k``, then one backward pass for each task, from its loss through its head (whose
    ``.grad`` this fills, if ``heads``) and through all that is shared.

    With ``parts`` the batch comes in that many, and gradients are summed over them.
    """
    shared = _trainable(model.shared_parameters())
    losses: Losses = {}
    found: dict[str, list[Tensor | None]] = {}
    for part in range(parts):
        partial = closure(k * parts + part)
        for number, (name, loss) in enumerate(partial.items(), start=1):
            own = _trainable(model.task_parameters(name)) if heads else []
            gradients = torch.autograd.grad(
                loss, [*shared, *own], retain_graph=number < len(partial), allow_unused=True
            )
            _add_to_grad(own, gradients[len(shared) :])
            row = [_as_laid_out(g, p) for g, p in zip(gradients[: len(shared)], shared, strict=True)]
            found[name] = _sum(found[name], row) if name in found else row
            losses[name] = losses[name] + loss.detach() if name in losses else loss.detach()
    _agree(losses, found, [task.name for task in model.tasks], shared)
    if heads:
        average_gradients([p for name in losses for p in _trainable(model.task_parameters(name))])
    targets, rows = _dense(shared, list(found.values()))
    average_rows(rows)
    return TaskGradients(losses, targets, rows)


def of_representation(closure: Closure, model: nn.Module) -> TaskGradients:
    """One forward pass and one backward pass of each head, down to the one tensor where trunk and heads part; the
    heads' ``.grad`` is filled. ``through_trunk`` does the rest.
    """
    with model.noting_features() as features:
        losses = closure(0)
    _same_everywhere(list(losses))
    z, rows = features["representation"], []
    for name, loss in losses.items():
        own = _trainable(model.task_parameters(name))
        gradient, *heads = torch.autograd.grad(loss, [z, *own], allow_unused=True)
        _add_to_grad(own, heads)
        rows.append([gradient])
    average_gradients([p for name in losses for p in _trainable(model.task_parameters(name))])
    return TaskGradients({name: loss.detach() for name, loss in losses.items()}, [z], rows)


def through_trunk(found: TaskGradients, direction: Sequence[Tensor], model: nn.Module) -> None:
    """The one backward pass that is left behind ``of_representation``: from the representation through the trunk."""
    torch.autograd.backward(found.targets, list(direction))
    average_gradients(_trainable(model.shared_parameters()))


def write(targets: Sequence[Tensor], direction: Sequence[Tensor]) -> None:
    """Make ``direction`` the ``.grad`` of the shared parameters."""
    for parameter, gradient in zip(targets, direction, strict=True):
        parameter.grad = _as_laid_out(gradient, parameter)


@torch.no_grad()
def scale_heads(model: nn.Module, weights: dict[str, float]) -> None:
    """Multiply the gradients of every task's own parameters by its weight."""
    for name, weight in weights.items():
        found = [p.grad for p in model.task_parameters(name) if p.grad is not None]
        if found:
            torch._foreach_mul_(found, weight)


# --- the algebra of rows ---


@torch.no_grad()
def gramian(rows: Rows) -> Tensor:
    """G G', (T, T) float64 on the CPU, summed in float64 whatever the gradients are (methods that look for a null space
    need it), piece by piece: no second copy of the gradients is ever held.
    """
    size = max((tensor.numel() for tensor in rows[0]), default=0)
    device = rows[0][0].device if rows[0] else torch.device("cpu")
    total = torch.zeros(len(rows), len(rows), dtype=torch.float64, device=device)
    buffer = total.new_empty(len(rows), min(PIECE, size) if device.type == "cpu" else size)
    for column in zip(*rows, strict=True):
        vectors = _flat(column)
        for start in range(0, len(vectors[0]), buffer.shape[1]):
            part_TP = buffer[:, : len(vectors[0]) - start]
            for line, vector in zip(part_TP, vectors, strict=True):
                line.copy_(vector[start : start + len(line)])
            if device.type == "cpu":  # row by row: a matrix product with few rows is slow there
                for i in range(len(rows)):
                    total[i, i:].addmv_(part_TP[i:], part_TP[i])
            else:
                total.addmm_(part_TP, part_TP.T)
    total = total.cpu()
    return total.triu() + total.triu(1).T


@torch.no_grad()
def weighted_sum(rows: Rows, weights: Sequence[float]) -> list[Tensor]:
    """sum_t w_t g_t, tensor by tensor. The rows are used up: the result is in the first one's memory."""
    total = rows[0]
    torch._foreach_mul_(total, float(weights[0]))
    for row, weight in zip(rows[1:], weights[1:], strict=True):
        if weight:
            torch._foreach_add_(total, row, alpha=float(weight))
    return total


def _flat(column: Sequence[Tensor]) -> list[Tensor]:
    """Tensors of one shape as vectors of one order; views where they lie alike in memory without gaps."""
    first = column[0]
    alike = all(tensor.stride() == first.stride() for tensor in column)
    if alike and (first.is_contiguous() or first.is_contiguous(memory_format=torch.channels_last)):
        return [tensor.as_strided((tensor.numel(),), (1,), tensor.storage_offset()) for tensor in column]
    return [tensor.reshape(-1) for tensor in column]


def _agree(losses: Losses, found: dict[str, list[Tensor | None]], names: Sequence[str], shared: list) -> None:
    """Give every process the tasks, in one order, and the parameters of all of them: what is absent here is zero."""
    if processes() == 1:
        return
    everywhere: list[dict[str, list[bool]]] = [{}] * processes()
    dist.all_gather_object(everywhere, {name: [g is not None for g in row] for name, row in found.items()})
    rows, values = dict(found), dict(losses)
    found.clear(), losses.clear()
    for name in names:
        reached = [masks[name] for masks in everywhere if name in masks]
        if reached:
            found[name] = rows.get(name, [None] * len(shared))
            losses[name] = values.get(name, torch.zeros((), device=shared[0].device if shared else None))


def _same_everywhere(names: list[str]) -> None:
    """Raise KitError where the processes have different tasks in their batches."""
    if processes() > 1:
        everywhere: list[list[str]] = [[]] * processes()
        dist.all_gather_object(everywhere, names)
        if any(others != names for others in everywhere):
            found = " and ".join(map(str, everywhere))
            raise KitError(
                f"at the representation every process needs the same tasks, found {found}; set at='parameters'"
            )


def _dense(shared: list[nn.Parameter], rows: list[list[Tensor | None]]) -> tuple[list[Tensor], Rows]:
    """Without the parameters that no task reaches, whose ``.grad`` stays None; zero where one task does not reach."""
    reached = [i for i in range(len(shared)) if any(row[i] is not None for row in rows)]
    return [shared[i] for i in reached], [
        [torch.zeros_like(shared[i]) if row[i] is None else row[i] for i in reached] for row in rows
    ]


def _sum(total: list[Tensor | None], more: list[Tensor | None]) -> list[Tensor | None]:
    return [b if a is None else a if b is None else a.add_(b) for a, b in zip(total, more, strict=True)]


def _trainable(parameters: Iterable[nn.Parameter]) -> list[nn.Parameter]:
    return [parameter for parameter in parameters if parameter.requires_grad]


def _add_to_grad(parameters: Sequence[nn.Parameter], gradients: Sequence[Tensor | None]) -> None:
    for parameter, gradient in zip(parameters, gradients, strict=True):
        if gradient is not None:
            own = _as_laid_out(gradient, parameter)
            parameter.grad = own if parameter.grad is None else parameter.grad.add_(own)


def _as_laid_out(gradient: Tensor | None, parameter: Tensor) -> Tensor | None:
    """The gradient in the memory order of its parameter, as ``backward`` gives it and ``torch.autograd.grad`` does not.

    Fused Adam takes both in the order of their memory, and would update other numbers of a channels-last parameter.
    """
    if gradient is None:
        return None
    strides = zip(gradient.stride(), parameter.stride(), parameter.shape, strict=True)
    if all(ours == theirs or size == 1 for ours, theirs, size in strides):
        return gradient
    return torch.empty_like(parameter, requires_grad=False).copy_(gradient)


# --- normalisation ---


@contextlib.contextmanager
def frozen_statistics(model: nn.Module) -> Iterator[None]:
    """Batch normalisation as in training, but the running statistics stay as they are."""
    layers = [m for m in model.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm) and m.track_running_stats]
    for layer in layers:
        layer.track_running_stats = False
    try:
        yield
    finally:
        for layer in layers:
            layer.track_running_stats = True


# --- several processes ---


def processes() -> int:
    """How many processes train together."""
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def average_gradients(parameters: Iterable[nn.Parameter]) -> None:
    """Replace every ``.grad`` by its mean over all processes; a parameter without one on this rank counts as zero."""
    if processes() == 1:
        return
    for parameter in _trainable(parameters):
        if parameter.grad is None:  # every rank must take part in every collective
            parameter.grad = torch.zeros_like(parameter)
        _mean(parameter.grad)


def mean_losses(found: TaskGradients) -> Tensor:
    """The losses of the whole batch, (T,): their mean over the processes, so that all weigh alike."""
    losses_T = torch.stack(list(found.losses.values()))
    average_rows([[losses_T]])
    return losses_T


def average_rows(rows: Rows) -> None:
    """The mean of every row over all processes."""
    if processes() > 1:
        for row in rows:
            for tensor in row:
                _mean(tensor)


def average_gramian(values: Tensor) -> Tensor:
    """The Gramian of gradients on a representation: the batch is spread over the processes, and each has its part."""
    if processes() > 1:
        dist.all_reduce(values)
        values /= processes() ** 2
    return values


def _mean(tensor: Tensor) -> None:
    dist.all_reduce(tensor)
    tensor /= processes()
