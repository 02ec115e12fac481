"""How the two-stream network of edgeai is trained and measured: the numbers of its released code, what is corrected,
and runs of it.
"""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.autograd import gradcheck

from mtlkit import datasets, evaluation, losses, metrics, optimisers, recipes, report, tasks, training
from mtlkit.datasets import flow
from mtlkit.errors import KitError
from mtlkit.recipes import Schedule
from mtlkit.runs import Run
from mtlkit.transforms import NORMALISATIONS, normalised, ti

DEPTH = tasks.depth(streets=True)
WEIGHTS = losses.EDGEAI_WEIGHTS[2]

# the worked example of the released code
TRUTH = torch.tensor([0, 1, 2.5, 3, 3.5, 10, 50, 100]).view(1, 1, 1, 8)
GUESS = torch.tensor([5.0, 2, 2, 4, 4, 8, 60, -120]).view(1, 1, 1, 8)
LOGITS = torch.tensor([[2, 0.5], [0, 1], [1, 1]]).T.reshape(1, 2, 1, 3)
CLASSES = torch.tensor([[[0, 1, -1]]])


def cross_entropy(released, raw=LOGITS, target=CLASSES):
    return losses.edgeai_cross_entropy(raw, target, WEIGHTS, released=released).item()


def measure(task, protocol, *batches):
    meter = task.metrics(protocol)
    for batch in batches:
        meter.update(*batch)
    return {name: value.item() for name, value in meter.compute().items()}


# --- losses -----------------------------------------------------------------------------------------------------------


def test_depth_is_lost_as_released():
    assert losses.masked_smooth_l1(GUESS, TRUTH).item() == pytest.approx(33.107143, abs=1e-5)
    assert losses.scale_loss(GUESS, TRUTH).item() == pytest.approx(21.348558, abs=1e-5)
    assert losses.edgeai_depth(GUESS, TRUTH).item() == pytest.approx(33.107143 + 21.348558, abs=1e-5)


@settings(deadline=None, max_examples=40)
@given(
    st.lists(
        st.tuples(st.floats(-20, 300), st.one_of(st.just(0.0), st.floats(0.5, 255))), min_size=1, max_size=12
    ).filter(lambda pairs: any(true for _, true in pairs))
)
def test_depth_is_a_mean_and_a_difference_of_means_over_valid_pixels(pairs):
    raw, target = (torch.tensor(x, dtype=torch.float64).view(1, 1, 1, -1) for x in zip(*pairs, strict=True))
    p, g = np.array([pair for pair in pairs if pair[1]]).T
    e = np.abs(p - g)
    smooth = np.where(e < 1, e**2 / 2, e - 0.5).mean()
    scale = ((p.mean() - g.mean()) ** 2 + 1e-6) ** 0.45 - 1e-6**0.45
    assert losses.masked_smooth_l1(raw, target).item() == pytest.approx(smooth, rel=1e-9, abs=1e-12)
    assert losses.scale_loss(raw, target).item() == pytest.approx(scale, rel=1e-6, abs=1e-9)


def test_gradients_of_depth_are_right_and_none_where_nothing_is_known():
    raw = GUESS.double().requires_grad_()
    assert gradcheck(lambda x: losses.edgeai_depth(x, TRUTH.double()), raw)
    (gradient,) = torch.autograd.grad(losses.edgeai_depth(raw, TRUTH.double()), raw)
    assert gradient[TRUTH == 0] == 0 and (gradient[TRUTH != 0] != 0).all()
    nothing = losses.edgeai_depth(raw, torch.zeros_like(raw))
    (gradient,) = torch.autograd.grad(nothing, raw)
    assert nothing.item() == 0 and not gradient.any()


def test_released_cross_entropy_divides_by_the_ignored_pixels_too():
    torch.manual_seed(0)  # whose first draw leaves the weights out
    assert cross_entropy(released=True) == pytest.approx(0.1715583, abs=1e-6)
    assert losses.cross_entropy(LOGITS, CLASSES).item() == pytest.approx(0.5146750 / 2, abs=1e-6)


def test_corrected_cross_entropy_always_weighs_and_counts_what_is_valid():
    nll = [math.log(1 + math.exp(-1.5)), math.log(1 + math.exp(-1))]
    expected = (0.05 * nll[0] + 0.95 * nll[1]) / 2
    assert {round(cross_entropy(released=False), 6) for _ in range(50)} == {round(expected, 6)}


