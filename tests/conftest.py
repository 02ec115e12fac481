"""One thread, no display, runs in a folder of the test's own."""

import os
import shutil
import sys
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("MPLBACKEND", "Agg")

import pytest  # noqa: E402
import torch  # noqa: E402

torch.set_num_threads(1)


@pytest.fixture(autouse=True)
def runs_dir(tmp_path, monkeypatch):
    """Nothing a test trains is left in the checkout."""
    monkeypatch.setenv("MTLKIT_RUNS", str(tmp_path / "runs"))
    return tmp_path / "runs"


@pytest.fixture
def mtlkit(tmp_path, monkeypatch, capsys):
    """The command line in a folder of the test's own: words -> status, standard output, standard error."""
    from mtlkit import cli

    monkeypatch.setenv("MTLKIT_DATA", str(tmp_path / "data"))
    monkeypatch.chdir(tmp_path)

    def command(*words):
        monkeypatch.setattr(sys, "argv", ["mtlkit", *map(str, words)])
        capsys.readouterr()
        with pytest.raises(SystemExit) as end:
            cli.main()
        return end.value.code, *capsys.readouterr()

    return command


@pytest.fixture
def root(made, tmp_path):
    """A copy of the sample that a module has ``made``, to damage."""
    return Path(shutil.copytree(made, tmp_path / "copy"))


@pytest.fixture
def interrupted(monkeypatch):
    """Steps -> training stops as by Ctrl-C when each of them has ended."""
    from mtlkit import training

    def stop_at(*steps):
        ended, left = training.Session.step_ended, list(steps)

        def stop(self, step, losses):
            ended(self, step, losses)
            if left and step == left[0]:
                left.pop(0)
                raise KeyboardInterrupt

        monkeypatch.setattr(training.Session, "step_ended", stop)

    return stop_at
