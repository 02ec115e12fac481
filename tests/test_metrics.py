"""The metrics are what papers mean by them, do not depend on how a split is cut (pooled), or do as released (mtan).

What tells the protocols apart is in test_protocols.py.
"""

import functools
import math
import pickle

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from mtlkit import metrics
from mtlkit.errors import KitError
from mtlkit.metrics import functional

CLASSES = 5
TASKS = tuple(task for task in metrics.SPECS if task != "edges")  # for those see test_edges.py
MEASURED = [(task, protocol) for protocol, known in metrics.ACCUMULATORS.items() for task in TASKS if task in known]
NORMALS = [
    protocol for task, protocol in MEASURED if task == "normals" and protocol != "astmt"
]  # that has its own file

# empty accumulators are asked below, and torchmetrics warns of it
pytestmark = pytest.mark.filterwarnings("ignore:The ``compute`` method:UserWarning")


def draw(seed=0, images=6, size=(7, 9)):
    """(prediction, target) of each task for a small split; about a fifth of the pixels has no target."""
    rng = torch.Generator().manual_seed(seed)
    void = torch.rand(images, *size, generator=rng) < 0.2
    ids = torch.randint(CLASSES, (2, images, *size), generator=rng)
    metres = 0.5 + 9 * torch.rand(2, images, 1, *size, generator=rng)
    towards_camera = torch.tensor([0, 0, -1.5]).view(3, 1, 1)
    normals = F.normalize(torch.randn(2, images, 3, *size, generator=rng) + towards_camera, dim=2)
    distances = (metres[0], metres[1].masked_fill(void[:, None], 0))
    return {
        "semantic": (ids[0], ids[1].masked_fill(void, -1)),
        "depth": distances,
        "disparity": distances,
        "normals": (normals[0], normals[1].masked_fill(void[:, None], 0)),
        "motion": (ids[0] % 2, (ids[1] % 2).masked_fill(void, -1)),
        "parts": (ids[0], ids[1].masked_fill(void, -1)),
        "saliency": (metres[0] / 10, (metres[1] > 5).float().masked_fill(void[:, None], -1)),
        "albedo": (normals[0].abs(), normals[1].abs()),
    }


def nothing_like(task, target):
    """A target without a valid pixel."""
    return torch.full_like(target, 0 if task in ("depth", "disparity", "normals") else -1)


def zero_where_absent(task, protocol):
    """Whether a class that is nowhere counts as 0, as released."""
    return protocol == "edgeai" or (protocol == "astmt" and task in ("semantic", "parts"))


def fresh(task, protocol="pooled"):
    return metrics.build(task, protocol, **({"classes": CLASSES} if task in ("semantic", "parts") else {}))


def measure(task, protocol, pairs):
    metric = fresh(task, protocol)
    for prediction, target in pairs:
        metric.update(prediction, target)
    return {name: value.item() for name, value in metric.compute().items()}


def cut(pair, sizes):
    return zip(*(torch.split(x, sizes) for x in pair), strict=True)


def angles(pair):
    """All valid angles of a split by NumPy, in degrees."""
    p, g = (x.permute(0, 2, 3, 1).reshape(-1, 3).double().numpy() for x in pair)
    cosine = (p * g).sum(1)[(g != 0).any(1)]
    return np.degrees(np.arccos(np.clip(cosine, -1, 1)))


# by hand


def test_miou_and_accuracy_by_hand():
    # 0 is hit twice of three, 1 once of two; one 0 is taken for 1 and one 1 for 0; the void pixel does not count
    target = torch.tensor([[[0, 0, 0, 1, 1, -1]]])
    prediction = torch.tensor([[[0, 0, 1, 1, 0, 1]]])
    metric = metrics.build("semantic", classes=2)
    metric.update(prediction, target)
    values = metric.compute()
    assert values["miou"].item() == pytest.approx((2 / 4 + 1 / 3) / 2)
    assert values["pixel_accuracy"].item() == pytest.approx(3 / 5)


def test_depth_by_hand():
    target = torch.tensor([2.0, 4.0, 0.0, 1.0]).view(1, 1, 1, 4)
    prediction = torch.tensor([1.0, 5.0, 7.0, 1.0]).view(1, 1, 1, 4)
    values = measure("depth", "pooled", [(prediction, target)])
    assert values == pytest.approx({"abs_err": 2 / 3, "rel_err": (1 / 2 + 1 / 4 + 0) / 3})