def test_one_released_call_in_five_uses_the_weights():
    torch.manual_seed(3)
    plain, corrected = 0.1715583, cross_entropy(released=False)
    found = [cross_entropy(released=True) for _ in range(2000)]
    weighted = [value for value in found if value == pytest.approx(corrected * 2 / 3, rel=1e-5)]
    assert len(weighted) + sum(value == pytest.approx(plain, rel=1e-5) for value in found) == 2000
    assert len(weighted) == pytest.approx(400, abs=5 * math.sqrt(2000 * 0.2 * 0.8))


@pytest.mark.parametrize("released", [False, True])
def test_a_map_without_labels_loses_nothing(released):
    raw = LOGITS.clone().requires_grad_()
    value = losses.edgeai_cross_entropy(raw, torch.full_like(CLASSES, -1), WEIGHTS, released=released)
    (gradient,) = torch.autograd.grad(value, raw)
    assert value.item() == 0 and not gradient.any()


def test_weights_of_another_number_of_classes_are_refused():
    with pytest.raises(KitError, match="one weight for each class, found 5 for 2 classes"):
        losses.cross_entropy(LOGITS, CLASSES, losses.EDGEAI_WEIGHTS[5])


# --- losses by name ---------------------------------------------------------------------------------------------------


def test_a_task_has_its_own_loss_until_another_is_named():
    known = [DEPTH, tasks.semantic(map(str, range(5))), tasks.motion()]
    named = tasks.with_losses(known, {"depth": "edgeai", "motion": "edgeai"})
    assert named[0].loss is losses.edgeai_depth and named[1] is known[1]
    assert named[2].loss(LOGITS, CLASSES).item() == pytest.approx(cross_entropy(released=False))
    assert [task.name for task in named] == [task.name for task in known]


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("losses.depth=edgai", "unknown loss 'edgai' of task 'depth': did you mean 'edgeai'"),
        ("losses.depth=edgeai-released", "unknown loss 'edgeai-released' of task 'depth'"),
        ("losses.motoin=edgeai", "no other loss than its own for task 'motoin': did you mean 'motion'"),
        ("losses.depth=1", "losses.depth = 1"),
        ("losses=edgeai", "losses = 'edgeai'"),
    ],
)
def test_an_unknown_loss_is_refused_in_one_line(override, words):
    with pytest.raises(KitError) as caught:
        recipes.load("rooms-tiny", recipes.parse_overrides([override]))
    assert words in str(caught.value) and "\n" not in str(caught.value)


def test_weights_that_nobody_published_are_refused():
    recipe = recipes.load("rooms-tiny", {"losses.semantic": "edgeai"})
    with pytest.raises(KitError, match="edgeai has weights for 2, 5, 19 classes, found 13; leave losses.semantic out"):
        recipe.choose({"semantic": tasks.semantic(map(str, range(13))), "depth": DEPTH, "normals": tasks.normals()})


def test_a_named_loss_is_another_run_and_one_of_an_absent_task_is_not():
    plain = recipes.load("rooms-tiny", {"tasks": ["depth"]})
    named = recipes.load("rooms-tiny", {"tasks": ["depth"], "losses.depth": "edgeai"})
    idle = recipes.load("rooms-tiny", {"tasks": ["depth"], "losses.semantic": "edgeai"})
    assert "losses" not in plain.canonical() and named.canonical()["losses"] == {"depth": "edgeai"}
    assert plain.identity("data") == idle.identity("data") != named.identity("data")
    assert idle.choose({"depth": DEPTH})[0] is DEPTH


def test_losses_are_inherited_or_replaced_whole(tmp_path):
    path = tmp_path / "other.toml"
    for text, expected in (("", 3), ("losses = {}\n", 0), ('losses = {depth = "edgeai"}\n', 1)):
        path.write_text(f'extends = "edgeai-tiny"\n{text}')
        assert len(recipes.load(str(path)).losses) == expected


# --- metrics ----------------------------------------------------------------------------------------------------------


