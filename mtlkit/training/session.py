"""A run from its first batch to its result, and the loop ``joint``: every batch trains all tasks at once.

Lightning Fabric places and autocasts; it never wraps the model.
"""

from __future__ import annotations

import math
import os
import platform
import time
from collections.abc import Iterator
from pathlib import Path
from statistics import fmean
from typing import Any

import torch
from lightning_fabric import Fabric
from torch import Tensor
from torch.utils.data import DataLoader
from tqdm.auto import tqdm

from .. import architectures, evaluation, files, initialisation, metrics, optimisers, tasks, weighting
from ..datasets import MultiTaskDataset
from ..errors import KitError
from ..metrics.edges import counting_in
from ..recipes import Recipe
from ..runs import Run
from ..steplog import StepLog
from ..transforms import generator
from ..version import __version__
from .checks import check, fingerprint, load_data, steps_of

Batch = dict[str, Tensor]
CHECKPOINT_SECONDS = 300.0  # inside an epoch; the end of an epoch is always kept
KEPT = ("step", "sums", "history", "log_sizes", "seconds", "best", "initialised")  # of a session, by its checkpoint


class NonFiniteLoss(KitError):
    """A loss became NaN or infinite."""


class Session:
    """A recipe brought to life: data, model, weighting, optimiser, and how far training has come.

    Another loop is a subclass, which says other ``chunks`` and ``steps``, another ``train_step`` or ``measure``.
    """

    def __init__(self, recipe: Recipe, device: str, workers: int, checkpoint_seconds: float):
        self.recipe, self.workers, self.checkpoint_seconds = recipe, workers, checkpoint_seconds
        splits = load_data(recipe)
        self.train_data, self.held_out = splits[0], splits[1]
        self.final_data = splits[-1] if splits[-1].labelled else self.held_out
        self.fingerprint = fingerprint(*splits)
        self.tasks = check(recipe, self.train_data)
        self.fabric = Fabric(accelerator=device, devices=1, precision=recipe.precision)
        torch.manual_seed(generator(recipe.seed, "model").initial_seed())
        self.model = recipe.network(self.tasks, recipe.input_size(self.train_data.size))
        self.weighting = weighting.build(recipe.weighting.name, self.tasks, **recipe.weighting.options)
        self.weighting.parts = recipe.accumulate
        self.fabric.to_device(self.model)
        self.fabric.to_device(self.weighting)
        self.optimizer = optimisers.build(recipe, self.model, self.weighting)
        # how far training has come; everything below is in the checkpoint
        self.epoch, self.batch, self.step = 0, 0, 0
        self.sums = {task.name: [0.0, 0] for task in self.tasks}  # of this epoch's losses: total, batches
        self.history: list[list[Any]] = []
        self.log_sizes: dict[str, int] = {}
        self.seconds = 0.0
        self.best: list[Any] = []  # epoch and value of the metric that the recipe selects by
        self.initialised: list[str] = []  # what the network started from, in lines; nothing where all is random

    # training, top to bottom

    def train(self, run: Run, progress: bool) -> None:
        """All epochs that are still to come, and the result."""
        self.resume(run)
        board = _board(run, self.epoch)
        total = sum(self.steps(epoch) for epoch in range(self.recipe.epochs))
        # a second between two drawings: nbval reads a cell's output when the cell has ended, and a kernel keeps a
        # thousand messages at most; the one that says "done" must not be among those it drops
        with tqdm(
            total=total, initial=self.step, desc=self.recipe.name, unit="step", disable=not progress, mininterval=1.0
        ) as bar:
            while self.epoch < self.recipe.epochs:
                run.say("running", epoch=self.epoch, epochs=self.recipe.epochs, pid=os.getpid())
                self.train_epoch(run, bar)
                self.end_epoch(run, board)
        board.close()
        self.finish(run)

    def train_epoch(self, run: Run, bar: tqdm) -> None:
        """The rest of the current epoch."""
        started, log = time.monotonic(), StepLog(run, self.step_ended, self.fabric.device)
        self.model.train()
        optimisers.begin_epoch(self.optimizer, self.recipe, self.epoch, resumed=self.batch > 0)
        active = self.active(self.epoch)
        for batches in zip(*(self.batches(k) for k in range(self.weighting.batches_per_step)), strict=True):
            present = [t for t in active if all(bool(t.valid(batch[t.name]).any()) for batch in batches)]
            if present:
                self.train_step([self.fabric.to_device(batch) for batch in batches], present, log)
            self.batch += 1
            self.step += 1
            bar.update()
            if time.monotonic() - started > self.checkpoint_seconds:
                self.log_sizes |= log.flush()
                self.seconds += time.monotonic() - started
                started = time.monotonic()
                self.save(run)
        self.log_sizes |= log.flush()
        self.seconds += time.monotonic() - started

    def train_step(self, batches: list[Batch], present: list[tasks.Task], log: StepLog) -> None:
        """Every batch trains all tasks at once. A task whose target is ignored everywhere in a batch is absent from its
        losses.
        """
        parts = self.weighting.parts
        pieces = [piece for batch in batches for piece in _pieces(batch, parts)]

        def closure(k: int = 0) -> dict[str, Tensor]:
            """Losses of a piece: of a whole batch, or of one of its parts, then times its share of the batch."""
            batch, share = pieces[k]
            there = [t for t in present if parts == 1 or bool(t.valid(batch[t.name]).any())] if share else []
            if not there:
                return {}
            with self.fabric.autocast():
                outputs = self.model({name: batch[name] for name in self.model.inputs}, [t.name for t in there])
            losses = {task.name: task.loss(outputs[task.name].float(), batch[task.name]) for task in there}
            return losses if share == 1 else {name: share * loss for name, loss in losses.items()}

        step = self.weighting.step(closure, self.model, self.optimizer)
        self.weighting.after_step(closure, self.model)
        log.add(self.step, step)

    def step_ended(self, step: int, losses: dict[str, float]) -> None:
        """Add the losses of a step to those of its epoch."""
        for name, value in losses.items():
            if not math.isfinite(value):
                recipe = self.recipe
                raise NonFiniteLoss(
                    f"the loss of task {name!r} is {value} at step {step} (epoch {self.epoch}) of recipe "
                    f"{recipe.name!r}, {recipe.label}; lower optimiser.lr, or look at the data: "
                    f"mtlkit data check {recipe.dataset.name}"
                )
            self.sums[name][0] += value
            self.sums[name][1] += 1

    def end_epoch(self, run: Run, board) -> None:
        """Close an epoch: tell the weighting, evaluate, keep the state."""
        means = {name: total / count for name, (total, count) in self.sums.items() if count}
        self.weighting.epoch_end(means)
        rows = [[self.epoch, "train", name, "loss", "", value] for name, value in means.items()]
        last = self.epoch + 1 == self.recipe.epochs
        if last or (self.epoch + 1) % self.recipe.evaluate_every == 0:
            rows += [[self.epoch, self.recipe.evaluate_on, *row] for row in self.measure(self.held_out)]
            self.keep_best(run, rows)
        if self.recipe.keep_every and (last or (self.epoch + 1) % self.recipe.keep_every == 0):
            self.keep_parameters(run.snapshot(self.epoch))
        for _, split, task, metric, protocol, value in rows:
            board.add_scalar("/".join(part for part in (split, task, metric, protocol) if part), value, self.epoch)
        board.flush()
        self.history += rows
        self.sums = {task.name: [0.0, 0] for task in self.tasks}
        self.epoch, self.batch = self.epoch + 1, 0
        self.save(run)

    def finish(self, run: Run) -> None:
        """Measure the test split where it was kept apart, and write the result; the parameters alone are kept.

        Where the labels of test are not public, the result is that of the split that was evaluated on.
        """
        self.save(run, whole=False)
        if self.final_data is not self.held_out:
            if self.best:
                self.load_parameters(run, "best")
            epoch = self.best[0] if self.best else self.epoch - 1
            rows = [[epoch, "test", *row] for row in self.measure(self.final_data)]
            run.write_metrics(self.history + rows)
        else:
            rows = self.history
        files.write_json(run.folder / "result.json", self.result(rows))
        run.say("finished", epoch=self.epoch, epochs=self.recipe.epochs)

    # data

    def active(self, epoch: int) -> list[tasks.Task]:
        """The tasks that are trained in an epoch."""
        phase, _ = self.recipe.phase(epoch)
        return [task for task in self.tasks if not phase.tasks or task.name in phase.tasks]

    def steps(self, epoch: int) -> int:
        """Batches in an epoch."""
        return steps_of(self.recipe, len(self.train_data))

    def chunks(self, k: int) -> list[list[int]]:
        """The samples of every batch of this epoch; ``k`` as in ``batches``."""
        place = (self.epoch, k) if k else (self.epoch,)
        order = torch.randperm(len(self.train_data), generator=generator(self.recipe.seed, "order", *place))
        return self.cut(order)

    def cut(self, order: Tensor) -> list[list[int]]:
        """Samples in this order, in batches."""
        size = self.recipe.batch
        return [order[i * size : (i + 1) * size].tolist() for i in range(steps_of(self.recipe, len(order)))]

    def batches(self, k: int = 0) -> Iterator[Batch]:
        """The batches of this epoch that are still to come, in an order that depends on (seed, epoch) alone.

        ``k`` above 0 is another order of the same samples, for weightings that need several independent batches a step.
        """
        view = evaluation.View(self.train_data, self.fields(), self.recipe, self.epoch)
        # a generator of its own: making an iterator draws a number, and a resumed epoch makes one more
        own = generator(self.recipe.seed, "loader", self.epoch)
        return iter(
            DataLoader(view, batch_sampler=self.chunks(k)[self.batch :], num_workers=self.workers, generator=own)
        )

    def fields(self) -> list[str]:
        return [*self.model.inputs, *(task.name for task in self.tasks), "index"]

    # evaluation

    def measure(self, dataset: MultiTaskDataset) -> list[evaluation.Row]:
        """Losses and metrics of every task and protocol on a split."""
        data = evaluation.batches(dataset, self.fields(), self.recipe, self.workers)
        on_device = (self.fabric.to_device(batch) for batch in data)
        with counting_in(self.workers):
            return evaluation.measure(self.model, self.tasks, on_device, self.recipe.protocols, self.fabric.autocast)

    def keep_best(self, run: Run, rows: list[list[Any]]) -> None:
        """Write ``best.pt`` where the recipe selects by a metric and this epoch is the best so far."""
        if not self.recipe.select:
            return
        losses = [row[5] for row in rows if row[1] == self.recipe.evaluate_on and row[3] == "loss"]
        higher_is_better, value = False, sum(losses)
        if self.recipe.select != "loss":
            name, _, metric = self.recipe.select.partition("/")
            higher_is_better = metrics.in_order([self.recipe.select])[self.recipe.select].higher_is_better
            key = [self.recipe.evaluate_on, name, metric, self.recipe.protocols[0]]
            value = next(row[5] for row in rows if row[1:5] == key)
        first = not self.best or math.isnan(self.best[1])  # NaN: a class was absent (protocol mtan)
        if first or (value > self.best[1] if higher_is_better else value < self.best[1]):
            self.best = [self.epoch, value]
            self.keep_parameters(run.folder / "best.pt", value=value)

    def keep_parameters(self, path: Path, **more: Any) -> None:
        """Write the parameters of this epoch."""
        path.parent.mkdir(exist_ok=True)
        with files.replacing(path) as temporary:
            torch.save({"model": self.model.state_dict(), "epoch": self.epoch, **more}, temporary)

    def result(self, rows: list[list[Any]]) -> dict[str, Any]:
        """The content of ``result.json``.

        Its metrics are those of the test split, or of the one evaluated on where test has no labels: of the epoch that
        was selected, or else the mean over the last ``average_last`` evaluated epochs.
        """
        recipe, split = self.recipe, self.final_data.split
        measured = [row for row in rows if row[1] == split and row[4]]
        epochs = sorted({row[0] for row in measured})
        used = [self.best[0]] if self.best else epochs[-recipe.average_last :]
        height, width = recipe.input_size(self.train_data.size)
        data = evaluation.batches(self.final_data, self.fields(), recipe)
        return {
            "metrics": _by_protocol([row[2:] for row in measured if row[0] in used]),
            "floor": _by_protocol(evaluation.floor(self.train_data, self.tasks, data, recipe.protocols)),
            "split": split,
            "epochs": used,
            "selected": {"metric": recipe.select, "value": self.best[1], "split": recipe.evaluate_on}
            if recipe.select
            else None,
            "parameters": architectures.count_parameters(self.model),
            "macs": architectures.count_macs(self.model, height, width),
            "size": [height, width],
            "steps": self.step,
            "seconds": round(self.seconds, 3),
            "initialised": self.initialised,
            "device": _device_name(self.fabric.device),
            "threads": torch.get_num_threads(),
            "data": self.fingerprint,
            "versions": {"mtlkit": __version__, "torch": torch.__version__, "python": platform.python_version()},
        }

    # the checkpoint

    def save(self, run: Run, whole: bool = True) -> None:
        """Keep everything (``whole``) or the parameters alone, then bring ``metrics.csv`` up to it."""
        state: dict[str, Any] = {"model": self.model.state_dict(), "epoch": self.epoch}
        if whole:
            state |= {
                "weighting": self.weighting.state_dict(),
                "optimizer": self.optimizer.state_dict(),
                "random": torch.get_rng_state(),
                "random_device": torch.cuda.get_rng_state() if self.fabric.device.type == "cuda" else None,
                "batch": self.batch,
            }
        state |= {name: getattr(self, name) for name in KEPT}
        with files.replacing(run.folder / "checkpoint.pt") as path:
            torch.save(state, path)
        run.write_metrics(self.history)

    def load_parameters(self, run: Run, which: str) -> dict[str, Any]:
        """Give the model the parameters of a checkpoint, and return all that is in it."""
        state = run.load(which)
        self.model.load_state_dict(state["model"])
        return state

    def resume(self, run: Run) -> None:
        """Go on from the checkpoint, if there is one; the step logs are cut back to it. Else give the network what its
        recipe has it start from.
        """
        if not (run.folder / "checkpoint.pt").is_file():
            run.cut({})
            self.initialised = initialisation.load(self.recipe, self.model, self.fingerprint, run.folder)
            for line in self.initialised:
                print(line)
            return
        # a checkpoint of an older version does not hold what it was initialised from: at random
        state = {"initialised": []} | self.load_parameters(run, "checkpoint")
        for name in ("epoch", *KEPT):
            setattr(self, name, state[name])
        if "optimizer" in state:  # absent only when every epoch is done
            self.batch = state["batch"]
            self.weighting.load_state_dict(state["weighting"])
            self.optimizer.load_state_dict(state["optimizer"])
            torch.set_rng_state(state["random"])
            if state["random_device"] is not None and self.fabric.device.type == "cuda":
                torch.cuda.set_rng_state(state["random_device"])
        run.cut(self.log_sizes)
        run.write_metrics(self.history)


