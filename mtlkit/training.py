"""Training: ``fit`` runs a recipe to its end, from wherever an earlier attempt left it.

Everything that decides the numbers is a function of the recipe: the start parameters of its seed, the order of an epoch
of (seed, epoch), the augmentation of a sample of (seed, epoch, index). A checkpoint holds the rest (model, optimiser,
weighting, random state, history, the lengths of the logs), so that a run killed at any moment and started again ends as
an unbroken one does: same bytes in ``metrics.csv``, same parameters (on CPU, on the same machine, with the same
versions and number of threads).

Lightning Fabric places and autocasts; it never wraps the model.
"""

from __future__ import annotations

import math
import os
import platform
import time
from collections.abc import Iterator
from typing import Any

import torch
from lightning_fabric import Fabric
from torch import Tensor
from torch.utils.data import DataLoader
from tqdm.auto import tqdm

from . import architectures, datasets, files, optimisers, tasks, weighting
from .datasets import MultiTaskDataset
from .errors import KitError, nearest
from .recipes import Recipe
from .runs import Run
from .transforms import AUGMENTATIONS, NORMALISATIONS, generator
from .version import __version__

FLUSH_EVERY = 16  # steps between reads of the losses from an accelerator: reading them is what waits for it
CHECKPOINT_SECONDS = 300.0  # inside an epoch; the end of an epoch is always kept
FLOOR_SAMPLES = 200  # training samples that the best constant prediction is taken from


class NonFiniteLoss(KitError):
    """A loss became NaN or infinite."""


def fit(
    recipe: Recipe,
    run: Run | None = None,
    *,
    device: str = "auto",
    workers: int = 0,
    progress: bool = True,
    checkpoint_seconds: float = CHECKPOINT_SECONDS,
) -> Run:
    """Train a recipe to its end and return its run.

    A finished run is returned as it is; a killed, failed or interrupted one goes on from its checkpoint.

    Args:
        recipe: what to run.
        run: its folder; default ``runs/<recipe>/<id>``.
        device: ``"auto"``, ``"cpu"``, ``"cuda"``, ``"mps"``: Fabric's accelerators. No part of the run's id.
        workers: data-loading processes; 0 loads in this one, which is fastest on few cores.
        progress: show a bar.
        checkpoint_seconds: how often to keep the state inside an epoch; changes nothing but what a kill can cost.

    Raises:
        KitError: for tasks the dataset does not have, or a folder that another process writes.
        NonFiniteLoss: at the first NaN or infinite loss, with its task, step and recipe.
    """
    session = _Session(recipe, device, workers, checkpoint_seconds)
    run = run or Run.create(recipe, session.fingerprint)
    with run.writing():
        if run.finished:
            return run
        try:
            session.train(run, progress)
        except KeyboardInterrupt:
            run.say("interrupted", epoch=session.epoch, epochs=recipe.epochs)
            raise
        except Exception as error:
            run.say("failed", epoch=session.epoch, epochs=recipe.epochs, error=f"{type(error).__name__}: {error}")
            raise
    return run


# --- data ---


class _View(torch.utils.data.Dataset):
    """A dataset as one epoch of one recipe sees it: augmented, cut to the fields in use, normalised."""

    def __init__(self, dataset: MultiTaskDataset, fields: list[str], recipe: Recipe, epoch: int | None):
        self.dataset, self.fields, self.epoch, self.seed = dataset, fields, epoch, recipe.seed
        self.augment = AUGMENTATIONS.build(recipe.augmentation.name, **recipe.augmentation.options)
        self.normalise = NORMALISATIONS[recipe.normalise]

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        sample = {field: value for field, value in self.dataset[index].items() if field in self.fields}
        if self.epoch is not None:
            sample = self.augment(sample, generator(self.seed, "augment", self.epoch, index))
        return sample | {"image": self.normalise(sample["image"])}