def test_ard_as_released_and_as_its_name_says():
    assert measure(DEPTH, "edgeai", (GUESS, TRUTH)) == pytest.approx({"ard": 0.3632653}, abs=1e-6)
    # of the seven valid pixels three are within 3 ... 80 m, 3 itself is not: errors 0.5, 2 and 10 m
    pooled = measure(DEPTH, "pooled", (GUESS, TRUTH))
    assert list(pooled) == ["abs_err", "rel_err", "ard"]
    assert pooled["ard"] == pytest.approx((0.5 / 3.5 + 2 / 10 + 10 / 50) / 3)


def ard(protocol, batches):
    """The definition, in plain loops over batches of (prediction, truth) of single images of a few pixels."""
    if protocol == "pooled":
        inside = [(p, g) for batch in batches for image in batch for p, g in image if 3 < g <= 80]
        return np.mean([abs(p - g) / g for p, g in inside]) if inside else math.nan
    total = 0.0
    for batch in batches:
        valid = [(np.clip(p, -80, 80), min(g, 80)) for image in batch for p, g in image if g]
        errors = [abs(p - g) / g if g > 3 else 0.0 for p, g in valid]
        total += len(batch) * (np.mean(errors) if len(errors) > 1 else 0.0)
    return total / sum(map(len, batches))


@pytest.mark.parametrize("protocol", ["pooled", "edgeai"])
@settings(deadline=None, max_examples=40)
@given(
    st.lists(
        st.lists(  # batches of images of three pixels
            st.lists(
                st.tuples(st.floats(-200, 200), st.sampled_from([0, 1, 3, 4, 40, 80, 200])), min_size=3, max_size=3
            ),
            min_size=1,
            max_size=3,
        ),
        min_size=1,
        max_size=3,
    )
)
def test_ard_equals_plain_loops(protocol, batches):
    tensors = [torch.tensor(batch, dtype=torch.float64).view(-1, 1, 1, 3, 2).unbind(-1) for batch in batches]
    found = measure(DEPTH, protocol, *tensors)["ard"]
    assert found == pytest.approx(ard(protocol, batches), rel=1e-9, abs=1e-12, nan_ok=True)


def test_released_ard_calls_a_batch_perfect_that_it_cannot_measure():
    lone = torch.zeros(1, 1, 1, 8)
    lone[..., 0] = 10.0
    half = (torch.full_like(lone, 5.0), torch.full_like(lone, 10.0))
    assert measure(DEPTH, "edgeai", half)["ard"] == pytest.approx(0.5)
    assert measure(DEPTH, "edgeai", half, (GUESS, lone))["ard"] == pytest.approx(0.25)
    assert measure(DEPTH, "edgeai", half, (GUESS * math.nan, TRUTH))["ard"] == pytest.approx(0.25)
    assert math.isnan(measure(DEPTH, "pooled", half, (GUESS * math.nan, TRUTH))["ard"])


def test_released_miou_counts_a_class_that_is_nowhere():
    motion, still = tasks.motion(), torch.zeros(1, 2, 2).long()
    everything = {"miou": 0.5, "static_iou": 1.0, "moving_iou": 0.0}
    assert measure(motion, "edgeai", (still, still)) == everything
    pooled = measure(motion, "pooled", (still, still))
    assert (pooled["miou"], pooled["static_iou"]) == (1, 1) and math.isnan(pooled["moving_iou"])
    five = tasks.semantic("abcde")
    assert measure(five, "edgeai", (still, still)) == pytest.approx({"miou": 1 / 5})


@settings(deadline=None, max_examples=40)
@given(st.lists(st.tuples(st.integers(0, 1), st.integers(-1, 1)), min_size=1, max_size=20))
def test_both_protocols_agree_where_every_class_occurs(pairs):
    prediction, target = (torch.tensor([[[*x, 0, 1]]]) for x in zip(*pairs, strict=True))  # each is right once
    pooled, released = (measure(tasks.motion(), name, (prediction, target)) for name in ("pooled", "edgeai"))
    assert pooled == pytest.approx(released)
    assert pooled["miou"] == pytest.approx((pooled["static_iou"] + pooled["moving_iou"]) / 2)


