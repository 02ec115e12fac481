"""What happens inside a network: attention masks and whatever else an architecture has tapped, by fixed names.

    with mtlkit.record(model) as seen:
        model(images)
    seen["mask/depth/encoder2"]  # (B, C, H, W)

Forward hooks alone do it: outputs, gradients and ``forward`` itself stay as they are.

Shapes: B batch, C channels, H/W size.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator, Mapping
from fnmatch import fnmatchcase

import torch
from torch import Tensor, nn

from .errors import KitError


class Recording(Mapping[str, Tensor]):
    """Name of a tap -> its output in the last forward pass; what that pass did not compute is absent.

    Attributes:
        names: of all taps that are listened to.
    """

    def __init__(self, names: Iterable[str]):
        self.names = list(names)
        self._last: dict[str, Tensor] = {}

    def select(self, *patterns: str) -> dict[str, Tensor]:
        """What is recorded under these names: shell patterns such as ``"mask/depth/*"``, where ``*`` crosses ``/`` too.

        Raises:
            KitError: a pattern that no tap has; one whose tap was not computed gives nothing.
        """
        names = _chosen(self.names, patterns)
        return {name: self._last[name] for name in names if name in self._last}

    def __getitem__(self, name: str) -> Tensor:
        return self._last[name]

    def __iter__(self) -> Iterator[str]:
        return (name for name in self.names if name in self._last)

    def __len__(self) -> int:
        return len(self._last)


@contextlib.contextmanager
def record(model: nn.Module, *patterns: str, device: str | torch.device | None = "cpu") -> Iterator[Recording]:
    """Collect what ``model.taps()`` names, for as long as the block runs. The recording can be read afterwards too.

    Args:
        model: in training or evaluation mode; several recordings of one model do not disturb each other.
        patterns: record these alone, such as ``"mask/*/encoder0"``; none is everything.
        device: where the copies are kept, detached; None leaves each where it was computed.

    Raises:
        KitError: a model without taps, or a pattern that none of them has.
    """
    taps = model.taps() if hasattr(model, "taps") else {}
    if not taps:
        raise KitError(f"{type(model).__name__} has nothing to record; take an architecture with taps, such as 'mtan'")
    seen = Recording(_chosen(list(taps), patterns))

    def keep(name: str, output: Tensor) -> None:
        seen._last[name] = output.detach().to(device, copy=True)  # a copy: later work in place does not reach it

    with contextlib.ExitStack() as hooks:
        hooks.callback(model.register_forward_pre_hook(lambda *call: seen._last.clear()).remove)
        for name in seen.names:
            hook = taps[name].register_forward_hook(lambda module, inputs, output, name=name: keep(name, output))
            hooks.callback(hook.remove)
        yield seen


def _chosen(names: list[str], patterns: Iterable[str]) -> list[str]:
    patterns = list(patterns) or ["*"]
    for pattern in patterns:
        if not any(fnmatchcase(name, pattern) for name in names):
            raise KitError(f"no tap is called {pattern!r}; there is {', '.join(names)}")
    return [name for name in names if any(fnmatchcase(name, pattern) for pattern in patterns)]
