"""Layer-level methods: weights on losses, learned from how long each task's gradient is at one place of the network.

``gradnorm`` looks at the weights of the last shared layer, ``pseudo-grad-norm`` at the activations of the last shared
feature. Both have the norms of step k change the weights of step k + 1.

Shapes: T tasks (those present in the batch, unless said otherwise), P numbers in a gradient.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from ..errors import KitError, nearest
from . import engine
from .base import WEIGHTINGS, Closure, Losses, OwnAdam, Rows, Step, TaskLike, Weighting

FLOOR = 1e-4  # of a weight: at zero or below a task would not be trained, or be trained away from its target
EPS = 1e-6  # of the pseudo form, as released
Features = Mapping[str, Tensor]


class LayerLevel(Weighting):
    """Weights on losses (heads scaled too), moved after every step by the norms of the task gradients at one place.

    Where one tensor parts trunk and heads, each head is walked once, and the trunk once for the weighted sum. Elsewhere
    the way from each loss to the place is walked for its norm, then one backward pass follows. A subclass gives
    ``place``, ``norms``, ``weights_of`` and ``update``.

    A task that is absent from a batch keeps its weight, and the others keep the sum that theirs had.
    """

    level = "layer"

    def place(self, model: nn.Module, features: Features) -> list[Tensor]:
        """The tensors whose gradients are measured."""
        raise NotImplementedError  # abstract

    def norms(self, rows: Rows) -> Tensor:
        """Norm (T,) of each task's gradient there, over all processes; at least float32."""
        raise NotImplementedError  # abstract

    def weights_of(self, present: list[int]) -> list[float]:
        """The weights in force of the tasks with these numbers."""
        raise NotImplementedError  # abstract

    def update(self, norms_T: Tensor, losses_T: Tensor, present: list[int]) -> None:
        """Move the weights, from the norms of the *unweighted* losses' gradients and these losses."""
        raise NotImplementedError  # abstract

    def step(self, closure: Closure, model: nn.Module, optimizer: torch.optim.Optimizer) -> Step:
        optimizer.zero_grad(set_to_none=True)
        walk = _whole_network if model.representation() is None else _heads_then_trunk
        losses, norms_T, means_T, present = walk(self, closure, model)
        weights = {
            name: loss.new_tensor(weight)
            for (name, loss), weight in zip(losses.items(), self.weights_of(self._rows(list(losses))), strict=True)
        }
        self.update(norms_T, means_T, present)
        optimizer.step()
        return Step(losses, weights)

    def combine(self, gradients_TP: Tensor, losses_T: Tensor, extra: Sequence[Tensor] = ()) -> tuple[Tensor, Tensor]:
        """``gradients_TP`` are those at the place. The weights in force multiply this call's direction; what its norms
        and losses make of them is in force at the next call.
        """
        present = list(range(len(self.names)))
        weights_T = gradients_TP.new_tensor(self.weights_of(present))
        self.update(gradients_TP.norm(dim=1), losses_T, present)
        return weights_T, weights_T @ gradients_TP

    def _observe(self, losses: Losses, rows: Rows, place: Sequence[Tensor]) -> tuple[Tensor, Tensor, list[int]]:
        """Norms (T,), losses (T,) and numbers of the tasks that are present on any process, alike on all of them."""
        losses_T = torch.stack(list(losses.values()))
        present = self._rows(list(losses))
        if engine.processes() > 1:
            here = dict(zip(present, rows, strict=True))
            everyone = range(len(self.names))
            rows = [here[t] if t in here else [torch.zeros_like(tensor) for tensor in place] for t in everyone]
            sums = losses_T.new_zeros(2, len(self.names))
            sums[0, present], sums[1, present] = losses_T, 1.0
            engine.average_rows([[sums]])
            present = sums[1].nonzero().flatten().tolist()
            losses_T = (sums[0] / sums[1])[present]
            return self.norms(rows)[present], losses_T, present
        return self.norms(rows), losses_T, present


def _heads_then_trunk(
    method: LayerLevel, closure: Closure, model: nn.Module
) -> tuple[Losses, Tensor, Tensor, list[int]]:
    """Every head once, the short way from the representation to the place T times, the trunk once."""
    found = engine.of_representation(closure, model)
    (z,), names = found.targets, list(found.losses)
    place = method.place(model, {model.representation(): z})
    rows = [_gradients(z, place, row[0]) for row in found.rows]
    seen = method._observe(found.losses, rows, place)
    weights = method.weights_of(method._rows(names))
    engine.scale_heads(model, dict(zip(names, weights, strict=True)))
    engine.through_trunk(found, engine.weighted_sum(found.rows, weights), model)
    return found.losses, *seen