def test_published_rows_give_their_mean_change():
    def row(ard, classes, motion, **more):
        return {"depth/ard": ard, "semantic/miou": classes, "motion/miou": motion, **more}

    single = row(11.35, 86.71, 86.6)
    assert metrics.delta_mtl(row(12.31, 82.32, 80.52), single) == pytest.approx(-6.85, abs=0.005)
    assert metrics.delta_mtl(row(12.64, 85.53, 84.95), single) == pytest.approx(-4.88, abs=0.005)
    # the IoU of the two classes is a part of mIoU, and does not count twice
    parts = {"motion/static_iou": 99.0, "motion/moving_iou": 62.0}
    other = {key: value / 2 for key, value in parts.items()}
    vanilla, single = row(12.31, 82.32, 80.52, **parts), row(11.35, 86.71, 86.6, **other)
    assert metrics.delta_mtl(vanilla, single) == pytest.approx(-6.85, abs=0.005)
    assert metrics.mean_rank({"vanilla": vanilla, "single": single}) == {"vanilla": 2.0, "single": 1.0}


def test_only_streets_have_ard():
    found = {
        family: datasets.build("scenes", "test", family=family, height=32, width=64, test=1, flow=True).tasks
        for family in ("rooms", "streets")
    }
    assert list(found["streets"]["depth"].directions) == ["abs_err", "rel_err", "ard"]
    assert (
        list(found["rooms"]["depth"].directions)
        == ["abs_err", "rel_err"]
        == list(measure(found["rooms"]["depth"], "pooled", (GUESS, TRUTH)))
    )
    assert list(found["streets"]) == ["semantic", "depth", "normals", "motion"]
    with pytest.raises(KitError, match="'edgeai' does not measure task 'depth'"):
        found["rooms"]["depth"].metrics("edgeai")


def test_tables_show_percent_as_edgeai_does():
    entry = report.Entry("ours", {0: {"depth/ard": 0.1135, "motion/miou": 0.866, "motion/moving_iou": 0.7}})
    assert dict(report.table([entry]).loc["ours"].iloc[:3]) == {
        "ARD % ↓": "11.35", "mIoU % ↑": "86.60", "moving IoU % ↑": "70.00",
    }  # fmt: skip


# --- evaluation -------------------------------------------------------------------------------------------------------


class Answers(nn.Module):
    """Gives what it was made with, whatever it is asked."""

    inputs = ("image",)

    def __init__(self, outputs):
        super().__init__()
        self.outputs = outputs

    def forward(self, inputs, names):
        return {name: self.outputs[name] for name in names}


def test_targets_may_be_larger_than_what_the_network_gives():
    chosen = tasks.with_losses([DEPTH, tasks.motion()], {"depth": "edgeai", "motion": "edgeai"})
    raw = {"depth": torch.full((2, 1, 4, 8), 9.0), "motion": torch.zeros(2, 2, 4, 8)}
    raw["motion"][:, 1, :, 4:] = 5.0
    moving = torch.zeros(2, 8, 16).long()
    moving[..., 8:] = 1
    batch = {"image": torch.zeros(2, 3, 4, 8), "depth": torch.full((2, 1, 8, 16), 10.0), "motion": moving}
    rows = {tuple(row[:3]): row[3] for row in evaluation.measure(Answers(raw), chosen, [batch], ["pooled", "edgeai"])}
    for protocol in ("pooled", "edgeai"):
        assert rows["depth", "ard", protocol] == pytest.approx(0.1)
        assert rows["motion", "miou", protocol] == 1  # labels are enlarged to the nearest, not blended
    gap = torch.tensor([[[[1.0]]]])
    assert rows["depth", "loss", ""] == pytest.approx(losses.edgeai_depth(9 * gap, 10 * gap).item())
    assert rows["motion", "loss", ""] < 0.5


def test_evaluation_draws_the_same_every_time_and_leaves_training_its_numbers():
    chosen = tasks.with_losses([tasks.motion()], {"motion": "edgeai-released"})
    batches = [{"image": torch.zeros(1, 3, 1, 3), "motion": CLASSES}] * 20
    found = []
    for seed in (0, 1):
        torch.manual_seed(seed)
        before = torch.get_rng_state()
        found.append(evaluation.measure(Answers({"motion": LOGITS}), chosen, batches, ["pooled"]))
        assert torch.equal(before, torch.get_rng_state())
    assert found[0] == found[1]
    assert found[0][0][3] != pytest.approx(0.1715583, rel=1e-4), "some of the twenty used the weights"


