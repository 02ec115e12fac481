"""The run folder ``runs/<recipe>/<id>/``: the only interface between training and everything that looks at results.

    recipe.toml       what was asked for
    metrics.csv       epoch, split, task, metric, protocol, value
    weights.csv       step, task, weight
    gradients.csv     step, name, i, j, value            (weightings that know the Gramian)
    checkpoint.pt     everything needed to go on; parameters alone once the run has ended
    best.pt           parameters of the epoch that the recipe selects; snapshots/epoch-0003.pt those that it keeps
    result.json       final metrics by protocol, the floor, parameters, MACs, seconds, what it was initialised from,
                      device, versions
    status.json       running | finished | failed | interrupted, epoch, epochs
    output.ipynb      the executed notebook, tensorboard/ event files

Whole files are replaced by rename; step logs are appended to and cut back to the checkpoint when a run goes on.
"""

from __future__ import annotations

import contextlib
import functools
import os
import shutil
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from . import files
from .errors import KitError

if TYPE_CHECKING:  # recipes import torch, which a worker of a batch, who only reads a status, can do without
    from .recipes import Recipe

METRICS = ("epoch", "split", "task", "metric", "protocol", "value")
RANDOM = "random: "  # what a line of ``initialised`` begins with where a wanted start could not be had
STEP_LOGS = {"weights.csv": ("step", "task", "weight"), "gradients.csv": ("step", "name", "i", "j", "value")}
Row = Sequence[Any]


