"""The training loop: what it writes, what stops it, what does not change its numbers."""

import json
import pickle

import pandas as pd
import pytest
import torch

from mtlkit import datasets, evaluation, optimisers, recipes, training, transforms
from mtlkit.errors import KitError
from mtlkit.runs import METRICS, Run, find, load_run

SMALL = {"epochs": 3, "dataset.train": 12, "dataset.test": 4, "batch": 4}


def fit(tmp_path, name="run", **overrides):
    recipe = recipes.load("rooms-tiny", SMALL | {key.replace("__", "."): value for key, value in overrides.items()})
    run = Run(tmp_path / name)
    run.folder.mkdir()
    (run.folder / "recipe.toml").write_text(recipe.toml())
    return training.fit(recipe, run, device="cpu", progress=False)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return fit(tmp_path_factory.mktemp("training"))


def test_the_history_is_tidy_and_complete(run):
    history = run.metrics
    assert tuple(history.columns) == METRICS
    assert set(history.epoch) == {0, 1, 2} and set(history.split) == {"train", "test"}
    pooled = history[(history.protocol == "pooled") & (history.epoch == 2)]
    assert len(pooled) == 9 and not history.duplicated(list(METRICS[:-1])).any()


def test_the_weights_of_every_step_are_logged(run):
    weights = run.weights
    assert len(weights) == 3 * 3 * 3  # steps per epoch, epochs, tasks
    assert (weights[weights.step < 6].weight == 1).all()  # DWA is equal for two epochs
    last = weights[weights.step == 8].weight
    assert last.sum() == pytest.approx(3, abs=1e-5) and (last != 1).any()


def test_dwa_sees_the_mean_unweighted_training_losses(run):
    losses = run.metrics.query("split == 'train' and metric == 'loss'").pivot(
        index="epoch", columns="task", values="value"
    )
    rates = torch.tensor((losses.loc[1] / losses.loc[0]).to_numpy())
    expected = dict(zip(losses.columns, (3 * torch.softmax(rates / 2.0, 0)).tolist(), strict=True))
    logged = run.weights[run.weights.step == 8].set_index("task").weight
    assert logged.to_dict() == pytest.approx(expected, abs=1e-6)


def test_the_result_holds_final_metrics_floor_and_cost(run):
    result = run.result
    final = run.metrics.query("epoch == 2 and protocol == 'pooled'")
    for row in final.itertuples():
        assert result["metrics"]["pooled"][f"{row.task}/{row.metric}"] == row.value
    assert set(result["floor"]["pooled"]) == set(result["metrics"]["pooled"])
    assert result["parameters"] == sum(p.numel() for p in run.model().parameters())
    assert result["macs"] > 0 and result["steps"] == 9 and result["seconds"] > 0
    json.loads((run.folder / "result.json").read_text(), parse_constant=lambda name: pytest.fail(f"{name} is not JSON"))


def test_tensorboard_has_the_same_numbers(run):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    board = EventAccumulator(str(run.folder / "tensorboard"))
    board.Reload()
    events = {event.step: event.value for event in board.Scalars("test/depth/abs_err/pooled")}
    history = run.metrics.query("metric == 'abs_err' and protocol == 'pooled'").set_index("epoch").value
    assert events == pytest.approx(history.to_dict(), rel=1e-6)


def test_the_saved_model_gives_the_logged_metrics(run):
    model, recipe = run.model(), run.recipe
    held_out = datasets.build(recipe.dataset.name, "test", **recipe.dataset.options)
    (depth,) = [task for task in model.tasks if task.name == "depth"]
    meter = depth.metrics("pooled")
    with torch.no_grad():
        for sample in held_out:
            prediction = depth.predict(model(sample["image"][None])["depth"])
            meter.update(prediction, sample["depth"][None])
    assert float(meter.compute()["abs_err"]) == pytest.approx(
        run.result["metrics"]["pooled"]["depth/abs_err"], rel=1e-4
    )


def test_the_same_recipe_twice_gives_the_same_bytes(run, tmp_path):
    again = fit(tmp_path)
    for name in ("metrics.csv", "weights.csv"):
        assert (again.folder / name).read_bytes() == (run.folder / name).read_bytes()


def test_another_seed_gives_other_numbers(run, tmp_path):
    assert fit(tmp_path, seed=1).metrics.value.tolist() != run.metrics.value.tolist()


def test_loading_in_worker_processes_changes_nothing(run, tmp_path):
    recipe = recipes.load("rooms-tiny", SMALL)
    other = Run(tmp_path / "run")
    other.folder.mkdir()
    training.fit(recipe, other, device="cpu", workers=1, progress=False)
    assert (other.folder / "metrics.csv").read_bytes() == (run.folder / "metrics.csv").read_bytes()


