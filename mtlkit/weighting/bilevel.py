"""Task weights that are trained to lower a loss of their own: that of the primary tasks after the model's next step.

Shapes: T tasks.
"""

from __future__ import annotations

import contextlib
from collections.abc import Collection, Iterable, Iterator, Sequence

import torch
from torch import Tensor, nn

from ..errors import KitError, nearest
from . import engine
from .base import WEIGHTINGS, Closure, Losses, OwnAdam, Step, TaskLike
from .losses import LossLevel

LENGTH = 0.01  # of the move behind a finite difference, as LibMTL's


@WEIGHTINGS.register("auto-lambda")
class AutoLambda(LossLevel):
    """Auto-Lambda (Liu et al., TMLR 2022, arXiv 2202.03091, equations 3 to 6).

    L = sum_t lambda_t l_t, with the lambda that would have made one plain gradient step best for the primary tasks:
    theta' = theta - alpha grad_theta L on this batch; the derivative by lambda_t of the sum of the primary losses at
    theta' on another batch is -alpha grad l_t(theta) . v, with v its gradient at theta'; taken as a finite difference,
    -alpha (l_t(theta + eps v) - l_t(theta - eps v)) / (2 eps). One Adam step on lambda, then the usual step of the
    model with the new lambda (heads too).

    ``primary`` names the tasks that count; left out, all do (multi-task learning), else the others are auxiliary.
    ``initial`` = 0.1 and ``lr`` = 1e-4 are said to be the paper's, alpha the model's learning rate (here group by
    group), and the other batch one of the training set: all four are unconfirmed, check against the paper. eps makes a
    move of 0.01, as in LibMTL. theta' leaves out momentum and weight decay, as LibMTL's, and Adam's scaling. lambda
    stays at 0 or above, for a negative weight would train a head to be wrong without limit; what the paper does there
    is unconfirmed. A task that is absent from the batch has a derivative of 0; without a primary task in the other
    batch lambda stays.

    In the extra passes running statistics stand still, dropout draws what it will draw in the real one, and parameters
    come back bit by bit.

    Cost: two batches a step; five forwards, three backwards (one and one for equal weighting), and two more copies of
    the parameters while it looks ahead. Factor to LibMTL: none; its lambda is a softmax that sums to 1 and starts at
    1/T, and learns at 1e-3.
    """

    paper = "Liu et al., TMLR 2022, arXiv 2202.03091"
    batches_per_step = 2
    accumulates = True
    needs_model = "is nothing without a model: its weights follow derivatives of losses at moved parameters"

    def __init__(
        self, tasks: Sequence[TaskLike], *, primary: list[str] | None = None, initial: float = 0.1, lr: float = 1e-4
    ):
        super().__init__(tasks)
        for name in self.names if primary is None else primary:
            if name not in self.names:
                raise KitError(f"primary names {name!r}, which is no task of this run: {nearest(name, self.names)}")
        if primary == []:
            raise KitError(f"primary names no task; name some of {self.names}, or leave it out for all")
        if not initial >= 0:
            raise KitError(f"initial of auto-lambda is 0 or more, found {initial}; the paper uses 0.1")
        if not lr > 0:
            raise KitError(f"lr of auto-lambda is above 0, found {lr}; the paper uses 0.0001")
        self.primary = list(self.names if primary is None else primary)
        self.register_buffer("lambdas", torch.full((len(self.names),), float(initial)))
        self.adam = OwnAdam(len(self.names), lr)

    def weigh(self, losses_T: Tensor, rows: list[int]) -> Tensor:
        return self.lambdas[rows].to(losses_T)

    def step(self, closure: Closure, model: nn.Module, optimizer: torch.optim.Optimizer) -> Step:
        derivative_T = self.derivative(closure, model, optimizer)
        if derivative_T is not None:
            self.adam.step(self.lambdas, derivative_T)
            self.lambdas.clamp_(min=0.0)
        return super().step(closure, model, optimizer)

    def derivative(self, closure: Closure, model: nn.Module, optimizer: torch.optim.Optimizer) -> Tensor | None:
        """d (sum of the primary losses of batch 1 after one gradient step on batch 0) / d lambda, (T,).

        None where there is none: no primary task in batch 1, or a learning rate of 0. The model is as before, but for
        its ``.grad``.
        """
        rates = {p: group["lr"] for group in optimizer.param_groups for p in group["params"] if p.requires_grad}
        with engine.frozen_statistics(model):
            with _moved(self._descent(closure, 0, self.names, self.lambdas, rates), -1.0):
                wanted = self._descent(closure, 1, self.primary, torch.ones_like(self.lambdas), rates)
            length = float(torch.stack(torch._foreach_norm(list(wanted.values()))).norm()) if wanted else 0.0
            if not length:
                return None
            above, below = (self._losses(closure, wanted, sign * LENGTH / length) for sign in (1.0, -1.0))
        derivative_T = torch.zeros_like(self.lambdas)
        for name, loss in above.items():
            derivative_T[self.names.index(name)] = (below[name] - loss) * (length / (2 * LENGTH))
        engine.average_rows([[derivative_T]])
        return derivative_T

    def _descent(
        self, closure: Closure, k: int, names: Collection[str], weights_T: Tensor, rates: dict[nn.Parameter, float]
    ) -> dict[nn.Parameter, Tensor]:
        """Learning rate times gradient of the weighted sum of these losses over batch ``k``."""
        for parameter in rates:
            parameter.grad = None
        with _same_chance(rates):
            for part in range(self.parts):
                losses = closure(k * self.parts + part).items()
                weighted = [weights_T[self.names.index(name)] * loss for name, loss in losses if name in names]
                if weighted:
                    torch.stack(weighted).sum().backward()
        engine.average_gradients(rates)
        return {p: p.grad.mul_(rate) for p, rate in rates.items() if p.grad is not None}

    @torch.no_grad()
    def _losses(self, closure: Closure, direction: dict[nn.Parameter, Tensor], scale: float) -> Losses:
        """Losses of batch 0 at moved parameters."""
        total: Losses = {}
        with _moved(direction, scale), _same_chance(direction):
            for part in range(self.parts):
                for name, loss in closure(part).items():
                    total[name] = total[name] + loss if name in total else loss
        return total


@contextlib.contextmanager
def _moved(direction: dict[nn.Parameter, Tensor], scale: float) -> Iterator[None]:
    """Parameters elsewhere for a while: other tensors stand in, so that what comes back is what was."""
    kept = [parameter.data for parameter in direction]
    try:
        for parameter, vector in direction.items():
            parameter.data = parameter.data.add(vector, alpha=scale)
        yield
    finally:
        for parameter, data in zip(direction, kept, strict=True):
            parameter.data = data


@contextlib.contextmanager
def _same_chance(parameters: Iterable[nn.Parameter]) -> Iterator[None]:
    """What is drawn inside will be drawn again afterwards."""
    devices = {parameter.device for parameter in parameters}
    with torch.random.fork_rng([device for device in devices if device.type == "cuda"]):
        yield