class Run:
    """One run folder."""

    def __init__(self, folder: str | os.PathLike):
        self.folder = Path(folder)

    def __repr__(self) -> str:
        return f"Run({self.folder.parent.name}/{self.folder.name}: {self.state})"

    @classmethod
    def of(cls, recipe: Recipe, fingerprint: str, root: Path | None = None) -> Run:
        """The folder of a recipe on data with this fingerprint, whether it is there or not."""
        return cls((root or files.runs_dir()) / recipe.name / recipe.identity(fingerprint))

    @classmethod
    def create(cls, recipe: Recipe, fingerprint: str, root: Path | None = None) -> Run:
        """The folder of a recipe on data with this fingerprint, made where absent, with its ``recipe.toml``."""
        run = cls.of(recipe, fingerprint, root)
        run.folder.mkdir(parents=True, exist_ok=True)
        if not (run.folder / "recipe.toml").exists():
            files.write_text(run.folder / "recipe.toml", recipe.toml())
        return run

    # --- what it says ---

    @functools.cached_property
    def recipe(self) -> Recipe:
        from .recipes import load

        return load(str(self.folder / "recipe.toml"))

    @property
    def status(self) -> dict[str, Any]:
        """``status.json``, or ``{"state": "new"}``."""
        return files.read_json(self.folder / "status.json") or {"state": "new"}

    @property
    def state(self) -> str:
        """new, running, finished, failed, interrupted, or killed (it says running, and nobody holds its lock)."""
        state = self.status["state"]
        return "killed" if state == "running" and not files.locked(self._lock) else state

    @property
    def finished(self) -> bool:
        """True when it ran to its end and its result is there."""
        return self.status["state"] == "finished" and (self.folder / "result.json").is_file()

    @property
    def result(self) -> dict[str, Any]:
        """``result.json``. Raises KitError where the run has not ended."""
        result = files.read_json(self.folder / "result.json")
        if result is None:
            raise KitError(f"{self.folder} has no result.json, its state is {self.state!r}; run it to its end first")
        return result

    @property
    def random_start(self) -> str:
        """Why it, or a run that it starts from, began at random although its recipe wants ImageNet weights; else ""."""
        return next((line for line in self.result.get("initialised", []) if line.startswith(RANDOM)), "")

    @property
    def metrics(self) -> pd.DataFrame:
        """The tidy history: epoch, split, task, metric, protocol, value."""
        return self._table("metrics.csv", METRICS)

    @property
    def weights(self) -> pd.DataFrame:
        """Task weights by step: step, task, weight."""
        return self._table("weights.csv", STEP_LOGS["weights.csv"])

    @property
    def gradients(self) -> pd.DataFrame:
        """What the Gramian of the task gradients said, by step: step, name, i, j, value; empty for weightings without.

        ``name`` is ``norm`` or ``dropped`` (i = j = task), ``cosine`` or ``gms`` (gradient-magnitude similarity) of the
        tasks i and j, each pair once, or ``condition`` (i and j are empty).
        ``weighting.diagnostics`` defines them.
        """
        table = self._table("gradients.csv", STEP_LOGS["gradients.csv"])
        return table.astype({"i": object, "j": object}).fillna({"i": "", "j": ""})

    def snapshot(self, epoch: int) -> Path:
        """Where the parameters after an epoch (from 0) are kept, if the recipe has them kept."""
        return self.folder / "snapshots" / f"epoch-{epoch:04d}.pt"

    def snapshots(self) -> list[int]:
        """The epochs whose parameters were kept (``keep_every``)."""
        return sorted(int(path.stem.removeprefix("epoch-")) for path in self.folder.glob("snapshots/epoch-*.pt"))

    @property
    def chosen(self) -> str:
        """Which parameters its result is of: ``"best"`` where the recipe selects an epoch, else ``"checkpoint"``."""
        return "best" if self.recipe.select else "checkpoint"

    def load(self, which: str = "checkpoint") -> dict[str, Any]:
        """All that a file of parameters holds, on the CPU; ``"model"`` is the state of the network.

        Args:
            which: ``"checkpoint"`` (the last epoch), ``"best"``, or a snapshot such as ``"epoch-0003"``.

        Raises:
            KitError: where there is no such file, or it cannot be read.
        """
        import torch

        path = self.folder / ("snapshots" if which.startswith("epoch-") else "") / f"{which}.pt"
        if not path.is_file():
            there = sorted(found.stem for found in self.folder.glob("**/*.pt"))
            raise KitError(f"{path} does not exist; its run is {self.state!r} and has {there or 'no parameters yet'}")
        try:
            return torch.load(path, weights_only=True, map_location="cpu")
        except Exception as error:  # it is written by rename, so a kill cannot have cut it; a full or failing disk can
            advice = f"delete it to start the run again, or the whole run: mtlkit runs rm {self.folder}"
            raise KitError(f"{path} cannot be read ({type(error).__name__}); {advice}") from error

    def model(self, which: str = "checkpoint"):
        """The trained model in eval mode on the CPU, with the parameters that ``load`` finds.

        Raises:
            KitError: as ``load``, and for data that are absent.
        """
        from . import datasets

        state = self.load(which)
        recipe = self.recipe
        dataset = datasets.build(recipe.dataset.name, recipe.evaluate_on, **recipe.dataset.options)
        model = recipe.network(recipe.choose(dataset.tasks), dataset.size)
        model.load_state_dict(state["model"])
        return model.eval()

    # --- what training writes ---

    @property
    def _lock(self) -> Path:
        return self.folder / ".writer.lock"

    @contextlib.contextmanager
    def writing(self) -> Iterator[None]:
        """Be the only writer; what a killed writer left half written is removed."""
        # a kernel whose parent was killed needs a moment to notice, hence the wait
        busy = f"{self.folder} is being written by another process; wait for it, or stop it"
        with files.lock(self._lock, wait=10.0, busy=busy):
            for leftover in self.folder.glob(".*.tmp"):
                leftover.unlink()
            yield

    def say(self, state: str, **more: Any) -> None:
        """Write ``status.json``."""
        files.write_json(self.folder / "status.json", {"state": state, **more})

    def write_metrics(self, rows: Iterable[Row]) -> None:
        """Rewrite ``metrics.csv`` from the whole history."""
        files.write_text(self.folder / "metrics.csv", _csv([METRICS, *rows]))

    def append(self, name: str, rows: Iterable[Row]) -> int:
        """Append to a step log; the size of the file afterwards, in bytes, once it is on the disk."""
        path = self.folder / name
        with open(path, "a", encoding="utf-8", newline="") as log:
            if log.tell() == 0:
                log.write(_csv([STEP_LOGS[name]]))
            log.write(_csv(rows))
            log.flush()
            os.fsync(log.fileno())
            return log.tell()

    def cut(self, sizes: dict[str, int]) -> None:
        """Cut step logs back to the sizes that a checkpoint remembers; those it does not know are removed."""
        for name in STEP_LOGS:
            path = self.folder / name
            if name not in sizes:
                path.unlink(missing_ok=True)
            elif not path.is_file() or path.stat().st_size < sizes[name]:
                raise KitError(f"{path} is shorter than its checkpoint says; type: mtlkit runs rm {self.folder}")
            else:
                os.truncate(path, sizes[name])

    def remove(self) -> None:
        """Delete the folder. Raises KitError while somebody writes to it."""
        if files.locked(self._lock):
            raise KitError(f"{self.folder} is being written; stop the run before removing it")
        shutil.rmtree(self.folder)

    def _table(self, name: str, columns: Sequence[str]) -> pd.DataFrame:
        path = self.folder / name
        return pd.read_csv(path) if path.is_file() else pd.DataFrame(columns=list(columns))


def _csv(rows: Iterable[Row]) -> str:
    """Lines of comma-separated values. Floats as ``repr`` writes them, so that equal numbers are equal bytes."""
    return "".join(",".join(v if isinstance(v, str) else repr(v) for v in row) + "\n" for row in rows)


def load_run(folder: str | os.PathLike) -> Run:
    """An existing run folder. Raises KitError where it is none."""
    run = Run(folder)
    if not (run.folder / "recipe.toml").is_file():
        raise KitError(f"{folder} is no run folder (it has no recipe.toml); type: mtlkit runs list")
    return run


def find(paths: Iterable[str | os.PathLike] = ()) -> list[Run]:
    """Every run under the given folders (default: all runs), in order of path. Raises KitError for a path that does not
    exist.
    """
    roots = [Path(path) for path in paths] or [files.runs_dir()]
    for root in roots[: len(roots) if paths else 0]:
        if not root.exists():
            raise KitError(f"{root} does not exist; type: mtlkit runs list")
    found = {path.parent.resolve() for root in roots for path in root.glob("**/recipe.toml")}
    return [Run(folder) for folder in sorted(found)]