def test_the_data_can_be_sent_to_a_process_that_was_not_forked():
    """As on macOS and Windows, where loading processes start empty."""
    recipe = recipes.load("rooms-tiny", SMALL)
    data, _ = training.load_data(recipe)
    view = evaluation.View(data, ["image", "depth", "index"], recipe, 0)
    twin = pickle.loads(pickle.dumps(view))
    assert all(torch.equal(twin[3][key], view[3][key]) for key in view[3])


def test_augmentation_depends_on_seed_epoch_and_index_alone():
    recipe = recipes.load("rooms-tiny", SMALL)
    data, _ = training.load_data(recipe)

    def epoch(number, order):
        view = evaluation.View(data, ["image", "normals", "index"], recipe, number)
        return {i: view[i]["image"] for i in order}

    first, backwards, later = epoch(0, range(12)), epoch(0, reversed(range(12))), epoch(1, range(12))
    assert all(torch.equal(first[i], backwards[i]) for i in range(12))
    assert any(not torch.equal(first[i], later[i]) for i in range(12))


def test_loading_leaves_the_random_state_of_the_network_alone():
    """Dropout in a resumed epoch must see the numbers that it would have seen."""
    session = training.Session(recipes.load("rooms-tiny", SMALL), "cpu", 0, 300.0)
    before = torch.get_rng_state()
    list(session.batches())
    assert torch.equal(before, torch.get_rng_state())


def test_a_flip_turns_normals_and_flow():
    sample = {
        "image": torch.rand(3, 4, 6),
        "normals": torch.tensor([0.6, 0.0, -0.8]).view(3, 1, 1).expand(3, 4, 6),
        "flow": torch.tensor([2.0, 1.0, 0.5]).view(3, 1, 1).expand(3, 4, 6),
        "index": torch.tensor(3),
    }
    flipped = transforms.horizontal_flip(sample)
    assert flipped["normals"][:, 0, 0].tolist() == pytest.approx([-0.6, 0.0, -0.8])
    assert flipped["flow"][:, 0, 0].tolist() == [-2.0, 1.0, 0.5]
    again = transforms.horizontal_flip(flipped)
    assert all(torch.equal(again[key], sample[key]) for key in sample)


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_a_loss_that_is_not_finite_stops_the_run_and_is_named(tmp_path, monkeypatch, bad):
    original, calls = torch.optim.Adam.step, iter(range(100))

    def poisoned(optimizer, *args, **kwargs):
        result = original(optimizer, *args, **kwargs)
        if next(calls) == 3:  # the update of step 3, so the loss of step 4
            depth_head = optimizer.param_groups[1]["params"][6]
            depth_head.data.fill_(bad)
        return result

    monkeypatch.setattr(torch.optim.Adam, "step", poisoned)
    with pytest.raises(training.NonFiniteLoss) as caught:
        fit(tmp_path)
    message = str(caught.value)
    assert "task 'depth'" in message and "step 4 (epoch 1)" in message and "recipe 'rooms-tiny'" in message
    stopped = Run(tmp_path / "run")
    assert stopped.state == "failed" and "NonFiniteLoss" in stopped.status["error"]
    kept = torch.load(stopped.folder / "checkpoint.pt", weights_only=True)
    assert kept["epoch"] == 1 and all(value.isfinite().all() for value in kept["model"].values())


def test_best_is_the_best_epoch(tmp_path):
    run = fit(tmp_path, select="depth/abs_err", epochs=4)
    history = run.metrics.query("metric == 'abs_err' and protocol == 'pooled'").set_index("epoch").value
    best = torch.load(run.folder / "best.pt", weights_only=True)
    assert best["epoch"] == history.idxmin() and best["value"] == history.min()
    assert run.result["selected"] == {"metric": "depth/abs_err", "value": history.min(), "split": "test"}


def test_the_best_epoch_by_loss_is_that_of_the_smallest_sum(tmp_path):
    run = fit(tmp_path, select="loss", epochs=4)
    losses = run.metrics.query("metric == 'loss' and split == 'test'").groupby("epoch").value.sum()
    assert run.result["epochs"] == [losses.idxmin()]
    assert run.result["selected"]["value"] == pytest.approx(losses.min())


def test_an_epoch_without_a_value_is_not_the_best(tmp_path, monkeypatch):
    """The mean IoU of ``mtan`` is NaN where a class is absent; so may be that of the first epoch alone."""
    original, calls = training.session.evaluation.measure, iter([float("nan"), 2.0, 1.0])

    def measure(*args, **kwargs):
        rows, value = original(*args, **kwargs), next(calls)
        return [[*row[:3], value if row[:2] == ["depth", "abs_err"] else row[3]] for row in rows]

    monkeypatch.setattr(training.session.evaluation, "measure", measure)
    run = fit(tmp_path, select="depth/abs_err")
    assert run.result["epochs"] == [2] and run.result["selected"]["value"] == 1.0


