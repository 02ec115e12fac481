"""The command line end to end: papermill, several runs at once, kills of the kernel and of its parent, bad input.

Some of these tests start real processes; each start imports torch, so there are few of them and they share what they
train. The others run the command line in this process.
"""

import io
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from PIL import Image

from mtlkit import recipes, training
from mtlkit.runs import Run, find

pytestmark = pytest.mark.slow
EPOCHS = 16  # long enough that a process is still at it when it is killed
SMALL = {"epochs": EPOCHS, "dataset.train": 12, "dataset.test": 4, "batch": 2}
WORDS = ("run", "rooms-tiny", *(word for key, value in SMALL.items() for word in ("-p", f"{key}={value}")))


def process(runs, *words):
    """The command line in a process of its own."""
    environment = os.environ | {"MTLKIT_RUNS": str(runs), "OMP_NUM_THREADS": "1", "COLUMNS": "200"}
    command = [sys.executable, "-m", "mtlkit.cli", *map(str, words)]
    return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def same(run, reference):
    for name in ("metrics.csv", "weights.csv"):
        assert (run.folder / name).read_bytes() == (reference.folder / name).read_bytes()
    ours, theirs = (torch.load(r.folder / "checkpoint.pt", weights_only=True)["model"] for r in (run, reference))
    assert all(torch.equal(ours[key], theirs[key]) for key in theirs)


def train(recipe, root):
    """A run that was never stopped, in this process."""
    run = Run.create(recipe, training.fingerprint(*training.load_data(recipe)), root=root)
    return training.fit(recipe, run, device="cpu", progress=False)


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory):
    return train(recipes.load("rooms-tiny", SMALL), tmp_path_factory.mktemp("unbroken"))


def start_and_wait(runs, epoch):
    """Start the run and wait until it has come to an epoch: its process, its kernel, the run."""
    started = process(runs, *WORDS)
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline and started.poll() is None:
        for status in Path(runs).glob("*/*/status.json"):
            content = json.loads(status.read_text())
            if content["state"] == "running" and content["epoch"] >= epoch:
                return started, content["pid"], Run(status.parent)
        time.sleep(0.02)
    raise AssertionError(f"never came to epoch {epoch}: {started.communicate()}")


def gone(pid, seconds=10.0):
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        try:
            if Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] in "ZX":
                return True
            os.kill(pid, 0)
        except (FileNotFoundError, ProcessLookupError):
            return True
        time.sleep(0.1)
    return False


def becomes(state, run, seconds=5.0):
    """A dying process may be listed as dead a moment before its last thread lets go of the lock."""
    deadline = time.monotonic() + seconds
    while run.state != state and time.monotonic() < deadline:
        time.sleep(0.05)
    return run.state == state


def test_kill_the_kernel_then_its_parent_then_type_ctrl_c_then_finish(tmp_path, unbroken):
    command, kernel, run = start_and_wait(tmp_path, epoch=2)
    os.kill(kernel, signal.SIGKILL)
    _, errors = command.communicate(timeout=120)
    assert command.returncode == 1 and "1 of 1 runs failed" in errors
    assert run.state == "failed" and run.status["epoch"] >= 2

    command, kernel, run = start_and_wait(tmp_path, epoch=run.status["epoch"] + 2)
    command.kill()
    command.communicate()
    assert gone(kernel), "the kernel outlived its parent"
    assert becomes("killed", run) and run.status["epoch"] >= 4

    command, kernel, run = start_and_wait(tmp_path, epoch=run.status["epoch"] + 2)
    command.send_signal(signal.SIGINT)
    _, errors = command.communicate(timeout=60)
    assert command.returncode == 130
    assert errors.strip().splitlines()[-1].startswith("mtlkit: stopped; the same command goes on")
    assert gone(kernel)
    assert run.state == "interrupted"

    command = process(tmp_path, *WORDS)
    _, errors = command.communicate(timeout=240)
    assert command.returncode == 0, errors
    assert run.finished and run.state == "finished"
    same(run, unbroken)
    # a run is an executed notebook and its numbers
    notebook = json.loads((run.folder / "output.ipynb").read_text())
    assert any("injected-parameters" in cell["metadata"].get("tags", []) for cell in notebook["cells"])
    images = [o for c in notebook["cells"] for o in c.get("outputs", []) if "image/png" in o.get("data", {})]
    assert len(images) >= 3


SWEEP = """
[[sweep.variants]]
seed = [0, 1]
"architecture.name" = ["single", "split"]
[[sweep.variants]]
"optimiser.lr" = [1e30]
"""


@pytest.fixture(scope="module")
def swept(tmp_path_factory):
    """A sweep whose single-task nets were trained before, and in which one run fails: its losses overflow."""
    folder = tmp_path_factory.mktemp("sweep")
    small = recipes.load("rooms-tiny", {"name": "demo", "epochs": 2, "dataset.train": 12, "dataset.test": 4})
    (folder / "demo.toml").write_text(small.toml() + SWEEP)
    for recipe in recipes.expand(str(folder / "demo.toml")):
        if recipe.architecture.name == "single":
            train(recipe, folder / "runs")
    command = process(folder / "runs", "sweep", folder / "demo.toml", "--jobs", "2")
    return folder, *command.communicate(timeout=240), command.returncode


def test_a_sweep_skips_what_is_finished_goes_on_past_failures_and_names_them_at_the_end(swept):
    folder, output, errors, status = swept
    assert status == 1
    assert "5 run(s): 2 finished, 3 to do, 2 at once" in output
    states = sorted(run.state for run in find([folder / "runs"]))
    assert states == ["failed"] + ["finished"] * 4
    assert "1 of 5 runs failed" in errors and "NonFiniteLoss" in errors and "output.ipynb" in errors