def _whole_network(method: LayerLevel, closure: Closure, model: nn.Module) -> tuple[Losses, Tensor, Tensor, list[int]]:
    """The way from each loss to the place, then one backward pass of the weighted sum."""
    with model.noting_features() as features:
        losses = closure()
    place = method.place(model, features)
    rows = [_gradients(loss, place) for loss in losses.values()]
    detached = {name: loss.detach() for name, loss in losses.items()}
    seen = method._observe(detached, rows, place)
    weights = method.weights_of(method._rows(list(losses)))
    total = sum(weight * loss for weight, loss in zip(weights, losses.values(), strict=True))
    engine.backward(total, model.parameters())
    return detached, *seen


def _gradients(output: Tensor, place: Sequence[Tensor], of_output: Tensor | None = None) -> list[Tensor]:
    """Gradient at the place, zero where it is not reached; the graph is kept."""
    found = torch.autograd.grad(output, place, of_output, retain_graph=True, allow_unused=True)
    return [torch.zeros_like(at) if gradient is None else gradient for at, gradient in zip(place, found, strict=True)]


def _squares(rows: Rows) -> Tensor:
    """|g_t|^2, (T,), summed in float32 where gradients have less."""
    wide = torch.promote_types(rows[0][0].dtype, torch.float32)
    return torch.stack(
        [torch.stack([torch.linalg.vector_norm(g, dtype=wide) for g in row]).square().sum() for row in rows]
    )


# --- GradNorm ---


def relative_rates(losses_T: Tensor, first_T: Tensor) -> Tensor:
    """r_t = (l_t / l_t(0)) over its mean: above 1 for a task that learns more slowly than the others.

    A task whose first loss was not positive counts as if it stood still, and so do all where every loss is zero.
    """
    left_T = torch.where(first_T > 0, losses_T / first_T, torch.ones_like(losses_T))
    return _over_mean(left_T)


def imbalance(weights_T: Tensor, norms_T: Tensor, rates_T: Tensor, alpha: float) -> tuple[Tensor, Tensor]:
    """L_grad of the paper (equation 2) and its derivative (T,) by the weights, with the target held constant.

    Args:
        weights_T: weights in force, positive.
        norms_T: norms of the gradients of the unweighted losses.
        rates_T: ``relative_rates``.
        alpha: 0 asks for equal norms; more, for longer gradients of slower tasks.
    """
    weighted_T = weights_T * norms_T
    away_T = weighted_T - weighted_T.mean() * rates_T**alpha
    return away_T.abs().sum(), norms_T * away_T.sign()


def _over_mean(values_T: Tensor) -> Tensor:
    """Values over their mean; ones where that is zero. Negative values count as zero."""
    values_T = values_T.clamp(min=0)
    mean = values_T.mean()
    return torch.where(mean > 0, values_T / mean, torch.ones_like(values_T))


