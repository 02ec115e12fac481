"""Methods that need the gradients themselves and not only their inner products: signs entry by entry, lengths
parameter by parameter. ``tracking`` has those that remember gradients.

Shapes: T tasks, P numbers in a gradient, B batch.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from ..errors import KitError, nearest
from . import engine
from .base import WEIGHTINGS, Rows, TaskLike, chance
from .gradients import GradientLevel, Mixture

SCOPES = ("whole", "tensor")
LIMITS = ("longest", "mean")


@WEIGHTINGS.register("graddrop")
class GradDrop(GradientLevel):
    """Gradient sign dropout (Chen et al., NeurIPS 2020, arXiv 2010.06808, algorithm 1).

    Entry by entry, P = (1 + sum_t s_t / sum_t |s_t|) / 2 is how positive the tasks want it; with U uniform in [0, 1),
    the positive s_t stay where P > U, the negative ones elsewhere; the direction is the sum of the g_t that stay.
    At the ``parameters`` (default; CAGrad's and FAMO's code, TorchJD) s_t = g_t. At the ``representation`` z (paper and
    LibMTL) s_t = sum_B sign(z) g_t over the images of a batch, one decision for all images; ``combine`` has no z, and
    takes it as one image of positive values.

    ``leak`` (0, as the paper and LibMTL; Aligned-MTL's code: 0.5) is the part of every gradient that always gets
    through: 1 is equal weighting. U comes from ``generator``, in the order of the tensors; on an accelerator from one
    there that it seeds.
    Where U = P exactly, negative entries stay (the paper drops both signs): what all tasks agree on is always kept.
    Zero rows change nothing. In expectation over U, an entry of an anti-parallel pair of equal lengths is 0. Heads are
    unweighted; there are no weights.
    Factor to LibMTL: 1 at the representation.
    Cost: one forward, T backwards through what is shared; at the representation one.
    """

    paper = "Chen et al., NeurIPS 2020, arXiv 2010.06808"

    def __init__(
        self,
        tasks: Sequence[TaskLike],
        *,
        leak: float = 0.0,
        generator: torch.Generator | None = None,
        **common: Any,
    ):
        super().__init__(tasks, **common)
        refuse_scaled_heads(self)
        if not 0 <= leak <= 1:
            raise KitError(f"the leak of graddrop is between 0 and 1, found {leak}; the paper and LibMTL use 0.0")
        self.leak = leak
        self.generator = chance(generator)

    def blend(self, found: engine.TaskGradients, model: nn.Module) -> Mixture:
        z = found.targets[0].detach() if self.at == "representation" else None
        return self.mix(found.rows, engine.mean_losses(found), self._rows(list(found.losses)), z)

    @torch.no_grad()
    def mix(self, rows: Rows, losses_T: Tensor, present: list[int], z: Tensor | None = None) -> Mixture:
        return Mixture([self._drop(column, z) for column in zip(*rows, strict=True)])

    def _drop(self, column: Sequence[Tensor], z: Tensor | None) -> Tensor:
        if z is None:
            up, positive, negative = self._decide(column)
            kept = torch.where(up, positive, negative)
            return kept.lerp_(positive + negative, self.leak) if self.leak else kept
        sign = z.sign()
        signed = [(sign * g).sum(0, keepdim=True) for g in column]
        engine.average_rows([signed])  # every process has a part of the batch
        up, _, _ = self._decide(signed)
        stays = [torch.where(up, s > 0, s < 0).to(z) for s in signed]
        return sum(g * (self.leak + (1 - self.leak) * mask) for g, mask in zip(column, stays, strict=True))

    def _decide(self, signed: Sequence[Tensor]) -> tuple[Tensor, Tensor, Tensor]:
        """Where P > U, and what the tasks have on either side of zero."""
        positive, negative = signed[0].clamp(min=0), signed[0].clamp(max=0)
        for s in signed[1:]:
            positive += s.clamp(min=0)
            negative += s.clamp(max=0)
        size = positive - negative
        return positive > self._uniform(size).mul_(size), positive, negative  # P = positive / size

    def _uniform(self, like: Tensor) -> Tensor:
        source = self.generator
        if like.device.type != "cpu":  # millions of numbers are not drawn here and copied there
            seed = int(torch.randint(2**62, (), generator=source))
            source = torch.Generator(like.device).manual_seed(seed)
        return torch.rand(like.shape, generator=source, dtype=like.dtype, device=like.device)


@WEIGHTINGS.register("clip")
class Clip(GradientLevel):
    """The sum of the task gradients, made no longer than the gradients of the tasks themselves.

    This form is the kit's own and is in no paper. What it carries over is AFANet's gradient preservation (Shen et al.,
    CIKM 2020; its README): inside a unit that fuses two branches, the fused gradient of a branch is held to the length
    of the branch's own, "like clip_grad with the threshold set dynamically" (``layers.gradients.clip``). A shared trunk
    belongs to no one task, so here the limit is the length of the ``longest`` task gradient (default), or the ``mean``
    of their lengths: g = sum_t g_t min(1, limit / |sum_t g_t|). ``over="whole"`` (default) compares lengths over all
    shared parameters, and every weight is that one factor; ``over="tensor"`` compares them parameter by parameter, and
    has no weights.

    Heads are unweighted. One task alone is left as it is. Gradients that oppose each other (a sum shorter than the
    limit) are left as in equal weighting, collinear ones are shortened to the longest. Zero rows count in the mean.
    LibMTL has no such method.
    Cost: one forward, T backwards through what is shared; at the representation one.
    """

    paper = "the kit's own; after Shen et al., CIKM 2020"

    def __init__(self, tasks: Sequence[TaskLike], *, limit: str = "longest", over: str = "whole", **common: Any):
        super().__init__(tasks, **common)
        if limit not in LIMITS:
            raise KitError(f"limit is one of {list(LIMITS)}, found {limit!r}: {nearest(limit, LIMITS)}")
        if over not in SCOPES:
            raise KitError(f"over is one of {list(SCOPES)}, found {over!r}: {nearest(over, SCOPES)}")
        self.limit, self.over = limit, over
        if over == "tensor":
            refuse_scaled_heads(self)

    @torch.no_grad()
    def mix(self, rows: Rows, losses_T: Tensor, present: list[int]) -> Mixture:
        if self.over == "whole":
            return self._clip(rows)
        clipped = [self._clip([[tensor] for tensor in column]) for column in zip(*rows, strict=True)]
        direction = [part.direction[0] for part in clipped]
        return Mixture(direction, gramian=sum(part.gramian for part in clipped))

    def _clip(self, rows: Rows) -> Mixture:
        gramian = engine.gramian(rows)
        if self.at == "representation":
            gramian = engine.average_gramian(gramian)
        own_T = gramian.diagonal().sqrt()
        limit = float(own_T.max() if self.limit == "longest" else own_T.mean())
        fused = math.sqrt(max(float(gramian.sum()), 0.0))
        weights = [limit / fused if fused > limit else 1.0] * len(rows)
        return Mixture(engine.weighted_sum(rows, weights), weights, gramian)


def refuse_scaled_heads(method: GradientLevel) -> None:
    if method.scale_heads:
        raise KitError(f"{method.label} has no weights that heads could be scaled by; leave scale_heads = false")
