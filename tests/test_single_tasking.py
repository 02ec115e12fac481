"""The loop single_tasking: a step for each task of a batch, and nothing of another task is touched."""

import pytest
import torch

from mtlkit import optimisers, recipes, training
from mtlkit.errors import KitError
from mtlkit.layers import adversarial
from mtlkit.recipes import Schedule
from mtlkit.runs import Run

SMALL = {
    "dataset.family": "rooms", "dataset.fields": ["image", "semantic", "depth", "edges"], "dataset.height": 32,
    "dataset.train": 6, "dataset.test": 2, "tasks": ["semantic", "depth", "edges"], "losses": {"depth": "astmt"},
    "weighting.constants": {"edges": 50.0}, "optimiser.multipliers": {"tasks": 3, "discriminator": 10},
    "batch": 2, "protocols": ["pooled"], "augmentation.name": "none", "evaluate_every": 2,
}  # fmt: skip


def recipe(**changes):
    return recipes.load("astmt-tiny", SMALL | {key.replace("__", "."): value for key, value in changes.items()})


def session(**changes):
    return training.open_session(recipe(**changes), "cpu")


def train(chosen, folder, **options):
    run = Run(folder)
    run.folder.mkdir(exist_ok=True)
    (run.folder / "recipe.toml").write_text(chosen.toml())
    return training.fit(chosen, run, device="cpu", progress=False, **options)


class Log:
    def __init__(self):
        self.steps = []

    def add(self, number, step):
        self.steps.append(step)


def one_batch(found):
    return next(iter(found.batches()))


def test_a_batch_is_a_step_for_each_task_in_turn():
    found, log = session(adversarial__weight=0.0), Log()
    batch, model = one_batch(found), found.model
    found.model.train()
    start = {name: value.clone() for name, value in model.state_dict().items()}
    found.train_step([batch], found.tasks, log)
    ours = {name: value.clone() for name, value in model.state_dict().items()}

    model.load_state_dict(start)
    rates = [(p, group["lr"]) for group in found.optimizer.param_groups for p in group["params"]]
    momenta = {}
    for task in found.tasks:
        model.zero_grad(set_to_none=True)
        loss = task.loss(model(batch["image"], [task.name])[task.name], batch[task.name])
        assert torch.equal(log.steps[0].losses[task.name], loss.detach())
        ((50 if task.name == "edges" else 1) * loss).backward()
        with torch.no_grad():
            for parameter, lr in rates:
                if parameter.grad is not None:
                    step = parameter.grad + 1e-4 * parameter
                    momenta[parameter] = 0.9 * momenta[parameter] + step if parameter in momenta else step
                    parameter -= lr * momenta[parameter]
    for name, value in model.state_dict().items():
        assert torch.allclose(value, ours[name], rtol=1e-3, atol=1e-5), (name, (value - ours[name]).abs().max())


def test_what_is_another_tasks_own_stays_as_it_is_under_momentum_and_decay():
    found = session()
    batch = one_batch(found)
    found.model.train()
    found.train_step([batch], found.tasks, Log())  # now every parameter has momentum
    own = {task.name: found.model.task_parameters(task.name) for task in found.tasks}
    before = {name: [p.clone() for p in parameters] for name, parameters in own.items()}
    shared = [p.clone() for p in found.model.shared_parameters()]
    found.train_step([batch], [found.tasks[1]], Log())
    for name, parameters in own.items():
        moved = [not torch.equal(p, old) for p, old in zip(parameters, before[name], strict=True)]
        assert any(moved) if name == "depth" else not any(moved)
    assert any(not torch.equal(p, old) for p, old in zip(found.model.shared_parameters(), shared, strict=True))


def test_a_task_ignored_everywhere_in_a_batch_is_passed_over(tmp_path, monkeypatch):
    turns = []
    losses = training.SingleTasking.losses

    def note(self, batch, task, weight):
        turns.append(task.name)
        return losses(self, batch, task, weight)

    monkeypatch.setattr(training.SingleTasking, "losses", note)
    found = session()
    batches = [batch | {"depth": torch.zeros_like(batch["depth"])} for batch in found.batches()]
    monkeypatch.setattr(training.SingleTasking, "batches", lambda self, k=0: iter(batches))
    train(recipe(epochs=1), tmp_path / "run")
    assert turns == ["semantic", "edges"] * 3


def test_the_discriminator_takes_its_share_and_is_noted(tmp_path):
    found = session(adversarial__weight=0.25)
    batch, task = one_batch(found), found.tasks[2]
    found.model.train()
    loss, total, noted = found.losses(batch, task, 50.0)
    assert torch.isclose(total, 0.75 * 50 * loss + 0.25 * noted["adversarial_loss"])
    assert found.alpha() == adversarial.ganin(0, 2)
    assert session(adversarial__reversal="constant").alpha() == 1.0
    rows = train(recipe(), tmp_path / "run").gradients
    assert set(rows.name) == {"adversarial_loss", "adversarial_accuracy"} and len(rows) == 2 * 3 * 3 * 2
    assert rows[rows.name == "adversarial_accuracy"].value.between(0, 1).all()


def test_a_run_stopped_in_an_epoch_ends_as_an_unbroken_one(tmp_path, interrupted):
    chosen = recipe(schedule__name="astmt-released", tasks=["semantic", "depth"], weighting__constants={"depth": 2.0})
    whole = train(chosen, tmp_path / "whole")
    interrupted(1, 4)
    for _ in range(2):
        with pytest.raises(KeyboardInterrupt):
            train(chosen, tmp_path / "broken", checkpoint_seconds=0.0)
    broken = train(chosen, tmp_path / "broken", checkpoint_seconds=0.0)
    for name in ("metrics.csv", "weights.csv", "gradients.csv"):
        assert (broken.folder / name).read_bytes() == (whole.folder / name).read_bytes()
    for name, value in whole.model().state_dict().items():
        assert torch.equal(value, broken.model().state_dict()[name]), name


def test_the_schedules_are_those_that_were_meant_and_released():
    meant = [optimisers.schedule_factor(Schedule(name="astmt"), epoch, 60) for epoch in (0, 1, 2, 59)]
    assert meant == pytest.approx([1, 1, (59 / 60) ** 0.9, (2 / 60) ** 0.9])
    assert {optimisers.schedule_factor(Schedule(name="astmt-released"), e, 60) for e in range(60)} == {1.0}
    for name, forgets in (("astmt", False), ("astmt-released", True)):
        found = session(schedule__name=name)
        found.model.train()
        found.train_step([one_batch(found)], found.tasks, Log())
        optimisers.begin_epoch(found.optimizer, found.recipe, 1, resumed=True)
        assert found.optimizer.state
        optimisers.begin_epoch(found.optimizer, found.recipe, 1)
        assert (not found.optimizer.state) is forgets


def test_another_weighting_is_refused():
    with pytest.raises(KitError, match="loop 'single_tasking' trains one task in a step: weighting is equal"):
        recipe(weighting__name="dwa")
