"""Adaptive feature aggregation: two gates that decide, for each image, how much the branches of the tasks mix.

Shen, Cui, Huang, Zong and Chen, "Deep Adaptive Feature Aggregation in Multi-task CNNs", CIKM 2020; after the released
code's final form, since the paper is not open (what its text adds is unconfirmed). Both gates are a softmax over the
pair (self, other), so that w_self + w_other = 1, and the *same* gate serves all tasks:

    o_i = w_self * x_i + w_other * mean of x_j over the other tasks j

``ChannelGate`` (CAM) has one such pair for each channel, from the features' means over pixels; ``SpatialGate`` (SAM)
one for each pixel, from their means over channels. ``AFA`` is CAM, ReLU, SAM, ReLU. For two tasks the mean is the other
feature, as released; for more it is ours.

Which gradient comes back to a branch is an option (``MODES``, reference: README and code of AFANet):

    ``fused``      that of autograd
    ``keep_a``     as released: the first task's branch gets its own gradient alone, the others the fused one
    ``keep_both``  as an older release: every branch gets its own
    ``clip``       the README's text, and the default: the fused one, no longer than the branch's own

Shapes: B batch, C channels, H/W size, P pixels, T tasks.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..errors import KitError, nearest
from . import gradients

MODES = ("clip", "fused", "keep_a", "keep_both")
REDUCTION = 16  # r: hidden width is 8 planes / r, that is 2 C / r ...
LEAST_HIDDEN = 32  # ... but at least L


class ChannelGate(nn.Module):
    """CAM: a pair of weights for each channel.

    Args:
        tasks: T.
        channels: C.
    """

    def __init__(self, tasks: int, channels: int):
        super().__init__()
        hidden = max(tasks * channels // REDUCTION, LEAST_HIDDEN)
        self.squeeze = nn.Linear(tasks * channels, hidden, bias=False)
        self.self_ = nn.Linear(hidden, channels, bias=False)
        self.other = nn.Linear(hidden, channels, bias=False)
        self.seen = nn.Identity()  # the gate passes through here, so that ``mtlkit.record`` finds it
        _initialise(self)

    def gate(self, features: Sequence[Tensor]) -> Tensor:
        """w_self in [0, 1], (B, C, 1, 1)."""
        means = torch.cat([x.mean(dim=(2, 3)) for x in features], dim=1)
        hidden = F.relu(self.squeeze(means))
        # the softmax over a pair is the sigmoid of the difference
        return self.seen(torch.sigmoid(self.self_(hidden) - self.other(hidden))[:, :, None, None])

    def forward(self, features: Sequence[Tensor]) -> list[Tensor]:
        return mix(self.gate(features), features)


class SpatialGate(nn.Module):
    """SAM: a pair of weights for each pixel.

    Args:
        tasks: T.
        size: (height, width) of the features, for fully connected layers over pixels, as released; None takes two 7x7
            convolutions in their place (ours), which fit any size.
    """

    def __init__(self, tasks: int, size: tuple[int, int] | None):
        super().__init__()
        self.size = size
        self.squeeze = nn.Conv2d(tasks, 1, 7, padding=3, bias=False)
        if size is None:
            self.self_, self.other = (nn.Conv2d(1, 1, 7, padding=3, bias=False) for _ in range(2))
        else:
            pixels = size[0] * size[1]
            self.self_, self.other = (nn.Linear(pixels, pixels, bias=False) for _ in range(2))
        self.seen = nn.Identity()
        _initialise(self)

    def gate(self, features: Sequence[Tensor]) -> Tensor:
        """w_self in [0, 1], (B, 1, H, W). Raises KitError for features of another size than it was made for."""
        means_BTHW = torch.stack([x.mean(dim=1) for x in features], dim=1)
        found = tuple(means_BTHW.shape[-2:])
        squeezed = F.relu(self.squeeze(means_BTHW))
        if self.size is None:
            return self.seen(torch.sigmoid(self.self_(squeezed) - self.other(squeezed)))
        if found != self.size:
            raise KitError(
                f"AFA's spatial gate was made for features of {self.size[0]} x {self.size[1]} pixels, found {found[0]} "
                f"x {found[1]}; give images of the size that the network was built for, or build it with spatial='free'"
            )
        flat_BP = squeezed.flatten(1)
        return self.seen(torch.sigmoid(self.self_(flat_BP) - self.other(flat_BP)).view_as(squeezed))

    def forward(self, features: Sequence[Tensor]) -> list[Tensor]:
        return mix(self.gate(features), features)


class AFA(nn.Module):
    """One unit of adaptive feature aggregation: features in, features of the same shapes out.

    Args:
        tasks: T.
        channels: C.
        size: of the features, as ``SpatialGate``.
        preserve: a name in ``MODES``. The released modes act on CAM and SAM separately, ``clip`` on the pair of them.

    Raises:
        KitError: for an unknown mode.
    """

    def __init__(self, tasks: int, channels: int, size: tuple[int, int] | None, preserve: str = "clip"):
        super().__init__()
        if preserve not in MODES:
            raise KitError(f"unknown gradient mode preserve={preserve!r}: {nearest(preserve, MODES)}")
        self.preserve = preserve
        self.channel, self.spatial = ChannelGate(tasks, channels), SpatialGate(tasks, size)

    def taps(self) -> dict[str, nn.Module]:
        """The modules whose outputs are w_self: ``channel`` (B, C, 1, 1) and ``spatial`` (B, 1, H, W)."""
        return {"channel": self.channel.seen, "spatial": self.spatial.seen}

    def forward(self, features: Sequence[Tensor]) -> list[Tensor]:
        match self.preserve:
            case "clip":
                return gradients.clip(self._gates, features)
            case "fused":
                return self._gates(features)
            case "keep_a":
                return self._gates(features, kept=(0,))
            case _:
                return self._gates(features, kept=range(len(features)))

    def _gates(self, features: Sequence[Tensor], kept: Sequence[int] = ()) -> list[Tensor]:
        for gate in (self.channel, self.spatial):
            features = [F.relu(y) for y in gradients.keep(gate, features, kept)]
        return features


def mix(self_BCHW: Tensor, features: Sequence[Tensor]) -> list[Tensor]:
    """o_i from w_self, which broadcasts against the features; for one task the feature itself."""
    if len(features) == 1:
        return list(features)
    total = sum(features)
    others = [
        features[1 - i] if len(features) == 2 else (total - x) / (len(features) - 1) for i, x in enumerate(features)
    ]
    return [self_BCHW * x + (1 - self_BCHW) * other for x, other in zip(features, others, strict=True)]


def _initialise(module: nn.Module) -> None:
    """As released: He's normal distribution, by fan-out for convolutions, by fan-in for linear layers."""
    for layer in module.modules():
        if isinstance(layer, nn.Conv2d):
            nn.init.kaiming_normal_(layer.weight, mode="fan_out", nonlinearity="relu")
        elif isinstance(layer, nn.Linear):
            nn.init.kaiming_normal_(layer.weight)
