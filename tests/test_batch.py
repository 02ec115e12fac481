"""The command line end to end: papermill, several runs at once, kills of the kernel and of its parent, bad input.

These tests start real processes; each start imports torch, so there are few of them and they share what they train.
"""

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

from mtlkit import recipes
from mtlkit.runs import Run, find

pytestmark = pytest.mark.slow
SMALL = ["-p", "dataset.train=12", "-p", "dataset.test=4", "-p", "batch=2"]


def environment(runs):
    return os.environ | {"MTLKIT_RUNS": str(runs), "OMP_NUM_THREADS": "1", "COLUMNS": "200"}


def mtlkit(runs, *words, **options):
    command = [sys.executable, "-m", "mtlkit.cli", *map(str, words)]
    return subprocess.run(command, env=environment(runs), capture_output=True, text=True, timeout=240, **options)


def same(run, reference):
    for name in ("metrics.csv", "weights.csv"):
        assert (run.folder / name).read_bytes() == (reference.folder / name).read_bytes()
    ours, theirs = (torch.load(r.folder / "checkpoint.pt", weights_only=True)["model"] for r in (run, reference))
    assert all(torch.equal(ours[key], theirs[key]) for key in theirs)


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory):
    """A finished run of 30 short epochs, by the command line."""
    runs = tmp_path_factory.mktemp("runs")
    done = mtlkit(runs, "run", "rooms-tiny", "-p", "epochs=30", *SMALL)
    assert done.returncode == 0, done.stderr
    (run,) = find([runs])
    return run