def test_normals_by_hand():
    degrees = torch.tensor([5.0, 20.0, 25.0, 100.0, 40.0])
    prediction = torch.stack([degrees.deg2rad().sin(), torch.zeros(5), -degrees.deg2rad().cos()]).view(1, 3, 1, 5)
    target = torch.tensor([0.0, 0, -1]).view(1, 3, 1, 1).repeat(1, 1, 1, 5)
    target[..., 4] = 0
    for protocol in NORMALS:
        values = measure("normals", protocol, [(prediction, target)])
        assert values.pop("mean") == pytest.approx(37.5, abs=1e-3)
        assert values.pop("median") == pytest.approx(20.0, abs=0.051)  # the lower of the middle two, to one bin
        assert values == pytest.approx({"within_11.25": 1 / 4, "within_22.5": 1 / 2, "within_30": 3 / 4})


@pytest.mark.parametrize("threshold", metrics.THRESHOLDS)
def test_shares_are_strict_to_the_last_bit(threshold):
    at = torch.tensor([threshold])
    edge = int(threshold * metrics.BINS_PER_DEGREE)
    for angle, below in ((at, 0), (torch.nextafter(at, torch.zeros(1)), 1)):
        assert metrics.angle_histogram(angle, torch.ones(1, dtype=torch.bool))[:edge].sum().item() == below


# against NumPy


def test_pooled_semantic_equals_numpy():
    prediction, target = (x.numpy() for x in draw(1)["semantic"])
    seen = target >= 0
    ious = []
    for k in range(CLASSES):
        p, g = (prediction == k) & seen, target == k
        ious.append((p & g).sum() / (p | g).sum())
    values = measure("semantic", "pooled", [draw(1)["semantic"]])
    assert values == pytest.approx({"miou": np.mean(ious), "pixel_accuracy": (prediction == target)[seen].mean()})


def test_pooled_depth_equals_numpy():
    prediction, target = (x.double().numpy() for x in draw(2)["depth"])
    error, true = np.abs(prediction - target)[target != 0], target[target != 0]
    values = measure("depth", "pooled", cut(draw(2)["depth"], 4))
    assert values == pytest.approx({"abs_err": error.mean(), "rel_err": (error / true).mean()}, rel=1e-6)


