"""Networks as generators, so that several of them can exchange features on their way.

A trunk's ``steps(image)`` pauses at every *place* where features may be exchanged, gives the name of the place and its
feature there, and goes on with the feature that it is sent. ``run`` sends back what it got; ``together`` lets several
trunks pause at the same place and hands their features to the unit that stands there.

Shapes: B batch, C channels, H/W size.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping, Sequence
from typing import Any

from torch import Tensor

Steps = Generator[tuple[str, Tensor], Tensor, Any]  # its value is what a head reads
Exchange = Callable[[list[Tensor]], list[Tensor]]  # a feature of every task in, one of every task out


def run(steps: Steps) -> Any:
    """One network from end to end, undisturbed; its value."""
    return together([steps], {})[0]


def together(trunks: Sequence[Steps], exchange: Mapping[str, Exchange]) -> list[Any]:
    """Several networks of one kind side by side; their values.

    Args:
        trunks: generators that pause at the same places.
        exchange: place -> what happens to the features (B, C, H, W) of all networks there; elsewhere they pass.
    """
    paused = [next(trunk) for trunk in trunks]
    while True:
        place, features = paused[0][0], [feature for _, feature in paused]
        features = exchange[place](features) if place in exchange else features
        paused, values = [], []
        for trunk, feature in zip(trunks, features, strict=True):
            try:
                paused.append(trunk.send(feature))
            except StopIteration as end:
                values.append(end.value)
        if values:
            return values
