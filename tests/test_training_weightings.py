"""How the loop serves weightings that want more than one weighted sum: several batches, batches in parts, a log of
gradients.
"""

import itertools

import pytest
import torch

from mtlkit import recipes, training
from mtlkit.errors import KitError
from mtlkit.runs import Run

SMALL = {"epochs": 2, "dataset.train": 8, "dataset.test": 2, "batch": 4, "protocols": ["pooled"], "evaluate_every": 2}


def recipe(weighting, **overrides):
    changes = {key.replace("__", "."): value for key, value in overrides.items()}
    return recipes.load("rooms-tiny", SMALL | {"weighting.name": weighting} | changes)


def fit(tmp_path, chosen):
    run = Run(tmp_path / "run")
    run.folder.mkdir()
    (run.folder / "recipe.toml").write_text(chosen.toml())
    return training.fit(chosen, run, device="cpu", progress=False)


def test_the_gradients_of_every_step_are_logged(tmp_path):
    run = fit(tmp_path, recipe("pcgrad"))
    log = run.gradients
    tasks = run.recipe.tasks
    assert set(log.step) == {0, 1, 2, 3}
    first = log[log.step == 0]
    norms = first[first.name == "norm"]
    assert norms.i.tolist() == norms.j.tolist() == tasks and (norms.value > 0).all()
    for name, low, high in (("cosine", -1, 1), ("gms", 0, 1)):
        pairs = first[first.name == name]
        assert list(zip(pairs.i, pairs.j, strict=True)) == list(itertools.combinations(tasks, 2))
        assert pairs.value.between(low, high).all()
    assert first[first.name == "condition"].value.item() >= 1
    assert set(log.name) == {"norm", "cosine", "gms", "condition"}


def test_a_loss_level_run_has_no_log_of_gradients(tmp_path):
    run = fit(tmp_path, recipe("equal", epochs=1))
    assert not (run.folder / "gradients.csv").exists() and run.gradients.empty


def test_several_batches_a_step_are_orders_of_their_own(tmp_path):
    """As many steps as with any other weighting; each of the three batches passes over the whole training set."""
    session = training.Session(recipe("modo"), "cpu", 0, 300.0)
    orders = [[batch["index"].tolist() for batch in session.batches(k)] for k in range(3)]
    assert all(sorted(itertools.chain(*order)) == list(range(8)) for order in orders)
    assert len({str(order) for order in orders}) == 3
    plain = training.Session(recipe("equal"), "cpu", 0, 300.0)
    assert [batch["index"].tolist() for batch in plain.batches()] == orders[0]
    run = fit(tmp_path, recipe("modo"))
    assert run.result["steps"] == 4


def test_a_batch_in_parts_is_one_step_of_its_loss(tmp_path):
    """Without batch statistics to differ, two parts take the step of the whole batch."""
    changes = {"epochs": 1, "dataset__train": 4}
    sessions = []
    for parts in (1, 2):
        session = training.Session(recipe("uncertainty", accumulate=parts, **changes), "cpu", 0, 300.0)
        session.model.eval()
        log = training.session.StepLog(Run(tmp_path), session.step_ended, torch.device("cpu"))
        (batch,) = session.batches()
        session.train_step([batch], session.tasks, log)
        sessions.append(session)
    whole, summed = sessions
    for name in whole.sums:
        assert whole.sums[name][0] == pytest.approx(summed.sums[name][0], rel=0.05)  # pixels without a target move it
    a, b = (torch.cat([p.grad.flatten() for p in s.model.parameters() if p.grad is not None]) for s in sessions)
    assert float(torch.cosine_similarity(a, b, dim=0)) > 0.99


def test_parts_train_to_the_end_and_are_part_of_the_id(tmp_path):
    run = fit(tmp_path, recipe("pcgrad", accumulate=2))
    assert run.finished and run.result["steps"] == 4
    assert recipe("pcgrad", accumulate=2).identity("d") != recipe("pcgrad").identity("d")
    assert "accumulate" not in recipe("pcgrad").canonical()


@pytest.mark.parametrize("weighting", ["famo", "mgda-ub", "gradnorm", "si"])
def test_what_looks_at_a_whole_batch_refuses_parts(weighting):
    chosen = recipe(weighting, accumulate=2)
    with pytest.raises(KitError, match=f"'{weighting}' looks at whole batches, found accumulate = 2; set 1"):
        training.check(chosen, training.load_data(chosen)[0])


def test_a_weighting_that_the_network_cannot_serve_is_refused_before_training():
    chosen = recipe("mgda-ub", architecture__name="mtan")
    with pytest.raises(KitError, match=r"set at = 'parameters'"):
        training.check(chosen, training.load_data(chosen)[0])