@pytest.mark.parametrize("select", ["", "depth/abs_err"])
def test_nothing_is_chosen_on_the_test_split_when_validation_is_there(tmp_path, select):
    run = fit(tmp_path, evaluate_on="validation", dataset__validation=4, select=select)
    history = run.metrics
    assert set(history[history.split == "validation"].epoch) == {0, 1, 2}
    measured = history[(history.split == "test") & (history.protocol == "pooled")]
    epoch = torch.load(run.folder / "best.pt", weights_only=True)["epoch"] if select else 2
    assert set(measured.epoch) == {epoch}, "once, at the end"
    assert run.result["metrics"]["pooled"] == {f"{row.task}/{row.metric}": row.value for row in measured.itertuples()}
    table = evaluation.side_by_side(run, ["pooled"], "best" if select else "checkpoint", progress=False)
    assert table["pooled"].to_dict() == pytest.approx(run.result["metrics"]["pooled"], rel=1e-5)
    if select:
        assert run.result["selected"]["split"] == "validation" and run.result["epochs"] == [epoch]


def test_the_result_is_the_mean_over_the_last_epochs(tmp_path):
    run = fit(tmp_path, average_last=2)
    last = run.metrics.query("epoch >= 1 and protocol == 'pooled' and split == 'test'")
    means = last.groupby(["task", "metric"]).value.mean()
    assert run.result["epochs"] == [1, 2]
    for (task, metric), value in means.items():
        assert run.result["metrics"]["pooled"][f"{task}/{metric}"] == pytest.approx(value)


def test_a_mean_over_epochs_and_a_choice_exclude_each_other(tmp_path):
    with pytest.raises(KitError, match="average_last is a mean over evaluations of the test split"):
        fit(tmp_path, average_last=2, select="depth/abs_err")


def test_snapshots_are_the_parameters_of_their_epochs(tmp_path):
    run = fit(tmp_path, keep_every=2)
    assert run.snapshots() == [1, 2], "every second epoch, and the last"
    first, last, end = (run.model(which).state_dict() for which in ("epoch-0001", "epoch-0002", "checkpoint"))
    assert all(torch.equal(last[key], end[key]) for key in end) and any(not torch.equal(first[k], end[k]) for k in end)
    with pytest.raises(KitError, match=r"epoch-0007.pt does not exist; .* has \['checkpoint', 'epoch-0001'"):
        run.model("epoch-0007")


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        (
            {"architecture": {"name": "split", "backbone": "resnet50-deeplabv3", "width": 0.05}, "dataset.train": 13},
            "13 training samples in batches of 4 leave a last one of 1; set drop_last=true",
        ),
        ({"select": "depth/abs_er"}, "is no metric of this run: did you mean 'depth/abs_err'"),
        ({"tasks": ["depht"]}, "unknown task 'depht': did you mean 'depth'"),
        ({"tasks": ["depth", "depth"]}, "named twice"),
        ({"batch": 64, "drop_last": True}, "12 training samples make no batch of 64"),
        ({"optimiser.multipliers": {"attention": 2.0}}, "group 'attention', which has no parameters; groups:"),
    ],
)
def test_what_a_recipe_cannot_have_is_refused(tmp_path, overrides, words):
    with pytest.raises(KitError, match=words):
        fit(tmp_path, **{key.replace(".", "__"): value for key, value in overrides.items()})


def test_multipliers_scale_the_learning_rate_of_their_group(tmp_path):
    frozen = fit(tmp_path, optimiser__multipliers={"backbone": 0.0}, optimiser__name="sgd", epochs=1)
    recipe = frozen.recipe
    session = training.Session(recipe, "cpu", 0, 300.0)  # the start parameters of the same seed
    trained = frozen.model()
    for group, moved in (("backbone", False), ("heads", True)):
        pairs = zip(session.model.parameter_groups()[group], trained.parameter_groups()[group], strict=True)
        assert any(not torch.equal(a, b) for a, b in pairs) == moved


def test_mixed_precision_trains(tmp_path):
    assert fit(tmp_path, precision="bf16-mixed", epochs=1).finished


@pytest.mark.parametrize(("name", "expected"), [("constant", 1.0), ("step", 0.25), ("poly", 0.5), ("cosine", 0.5)])
def test_schedules(name, expected):
    schedule = recipes.Schedule(name=name, every=2, factor=0.5, power=1.0)
    assert optimisers.schedule_factor(schedule, 5, 10) == pytest.approx(expected)


# --- folders ---


def test_find_and_load(run, tmp_path):
    assert [found.folder for found in find([run.folder.parent])] == [run.folder.resolve()]
    assert load_run(run.folder).finished
    with pytest.raises(KitError, match="is no run folder"):
        load_run(tmp_path)
    with pytest.raises(KitError, match="does not exist"):
        find([tmp_path / "nowhere"])


def test_a_run_without_a_result_says_so(tmp_path):
    run = Run.create(recipes.load("rooms-tiny"), "data", root=tmp_path)
    assert run.state == "new" and not run.finished and isinstance(run.metrics, pd.DataFrame) and run.metrics.empty
    with pytest.raises(KitError, match="has no result.json, its state is 'new'"):
        run.result  # noqa: B018
