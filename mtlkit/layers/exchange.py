"""Units that stand between the trunks of several tasks: a feature of every task in, one of every task out.

Each tells what task i takes from task j, detached: ``matrix()`` (T, T), ``start()`` (T, T), what that was before any
training, and ``by_channel()`` (T, T, C).

Shapes: B batch, C channels, H/W size, T tasks.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn


class CrossStitch(nn.Module):
    """Every task goes on with a mixture of all, channel by channel, by a T x T matrix for each channel.

        out_i = sum_j A_ij * in_j

    Misra, Shrivastava, Gupta and Hebert, "Cross-stitch Networks for Multi-task Learning", CVPR 2016. It starts near the
    identity.

    Args:
        tasks: T.
        channels: C.
        own: of A_ii at the start; the others share what is left of 1 (for two tasks 0.1, as published).
    """

    def __init__(self, tasks: int, channels: int, own: float = 0.9):
        super().__init__()
        self.own = own
        self.matrix_TTC = nn.Parameter(_shares(tasks, own)[:, :, None].repeat(1, 1, channels))
        self.seen = nn.Identity()  # the matrix passes through here, so that ``mtlkit.record`` finds it

    def taps(self) -> dict[str, nn.Module]:
        """The module whose output is A, (T, T, C)."""
        return {"stitch": self.seen}

    def forward(self, features: Sequence[Tensor]) -> list[Tensor]:
        mixed_TTC11 = self.seen(self.matrix_TTC)[..., None, None]
        return [sum(a * x for a, x in zip(row, features, strict=True)) for row in mixed_TTC11]

    def matrix(self) -> Tensor:
        """(T, T), mean over channels, detached."""
        return self.matrix_TTC.detach().mean(dim=-1)

    def start(self) -> Tensor:
        return _shares(len(self.matrix_TTC), self.own)

    def by_channel(self) -> Tensor:
        """A itself, (T, T, C)."""
        return self.matrix_TTC.detach()


class CommonSum(nn.Module):
    """MTAN's simplified cross-stitch, as released: every task goes on with the *same* sum, c_j in_j over all tasks j.

    The factors start at 1, so that it is a sum and no mean, and a feature grows T-fold at every unit before the next
    batch normalisation brings it back; nothing tells the tasks apart behind it but their own layers.

    Args:
        tasks: T.
        channels: of the features; no part of this unit.
    """

    def __init__(self, tasks: int, channels: int):
        super().__init__()
        self.factor_T = nn.Parameter(torch.ones(tasks))
        self.seen = nn.Identity()

    def taps(self) -> dict[str, nn.Module]:
        """The module whose output is c, (T,)."""
        return {"stitch": self.seen}

    def forward(self, features: Sequence[Tensor]) -> list[Tensor]:
        mixed = sum(c * x for c, x in zip(self.seen(self.factor_T), features, strict=True))
        return [mixed] * len(features)

    def matrix(self) -> Tensor:
        """(T, T), every row the same, detached."""
        return self.factor_T.detach().expand(len(self.factor_T), -1)

    def start(self) -> Tensor:
        return torch.ones_like(self.matrix())

    def by_channel(self) -> Tensor:
        """(T, T, 1): all channels have one factor."""
        return self.matrix()[..., None]


class NDDR(nn.Module):
    """Every task goes on with a 1x1 convolution of all features, normalised: concatenation in, C channels out.

    Gao, Ma, Zhao, Liu and Yuille, "NDDR-CNN: Layerwise Feature Fusing in Multi-Task CNNs by Neural Discriminative
    Dimensionality Reduction", CVPR 2019. No bias; the weight starts diagonal.

    Args:
        names: of the tasks, T of them.
        channels: C.
        own: on the diagonal of a task's own block at the start (alpha); the others share what is left of 1 (beta).
        eps: of the batch normalisation.
        momentum: of its running statistics, as PyTorch counts it.
    """

    def __init__(
        self, names: Sequence[str], channels: int, own: float = 0.9, eps: float = 1e-3, momentum: float = 0.05
    ):
        super().__init__()
        self.mix = nn.ModuleDict()
        self.own = own
        for name in names:
            convolution = nn.Conv2d(len(names) * channels, channels, 1, bias=False)
            norm = nn.BatchNorm2d(channels, eps=eps, momentum=momentum)
            self.mix[name] = nn.Sequential(convolution, norm, nn.ReLU(inplace=True))
        self.reset()

    def reset(self) -> None:
        """The start: diagonal blocks."""
        for mix, shares_T in zip(self.mix.values(), self.start(), strict=True):
            blocks = [share * torch.eye(mix[0].out_channels) for share in shares_T]
            with torch.no_grad():
                mix[0].weight.copy_(torch.cat(blocks, dim=1)[:, :, None, None])

    def taps(self) -> dict[str, nn.Module]:
        """The modules whose outputs go on, by task: ``mix/depth`` (B, C, H, W)."""
        return {f"mix/{name}": mix for name, mix in self.mix.items()}

    def forward(self, features: Sequence[Tensor]) -> list[Tensor]:
        together = torch.cat(list(features), dim=1)
        return [mix(together) for mix in self.mix.values()]

    def matrix(self) -> Tensor:
        """(T, T), detached: the share of task j in the absolute weights of task i; rows sum to 1."""
        mass_TT = self._mass().sum(dim=-1)
        return mass_TT / mass_TT.sum(dim=1, keepdim=True)

    def start(self) -> Tensor:
        return _shares(len(self.mix), self.own)

    def by_channel(self) -> Tensor:
        """The same shares for each output channel, (T, T, C); for each i they sum to 1 over j."""
        mass_TTC = self._mass()
        return mass_TTC / mass_TTC.sum(dim=1, keepdim=True)

    def _mass(self) -> Tensor:
        """(T, T, C): the sum of the absolute weights of task i's output channels on the channels of task j."""
        weights = (mix[0].weight.detach().abs().flatten(1) for mix in self.mix.values())
        return torch.stack([w.unflatten(1, (len(self.mix), -1)).sum(dim=-1).T for w in weights])


def _shares(tasks: int, own: float) -> Tensor:
    """(T, T): ``own`` on the diagonal, the others share what is left of 1; for one task 1."""
    return torch.full((tasks, tasks), (1 - own) / max(tasks - 1, 1)).fill_diagonal_(own if tasks > 1 else 1.0)