def load_data(recipe: Recipe) -> tuple[MultiTaskDataset, MultiTaskDataset]:
    """The training split and the split a recipe is evaluated on."""
    build = {split: (recipe.dataset.name, split) for split in ("train", recipe.evaluate_on)}
    train, held_out = (datasets.build(*build[split], **recipe.dataset.options) for split in build)
    return train, held_out


def fingerprint(train: MultiTaskDataset, held_out: MultiTaskDataset) -> str:
    """What the data of a run are: a change of either split is a change of run."""
    return f"{train.fingerprint}+{held_out.fingerprint}"


def _steps(recipe: Recipe, train: MultiTaskDataset) -> int:
    """Batches in an epoch."""
    return len(train) // recipe.batch if recipe.drop_last else math.ceil(len(train) / recipe.batch)


def check(recipe: Recipe, train: MultiTaskDataset) -> list[tasks.Task]:
    """The tasks of a recipe, once everything that needs its data or its network to judge has been found right.

    Raises:
        KitError: for a task that the dataset does not have, a metric that ``select`` cannot mean, an epoch without a
            batch, a learning-rate multiplier for a group without parameters.
    """
    chosen = tasks.select(train.tasks, recipe.tasks)
    metrics = sorted(f"{task.name}/{metric}" for task in chosen for metric in task.directions)
    if recipe.select and recipe.select not in metrics:
        hint = nearest(recipe.select, metrics)
        raise KitError(f"select = {recipe.select!r} is no metric of this run: {hint}")
    if _steps(recipe, train) == 0:
        n = len(train)
        raise KitError(f"{n} training samples make no batch of {recipe.batch}; lower batch, or set drop_last=false")
    with torch.device("meta"):
        model = architectures.build(recipe.architecture.name, chosen, **recipe.architecture.options)
    optimisers.groups(recipe, model, weighting.build(recipe.weighting.name, chosen, **recipe.weighting.options))
    return chosen


# --- the run ---


