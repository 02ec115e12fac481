"""Every weighting, killed with SIGKILL in the middle of an epoch and started again, ends as one never stopped: the same
bytes in its logs, the same parameters.
"""

import pytest
import torch
from test_resume import train

from mtlkit.runs import Run
from mtlkit.weighting import WEIGHTINGS

SMALL = {"epochs": 3, "dataset.train": 4, "dataset.test": 2, "batch": 2, "protocols": ["pooled"], "evaluate_every": 3}
OPTIONS = {"stch": {"warmup_epochs": 1}}  # so that every phase is met


@pytest.mark.parametrize("name", WEIGHTINGS)
def test_a_killed_run_of_every_weighting_ends_as_an_unbroken_one(tmp_path, name):
    overrides = SMALL | {"weighting.name": name}
    overrides |= {f"weighting.{option}": value for option, value in OPTIONS.get(name, {}).items()}
    whole, broken = Run(tmp_path / "whole"), Run(tmp_path / "broken")
    assert train(whole.folder, overrides=overrides) == 0
    assert train(broken.folder, kill=("after the update", 5), overrides=overrides) != 0
    assert broken.state == "killed" and train(broken.folder, overrides=overrides) == 0
    for log in ("metrics.csv", "weights.csv", "gradients.csv"):
        first, second = ((run.folder / log) for run in (whole, broken))
        assert first.exists() == second.exists()
        assert not first.exists() or first.read_bytes() == second.read_bytes(), log
    a, b = (run.load()["model"] for run in (whole, broken))
    assert all(torch.equal(a[key], b[key]) for key in a)
