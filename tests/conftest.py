"""One thread, no display, runs in a folder of the test's own."""

import os
import shutil
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
def root(made, tmp_path):
    """A copy of the sample that a module has ``made``, to damage."""
    return Path(shutil.copytree(made, tmp_path / "copy"))