class _Session:
    """A recipe brought to life: data, model, weighting, optimiser, and how far training has come."""

    def __init__(self, recipe: Recipe, device: str, workers: int, checkpoint_seconds: float):
        self.recipe, self.workers, self.checkpoint_seconds = recipe, workers, checkpoint_seconds
        self.train_data, self.held_out = load_data(recipe)
        self.fingerprint = fingerprint(self.train_data, self.held_out)
        self.tasks = check(recipe, self.train_data)
        self.fabric = Fabric(accelerator=device, devices=1, precision=recipe.precision)
        torch.manual_seed(generator(recipe.seed, "model").initial_seed())
        self.model = architectures.build(recipe.architecture.name, self.tasks, **recipe.architecture.options)
        self.weighting = weighting.build(recipe.weighting.name, self.tasks, **recipe.weighting.options)
        self.fabric.to_device(self.model)
        self.fabric.to_device(self.weighting)
        self.optimizer = optimisers.build(recipe, self.model, self.weighting)
        # how far training has come; everything below is in the checkpoint
        self.epoch, self.batch, self.step = 0, 0, 0
        self.sums = {task.name: [0.0, 0] for task in self.tasks}  # of this epoch's losses: total, batches
        self.history: list[list[Any]] = []
        self.log_sizes: dict[str, int] = {}
        self.seconds = 0.0
        self.best: float | None = None

    # training, top to bottom

    def train(self, run: Run, progress: bool) -> None:
        """The loop ``joint``: every batch trains all tasks at once."""
        self.resume(run)
        board = _board(run, self.epoch)
        total = self.recipe.epochs * self.steps_per_epoch()
        with tqdm(total=total, initial=self.step, desc=self.recipe.name, unit="step", disable=not progress) as bar:
            while self.epoch < self.recipe.epochs:
                run.say("running", epoch=self.epoch, epochs=self.recipe.epochs, pid=os.getpid())
                self.train_epoch(run, bar)
                self.end_epoch(run, board)
        board.close()
        self.finish(run)

    def train_epoch(self, run: Run, bar: tqdm) -> None:
        """The rest of the current epoch."""
        started, log = time.monotonic(), _StepLog(self, run)
        self.model.train()
        optimisers.set_learning_rate(self.optimizer, self.recipe.schedule, self.epoch, self.recipe.epochs)
        for batch in self.batches():
            present = [task for task in self.tasks if bool(task.valid(batch[task.name]).any())]
            if present:
                self.train_step(self.fabric.to_device(batch), present, log)
            self.batch += 1
            self.step += 1
            bar.update()
            if time.monotonic() - started > self.checkpoint_seconds:
                log.flush()
                self.seconds += time.monotonic() - started
                started = time.monotonic()
                self.save(run)
        log.flush()
        self.seconds += time.monotonic() - started

    def train_step(self, batch: dict[str, Tensor], present: list[tasks.Task], log: _StepLog) -> None:
        """One update. A task whose target is ignored everywhere in the batch is absent from its losses."""

        def closure(k: int = 0) -> dict[str, Tensor]:
            with self.fabric.autocast():
                outputs = self.model({name: batch[name] for name in self.model.inputs}, [t.name for t in present])
            return {task.name: task.loss(outputs[task.name].float(), batch[task.name]) for task in present}

        step = self.weighting.step(closure, self.model, self.optimizer)
        self.weighting.after_step(closure)
        log.add(self.step, step)

    def end_epoch(self, run: Run, board) -> None:
        """Close an epoch: tell the weighting, evaluate, keep the state."""
        means = {name: total / count for name, (total, count) in self.sums.items() if count}
        self.weighting.epoch_end(means)
        rows = [[self.epoch, "train", name, "loss", "", value] for name, value in means.items()]
        last = self.epoch + 1 == self.recipe.epochs
        if last or (self.epoch + 1) % self.recipe.evaluate_every == 0:
            rows += self.evaluate()
            self.keep_best(run, rows)
        for _, split, task, metric, protocol, value in rows:
            board.add_scalar("/".join(part for part in (split, task, metric, protocol) if part), value, self.epoch)
        board.flush()
        self.history += rows
        self.sums = {task.name: [0.0, 0] for task in self.tasks}
        self.epoch, self.batch = self.epoch + 1, 0
        self.save(run)

    def finish(self, run: Run) -> None:
        """Write the result; the checkpoint keeps the parameters alone."""
        files.write_json(run.folder / "result.json", self.result())
        self.save(run, whole=False)
        run.say("finished", epoch=self.epoch, epochs=self.recipe.epochs)

    # data

    def steps_per_epoch(self) -> int:
        return _steps(self.recipe, self.train_data)

    def batches(self) -> Iterator[dict[str, Tensor]]:
        """The batches of this epoch that are still to come, in an order that depends on (seed, epoch) alone."""
        size, steps = self.recipe.batch, self.steps_per_epoch()
        order = torch.randperm(len(self.train_data), generator=generator(self.recipe.seed, "order", self.epoch))
        chunks = [order[i * size : (i + 1) * size].tolist() for i in range(steps)]
        view = _View(self.train_data, self.fields(), self.recipe, self.epoch)
        # a generator of its own: making an iterator draws a number, and a resumed epoch makes one more
        own = generator(self.recipe.seed, "loader", self.epoch)
        return iter(DataLoader(view, batch_sampler=chunks[self.batch :], num_workers=self.workers, generator=own))

    def fields(self) -> list[str]:
        return [*self.model.inputs, *(task.name for task in self.tasks), "index"]

    # evaluation

    @torch.no_grad()
    def evaluate(self) -> list[list[Any]]:
        """Losses and metrics of every task and protocol on the held-out split, as rows of the history."""
        self.model.eval()
        meters = {(t.name, p): t.metrics(p) for t in self.tasks for p in self.recipe.protocols}
        losses = {task.name: [] for task in self.tasks}
        for batch in self.held_out_batches():
            with self.fabric.autocast():
                outputs = self.model({name: batch[name] for name in self.model.inputs})
            for task in self.tasks:
                raw, target = outputs[task.name].float(), batch[task.name]
                losses[task.name].append(task.loss(raw, target))
                for protocol in self.recipe.protocols:
                    meters[task.name, protocol].to(raw.device).update(task.predict(raw), target)
        rows = [
            [self.epoch, self.recipe.evaluate_on, name, "loss", "", float(torch.stack(values).mean())]
            for name, values in losses.items()
        ]
        for (name, protocol), meter in meters.items():
            for metric, value in meter.compute().items():
                rows.append([self.epoch, self.recipe.evaluate_on, name, metric, protocol, float(value)])
        return rows

    def held_out_batches(self) -> Iterator[dict[str, Tensor]]:
        view = _View(self.held_out, self.fields(), self.recipe, epoch=None)
        loader = DataLoader(view, batch_size=self.recipe.batch, num_workers=self.workers)
        return (self.fabric.to_device(batch) for batch in loader)

    def keep_best(self, run: Run, rows: list[list[Any]]) -> None:
        """Write ``best.pt`` where the recipe selects by a metric and this epoch is the best so far."""
        if not self.recipe.select:
            return
        name, _, metric = self.recipe.select.partition("/")
        higher_is_better = next(task for task in self.tasks if task.name == name).directions[metric]
        key = [self.recipe.evaluate_on, name, metric, self.recipe.protocols[0]]
        value = next(row[5] for row in rows if row[1:5] == key)
        if self.best is None or (value > self.best if higher_is_better else value < self.best):
            self.best = value
            with files.replacing(run.folder / "best.pt") as path:
                torch.save({"model": self.model.state_dict(), "epoch": self.epoch, "value": value}, path)

    def floor(self) -> dict[str, dict[str, float]]:
        """Metrics of the best constant prediction: the majority class, the median depth, the mean direction of
        training.
        """
        n = len(self.train_data)
        picked = [self.train_data[i] for i in range(0, n, math.ceil(n / FLOOR_SAMPLES))]
        meters = {(t.name, p): t.metrics(p) for t in self.tasks for p in self.recipe.protocols}
        constants = {t.name: t.constant([sample[t.name][None] for sample in picked]) for t in self.tasks}
        view = _View(self.held_out, self.fields(), self.recipe, epoch=None)
        for batch in DataLoader(view, batch_size=self.recipe.batch):
            for task in self.tasks:
                target = batch[task.name]
                raw = constants[task.name].view(1, -1, 1, 1).expand(len(target), -1, *target.shape[-2:])
                for protocol in self.recipe.protocols:
                    meters[task.name, protocol].update(task.predict(raw), target)
        floor: dict[str, dict[str, float]] = {protocol: {} for protocol in self.recipe.protocols}
        for (name, protocol), meter in meters.items():
            floor[protocol] |= {f"{name}/{metric}": float(value) for metric, value in meter.compute().items()}
        return floor

    def result(self) -> dict[str, Any]:
        """The content of ``result.json``."""
        recipe, final = self.recipe, {}
        for epoch, split, task, metric, protocol, value in self.history:
            if epoch == recipe.epochs - 1 and split == recipe.evaluate_on and protocol:
                final.setdefault(protocol, {})[f"{task}/{metric}"] = value
        height, width = self.train_data.size
        return {
            "metrics": final,
            "floor": self.floor(),
            "split": recipe.evaluate_on,
            "selected": {"metric": recipe.select, "value": self.best} if recipe.select else None,
            "parameters": architectures.count_parameters(self.model),
            "macs": architectures.count_macs(self.model, height, width),
            "size": [height, width],
            "steps": self.step,
            "seconds": round(self.seconds, 3),
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
        state |= {name: getattr(self, name) for name in ("step", "sums", "history", "log_sizes", "seconds", "best")}
        with files.replacing(run.folder / "checkpoint.pt") as path:
            torch.save(state, path)
        run.write_metrics(self.history)

    def resume(self, run: Run) -> None:
        """Go on from the checkpoint, if there is one; the step logs are cut back to it."""
        path = run.folder / "checkpoint.pt"
        if not path.is_file():
            run.cut({})
            return
        try:
            state = torch.load(path, weights_only=True, map_location="cpu")
        except Exception as error:  # it is written by rename, so a kill cannot have cut it; a full or failing disk can
            advice = f"delete it to start the run again, or the whole run: mtlkit runs rm {run.folder}"
            raise KitError(f"{path} cannot be read ({type(error).__name__}); {advice}") from error
        for name in ("epoch", "step", "sums", "history", "log_sizes", "seconds", "best"):
            setattr(self, name, state[name])
        self.model.load_state_dict(state["model"])
        if "optimizer" in state:  # absent only when every epoch is done
            self.batch = state["batch"]
            self.weighting.load_state_dict(state["weighting"])
            self.optimizer.load_state_dict(state["optimizer"])
            torch.set_rng_state(state["random"])
            if state["random_device"] is not None and self.fabric.device.type == "cuda":
                torch.cuda.set_rng_state(state["random_device"])
        run.cut(self.log_sizes)
        run.write_metrics(self.history)


class _StepLog:
    """Losses and weights of the latest steps, still on the device; ``flush`` reads, checks and writes them at once."""

    def __init__(self, session: _Session, run: Run):
        self.session, self.run = session, run
        self.pending: list[tuple[int, weighting.Step]] = []
        self.every = 1 if session.fabric.device.type == "cpu" else FLUSH_EVERY
        self.rows: dict[str, list[list[Any]]] = {}

    def add(self, number: int, step: weighting.Step) -> None:
        self.pending.append((number, step))
        if len(self.pending) >= self.every:
            self.read()

    def read(self) -> None:
        """Bring the pending steps to the host: one transfer for all."""
        if not self.pending:
            return
        numbers = [
            value.float()
            for _, step in self.pending
            for value in [*step.losses.values(), *(step.weights or {}).values()]
        ]
        values = iter(torch.stack(numbers).tolist())
        for number, step in self.pending:
            for name in step.losses:
                self.session.sums[name][0] += self.finite(next(values), name, number)
                self.session.sums[name][1] += 1
            rows = [[number, name, next(values)] for name in step.weights or {}]
            self.rows.setdefault("weights.csv", []).extend(rows)
            if step.gramian is not None:
                rows = [
                    [number, "gramian", i, j, value]
                    for i, row in enumerate(step.gramian.tolist())
                    for j, value in enumerate(row)
                ]
                self.rows.setdefault("gradients.csv", []).extend(rows)
        self.pending = []

    def finite(self, value: float, task: str, step: int) -> float:
        if math.isfinite(value):
            return value
        recipe = self.session.recipe
        raise NonFiniteLoss(
            f"the loss of task {task!r} is {value} at step {step} (epoch {self.session.epoch}) of recipe "
            f"{recipe.name!r}, {recipe.label}; lower optimiser.lr, or look at the data: "
            f"mtlkit data check {recipe.dataset.name}"
        )

    def flush(self) -> None:
        """Append everything read so far to the logs on disk."""
        self.read()
        for name, rows in self.rows.items():
            if not rows:
                continue
            self.session.log_sizes[name] = self.run.append(name, rows)
        self.rows = {}


# --- small parts ---


def _board(run: Run, epoch: int):
    """TensorBoard's writer; events after the checkpoint are purged."""
    from torch.utils.tensorboard import SummaryWriter

    return SummaryWriter(str(run.folder / "tensorboard"), purge_step=epoch)


def _device_name(device: torch.device) -> str:
    return torch.cuda.get_device_name(device) if device.type == "cuda" else f"{device.type} ({platform.machine()})"