# --- small parts ---


def _pieces(batch: Batch, parts: int) -> list[tuple[Batch, float]]:
    """A batch in nearly equal parts, each with its share of the samples; a part may be empty."""
    if parts == 1:
        return [(batch, 1.0)]
    size = len(batch["index"])
    cut = {name: torch.tensor_split(value, parts) for name, value in batch.items()}
    return [({name: part[i] for name, part in cut.items()}, len(cut["index"][i]) / size) for i in range(parts)]


def _board(run: Run, epoch: int):
    """TensorBoard's writer; events after the checkpoint are purged."""
    from torch.utils.tensorboard import SummaryWriter

    return SummaryWriter(str(run.folder / "tensorboard"), purge_step=epoch)


def _by_protocol(rows: list[evaluation.Row]) -> dict[str, dict[str, float]]:
    """protocol -> "task/metric" -> value, the mean where there are several."""
    found: dict[str, dict[str, list[float]]] = {}
    for task, metric, protocol, value in rows:
        found.setdefault(protocol, {}).setdefault(f"{task}/{metric}", []).append(value)
    return {protocol: {key: fmean(values) for key, values in scores.items()} for protocol, scores in found.items()}


def _device_name(device: torch.device) -> str:
    return torch.cuda.get_device_name(device) if device.type == "cuda" else f"{device.type} ({platform.machine()})"