@WEIGHTINGS.register("gradnorm")
class GradNorm(LayerLevel):
    """GradNorm (Chen et al., ICML 2018, arXiv 1711.02257, equations 1 and 2): L = sum_t w_t l_t with weights that have
    each task's gradient on the last shared layer W be as long as its learning asks for.

    With G_t = |grad_W w_t l_t|, their mean Gbar and r_t = (l_t / l_t(0)) over its mean, the weights alone descend
    L_grad = sum_t |G_t - Gbar r_t^alpha|, target held constant: dL_grad/dw_t = |grad_W l_t| sign(G_t - Gbar r_t^alpha).
    Then they are rescaled to sum to T. The network takes its step with the weights from before. Targets average to Gbar
    only where the r^alpha average to 1 (alpha 0 and 1): else the task with the largest weight takes up the difference.

    ``alpha = 1.5`` (NYUv2; 0.12 in the paper's toy, 0 has equal norms, above 2 unstable there), ``lr = 0.025`` and
    ``optimiser = "adam"`` (state of its own, no weight decay) are the paper's; ``"sgd"`` moves by the bare gradient.
    l_t(0) is a task's loss when it is first seen; ``initial`` gives it instead, task by task: the paper advises log C
    for a C-way classification where the first loss is unstable. Weights are clamped above zero before they are
    rescaled: the paper is silent on a step that would pass it, and a negative weight maximises a loss.

    Factor to LibMTL: 1 on the shared part (weights sum to T), but it is another method there: gradients of *all* shared
    parameters, a softmax for the weights, first losses averaged over an epoch of equal weights, heads unweighted.
    Degenerate: a task that can learn no more is turned up for ever (the paper's supplement); a first loss of zero
    counts as standing still. Several processes: norms of the mean gradient. No batches in parts.
    Cost: one forward, one backward, and T ways from the loss (or the representation) to the last shared layer.
    """

    paper = "Chen, Badrinarayanan, Lee, Rabinovich, ICML 2018, arXiv 1711.02257"

    def __init__(
        self,
        tasks: Sequence[TaskLike],
        *,
        alpha: float = 1.5,
        lr: float = 0.025,
        optimiser: str = "adam",
        initial: Mapping[str, float] | None = None,
    ):
        super().__init__(tasks)
        if not alpha >= 0:
            raise KitError(f"alpha of gradnorm is 0 (equal norms) or more, found {alpha}; the paper uses 1.5 on NYUv2")
        if not lr > 0:
            raise KitError(f"lr of gradnorm is above 0, found {lr}; the paper uses 0.025")
        if optimiser not in ("adam", "sgd"):
            raise KitError(
                f"optimiser is 'adam' or 'sgd', found {optimiser!r}: {nearest(optimiser, ['adam', 'sgd'])}; "
                f"the paper uses adam"
            )
        self.alpha, self.lr = alpha, lr
        self.adam = OwnAdam(len(self.names), lr) if optimiser == "adam" else None
        self.register_buffer("weights", torch.ones(len(self.names)))
        self.register_buffer("first", self._given(initial or {}))  # 0: not seen yet

    def _given(self, initial: Mapping[str, float]) -> Tensor:
        for name, loss in initial.items():
            if name not in self.names:
                raise KitError(f"initial names {name!r}, which is no task of this run: {nearest(name, self.names)}")
            if not loss > 0:
                raise KitError(
                    f"initial losses are above 0, found {loss} for {name!r}; log(C) where C classes are guessed"
                )
        return torch.tensor([float(initial.get(name, 0.0)) for name in self.names])

    def check(self, model: nn.Module) -> None:
        layer = model.last_shared_layer()
        if layer is None or not any(p.requires_grad for p in layer.parameters()):
            raise KitError(
                f"{self.label} looks at the weights of the last layer that all tasks share and train, and this network "
                f"has none: take dwa or uncertainty"
            )

    def place(self, model: nn.Module, features: Features) -> list[Tensor]:
        return [parameter for parameter in model.last_shared_layer().parameters() if parameter.requires_grad]

    def norms(self, rows: Rows) -> Tensor:
        engine.average_rows(rows)
        return _squares(rows).sqrt()

    def weights_of(self, present: list[int]) -> list[float]:
        return self.weights[present].tolist()

    @torch.no_grad()
    def update(self, norms_T: Tensor, losses_T: Tensor, present: list[int]) -> None:
        norms_T, losses_T = norms_T.to(self.weights), losses_T.to(self.weights)
        everyone = present == list(range(len(self.names)))
        here: list[int] | slice = (
            slice(None) if everyone else present
        )  # no index goes to the device where none is needed
        self.first[here] = torch.where(self.first[here] > 0, self.first[here], losses_T)
        rates_T = relative_rates(losses_T, self.first[here])
        gradient = torch.zeros_like(self.weights)
        gradient[here] = imbalance(self.weights[here], norms_T, rates_T, self.alpha)[1]
        moved = self.weights.clone()
        if self.adam is None:
            moved -= self.lr * gradient
        else:
            self.adam.step(moved, gradient)
        moved_T = moved[here].clamp(min=FLOOR)
        total = len(self.names)
        if not everyone:
            total -= self.weights[[t for t in range(len(self.names)) if t not in present]].sum()
        self.weights[here] = moved_T * (total / moved_T.sum())


# --- the pseudo form ---

RATES = ("sum", "dwa")


def pseudo_update(
    weights_T: Tensor,
    averages_3T: Tensor,
    *,
    alpha: float = 0.75,
    lr: float = 1e-4,
    rate: str = "sum",
    total: float | None = None,
) -> Tensor:
    """New weights (T,) of the pseudo form, from the ones in force and from averages over the steps.

    Args:
        weights_T: in force.
        averages_3T: of the losses, short and long, and of the norms of the *weighted* losses' gradients.
        alpha, lr, rate: see ``PseudoGradNorm``.
        total: what the weights sum to; None: T.
    """
    short_T, long_T, norms_T = averages_3T
    left_T = short_T / (long_T + EPS)
    rates_T = torch.softmax(left_T, dim=0) if rate == "dwa" else _over_mean(left_T) / len(left_T)
    wanted_T = norms_T.mean() * rates_T**alpha
    moved_T = weights_T + lr * weights_T * (wanted_T / (norms_T + EPS) - 1)
    return (len(weights_T) if total is None else total) * moved_T / moved_T.sum()


