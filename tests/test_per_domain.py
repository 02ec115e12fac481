"""The loop per_domain: whose batches, in which order and phase, by which statistics, and that it resumes exactly."""

import pytest
import torch
from torch import nn

from mtlkit import datasets, evaluation, recipes, statistics, training
from mtlkit.datasets.visual_decathlon import VisualDecathlon
from mtlkit.errors import KitError
from mtlkit.runs import Run

RECIPE = {
    "name": "looks",
    "loop": "per_domain",
    "tasks": ["plain", "negative"],
    "dataset": {"name": "digits-domains", "domains": ["plain", "negative"]},
    "architecture": {"name": "wrn_shared", "depth": 10, "width": 0.125},
    "optimiser": {"name": "sgd", "lr": 0.1, "momentum": 0.9},
    "normalise": "domain",
    "epochs": 2,
    "batch": 128,
}
STEPS = 2 * 10  # in an epoch: 1157 digits of each look


def recipe(**changes):
    return recipes.make(RECIPE | changes)


def train(chosen, folder, **options):
    run = Run(folder)
    run.folder.mkdir(exist_ok=True)
    (run.folder / "recipe.toml").write_text(chosen.toml())
    return training.fit(chosen, run, device="cpu", progress=False, **options)


def session(**changes):
    return training.open_session(recipe(**changes), "cpu")


def domains_of(found, chunks):
    """The domain of every batch; each has but one."""
    where = {i: name for name, indices in found.train_data.indices.items() for i in indices}
    each = [{where[i] for i in chunk} for chunk in chunks]
    assert all(len(names) == 1 for names in each)
    return [names.pop() for names in each]


def test_an_epoch_passes_through_every_domain_once():
    one = session()
    in_order, again = one.chunks(0), session().chunks(0)
    assert in_order == again
    assert domains_of(one, in_order) == ["plain"] * 10 + ["negative"] * 10 and one.steps(0) == STEPS
    assert sorted(i for chunk in in_order for i in chunk) == list(range(len(one.train_data)))
    mixed = session(order="interleaved").chunks(0)
    assert sorted(mixed) == sorted(in_order)
    assert domains_of(one, mixed) not in (domains_of(one, in_order), domains_of(one, in_order[::-1]))
    one.epoch = 1
    assert one.chunks(0) != in_order


def test_a_phase_trains_its_tasks_with_a_fresh_optimiser(tmp_path, monkeypatch):
    phases = [{"epochs": 1}, {"epochs": 1, "lr": 0.01, "tasks": ["negative"]}]
    seen = []

    def note(self, batches, present, log):
        momenta = [s.get("momentum_buffer") for s in self.optimizer.state.values()]
        seen.append((self.epoch, [t.name for t in present], self.optimizer.param_groups[0]["lr"], len(momenta)))
        return step(self, batches, present, log)

    step = training.Session.train_step
    monkeypatch.setattr(training.LOOPS["per_domain"], "train_step", note)
    run = train(recipe(phases=phases, statistics="refresh"), tmp_path / "run")
    second = [entry for entry in seen if entry[0] == 1]
    assert len(second) == 10 and all(tasks == ["negative"] for _, tasks, _, _ in second)
    assert {lr for _, _, lr, _ in second} == {0.01}
    assert second[0][3] == 0 and second[1][3] > 0  # the momentum of the first phase is gone
    assert evaluation.side_by_side(run, progress=False).pooled.to_dict() == run.result["metrics"]["pooled"]
    assert run.result["steps"] == STEPS + 10 and set(run.result["metrics"]["pooled"]) == {
        "plain/accuracy", "negative/accuracy",
    }  # fmt: skip


def test_a_run_stopped_inside_a_domain_ends_as_an_unbroken_one(tmp_path, interrupted):
    phases = [{"epochs": 1}, {"epochs": 1, "lr": 0.05}]
    chosen = recipe(order="interleaved", evaluate_every=2, statistics="refresh", phases=phases)
    whole = train(chosen, tmp_path / "whole")
    interrupted(7, STEPS + 13)
    for _ in range(2):
        with pytest.raises(KeyboardInterrupt):
            train(chosen, tmp_path / "broken", checkpoint_seconds=0.0)
    broken = train(chosen, tmp_path / "broken", checkpoint_seconds=0.0)
    assert (broken.folder / "metrics.csv").read_bytes() == (whole.folder / "metrics.csv").read_bytes()
    assert (broken.folder / "weights.csv").read_bytes() == (whole.folder / "weights.csv").read_bytes()
    for name, value in whole.model().state_dict().items():
        assert torch.equal(value, broken.model().state_dict()[name]), name