def test_a_sweep_tries_again_what_failed(swept, mtlkit, monkeypatch):
    folder, *_ = swept
    monkeypatch.setenv("MTLKIT_RUNS", str(folder / "runs"))
    status, output, _ = mtlkit("sweep", folder / "demo.toml", "--dry-run")
    assert status == 0 and "5 run(s): 4 finished, 1 to do" in output


def test_the_report_has_seeds_delta_floor_and_json(swept, mtlkit, monkeypatch):
    folder, *_ = swept
    monkeypatch.setenv("COLUMNS", "200")
    status, output, errors = mtlkit("report", folder / "runs")
    assert status == 0, errors
    assert "constant (floor)" in output and "±" in output and "Δ_MTL %" in output
    page = (folder / "runs" / "report.html").read_text()
    assert page.count("data:image/png;base64,") >= 4 and "executed notebook" in page
    rows = json.loads(mtlkit("report", folder / "runs", "--json")[1])
    by_name = {row["name"]: row for row in rows}
    assert list(by_name) == ["constant (floor)", "single", "split, dwa"]
    assert by_name["split, dwa"]["seeds"] == [0, 1] and len(by_name["split, dwa"]["delta_mtl"]["values"]) == 2
    assert (
        by_name["single"]["delta_mtl"] is None and by_name["single"]["parameters"] > by_name["split, dwa"]["parameters"]
    )


def test_runs_are_listed_and_removed_after_a_question(tmp_path, mtlkit, monkeypatch):
    monkeypatch.setenv("MTLKIT_RUNS", str(tmp_path))
    run = Run.create(recipes.load("rooms-tiny"), "data", root=tmp_path)
    status, output, _ = mtlkit("runs", "list")
    assert status == 0 and "new" in output and run.folder.name in output
    monkeypatch.setattr(sys, "stdin", io.StringIO("n\n"))
    assert mtlkit("runs", "rm", run.folder)[0] == 0 and run.folder.exists()
    with run.writing():
        status, _, errors = mtlkit("runs", "rm", run.folder, "--yes")
    assert status == 2 and "is being written" in errors and run.folder.exists()
    assert mtlkit("runs", "rm", run.folder, "--yes")[0] == 0 and not run.folder.exists()


# --- bad input ---


def test_bad_input_of_a_command_that_is_typed_is_one_line_and_status_2(tmp_path):
    command = process(tmp_path / "runs", "run", "rooms-tny")
    output, errors = command.communicate(timeout=120)
    assert (command.returncode, output) == (2, "")
    assert errors.count("\n") == 1 and errors.startswith("mtlkit: ") and "did you mean 'rooms-tiny'" in errors


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["run", "rooms-tny"], "did you mean 'rooms-tiny'"),
        (["run", "rooms-tiny", "-p", "epoch=3"], "did you mean 'epochs'"),
        (["run", "rooms-reproduce"], "type: mtlkit sweep rooms-reproduce"),
        (["run", "rooms-tiny", "-p", "dataset.height=50"], "multiples of 32"),
        (["run", "rooms-tiny", "-p", "select=depth/abs_er"], "did you mean 'depth/abs_err'"),
        (
            ["run", "rooms-tiny", "-p", "optimiser.multipliers.attention=2.0"],
            "group 'attention', which has no parameters",
        ),
        (["sweep", "nowhere.toml"], "no recipe 'nowhere.toml'"),
        (["report", "nowhere"], "nowhere does not exist"),
        (["predict", "nowhere", "a.png"], "is no run folder"),
        (["runs", "rm", "nowhere", "--yes"], "is no run folder"),
        (["data", "check", "nyuv3"], "unknown dataset 'nyuv3'"),
    ],
)
def test_bad_input_is_one_line_and_status_2(tmp_path, mtlkit, words, message):
    status, _, errors = mtlkit(*words)
    assert status == 2
    *before, last = errors.strip().splitlines()
    assert last.startswith("mtlkit: ") and message in last
    assert all("rendering" in line for line in before if line.strip()), "one line, but for a first rendering's bar"
    assert not list(tmp_path.glob("runs/*/*")), "nothing is written"


def test_predict_writes_a_picture_for_every_task_at_the_size_of_the_image(tmp_path, unbroken, mtlkit):
    for name, size in (("wide.png", (120, 50)), ("tall.jpg", (31, 77))):
        Image.new("RGB", size, (90, 120, 60)).save(tmp_path / name)
    status, _, errors = mtlkit("predict", unbroken.folder, "wide.png", "tall.jpg", "-o", "out")
    assert status == 0, errors
    written = sorted(path.name for path in (tmp_path / "out").iterdir())
    assert written == [f"{stem}-{task}.png" for stem in ("tall", "wide") for task in ("depth", "normals", "semantic")]
    assert Image.open(tmp_path / "out" / "wide-depth.png").size == (120, 50)


def test_an_image_that_cannot_be_read_stops_predict_before_it_writes(tmp_path, unbroken, mtlkit):
    Image.new("RGB", (64, 64)).save(tmp_path / "good.png")
    (tmp_path / "cut.png").write_bytes((tmp_path / "good.png").read_bytes()[:60])
    status, _, errors = mtlkit("predict", unbroken.folder, "good.png", "cut.png", "-o", "out")
    assert status == 2 and "cut.png cannot be read as an image" in errors
    assert not (tmp_path / "out").exists()