@WEIGHTINGS.register("pseudo-grad-norm")
class PseudoGradNorm(LayerLevel):
    """The gradient normalisation of TI's multi-task example: GradNorm without its optimiser, on activations.

    At each step, with the losses l_t and g_t = |d(w_t l_t)/dF| on the last feature F that all tasks read (whole batch,
    current weight included): S_t and Q_t are running means of l_t with the constants ``short = 1e-3`` and ``long =
    1e-6`` (about the initial loss), G_t one of g_t with ``short``; all start at their first value. rho_t = S_t / (Q_t +
    1e-6), r_t = rho_t / sum rho, u_t = mean(G) r_t^alpha / (G_t + 1e-6), w_t <- w_t + lr w_t (u_t - 1), then rescaled
    to sum to T. ``alpha = 0.75``, ``lr = 1e-4``: the time constant is about 10 000 steps. At rest G_t is proportional
    to r_t^alpha. ``rate="dwa"`` takes r = softmax(rho) instead: a branch of the same file, best by a comment in it.

    Corrected: releases r8.0 to r8.6 keep all weights at one where the mode comes from the command line (names compared
    by identity; right from r9.0 on), and no spelling of the mode reaches the dwa branch in any of them.

    Against the paper: activations instead of weights, running means of losses and norms, the long mean instead of
    l_t(0), rates over their sum (which slows it, and is else absorbed by the rescaling), a multiplicative step.
    Factor to LibMTL: it has no such method; weights sum to T as they do in its equal weighting. Degenerate: weights
    stay positive; a task without a gradient at F takes over all weight. Where F is no cut of the graph, what reaches
    the trunk past it is not measured. Several processes: one norm over all their images. No batches in parts.
    Cost: one forward, one backward (where F is no cut: also T ways from the loss to F).
    """

    paper = "Texas Instruments, edgeai-torchvision, after Chen et al., ICML 2018, arXiv 1711.02257"
    memory = ("weights", "averages")

    def __init__(
        self,
        tasks: Sequence[TaskLike],
        *,
        alpha: float = 0.75,
        lr: float = 1e-4,
        short: float = 1e-3,
        long: float = 1e-6,
        rate: str = "sum",
    ):
        super().__init__(tasks)
        if not alpha >= 0:
            raise KitError(f"alpha of pseudo-grad-norm is 0 (equal norms) or more, found {alpha}; released: 0.75")
        for option, value, released in (("lr", lr, 1e-4), ("short", short, 1e-3), ("long", long, 1e-6)):
            if not 0 < value <= 1:
                raise KitError(f"{option} of pseudo-grad-norm is in (0, 1], found {value}; released: {released:g}")
        if rate not in RATES:
            raise KitError(f"rate is one of {list(RATES)}, found {rate!r}: {nearest(rate, RATES)}; released: sum")
        self.alpha, self.lr, self.rate = alpha, lr, rate
        self.pace = (short, long, short)  # of the three averages
        # Python floats: double precision also on accelerators that have none, and 1 - 1e-6 needs it
        self.weights = [1.0] * len(self.names)
        self.averages: dict[str, list[float]] = {}  # task -> S, Q, G

    def check(self, model: nn.Module) -> None:
        if model.last_shared_feature() is None:
            raise KitError(
                f"{self.label} looks at the last feature that all tasks read, and this network has none: "
                f"take gradnorm, dwa or uncertainty"
            )
        if not any(parameter.requires_grad for parameter in model.shared_parameters()):
            raise KitError(
                f"{self.label} weighs tasks that train something in common, and here they do not: take equal"
            )

    def place(self, model: nn.Module, features: Features) -> list[Tensor]:
        return [features[model.last_shared_feature()]]

    def norms(self, rows: Rows) -> Tensor:
        return engine.average_gramian(_squares(rows)).sqrt()

    def weights_of(self, present: list[int]) -> list[float]:
        return [self.weights[t] for t in present]

    @torch.no_grad()
    def update(self, norms_T: Tensor, losses_T: Tensor, present: list[int]) -> None:
        norms, losses = torch.stack([norms_T, losses_T.to(norms_T)]).cpu().double().tolist()
        self.averages = dict(self.averages)
        for t, norm, loss in zip(present, norms, losses, strict=True):
            seen = (loss, loss, self.weights[t] * norm)
            kept = self.averages.get(self.names[t], seen)
            self.averages[self.names[t]] = [
                old + p * (new - old) for p, old, new in zip(self.pace, kept, seen, strict=True)
            ]
        weights_T = torch.tensor(self.weights_of(present), dtype=torch.float64)
        averages_3T = torch.tensor([self.averages[self.names[t]] for t in present], dtype=torch.float64).T
        absent = sum(weight for t, weight in enumerate(self.weights) if t not in present)
        moved = pseudo_update(
            weights_T, averages_3T, alpha=self.alpha, lr=self.lr, rate=self.rate, total=len(self.weights) - absent
        )
        new = dict(zip(present, moved.tolist(), strict=True))
        self.weights = [new.get(t, weight) for t, weight in enumerate(self.weights)]