def test_refreshed_statistics_are_the_means_over_the_batches_and_leave_no_trace():
    one = session()
    model, task = one.model, one.tasks[0]
    before = {name: value.clone() for name, value in model.state_dict().items()}
    batches = list(evaluation.glimpse(one.train_data, task.name, one.fields(), one.recipe))[:3]
    conv, norm = nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4)
    expected = [conv(batch["image"]).mean((0, 2, 3)) for batch in batches]

    class Small(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv, self.norm = conv, norm

        def forward(self, batch, tasks):
            assert tasks == ["plain"]
            return self.norm(self.conv(batch["image"]))

    with statistics.refreshed(Small(), batches, ["plain"]):
        assert torch.allclose(norm.running_mean, torch.stack(expected).mean(0), atol=1e-6)
        assert not norm.training and norm.momentum == 0.1
    assert torch.equal(norm.running_mean, torch.zeros(4))
    for statistic in ("refresh", "train"):
        again = session(statistics=statistic)
        again.measure(again.held_out)
        for name, value in again.model.state_dict().items():
            assert torch.equal(value, before[name]), (statistic, name)
        assert all(group["lr"] == 0.1 for group in again.optimizer.param_groups) and not again.optimizer.state


def test_training_once_more_is_an_epoch_on_the_domain_that_is_measured():
    one = session(statistics="train")
    task = one.tasks[1]
    before = [p.clone() for p in one.model.parameters()]
    with one.ready_for(task, one.held_out):
        moved = {id(p) for p, old in zip(one.model.parameters(), before, strict=True) if not torch.equal(p, old)}
        assert moved >= {id(p) for p in one.model.task_parameters("negative")}
        assert not moved & {id(p) for p in one.model.task_parameters("plain")}
    assert all(torch.equal(p, old) for p, old in zip(one.model.parameters(), before, strict=True))


def test_where_the_labels_of_test_are_not_public_validation_is_the_result(tmp_path):
    VisualDecathlon.write_sample(tmp_path / "data")
    data = {"name": "visual-decathlon", "root": str(tmp_path / "data"), "domains": ["dtd", "svhn"]}
    options = {"tasks": ["dtd", "svhn"], "dataset": data, "batch": 2, "epochs": 1}
    with pytest.raises(KitError, match="set evaluate_on = 'validation'"):
        training.load_data(recipe(**options))
    run = train(recipe(evaluate_on="validation", **options), tmp_path / "run")
    assert run.result["split"] == "validation" and set(run.metrics.split) == {"train", "validation"}
    assert run.result["metrics"]["pooled"].keys() == {"dtd/accuracy", "svhn/accuracy"}


def test_what_the_loop_cannot_have_is_refused_in_a_line():
    for changes, expected in (
        ({"weighting": {"name": "dwa"}}, "weighting is equal"),
        ({"epochs": 3, "phases": [{"epochs": 1}]}, "sum over phases, 1, found 3"),
        ({"phases": [{"epochs": 2, "tasks": ["striped"]}]}, "'striped'"),
        ({"phases": [{"epochs": 2, "lrr": 1.0}]}, "unknown key 'phases.0.lrr'"),
        ({"loop": "joint", "statistics": "refresh"}, "are of loop 'per_domain', found 'joint'"),
    ):
        with pytest.raises(KitError, match=expected):
            recipe(**changes)
    small = recipe(batch=2000, drop_last=True)
    with pytest.raises(KitError, match="1157 training samples of plain make no batch of 2000"):
        training.check(small, training.load_data(small)[0])
    pairs = recipe(tasks=["left"], dataset={"name": "digits"})
    with pytest.raises(KitError, match="no domain 'left' in 'digits'"):
        training.check(pairs, datasets.build("digits", "train"))