def test_pooled_normals_equal_numpy():
    a = angles(draw(3)["normals"])
    values = measure("normals", "pooled", cut(draw(3)["normals"], 4))
    assert values["mean"] == pytest.approx(a.mean(), rel=1e-5)
    assert abs(values["median"] - np.sort(a)[(len(a) - 1) // 2]) <= 0.05
    for t in metrics.THRESHOLDS:
        assert values[f"within_{t:g}"] == pytest.approx((a < t).mean())


def test_mtan_averages_batches_as_released():
    batches = list(cut(draw(4, images=5)["normals"], 2))  # the last batch has one image and weighs as much
    expected = []
    for a in map(angles, batches):
        median = np.sort(a)[(len(a) - 1) // 2]
        expected.append([a.mean(), median, *((a < t).mean() for t in metrics.THRESHOLDS)])
    assert list(measure("normals", "mtan", batches).values()) == pytest.approx(np.mean(expected, axis=0), rel=1e-4)

    batches = list(cut(draw(4, images=5)["depth"], 2))
    per_batch = [measure("depth", "pooled", [batch]) for batch in batches]
    expected = {name: np.mean([values[name] for values in per_batch]) for name in per_batch[0]}
    assert measure("depth", "mtan", batches) == pytest.approx(expected)


@settings(deadline=None)
@given(st.lists(st.floats(0, 180, width=32), min_size=1, max_size=40))
def test_the_histogram_median_is_within_a_bin_of_the_true_one(degrees):
    angle = torch.tensor(degrees)
    everywhere = torch.ones_like(angle, dtype=torch.bool)
    assert abs(metrics.median_from_histogram(metrics.angle_histogram(angle, everywhere)) - angle.median()) <= 0.0501


# how a split is cut


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 1000), st.lists(st.integers(1, 4), min_size=1, max_size=4), st.sampled_from(TASKS))
def test_pooled_does_not_depend_on_batches(seed, sizes, task):
    pair = draw(seed, images=sum(sizes), size=(4, 5))
    whole = measure(task, "pooled", [pair[task]])
    assert measure(task, "pooled", cut(pair[task], sizes)) == pytest.approx(whole, rel=1e-6, nan_ok=True)


@pytest.mark.parametrize("task", ["depth", "disparity", "normals"])
def test_mtan_does_depend_on_batches(task):
    pair = draw(5)[task]
    assert measure(task, "mtan", cut(pair, [5, 1])) != pytest.approx(measure(task, "mtan", [pair]), rel=1e-4)


@pytest.mark.parametrize(("task", "protocol"), MEASURED)
def test_accumulators_of_several_processes_add_up(task, protocol):
    batches = list(cut(draw(6)[task], 2))
    parts = [fresh(task, protocol) for _ in range(2)]
    for i, batch in enumerate(batches):
        parts[i % 2].update(*batch)
    parts[0].merge_state(parts[1])
    together = {name: value.item() for name, value in parts[0].compute().items()}
    assert together == pytest.approx(measure(task, protocol, batches))


@pytest.mark.parametrize(("task", "protocol"), MEASURED)
def test_reset_forgets_and_pickling_remembers(task, protocol):
    metric = fresh(task, protocol)
    metric.update(*draw(7)[task])
    before = metric.compute()
    again = pickle.loads(pickle.dumps(metric)).compute()
    assert all(torch.equal(before[name], again[name]) for name in before)
    metric.reset()
    assert all(value.isnan() or zero_where_absent(task, protocol) for value in metric.compute().values())


# what is absent


def test_an_absent_class_is_left_out_when_pooled_and_poisons_as_released():
    ids = torch.tensor([[[0, 1, 2, 2]]])  # classes 3 and 4 are nowhere
    assert measure("semantic", "pooled", [(ids, ids)]) == {"miou": 1.0, "pixel_accuracy": 1.0}
    released = measure("semantic", "mtan", [(ids, ids)])
    assert math.isnan(released["miou"]) and released["pixel_accuracy"] == 1.0


def test_a_class_that_is_only_predicted_counts_as_zero():
    target, prediction = torch.tensor([[[0, 0]]]), torch.tensor([[[0, 4]]])
    assert measure("semantic", "pooled", [(prediction, target)])["miou"] == pytest.approx((0.5 + 0) / 2)


@pytest.mark.parametrize(("task", "protocol"), MEASURED)
def test_nothing_seen_and_nothing_valid_give_nan(task, protocol):
    prediction, target = draw(8)[task]
    for pairs in ([], [(prediction, nothing_like(task, target))][: task != "albedo"]):  # which is valid everywhere
        values = measure(task, protocol, pairs)
        assert list(values) == [spec.name for spec in fresh(task, protocol).specs]
        if zero_where_absent(task, protocol):
            assert set(values.values()) == {0.0}
            continue
        assert protocol == "astmt" or list(values) == [spec.name for spec in metrics.SPECS[task]]
        if pairs and (task, protocol) == ("semantic", "mtan-legacy-void"):
            assert values.pop("miou") == 0  # its unions hold the void pixels: 0/n, not 0/0
        assert all(math.isnan(value) for value in values.values())


@pytest.mark.parametrize("task", [task for task in TASKS if task != "albedo"])
def test_a_batch_with_nothing_valid_changes_nothing_when_pooled(task):
    prediction, target = draw(9)[task]
    pairs = [(prediction, target), (prediction, nothing_like(task, target))]
    assert measure(task, "pooled", pairs) == pytest.approx(measure(task, "pooled", pairs[:1]))


@pytest.mark.parametrize("protocol", NORMALS)
def test_a_nan_prediction_does_not_look_good(protocol):
    prediction, target = draw(10)["normals"]
    values = measure("normals", protocol, [(prediction * math.nan, target)])
    assert math.isnan(values["mean"])
    assert values["within_11.25"] == values["within_30"] == 0
    assert math.isnan(measure("depth", protocol, [(target[:, :1] * math.nan, draw(10)["depth"][1])])["abs_err"])


# sizes, precision, devices


@pytest.mark.parametrize("protocol", NORMALS)
def test_a_smaller_prediction_is_resized_to_the_target(protocol):
    ids = torch.tensor([[[0, 1], [2, 3]]])
    large = ids.repeat_interleave(3, 1).repeat_interleave(3, 2)
    assert measure("semantic", protocol, [(ids, large)])["pixel_accuracy"] == 1
    flat = torch.full((2, 1, 4, 6), 2.5)
    assert measure("depth", protocol, [(flat[..., ::2, ::2], flat)])["abs_err"] == 0
    # between two walls at right angles the mean vector is too short: it is stretched again
    walls = torch.tensor([[1.0, 0, 0], [0, 0, -1.0]]).T.reshape(1, 3, 1, 2)
    corner = F.normalize(F.interpolate(walls, size=(1, 8), mode="bilinear"), dim=1)
    assert measure("normals", protocol, [(walls, corner)])["mean"] < 0.05


def test_normals_in_half_precision_are_stretched_before_the_angle():
    _, target = draw(11, size=(30, 40))["normals"]
    assert measure("normals", "pooled", [(target.bfloat16(), target)])["mean"] < 0.3


def test_counting_and_medians_agree_on_every_device():
    rng = torch.Generator().manual_seed(12)
    indices, values = torch.randint(9, (500,), generator=rng), torch.rand(500, generator=rng)
    assert torch.equal(functional._count(indices, 11), functional._count_by_adding(indices, 11))
    for valid in (indices < 4, indices < 5, indices < 0):
        by_sorting = functional._median_by_sorting(values, valid)
        assert torch.equal(torch.nan_to_num(metrics.masked_median(values, valid), 7), torch.nan_to_num(by_sorting, 7))


@pytest.mark.parametrize(("task", "protocol"), MEASURED)
def test_update_reads_nothing_back_from_the_device(task, protocol):
    metric = fresh(task, protocol).to("meta")  # tensors without values: every look at one raises
    metric.update(*(x.to("meta") for x in draw(13)[task]))


# bad input


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: metrics.build("depth", "mtam"), "'mtam'.*'mtan'"),
        (lambda: metrics.build("dept"), "'dept'.*'depth'"),
        (lambda: metrics.build("semantic"), r"\['classes'\], found \[\]"),
        (lambda: metrics.build("depth", classes=3), r"\[\], found \['classes'\]"),
        (lambda: metrics.build("semantic", classes=0), ">= 1, found 0"),
        (lambda: fresh("semantic").update(torch.zeros(1, 5, 4, 4), torch.zeros(1, 4, 4).long()), "semantic.*predict"),
        (lambda: fresh("semantic").update(torch.zeros(1, 4, 4), torch.zeros(1, 4, 4).long()), "integer.*argmax"),
        (lambda: fresh("semantic").update(torch.full((1, 2, 2), 9), torch.zeros(1, 2, 2).long()), r"0 \.\.\. 4.*9"),
        (lambda: fresh("depth").update(torch.zeros(2, 4, 4), torch.zeros(2, 1, 4, 4)), r"\(2, 1, 'h', 'w'\)"),
    ],
)
def test_bad_input_is_one_clear_line(call, words):
    with pytest.raises(KitError, match=words) as caught:
        call()
    assert "\n" not in str(caught.value)


