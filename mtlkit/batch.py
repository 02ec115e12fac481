"""Runs in batches: ``notebooks/40_train.ipynb`` executed by papermill into each run folder, several at once by Dask.

papermill has no resume and its notebook metadata may claim success after a kernel has died, so neither is relied on: a
run goes on from its checkpoint, and it is judged by ``status.json`` and ``result.json`` alone. A sweep skips finished
runs, goes on past a failure and names it at the end.
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tqdm import tqdm

from . import files
from .errors import KitError
from .runs import Run

if TYPE_CHECKING:
    from .recipes import Recipe

NOTEBOOK = "40_train.ipynb"
POLL_SECONDS = 0.25


@dataclasses.dataclass(frozen=True)
class Outcome:
    """How one run ended: ``state`` is finished, skipped or failed; ``reason`` is one line where it failed."""

    run: Run
    state: str
    seconds: float
    reason: str = ""


def plan(recipes: Iterable[Recipe], alone: str = "") -> list[Run]:
    """The run folders of some recipes, those that others start from first. Builds every dataset, so that embedded data
    are rendered before anything trains.

    Single-task nets that a recipe starts from (``init_from = ["single"]``) belong to the plan, listed or not.

    Args:
        recipes: what to run.
        alone: given, these nets are added no more: what is not trained is an error that has this to type.

    Raises:
        KitError: for data that are absent, for what ``training.check`` finds wrong, and for sources that are missing or
            do not fit.
    """
    from . import initialisation, training

    planned: dict[Path, tuple[Recipe, str]] = {}
    for recipe in recipes:
        splits = training.load_data(recipe)
        data = training.fingerprint(*splits)
        for each in [*([] if alone else recipe.singles()), recipe]:
            if (folder := Run.of(each, data).folder) not in planned:
                training.check(each, splits[0])
                planned[folder] = each, data
    ids = {folder.name: recipe for folder, (recipe, _) in planned.items()}
    for folder, (recipe, data) in planned.items():
        initialisation.match(recipe, data, folder.parent, alone, ids)
    runs = [Run.create(recipe, data) for recipe, data in planned.values()]
    needed = {path.name for recipe, data in planned.values() for path in recipe.sources(data, Path())}
    return sorted(runs, key=lambda run: run.folder.name not in needed)


def execute(folder: str, threads: int | None, device: str) -> str:
    """Execute the training notebook into one run folder. Returns "" or why it failed, in one line.

    Args:
        folder: a run folder with its ``recipe.toml``.
        threads: torch threads of the kernel; None leaves the choice to torch and to ``$OMP_NUM_THREADS``.
        device: Fabric's accelerator.
    """
    import papermill

    run = Run(folder)
    if threads is not None:
        os.environ["OMP_NUM_THREADS"] = str(threads)
    os.environ["MTLKIT_PARENT"] = str(os.getpid())  # the kernel ends with this process
    try:
        with _stderr_to(run.folder / "kernel.log"):
            papermill.execute_notebook(
                str(files.checkout() / "notebooks" / NOTEBOOK),
                str(run.folder / "output.ipynb"),
                parameters={"recipe": str(run.folder / "recipe.toml"), "run_folder": str(run.folder), "device": device},
                kernel_name="python3",
                kernel_manager_class="mtlkit.kernels.AsyncPrivateKernelManager",
                progress_bar=False,
                cwd=str(run.folder),
            )
    except Exception as error:  # a failed cell, a dead kernel: the run's own words, if it left any, say more
        reason = run.status.get("error") or f"{type(error).__name__}: {str(error).strip().splitlines()[-1]}"
        if not run.finished:
            status = {key: value for key, value in run.status.items() if key not in ("state", "pid")}
            run.say("failed", **{**status, "error": reason})
        return "" if run.finished else reason
    return "" if run.finished else "the notebook ended and left no result.json"


@contextlib.contextmanager
def _stderr_to(path: Path) -> Iterator[None]:
    """Send standard error of this process and of the kernels it starts to a file: bars would be drawn over by it."""
    kept = os.dup(2)
    with open(path, "ab") as log:
        os.dup2(log.fileno(), 2)
    try:
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)


def run_all(
    runs: list[Run], jobs: int = 1, device: str = "auto", say: Callable[[str], Any] = print, progress: bool = True
) -> list[Outcome]:
    """Execute every run that is not finished, ``jobs`` at once, and say how each one ended.

    Runs that start from others (``init_from``) wait until no single-task net is left to train. With two jobs or more
    each uses one thread. Ctrl-C stops the kernels and leaves every run resumable.
    """
    outcomes = [Outcome(run, "skipped", 0.0) for run in runs if run.finished]
    waiting = [run for run in runs if not run.finished]
    if not waiting:
        return outcomes
    threads = 1 if jobs > 1 else None  # of the jobs asked for: the last run of a sweep computes as the others did
    jobs = min(jobs, len(waiting))
    with _cluster(jobs) as client, _EpochBar(waiting, progress) as bar, _ctrl_c() as asked:
        futures: dict[Any, Run] = {}
        started: dict[Run, float] = {}
        held = list(waiting)
        try:
            while held or futures:
                for run in ready(held, futures.values()):
                    held.remove(run)
                    futures[client.submit(execute, str(run.folder), threads, device, pure=False)] = run
                    started[run] = time.monotonic()
                for future in [future for future in futures if future.done()]:
                    run = futures.pop(future)
                    outcomes.append(_outcome(future, run, time.monotonic() - started[run]))
                    bar.write(_line(outcomes[-1], len(outcomes), len(runs)), say)
                bar.refresh()
                if asked.wait(POLL_SECONDS):
                    raise KeyboardInterrupt
        except KeyboardInterrupt:
            _stop(client, list(futures.values()))
            raise
    return outcomes


def ready(held: Iterable[Run], running: Iterable[Run]) -> list[Run]:
    """Which of the held runs can begin: all, but those that start from others while a single-task net is not over."""
    from .recipes import SINGLE

    held = list(held)
    training = any(run.recipe.architecture.name == SINGLE for run in (*held, *running))
    return [run for run in held if not (training and run.recipe.init_from)]


@contextlib.contextmanager
def _ctrl_c() -> Iterator[threading.Event]:
    """An event that Ctrl-C sets; a second one interrupts at once.

    An exception thrown at any moment, as Python's own handler does, may land where it is swallowed: in a callback of
    the client, or while an object is being freed. Threads other than the main one hear of no signals: theirs stays
    unset.
    """
    asked = threading.Event()

    def ask(*signal_and_frame: Any) -> None:
        asked.set()
        signal.signal(signal.SIGINT, signal.default_int_handler)

    if threading.current_thread() is not threading.main_thread():
        yield asked
        return
    before = signal.signal(signal.SIGINT, ask)
    try:
        yield asked
    finally:
        signal.signal(signal.SIGINT, before)


def _cluster(jobs: int):
    """A Dask client with ``jobs`` one-thread worker processes on this machine."""
    import dask
    import distributed

    dask.config.set(
        {
            "distributed.scheduler.allowed-failures": 0,  # a run that takes its worker down is a failure, not a retry
            # Dask's MALLOC_TRIM_THRESHOLD_ makes a training step 1.4 times slower: memory goes back each time
            "distributed.nanny.pre-spawn-environ": {},
            "distributed.logging.distributed": "critical",
            "distributed.admin.tick.limit": "1h",
        }
    )
    cluster = distributed.LocalCluster(
        n_workers=jobs,
        threads_per_worker=1,
        processes=True,
        dashboard_address=None,
        memory_limit=0,
        local_directory=str(files.cache_dir() / "dask"),
        silence_logs=50,
    )
    return distributed.Client(cluster)


def _outcome(future, run: Run, seconds: float) -> Outcome:
    if future.status == "finished":
        reason = future.result()
    else:
        reason = f"its worker process died ({future.status})"
        if not run.finished:
            run.say("failed", error=reason)
    return Outcome(run, "failed" if reason else "finished", seconds, reason)


def _line(outcome: Outcome, number: int, total: int) -> str:
    detail = f": {outcome.reason}"
    if not outcome.reason:
        detail = f" in {outcome.run.result['seconds']:.0f} s of training"
        detail += f"; {outcome.run.random_start}" if outcome.run.random_start else ""
    return f"[{number}/{total}] {outcome.state}  {outcome.run.recipe.label}{detail}"


def _stop(client, runs: list[Run]) -> None:
    """End the kernels at once (their last checkpoints are whole), then the workers, and mark the runs."""
    for run in runs:
        if run.state == "running":  # its lock is held, so the process is there
            with contextlib.suppress(ProcessLookupError):
                os.kill(run.status["pid"], signal.SIGKILL)
    client.shutdown()
    for run in runs:
        with contextlib.suppress(KitError), run.writing():  # once its kernel has let go: it might still be writing
            status = run.status
            if status["state"] in ("running", "failed"):  # a worker may have taken the kernel's end for a failure
                run.say("interrupted", epoch=status.get("epoch", 0), epochs=run.recipe.epochs)


class _EpochBar:
    """One progress bar over the epochs of several runs, read from their ``status.json``."""

    def __init__(self, runs: list[Run], progress: bool):
        self.runs = {run: run.recipe.epochs for run in runs}
        self.bar = tqdm(
            total=sum(self.runs.values()),
            unit="epoch",
            disable=not progress,
            desc=f"{len(runs)} runs",
            dynamic_ncols=True,
            mininterval=1.0 if sys.stderr.isatty() else 15.0,  # seconds: a log file is no terminal
        )

    def __enter__(self) -> _EpochBar:
        return self

    def __exit__(self, *exception) -> None:
        self.bar.close()

    def refresh(self) -> None:
        done = sum(run.status.get("epoch", 0) for run in self.runs)
        self.bar.update(done - self.bar.n)

    def write(self, line: str, say: Callable[[str], Any]) -> None:
        self.refresh()
        with tqdm.external_write_mode():
            say(line)


def shown(path: Path) -> str:
    """A path as a person would type it from here."""
    try:
        return str(path.resolve().relative_to(Path.cwd()))
    except ValueError:
        return str(path)