# --- optimiser, schedule, inputs --------------------------------------------------------------------------------------


def test_the_rate_warms_up_and_halves_twice():
    schedule = recipes.expand("edgeai-cityscapes")[0].schedule
    epochs = (0, 1, 2, 3, 4, 5, 99, 100, 199, 200, 249)
    found = [1e-4 * optimisers.schedule_factor(schedule, epoch, 250) for epoch in epochs]
    expected = [1e-7, 2e-5, 4e-5, 6e-5, 8e-5, 1e-4, 1e-4, 5e-5, 5e-5, 2.5e-5, 2.5e-5]
    assert found == pytest.approx(expected)


@settings(deadline=None, max_examples=40)
@given(epoch=st.integers(0, 300), every=st.integers(1, 50), factor=st.floats(0, 1), warmup=st.integers(0, 20))
def test_regular_milestones_are_what_every_says(epoch, every, factor, warmup):
    regular = Schedule(name="step", every=every, factor=factor, warmup=warmup)
    listed = Schedule(name="step", milestones=list(range(every, 301, every)), factor=factor, warmup=warmup)
    found = [optimisers.schedule_factor(schedule, epoch, 301) for schedule in (regular, listed)]
    assert found[0] == found[1]
    assert epoch < warmup or found[0] == factor ** (epoch // every)


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        ({"name": "poly", "warmup": 2}, "warmup goes with constant and step, found 'poly'"),
        ({"name": "cosine", "warmup": 2}, "warmup goes with constant and step, found 'cosine'"),
        ({"milestones": [2]}, "milestones go with step, found 'constant'"),
        ({"name": "step", "milestones": [2], "every": 3}, "milestones or every, found both"),
        ({"name": "step", "milestones": [3, 2]}, r"milestones grow, found \[3, 2\]"),
        ({"name": "step", "milestones": [0]}, "greater than 0"),
        ({"warmup": -1}, "schedule.warmup = -1"),
    ],
)
def test_schedules_that_mean_nothing_are_refused(overrides, words):
    with pytest.raises(KitError, match=words) as caught:
        recipes.load("rooms-tiny", {f"schedule.{key}": value for key, value in overrides.items()})
    assert "\n" not in str(caught.value)


def test_younger_keys_of_a_schedule_make_no_other_run_until_they_are_used():
    plain = recipes.load("rooms-tiny")
    assert set(plain.canonical()["schedule"]) == {"name", "every", "factor", "power"}
    written = recipes.load("rooms-tiny", {"schedule.warmup": 0, "schedule.milestones": []})
    warm = recipes.load("rooms-tiny", {"schedule.warmup": 1})
    assert written.identity("data") == plain.identity("data") != warm.identity("data")


def test_weight_decay_goes_through_the_moments_of_adam():
    model = nn.Linear(1, 1, bias=False)
    model.parameter_groups = lambda: {"backbone": list(model.parameters())}
    recipe = recipes.load("rooms-tiny", {"optimiser.weight_decay": 1e-4, "optimiser.lr": 0.01})
    optimizer = optimisers.build(recipe, model, nn.Identity())
    nn.init.constant_(model.weight, 2.0)
    model.weight.grad = torch.zeros_like(model.weight)
    optimizer.step()  # decay is the whole gradient, and Adam makes it a step of one learning rate; decoupled: 2e-6
    assert 2.0 - model.weight.item() == pytest.approx(0.01, rel=1e-3)


@settings(deadline=None, max_examples=40)
@given(st.lists(st.integers(0, 255), min_size=3, max_size=3))
def test_flow_is_fed_as_its_bytes_less_128_over_64(levels):
    coded = np.array(levels, dtype=np.uint8).reshape(1, 1, 3)
    sample = {"flow": torch.from_numpy(flow.decode(coded)), "image": torch.rand(3, 1, 1)}
    fed = normalised(sample, "ti")
    expected = (torch.tensor(levels) - 128.0) / 64
    assert torch.allclose(fed["flow"].flatten(), expected, atol=1e-5)
    assert torch.equal(fed["image"], ti(sample["image"]))
    for name in set(NORMALISATIONS) - {"ti"}:
        assert torch.equal(normalised(sample, name)["flow"], sample["flow"])


# --- recipes and runs -------------------------------------------------------------------------------------------------