# the specifications


def test_papers_count_nine_metrics():
    tasks = ("semantic", "depth", "normals")
    directions = {f"{task}/{s.name}": s.higher_is_better for task in tasks for s in metrics.SPECS[task]}
    assert list(directions) == list(NYUV2_SINGLE_TASK)
    assert [name for name, higher in directions.items() if not higher] == [
        "depth/abs_err", "depth/rel_err", "normals/mean", "normals/median",
    ]  # fmt: skip


# Delta_MTL. Single-task NYUv2 baselines of the MTAN-SegNet literature, hard-coded in the code of Nash-MTL and FAMO.
NYUV2_SINGLE_TASK = {
    "semantic/miou": 0.3830, "semantic/pixel_accuracy": 0.6376, "depth/abs_err": 0.6754, "depth/rel_err": 0.2780,
    "normals/mean": 25.01, "normals/median": 19.21,
    "normals/within_11.25": 0.3014, "normals/within_22.5": 0.5720, "normals/within_30": 0.6915,
}  # fmt: skip

# Cityscapes rows (mIoU, accuracy, absolute, relative error; docstring of mean_rank.py in the SDMGrad code) and the
# Delta m% that they give by hand; the first is the single-task baseline.
CITYSCAPES = {
    "single": ((74.01, 93.16, 0.0125, 27.77), 0.0),
    "linear": ((75.18, 93.49, 0.0155, 46.77), 22.62),
    "uncertainty": ((72.02, 92.85, 0.0140, 30.13), 5.88),
    "MGDA": ((68.84, 91.54, 0.0309, 33.50), 44.14),
    "FAMO": ((74.54, 93.29, 0.0145, 32.59), 8.13),
}


def cityscapes(row):
    return dict(zip(list(NYUV2_SINGLE_TASK)[:4], CITYSCAPES[row][0], strict=True))


def test_the_baseline_against_itself_is_zero():
    assert metrics.delta_mtl(NYUV2_SINGLE_TASK, NYUV2_SINGLE_TASK) == 0
    assert str(metrics.delta_mtl(NYUV2_SINGLE_TASK, NYUV2_SINGLE_TASK, convention="nash")) == "0.0"


