"""One set of predictions, one table for each protocol."""

import pytest
import torch

from mtlkit import evaluation, metrics, recipes, training
from mtlkit.errors import KitError
from mtlkit.runs import Run


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    recipe = recipes.load("rooms-tiny", {"epochs": 1, "dataset.train": 8, "dataset.test": 5, "batch": 2})
    made = Run.create(recipe, "data", root=tmp_path_factory.mktemp("evaluation"))
    return training.fit(recipe, made, device="cpu", progress=False)


def test_every_protocol_from_one_set_of_predictions(run, monkeypatch):
    calls = []
    model = run.model()
    monkeypatch.setattr(Run, "model", lambda self, which: model)
    model.register_forward_hook(lambda *call: calls.append(1))
    protocols = [name for name in metrics.PROTOCOLS if name != "edgeai"]  # which does not know normals
    table = evaluation.side_by_side(run, protocols, progress=False)
    assert len(calls) == 3, "five images in batches of two, once"
    assert list(table.columns) == protocols == evaluation.measuring(model.tasks) and len(table) == 12
    assert table.pooled.dropna().to_dict() == pytest.approx(run.result["metrics"]["pooled"], rel=1e-5)
    assert table.loc["depth/abs_err", "mtan"] != table.loc["depth/abs_err", "pooled"], "the last batch is smaller"


def test_what_is_not_there_is_named(run):
    with pytest.raises(KitError, match="unknown protocol 'mtann': did you mean 'mtan'"):
        evaluation.side_by_side(run, ["mtann"], progress=False)
    with pytest.raises(KitError, match="unknown split 'tets': did you mean 'test'"):
        evaluation.side_by_side(run, ["pooled"], split="tets", progress=False)
    with pytest.raises(KitError, match="best.pt does not exist"):
        evaluation.side_by_side(run, ["pooled"], which="best", progress=False)


def test_the_floor_is_what_a_constant_network_scores(run):
    """The rows of ``floor`` are those of ``measure`` for a model that always answers with the best constant."""
    recipe = run.recipe
    train, held_out = training.load_data(recipe)
    chosen = training.check(recipe, train)
    constants = {t.name: t.constant([train[i][t.name][None] for i in range(len(train))]) for t in chosen}

    class Constant(torch.nn.Module):
        inputs = ("image",)

        def forward(self, inputs, names):
            b, _, h, w = inputs["image"].shape
            return {name: constants[name].view(1, -1, 1, 1).expand(b, -1, h, w) for name in names}

    data = list(evaluation.batches(held_out, ["image", *(t.name for t in chosen)], recipe))
    measured = [row for row in evaluation.measure(Constant(), chosen, data, ["pooled"]) if row[2]]
    assert evaluation.floor(train, chosen, data, ["pooled"]) == measured