def test_edgeai_cityscapes_is_the_released_script():
    runs = recipes.expand("edgeai-cityscapes")
    for run in runs:
        assert (run.optimiser.name, run.optimiser.lr, run.optimiser.weight_decay) == ("adam", 1e-4, 1e-4)
        assert (run.epochs, run.batch, run.normalise, run.augmentation.name) == (250, 16, "ti", "edgeai")
        assert run.protocols[0] == "edgeai" and run.evaluate_on == "validation" and run.dataset.options["holdout"]
        assert set(run.losses) == {"depth", "semantic", "motion"} and set(run.losses.values()) == {"edgeai"}
    several = [run for run in runs if len(run.tasks) > 1]
    assert {run.weighting.name for run in several} == {"equal", "pseudo-grad-norm", "uncertainty"}
    assert {run.select for run in several} == {"motion/miou"}
    alone = {(*run.tasks, run.select, *run.architecture.options.get("inputs", ["both"])) for run in runs}
    assert alone - {("depth", "semantic", "motion", "motion/miou", "both")} == {
        ("depth", "depth/ard", "image"), ("semantic", "semantic/miou", "image"), ("motion", "motion/miou", "both"),
    }  # fmt: skip
    assert len(runs) == 18 and {run.seed for run in runs} == {0, 1, 2}


def test_the_twin_on_streets_compares_the_same_networks():
    def compared(name):
        return sorted((r.tasks, r.weighting.name, r.select, r.losses) for r in recipes.expand(name) if r.seed == 0)

    assert compared("edgeai-streets") == compared("edgeai-cityscapes")


SMALL = {"epochs": 2, "dataset.train": 6, "dataset.validation": 2, "dataset.test": 2, "batch": 2}


def fit(folder, released=False, **options):
    named = {f"losses.{task}": "edgeai-released" for task in ("semantic", "motion") if released}
    recipe = recipes.load("edgeai-tiny", SMALL | named)
    return training.fit(recipe, Run.create(recipe, "data", root=folder), device="cpu", progress=False, **options)


def test_a_metric_that_the_first_protocol_does_not_have_is_refused_before_training():
    recipe = recipes.load("edgeai-tiny", SMALL | {"select": "depth/abs_err"})
    with pytest.raises(KitError, match="'depth/abs_err' is no metric of this run: did you mean 'depth/ard'"):
        training.check(recipe, training.load_data(recipe)[0])


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return fit(tmp_path_factory.mktemp("edgeai"))


def test_a_run_is_selected_on_validation_and_measured_by_both_protocols(run):
    measured = run.result["metrics"]
    motion = {"motion/miou", "motion/static_iou", "motion/moving_iou"}
    assert set(measured["edgeai"]) == {"depth/ard", "semantic/miou"} | motion
    assert set(measured["pooled"]) == set(measured["edgeai"]) | {
        "depth/abs_err", "depth/rel_err", "semantic/pixel_accuracy",
    }  # fmt: skip
    assert set(run.result["floor"]["edgeai"]) == set(measured["edgeai"])
    rows = run.metrics.query("task == 'motion' and metric == 'miou' and protocol == 'edgeai' and split == 'validation'")
    assert run.result["selected"] == {"metric": "motion/miou", "value": rows.value.max(), "split": "validation"}
    assert set(run.metrics.query("split == 'test'").epoch) == set(run.result["epochs"])


def test_a_run_that_draws_is_resumed_exactly(run, tmp_path, monkeypatch):
    whole = fit(tmp_path / "whole", released=True)
    train_step, steps = training.Session.train_step, []

    def stop(session, *arguments):
        steps.append(session.step)
        if len(steps) == 5:  # in the second epoch
            raise KeyboardInterrupt
        train_step(session, *arguments)

    with monkeypatch.context() as patched:
        patched.setattr(training.Session, "train_step", stop)
        with pytest.raises(KeyboardInterrupt):
            fit(tmp_path / "stopped", released=True, checkpoint_seconds=0.0)  # keeps every step
    stopped = fit(tmp_path / "stopped", released=True)
    assert stopped.metrics.equals(whole.metrics)
    states = [made.model().state_dict() for made in (whole, stopped)]
    assert all(torch.equal(states[0][key], states[1][key]) for key in states[0])
    assert not stopped.metrics.equals(run.metrics)