def start_and_wait(runs, *words, epoch=2):
    """Start a command and wait until its first run has come to an epoch."""
    command = [sys.executable, "-m", "mtlkit.cli", *words]
    process = subprocess.Popen(
        command, env=environment(runs), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline and process.poll() is None:
        for status in Path(runs).glob("*/*/status.json"):
            content = json.loads(status.read_text())
            if content["state"] == "running" and content["epoch"] >= epoch:
                return process, content["pid"], Run(status.parent)
        time.sleep(0.02)
    raise AssertionError(f"never came to epoch {epoch}: {process.communicate()}")


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


def test_a_run_is_an_executed_notebook_and_its_numbers(unbroken):
    assert unbroken.finished and unbroken.state == "finished"
    notebook = json.loads((unbroken.folder / "output.ipynb").read_text())
    assert any("injected-parameters" in cell["metadata"].get("tags", []) for cell in notebook["cells"])
    images = [o for c in notebook["cells"] for o in c.get("outputs", []) if "image/png" in o.get("data", {})]
    assert len(images) >= 3


def test_kill_the_kernel_then_its_parent_then_finish(tmp_path, unbroken):
    words = ("run", "rooms-tiny", "-p", "epochs=30", *SMALL)
    process, kernel, run = start_and_wait(tmp_path, *words, epoch=3)
    os.kill(kernel, signal.SIGKILL)
    output, errors = process.communicate(timeout=120)
    assert process.returncode == 1 and "1 of 1 runs failed" in errors
    assert run.state == "failed" and run.status["epoch"] >= 3

    process, kernel, run = start_and_wait(tmp_path, *words, epoch=run.status["epoch"] + 3)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    assert gone(kernel), "the kernel outlived its parent"
    assert becomes("killed", run) and run.status["epoch"] >= 6

    assert mtlkit(tmp_path, *words).returncode == 0
    same(run, unbroken)


def test_ctrl_c_says_how_to_go_on_and_leaves_no_kernel(tmp_path, unbroken):
    words = ("run", "rooms-tiny", "-p", "epochs=30", *SMALL)
    process, kernel, run = start_and_wait(tmp_path, *words, epoch=3)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 130
    assert errors.strip().splitlines()[-1].startswith("mtlkit: stopped; the same command goes on")
    assert gone(kernel)
    assert run.state == "interrupted"
    assert mtlkit(tmp_path, *words).returncode == 0
    same(run, unbroken)


SWEEP = """
[[sweep.variants]]
seed = [0, 1]
"architecture.name" = ["single", "split"]
[[sweep.variants]]
"optimiser.lr" = [1e30]
"""


@pytest.fixture(scope="module")
def swept(tmp_path_factory):
    """A sweep in which some runs fail: a learning rate of 1e30 makes the losses overflow."""
    folder = tmp_path_factory.mktemp("sweep")
    small = recipes.load("rooms-tiny", {"name": "demo", "epochs": 2, "dataset.train": 12, "dataset.test": 4})
    (folder / "demo.toml").write_text(small.toml() + SWEEP)
    done = mtlkit(folder / "runs", "sweep", folder / "demo.toml", "--jobs", "2")
    return folder, done


def test_a_sweep_goes_on_past_failures_and_names_them_at_the_end(swept):
    folder, done = swept
    assert done.returncode == 1
    assert "5 run(s): 0 finished, 5 to do, 2 at once" in done.stdout
    states = sorted(run.state for run in find([folder / "runs"]))
    assert states == ["failed"] + ["finished"] * 4
    assert "1 of 5 runs failed" in done.stderr and "NonFiniteLoss" in done.stderr and "output.ipynb" in done.stderr


def test_a_sweep_skips_what_is_finished_and_tries_again_what_failed(swept):
    folder, _ = swept
    plan = mtlkit(folder / "runs", "sweep", folder / "demo.toml", "--dry-run")
    assert plan.returncode == 0
    assert "5 run(s): 4 finished, 1 to do" in plan.stdout


def test_the_report_has_seeds_delta_floor_and_json(swept):
    folder, _ = swept
    shown = mtlkit(folder / "runs", "report", folder / "runs")
    assert shown.returncode == 0, shown.stderr
    assert "constant (floor)" in shown.stdout and "±" in shown.stdout and "Δ_MTL %" in shown.stdout
    page = (folder / "runs" / "report.html").read_text()
    assert page.count("data:image/png;base64,") >= 4 and "executed notebook" in page
    rows = json.loads(mtlkit(folder / "runs", "report", folder / "runs", "--json").stdout)
    by_name = {row["name"]: row for row in rows}
    assert list(by_name) == ["constant (floor)", "single", "split, dwa"]
    assert by_name["split, dwa"]["seeds"] == [0, 1] and len(by_name["split, dwa"]["delta_mtl"]["values"]) == 2
    assert (
        by_name["single"]["delta_mtl"] is None and by_name["single"]["parameters"] > by_name["split, dwa"]["parameters"]
    )


def test_runs_are_listed_and_removed_after_a_question(tmp_path):
    run = Run.create(recipes.load("rooms-tiny"), "data", root=tmp_path)
    listed = mtlkit(tmp_path, "runs", "list")
    assert listed.returncode == 0 and "new" in listed.stdout and run.folder.name in listed.stdout
    assert mtlkit(tmp_path, "runs", "rm", run.folder, input="n\n").returncode == 0 and run.folder.exists()
    with run.writing():
        busy = mtlkit(tmp_path, "runs", "rm", run.folder, "--yes")
    assert busy.returncode == 2 and "is being written" in busy.stderr and run.folder.exists()
    assert mtlkit(tmp_path, "runs", "rm", run.folder, "--yes").returncode == 0 and not run.folder.exists()


# --- bad input ---


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
def test_bad_input_is_one_line_and_status_2(tmp_path, words, message):
    done = mtlkit(tmp_path / "runs", *words, cwd=tmp_path)
    assert done.returncode == 2
    *before, last = done.stderr.strip().splitlines()
    assert last.startswith("mtlkit: ") and message in last
    assert all("rendering" in line for line in before if line.strip()), "one line, but for a first rendering's bar"
    assert not list(tmp_path.glob("runs/*/*")), "nothing is written"


def test_predict_writes_a_picture_for_every_task_at_the_size_of_the_image(tmp_path, unbroken):
    for name, size in (("wide.png", (120, 50)), ("tall.jpg", (31, 77))):
        Image.new("RGB", size, (90, 120, 60)).save(tmp_path / name)
    done = mtlkit(tmp_path, "predict", unbroken.folder, "wide.png", "tall.jpg", "-o", "out", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    written = sorted(path.name for path in (tmp_path / "out").iterdir())
    assert written == [f"{stem}-{task}.png" for stem in ("tall", "wide") for task in ("depth", "normals", "semantic")]
    assert Image.open(tmp_path / "out" / "wide-depth.png").size == (120, 50)


def test_an_image_that_cannot_be_read_stops_predict_before_it_writes(tmp_path, unbroken):
    Image.new("RGB", (64, 64)).save(tmp_path / "good.png")
    (tmp_path / "cut.png").write_bytes((tmp_path / "good.png").read_bytes()[:60])
    done = mtlkit(tmp_path, "predict", unbroken.folder, "good.png", "cut.png", "-o", "out", cwd=tmp_path)
    assert done.returncode == 2 and "cut.png cannot be read as an image" in done.stderr
    assert not (tmp_path / "out").exists()