@pytest.mark.parametrize("row", CITYSCAPES)
def test_published_rows_give_their_delta(row):
    delta = metrics.delta_mtl(cityscapes(row), cityscapes("single"), convention="nash")
    assert delta == pytest.approx(CITYSCAPES[row][1], abs=0.006)
    assert metrics.delta_mtl(cityscapes(row), cityscapes("single")) == pytest.approx(-delta)


def test_average_drop_of_astmt():
    # PASCAL-Context, ResNet-101, README of facebookresearch/astmt: all but the angle of normals are better higher
    names = ("edges/ods_f", "semantic/miou", "parts/miou", "normals/mean", "saliency/miou")
    single, plain, full = (
        dict(zip(names, row, strict=True))
        for row in ((72.7, 68.3, 60.7, 14.61, 65.4), (69.2, 63.2, 55.1, 16.04, 63.6), (72.4, 68.0, 61.12, 14.68, 65.71))
    )
    drop = functools.partial(metrics.delta_mtl, by="main", convention="astmt")
    assert drop(plain, single) == pytest.approx(6.81, abs=0.005)
    assert drop(full, single) == pytest.approx(0.03, abs=0.005), "printed 0.04, from more digits"
    by_task = [-drop({name: plain[name]}, {name: single[name]}) for name in names]
    assert by_task == pytest.approx([-4.81, -7.47, -9.23, -9.79, -2.75], abs=0.005)
    # one number for each task, whatever else was measured of it
    more = {"normals/median": 5.0, "normals/rmse": 90.0, "semantic/pixel_accuracy": 0.1, "saliency/max_f": 0.9}
    assert drop(plain | more, single | {name: 2 * value for name, value in more.items()}) == drop(plain, single)
    assert metrics.mains(["depth/abs_err", "depth/log_rmse", "depth/rmse"]) == ["depth/rmse"]


def test_ten_percent_better_everywhere_is_plus_ten():
    better = {name: value * (0.9 if "err" in name or name in ("normals/mean", "normals/median") else 1.1)
              for name, value in NYUV2_SINGLE_TASK.items()}  # fmt: skip
    for by in ("metric", "task"):
        assert metrics.delta_mtl(better, NYUV2_SINGLE_TASK, by=by) == pytest.approx(10)


def test_by_task_gives_every_task_the_same_voice():
    values = NYUV2_SINGLE_TASK | {"semantic/miou": 2 * 0.3830}  # one metric of two, of nine
    assert metrics.delta_mtl(values, NYUV2_SINGLE_TASK) == pytest.approx(100 / 9)
    assert metrics.delta_mtl(values, NYUV2_SINGLE_TASK, by="task") == pytest.approx(100 / 2 / 3)


@settings(deadline=None)
@given(gain=st.floats(-0.9, 0.9), higher=st.booleans(), base=st.floats(1e-3, 1e3))
def test_delta_is_odd_in_the_direction_and_in_the_convention(gain, higher, base):
    values, baseline = {"x": base * (1 + gain)}, {"x": base}
    delta = metrics.delta_mtl(values, baseline, higher_is_better={"x": higher})
    assert delta == pytest.approx(100 * gain if higher else -100 * gain, abs=1e-9)
    assert metrics.delta_mtl(values, baseline, higher_is_better={"x": not higher}) == pytest.approx(-delta, abs=1e-9)
    assert metrics.delta_mtl(values, baseline, higher_is_better={"x": higher}, convention="nash") == -delta


@pytest.mark.parametrize(("value", "base"), [(math.nan, 1), (1, math.nan), (math.inf, 1), (1, math.inf), (0.5, 0)])
def test_delta_of_what_is_undefined_is_nan(value, base):
    assert math.isnan(metrics.delta_mtl({"semantic/miou": value}, {"semantic/miou": base}))


@pytest.mark.parametrize(
    ("arguments", "options", "words"),
    [
        (({}, {}), {}, "found none"),
        (({"semantic/miou": 1}, {"semantic/miou": 1, "depth/abs_err": 1}), {}, "'depth/abs_err' in only one"),
        (({"depth/abs_er": 1}, {"depth/abs_er": 1}), {}, "'depth/abs_err'"),
        (({"semantic/miou": 1}, {"semantic/miou": -1}), {}, ">= 0 for 'semantic/miou', found -1"),
        (({"semantic/miou": 1}, {"semantic/miou": 1}), {"by": "tasks"}, "'task'"),
        (({"semantic/miou": 1}, {"semantic/miou": 1}), {"convention": "nahs"}, "'nash'"),
    ],
)
def test_delta_refuses_what_it_cannot_compare(arguments, options, words):
    with pytest.raises(KitError, match=words):
        metrics.delta_mtl(*arguments, **options)
