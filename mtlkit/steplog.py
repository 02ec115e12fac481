"""The logs that grow with every step: weights, and what the gradients of the tasks had to say."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from .runs import Run
from .weighting import Step, diagnostics

FLUSH_EVERY = 16  # steps between reads of the losses from an accelerator: reading them is what waits for it


class StepLog:
    """Losses and weights of the latest steps, still on the device; ``flush`` reads and writes them at once.

    Args:
        run: whose files they go to.
        ended: told the number of every step and its losses, as soon as they are read.
        device: where they are computed.
    """

    def __init__(self, run: Run, ended: Callable[[int, dict[str, float]], None], device: torch.device):
        self.run, self.ended = run, ended
        self.every = 1 if device.type == "cpu" else FLUSH_EVERY
        self.pending: list[tuple[int, Step]] = []
        self.rows: dict[str, list[list[Any]]] = {"weights.csv": [], "gradients.csv": []}

    def add(self, number: int, step: Step) -> None:
        self.pending.append((number, step))
        if len(self.pending) >= self.every:
            self.read()

    def read(self) -> None:
        """Bring the pending steps to the host: one transfer for all."""
        if not self.pending:
            return
        each = [[*s.losses.values(), *(s.weights or {}).values(), *s.noted.values()] for _, s in self.pending]
        values = iter(torch.stack([value.float() for step in each for value in step]).tolist())
        for number, step in self.pending:
            self.ended(number, {name: next(values) for name in step.losses})
            self.rows["weights.csv"] += [[number, name, next(values)] for name in step.weights or {}]
            self.rows["gradients.csv"] += [[number, what, task, "", next(values)] for what, task in step.noted]
            if step.gramian is not None:
                found = diagnostics(step.gramian, list(step.losses), step.dropped)
                self.rows["gradients.csv"] += [[number, *row] for row in found]
        self.pending = []

    def flush(self) -> dict[str, int]:
        """Append everything read so far to the logs on the disk; the sizes of those that grew."""
        self.read()
        sizes = {name: self.run.append(name, rows) for name, rows in self.rows.items() if rows}
        self.rows = {name: [] for name in self.rows}
        return sizes
