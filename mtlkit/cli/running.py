"""Commands that train, and those over what was trained: ``run | sweep | runs list | runs rm``."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from typing import Annotated

import typer

from .options import Accelerator, Device, Overrides

app = typer.Typer()
runs_app = typer.Typer(no_args_is_help=True, help="Runs: list, rm.", rich_markup_mode=None)


@app.command()
def run(recipe: str, params: Overrides = [], device: Device = Accelerator.auto) -> None:  # noqa: B006
    """Train one recipe: notebooks/40_train.ipynb, executed by papermill into its run folder. Goes on where it was
    stopped.
    """
    from .. import recipes

    sweep = shlex.join(["mtlkit", "sweep", recipe, *(word for pair in params for word in ("-p", pair))])
    _execute([recipes.load(recipe, recipes.parse_overrides(params))], 1, device.value, alone=sweep)


@app.command()
def sweep(
    recipe: str,
    params: Overrides = [],  # noqa: B006
    jobs: Annotated[
        int, typer.Option("-j", "--jobs", min=1, help="Runs at once; from two on each uses one thread.")
    ] = 1,
    device: Device = Accelerator.auto,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print the plan alone.")] = False,
) -> None:
    """Train every run of a sweep; finished ones are skipped, a failure does not stop the others. Single-task nets that
    a run starts from are trained first, also those that are not in the sweep.
    """
    from .. import recipes

    _execute(recipes.expand(recipe, recipes.parse_overrides(params)), jobs, device.value, dry_run)


def _execute(recipes: list, jobs: int, device: str, dry_run: bool = False, alone: str = "") -> None:
    from .. import batch

    runs = batch.plan(recipes, alone)
    waiting = [run for run in runs if not run.finished]
    print(
        f"{len(runs)} run(s): {len(runs) - len(waiting)} finished, {len(waiting)} to do, {min(jobs, len(runs))} at once"
    )
    if len(runs) > len(recipes):
        print(f"{len(runs) - len(recipes)} single-task net(s) among them are not in the sweep, which starts from them")
    for number, planned in enumerate(runs, 1):
        print(f"  {number:>3}  {planned.state:<12} {planned.recipe.label}  {batch.shown(planned.folder)}")
    if dry_run:
        return
    try:
        outcomes = batch.run_all(runs, jobs, device)
    except KeyboardInterrupt:
        print("\nmtlkit: stopped; the same command goes on from the last checkpoints", file=sys.stderr)
        raise typer.Exit(130) from None
    failed = [outcome for outcome in outcomes if outcome.state == "failed"]
    for outcome in failed:
        print(f"failed: {outcome.run.recipe.label}: {outcome.reason}", file=sys.stderr)
        print(f"        see {batch.shown(outcome.run.folder / 'output.ipynb')}", file=sys.stderr)
    if failed:
        print(f"{len(failed)} of {len(outcomes)} runs failed; the same command tries them again", file=sys.stderr)
        raise typer.Exit(1)


@runs_app.command("list")
def runs_list(paths: Annotated[list[Path] | None, typer.Argument()] = None) -> None:
    """Every run: state, epoch, label, folder."""
    from .. import batch
    from ..runs import find

    found = find(paths or [])
    for entry in found:
        status = entry.status
        epochs = f"{status.get('epoch', 0)}/{status.get('epochs', entry.recipe.epochs)}"
        print(f"{entry.state:<12} {epochs:>8}  {entry.recipe.label:<58} {batch.shown(entry.folder)}")
    if not found:
        print("no runs; type: mtlkit run rooms-tiny")


@runs_app.command("rm")
def runs_rm(folders: list[Path], yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False) -> None:
    """Delete run folders."""
    from ..runs import load_run

    chosen = [load_run(folder) for folder in folders]
    for entry in chosen:
        print(f"{entry.state:<12} {entry.recipe.label}  {entry.folder}")
    if yes or typer.confirm(f"delete {len(chosen)} run(s)?"):
        for entry in chosen:
            entry.remove()
