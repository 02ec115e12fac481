"""Which gradient goes back through a unit that mixes the features of several tasks.

Forward, every mode is the same unit. Backward, a *kept* branch gets its own gradient instead of the fused one, or is
held to the size of its own; the unit's own parameters always get the joint gradient of all tasks. After AFANet (Shen et
al., CIKM 2020; its README and released code), see ``layers.afa`` for which mode is which.

Shapes: any; a list has one tensor for each task.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence

import torch
from torch import Tensor

Unit = Callable[[Sequence[Tensor]], list[Tensor]]


class _StraightThrough(torch.autograd.Function):
    """The first argument forward; backward, both get the gradient of the output as it is."""

    @staticmethod
    def forward(ctx, value: Tensor, carrier: Tensor) -> Tensor:
        return value.view_as(value)

    @staticmethod
    def backward(ctx, gradient: Tensor) -> tuple[Tensor, Tensor]:
        return gradient, gradient


def straight_through(value: Tensor, carrier: Tensor) -> Tensor:
    """``value``, whose gradient goes to ``carrier`` too, unchanged. Unlike ``value + carrier - carrier.detach()`` this
    rounds nothing.
    """
    return _StraightThrough.apply(value, carrier)


def keep(unit: Unit, features: Sequence[Tensor], kept: Collection[int]) -> list[Tensor]:
    """``unit(features)``; backward, feature i in ``kept`` gets exactly the gradient of output i.

    No gradient of another task comes back to a kept feature through the unit.
    """
    seen = [x.detach() if i in kept else x for i, x in enumerate(features)]
    return [straight_through(y, features[i]) if i in kept else y for i, y in enumerate(unit(seen))]


class _Note(torch.autograd.Function):
    """Identity; backward, it notes the length of the gradient."""

    @staticmethod
    def forward(ctx, output: Tensor, notes: dict[int, Tensor], i: int) -> Tensor:
        ctx.notes, ctx.i = notes, i
        return output.view_as(output)

    @staticmethod
    def backward(ctx, gradient: Tensor) -> tuple[Tensor, None, None]:
        ctx.notes[ctx.i] = torch.linalg.vector_norm(gradient.detach())
        return gradient, None, None


class _Clip(torch.autograd.Function):
    """Identity; backward, the gradient is made no longer than the noted length."""

    @staticmethod
    def forward(ctx, feature: Tensor, notes: dict[int, Tensor], i: int) -> Tensor:
        ctx.notes, ctx.i = notes, i
        return feature.view_as(feature)

    @staticmethod
    def backward(ctx, gradient: Tensor) -> tuple[Tensor, None, None]:
        own = ctx.notes.pop(ctx.i, None)  # taken out: another backward pass through the same graph notes its own
        if own is None:  # no loss of this task: its own gradient is zero
            return torch.zeros_like(gradient), None, None
        fused = torch.linalg.vector_norm(gradient.detach())
        return gradient * (own / fused.clamp_min(torch.finfo(fused.dtype).tiny)).clamp(max=1), None, None


def clip(unit: Unit, features: Sequence[Tensor]) -> list[Tensor]:
    """``unit(features)``; backward, every feature gets the fused gradient, shortened to the length of the gradient of
    its own output where it is longer (lengths over the whole tensor).

    Every gradient of an output is known before any of a feature is computed, because each feature lies behind all
    outputs.
    """
    notes: dict[int, Tensor] = {}
    outputs = unit([_Clip.apply(x, notes, i) for i, x in enumerate(features)])
    return [_Note.apply(y, notes, i) for i, y in enumerate(outputs)]


class _Reverse(torch.autograd.Function):
    """Identity; backward, the gradient is negated and scaled, by operations that can be differentiated again."""

    @staticmethod
    def forward(ctx, x: Tensor, alpha: float) -> Tensor:
        ctx.alpha = alpha
        return x.view_as(x)

    @staticmethod
    def backward(ctx, gradient: Tensor) -> tuple[Tensor, None]:
        return -ctx.alpha * gradient, None


def reverse(x: Tensor, alpha: float) -> Tensor:
    """``x``; backward, its gradient is multiplied by ``-alpha`` (Ganin and Lempitsky, ICML 2015)."""
    return _Reverse.apply(x, alpha)
