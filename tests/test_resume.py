"""A run killed with SIGKILL at any moment and started again ends exactly as one that was never stopped.

Children come from a fork server that has imported torch already, so that twenty kills cost seconds.
"""

import multiprocessing
import os
import random
import signal
from pathlib import Path

import pytest
import torch

from mtlkit import recipes, training
from mtlkit.errors import KitError
from mtlkit.runs import Run

CONTEXT = multiprocessing.get_context("forkserver")
CONTEXT.set_forkserver_preload(["mtlkit.training", "mtlkit.architectures.hard", "torch.utils.tensorboard"])
OVERRIDES = {"epochs": 3, "dataset.train": 12, "dataset.test": 4, "batch": 2, "select": "depth/abs_err"}
STEPS = 18


def _die(*_):
    os.kill(os.getpid(), signal.SIGKILL)


def _kill_at(place: str, number: int) -> None:
    """Arrange for this process to be killed at the number-th visit of a place."""
    visits = iter(range(1, number + 1))

    def counted(function, before):
        def wrapper(*args, **kwargs):
            last = next(visits, None) == number
            if last and before:
                before(*args)
            result = function(*args, **kwargs)
            if last and not before:
                _die()
            return result

        return wrapper

    def half_written(state, path):
        Path(path).write_bytes(b"PK\x03\x04 half a checkpoint")
        _die()

    if place == "batch":  # after the losses, before the update is complete
        torch.optim.Adam.step = counted(torch.optim.Adam.step, _die)
    elif place == "after the update":
        torch.optim.Adam.step = counted(torch.optim.Adam.step, None)
    elif place == "checkpoint write":
        torch.save = counted(torch.save, half_written)
    elif place == "before a rename":
        os.replace = counted(os.replace, _die)
    elif place == "after a rename":
        os.replace = counted(os.replace, None)
    elif place == "log":
        Run.append = counted(Run.append, None)


def _train(folder: str, overrides: dict, kill: tuple[str, int] | None) -> None:
    torch.set_num_threads(1)
    if kill:
        _kill_at(*kill)
    recipe = recipes.load("rooms-tiny", overrides)
    # checkpoints inside the epochs too, after about every step
    training.fit(recipe, Run(folder), device="cpu", progress=False, checkpoint_seconds=0.0)


def train(folder, kill=None, overrides=OVERRIDES) -> int:
    """Train in a child process; its exit code."""
    folder.mkdir(parents=True, exist_ok=True)
    if not (folder / "recipe.toml").exists():
        (folder / "recipe.toml").write_text(recipes.load("rooms-tiny", overrides).toml())
    child = CONTEXT.Process(target=_train, args=(str(folder), overrides, kill))
    child.start()
    child.join()
    return child.exitcode


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory):
    folder = tmp_path_factory.mktemp("unbroken") / "run"
    assert train(folder) == 0
    return folder


def same(folder, reference):
    for name in ("metrics.csv", "weights.csv"):
        assert (folder / name).read_bytes() == (reference / name).read_bytes(), name
    for name in ("checkpoint.pt", "best.pt"):
        ours, theirs = (torch.load(f / name, weights_only=True)["model"] for f in (folder, reference))
        assert all(torch.equal(ours[key], theirs[key]) for key in theirs), name
    ours, theirs = (Run(f).result for f in (folder, reference))
    for result in (ours, theirs):
        del result["seconds"]
    assert ours == theirs


PLACES = {
    "batch": STEPS,
    "after the update": STEPS,
    "checkpoint write": 10,
    "before a rename": 30,
    "after a rename": 30,
    "log": 10,
}


@pytest.mark.slow
@pytest.mark.parametrize("chain", range(5))
def test_four_kills_at_random_points_change_nothing(chain, tmp_path, unbroken):
    chance = random.Random(chain)
    killed = []
    while len(killed) < 4:
        place = chance.choice(list(PLACES))
        code = train(tmp_path / "run", kill=(place, chance.randint(1, PLACES[place] // 3)))
        if code == 0:
            break
        assert code == -signal.SIGKILL
        assert Run(tmp_path / "run").state in ("new", "killed")
        killed.append(place)
    assert train(tmp_path / "run") == 0
    assert len(killed) >= 3, "the kills came too late to mean anything"
    same(tmp_path / "run", unbroken)
    assert not list((tmp_path / "run").glob(".*.tmp"))


def test_a_finished_run_is_left_alone(unbroken):
    before = {path: path.stat().st_mtime_ns for path in unbroken.iterdir() if not path.name.startswith(".")}
    assert train(unbroken) == 0
    assert before == {path: path.stat().st_mtime_ns for path in unbroken.iterdir() if not path.name.startswith(".")}


def test_the_optimiser_is_dropped_when_the_run_ends(unbroken):
    assert "optimizer" not in torch.load(unbroken / "checkpoint.pt", weights_only=True)


def test_ctrl_c_leaves_a_resumable_run(tmp_path, unbroken, monkeypatch):
    recipe = recipes.load("rooms-tiny", OVERRIDES)
    folder = tmp_path / "run"
    folder.mkdir()
    (folder / "recipe.toml").write_text(recipe.toml())
    original, calls = torch.optim.Adam.step, iter(range(100))

    def interrupted(*args, **kwargs):
        if next(calls) == 8:
            raise KeyboardInterrupt
        return original(*args, **kwargs)

    monkeypatch.setattr(torch.optim.Adam, "step", interrupted)
    with pytest.raises(KeyboardInterrupt):
        training.fit(recipe, Run(folder), device="cpu", progress=False)
    assert Run(folder).state == "interrupted"
    monkeypatch.undo()
    assert train(folder) == 0
    same(folder, unbroken)


def test_a_second_writer_is_kept_out(tmp_path):
    recipe = recipes.load("rooms-tiny", OVERRIDES)
    run = Run(tmp_path)
    (tmp_path / "recipe.toml").write_text(recipe.toml())
    with run.writing(), pytest.raises(KitError, match="is being written by another process"):
        training.fit(recipe, Run(tmp_path), device="cpu", progress=False)


def test_a_log_shorter_than_its_checkpoint_is_noticed(tmp_path):
    assert train(tmp_path / "run", kill=("batch", 12)) == -signal.SIGKILL
    (tmp_path / "run" / "weights.csv").write_text("step,task,weight\n")
    recipe = recipes.load("rooms-tiny", OVERRIDES)
    with pytest.raises(KitError, match="weights.csv is shorter than its checkpoint says"):
        training.fit(recipe, Run(tmp_path / "run"), device="cpu", progress=False)


def test_a_damaged_checkpoint_is_named(tmp_path):
    assert train(tmp_path / "run", kill=("batch", 12)) == -signal.SIGKILL
    checkpoint = tmp_path / "run" / "checkpoint.pt"
    checkpoint.write_bytes(checkpoint.read_bytes()[:1000])
    with pytest.raises(KitError, match="checkpoint.pt cannot be read"):
        training.fit(recipes.load("rooms-tiny", OVERRIDES), Run(tmp_path / "run"), device="cpu", progress=False)
