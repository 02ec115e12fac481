"""What a task has to itself inside shared layers: batch normalisation, channel gates, adapters.

ASTMT (Maninis, Radosavovic and Kokkinos, "Attentive Single-Tasking of Multiple Tasks", CVPR 2019). The network runs for
one task at a time; modules that take a task's name beside their input pick that task's own part of it.

    squeeze-and-excite    x * sigmoid(W2 relu(W1 mean(x)))      Hu et al., CVPR 2018; C -> C // ratio -> C
    residual adapter      conv(x) + 1x1(x)                      parallel form, Rebuffi et al., CVPR 2018; zero at first
    modulated convolution squeeze(relu(norm(conv(x) + adapter(x))))

Shapes: B batch, C channels, H/W size.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable

from torch import Tensor, nn

SHARED = "shared"  # the key of what all tasks use


class PerTask(nn.ModuleDict):
    """One module for each task, or one for all of them under the key ``SHARED``: (input, task's name) -> output.

    Args:
        make: a fresh module.
        names: of the tasks.
        own: whether each task has its own.
    """

    def __init__(self, make: Callable[[], nn.Module], names: tuple[str, ...], own: bool):
        super().__init__({name: make() for name in (names if own else (SHARED,))})
        self.own = own

    def of(self, name: str) -> nn.Module:
        """The module that this task runs through."""
        return self[name if self.own else SHARED]

    def forward(self, x: Tensor, name: str) -> Tensor:
        return self.of(name)(x)


class Squeeze(nn.Module):
    """Squeeze-and-excite: (B, C, H, W) -> the same, every channel times its gate in (0, 1).

    The gates are the output of ``gate``, (B, C, 1, 1).

    Args:
        channels: C.
        ratio: C over the channels inside, of which there is at least one.
        activation: between the two linear layers.
    """

    def __init__(self, channels: int, ratio: int, activation: type[nn.Module]):
        super().__init__()
        inner = max(1, channels // ratio)
        self.gate = nn.Sequential(
            nn.AdaptiveAvgPool2d(1),
            nn.Flatten(),
            nn.Linear(channels, inner),
            activation(),
            nn.Linear(inner, channels),
            nn.Sigmoid(),
            nn.Unflatten(1, (channels, 1, 1)),
        )

    def forward(self, x_BCHW: Tensor) -> Tensor:
        return x_BCHW * self.gate(x_BCHW)


class Adapter(nn.Conv2d):
    """A 1x1 convolution without bias beside one of stride 1; it starts at zero, so that at first it changes nothing."""

    def __init__(self, channels: int, outputs: int):
        super().__init__(channels, outputs, 1, bias=False)


@dataclasses.dataclass(frozen=True)
class Modulation:
    """What each task has to itself in a part of the network; a factory of these modules.

    Attributes:
        names: of the tasks.
        norms: batch normalisation is the task's own; else all share it.
        squeezes: gates are the task's own; else all share them.
        adapters: there are adapters, always a task's own; else there is none.
        gated: there are gates at all.
        ratio: of the gates; see ``Squeeze``.
        activation: inside the gates and of the layers around.
    """

    names: tuple[str, ...]
    norms: bool
    squeezes: bool
    adapters: bool
    gated: bool = True
    ratio: int = 16
    activation: type[nn.Module] = nn.ReLU

    def norm(self, channels: int) -> PerTask:
        return PerTask(functools.partial(nn.BatchNorm2d, channels), self.names, self.norms)

    def squeeze(self, channels: int, ratio: int | None = None) -> PerTask | None:
        make = functools.partial(Squeeze, channels, ratio or self.ratio, self.activation)
        return PerTask(make, self.names, self.squeezes) if self.gated else None

    def adapter(self, channels: int, outputs: int) -> PerTask | None:
        make = functools.partial(Adapter, channels, outputs)
        return PerTask(make, self.names, own=True) if self.adapters else None


class TaskSequential(nn.Sequential):
    """A chain whose parts are told the task's name where they have something of its own."""

    def forward(self, x: Tensor, name: str) -> Tensor:
        for module in self:
            x = module(x, name) if takes_name(module) else module(x)
        return x


class ModulatedConv(nn.Module):
    """Convolution (with an adapter beside it), batch normalisation, activation, gates: (B, C, H, W) -> (B, C', H, W).

    Args:
        conv: of stride 1, without bias.
        how: what of it is each task's own.
        ratio: of the gates, where it is not that of ``how``.
        pooled: this unit reads a map of one pixel: it has no adapter.
        gated: it has gates where ``how`` has.
    """

    def __init__(
        self, conv: nn.Conv2d, how: Modulation, ratio: int | None = None, pooled: bool = False, gated: bool = True
    ):
        super().__init__()
        self.conv = conv
        self.adapter = None if pooled else how.adapter(conv.in_channels, conv.out_channels)
        self.norm = how.norm(conv.out_channels)
        self.activation = how.activation()
        self.squeeze = how.squeeze(conv.out_channels, ratio) if gated else None

    def forward(self, x_BCHW: Tensor, name: str) -> Tensor:
        y = self.activation(self.norm(adapted(self.conv, self.adapter, x_BCHW, name), name))
        return y if self.squeeze is None else self.squeeze(y, name)


def adapted(conv: nn.Conv2d, adapter: PerTask | None, x_BCHW: Tensor, name: str) -> Tensor:
    """The convolution and, where there is one, the task's adapter beside it."""
    return conv(x_BCHW) if adapter is None else conv(x_BCHW) + adapter(x_BCHW, name)


def takes_name(module: nn.Module) -> bool:
    """Whether ``forward`` of a module reads the task's name."""
    return isinstance(module, PerTask | TaskSequential | ModulatedConv) or getattr(module, "takes_name", False)


def own_modules(network: nn.Module, name: str) -> list[nn.Module]:
    """Everything in a network that is this task's own."""
    return [part[name] for part in network.modules() if isinstance(part, PerTask) and part.own]


def gates(network: nn.Module) -> dict[tuple[str, str], nn.Module]:
    """(task's name or ``SHARED``, path of the layer) -> the module whose output are the gates there, (B, C, 1, 1)."""
    return {
        (name, path.removesuffix(".squeeze")): squeeze.gate
        for path, part in network.named_modules()
        if isinstance(part, PerTask)
        for name, squeeze in part.items()
        if isinstance(squeeze, Squeeze)
    }


def plain(network: nn.Module, name: str) -> nn.Module:
    """The network that a task runs through, without gates and adapters: the same tensors under the names that they have
    in a net for one task, such as torchvision's.
    """
    if isinstance(network, PerTask):
        return network.of(name)
    parts = dict(network.named_children())
    if not parts:
        return network
    view = nn.Module()
    for key, part in parts.items():
        if not (isinstance(part, PerTask) and isinstance(part.of(name), Squeeze | Adapter)):
            view.add_module(key, plain(part, name))
    return view


def initialise(network: nn.Module) -> None:
    """Convolutions N(0, 0.01), adapters zero, linear layers Kaiming normal by fan-in with a bias of zero; as released.
    Batch normalisation and the biases of convolutions keep PyTorch's start.
    """
    for module in network.modules():
        if isinstance(module, Adapter):
            nn.init.zeros_(module.weight)
        elif isinstance(module, nn.Conv2d):
            nn.init.normal_(module.weight, std=0.01)
        elif isinstance(module, nn.Linear):
            nn.init.kaiming_normal_(module.weight)
            nn.init.zeros_(module.bias)
