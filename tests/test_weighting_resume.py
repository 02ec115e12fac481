"""Every weighting, stopped in the middle of an epoch and started again, ends as one never stopped: the same bytes in
its logs, the same parameters. One for each kind of memory is stopped by SIGKILL; of the others a folder as it was in
the middle of the unbroken run goes on, which is what SIGKILL leaves.
"""

import shutil

import pytest
import torch
from test_resume import train

from mtlkit import recipes, training
from mtlkit.runs import Run
from mtlkit.weighting import WEIGHTINGS

SMALL = {"epochs": 3, "dataset.train": 4, "dataset.test": 2, "batch": 2, "protocols": ["pooled"], "evaluate_every": 3}
SMALL |= {"tasks": ["semantic", "depth"], "architecture.width": 0.0625}
OPTIONS = {"stch": {"warmup_epochs": 1}}  # so that every phase is met
# the losses of epochs, an optimiser of its own, a memory of gradients, random numbers
KILLED = ("dwa", "famo", "moco", "graddrop")


def fit(run, overrides, **options):
    run.folder.mkdir(exist_ok=True)
    recipe = recipes.load("rooms-tiny", overrides)
    (run.folder / "recipe.toml").write_text(recipe.toml())
    training.fit(recipe, run, device="cpu", progress=False, **options)


def copied_after(update, source, destination, monkeypatch):
    """Between this update and its checkpoint, a folder is copied as it is."""
    step, visits = torch.optim.Adam.step, iter(range(1, update + 1))

    def counted(*args, **kwargs):
        result = step(*args, **kwargs)
        if next(visits, None) == update:
            shutil.copytree(source, destination)
        return result

    monkeypatch.setattr(torch.optim.Adam, "step", counted)


@pytest.mark.parametrize("name", WEIGHTINGS)
def test_a_stopped_run_of_every_weighting_ends_as_an_unbroken_one(tmp_path, name, monkeypatch):
    overrides = SMALL | {"weighting.name": name}
    overrides |= {f"weighting.{option}": value for option, value in OPTIONS.get(name, {}).items()}
    whole, broken = Run(tmp_path / "whole"), Run(tmp_path / "broken")
    if name in KILLED:
        fit(whole, overrides)
        assert train(broken.folder, kill=("after the update", 4), overrides=overrides) != 0
    else:
        with monkeypatch.context() as patch:
            copied_after(4, whole.folder, broken.folder, patch)
            fit(whole, overrides, checkpoint_seconds=0.0)
    assert broken.state == "killed" and broken.load()["model"]
    fit(broken, overrides)
    for log in ("metrics.csv", "weights.csv", "gradients.csv"):
        first, second = ((run.folder / log) for run in (whole, broken))
        assert first.exists() == second.exists()
        assert not first.exists() or first.read_bytes() == second.read_bytes(), log
    a, b = (run.load()["model"] for run in (whole, broken))
    assert all(torch.equal(a[key], b[key]) for key in a)
