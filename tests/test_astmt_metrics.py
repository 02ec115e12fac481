"""Protocol ``astmt`` gives the numbers of the released code; images of different sizes are measured at their own."""

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from mtlkit import datasets, evaluation, files, losses, metrics, recipes, report, tasks
from mtlkit.datasets.pascal_mt import PascalMT
from mtlkit.errors import KitError
from mtlkit.runs import Run

SIZES = {"semantic": 4, "parts": 4}  # classes


def measure(task, protocol, prediction, target, cut=None, **options):
    """The metrics of one split, in batches of ``cut`` images (all at once where None)."""
    if task in SIZES:
        options["classes"] = SIZES[task]
    metric = metrics.build(task, protocol, **options)
    for pair in zip(prediction.split(cut or len(target)), target.split(cut or len(target)), strict=True):
        metric.update(*pair)
    return {name: value.item() for name, value in metric.compute().items()}


# --- what the released code gives -------------------------------------------------------------------------------------

K = torch.arange(12 * 16)


def test_the_toy_of_classes():
    target = (7 * K // 11 % 4).view(1, 12, 16)
    target[0, 0] = -1
    found = measure("semantic", "astmt", (5 * K // 9 % 4).view(1, 12, 16), target)
    assert found == {"miou": pytest.approx(0.1214078633, abs=1e-10)}


def test_the_toy_of_saliency():
    probability = ((7919 * K + 13) % 1000 / 1000).view(1, 1, 12, 16)
    target = (K % 5 < 2).float().view(1, 1, 12, 16)
    found = measure("saliency", "astmt", probability, target)
    assert found == pytest.approx({"miou": 0.3705882353, "max_f": 0.5407725322}, abs=1e-10)


# --- by hand ----------------------------------------------------------------------------------------------------------


def test_a_class_that_is_nowhere_counts_as_zero():
    ids = torch.tensor([[[0, 1, 2, 2]]])
    assert measure("semantic", "astmt", ids, ids) == {"miou": 3 / 4}
    assert measure("semantic", "pooled", ids, ids)["miou"] == 1


def test_parts_are_measured_on_images_that_show_a_person():
    target = torch.tensor([[[0, 0, 1, 2]], [[0, 0, 0, 0]], [[-1, -1, -1, -1]]])
    prediction = torch.tensor([[[0, 1, 1, 2]], [[3, 3, 0, 0]], [[3, 3, 3, 3]]])
    with_people = (1 / 2, 1 / 2, 1 / 1)
    assert measure("parts", "astmt", prediction, target) == {"miou": pytest.approx(sum(with_people) / 4)}
    everywhere = (3 / 6, 1 / 2, 1 / 1, 0 / 2)  # the second image has no person, but targets, and takes part
    assert measure("parts", "pooled", prediction, target) == {"miou": pytest.approx(sum(everywhere) / 4)}
    assert measure("parts", "pooled", prediction[::2], target[::2]) == {"miou": pytest.approx(sum(with_people) / 3)}


def test_saliency_by_hand():
    # two images; at 0.2 ... 0.5 both first pixels are predicted, then only the first one
    probability = torch.tensor([[[[0.9, 0.5, 0.1, 0.1]]], [[[0.1, 0.1, 0.1, 0.1]]]])
    target = torch.tensor([[[[1.0, 0, 1, -1]]], [[[0.0, 0, 0, 0]]]])
    # by image: IoU 1/2 from 0.55 on, and 1 where nothing is salient and nothing predicted; P 1/1 and 0, R 1/2 and 0
    found = measure("saliency", "astmt", probability, target)
    assert found == pytest.approx({"miou": (1 / 2 + 1) / 2, "max_f": 2 * 0.5 * 0.25 / (0.5 + 0.25)})
    assert measure("saliency", "pooled", probability, target) == pytest.approx({"miou": 1 / 2, "max_f": 2 / 3})
    blank = torch.full_like(target, -1)
    assert measure("saliency", "astmt", torch.cat([probability] * 2), torch.cat([target, blank])) == found


def test_depth_counts_what_has_no_target_and_pooled_does_not():
    target = torch.tensor([3.0, 1.0, 2.0, 0.0]).view(2, 1, 1, 2)
    prediction = torch.tensor([3.0, 2.0, -1.0, 5.0]).view(2, 1, 1, 2)
    released = measure("depth", "astmt", prediction, target)
    tiny = math.log(1e-9)
    first = math.log(2) / math.sqrt(2)
    second = math.sqrt(((math.log(2) - tiny) ** 2 + (math.log(5) - tiny) ** 2) / 2)
    expected = {"rmse": (math.sqrt(1 / 2) + math.sqrt((4 + 25) / 2)) / 2, "log_rmse": (first + second) / 2}
    assert released == pytest.approx(expected, rel=1e-6)
    masked = measure("depth", "pooled", prediction, target, like="rmse-depth")
    assert masked == pytest.approx({"rmse": math.sqrt((1 + 9) / 3), "abs_err": 4 / 3, "rel_err": (1 + 3 / 2) / 3})
    assert list(measure("depth", "pooled", prediction, target)) == ["abs_err", "rel_err"], "elsewhere nothing is added"


def test_log_rmse_is_a_median_over_images_and_rmse_a_mean():
    target = torch.ones(5, 1, 2, 2)
    prediction = target * torch.tensor([1.0, 2.0, 4.0, 8.0, 64.0]).view(5, 1, 1, 1)
    found = measure("disparity", "astmt", prediction, target, cut=2)
    assert found == pytest.approx({"rmse": (0 + 1 + 3 + 7 + 63) / 5, "log_rmse": math.log(4)})
    nothing = torch.zeros(2, 1, 2, 2)
    assert measure("disparity", "astmt", torch.cat([prediction, nothing + 9]), torch.cat([target, nothing])) == found


def test_albedo_by_image_and_pooled():
    target = torch.zeros(2, 3, 2, 2)
    prediction = target + torch.tensor([0.1, 0.7]).view(2, 1, 1, 1)
    assert measure("albedo", "astmt", prediction, target)["rmse"] == pytest.approx(0.4)
    assert measure("albedo", "pooled", prediction, target)["rmse"] == pytest.approx(0.5)


# --- against the pictures that the released code writes ---------------------------------------------------------------


def draw(seed=0, images=5, size=(9, 11)):
    rng = torch.Generator().manual_seed(seed)
    target = F.normalize(torch.randn(images, 3, *size, generator=rng) - torch.tensor([0, 0, 2.0]).view(3, 1, 1), dim=1)
    prediction = F.normalize(target + 0.4 * torch.randn(images, 3, *size, generator=rng), dim=1)
    void = torch.rand(images, 1, *size, generator=rng) < 0.2
    salient = (torch.rand(images, 1, *size, generator=rng) < 0.4).float()
    probability = (0.3 * salient + 0.7 * torch.rand(images, 1, *size, generator=rng)).clamp(0, 1)
    metres = 1 + 8 * torch.rand(2, images, 1, *size, generator=rng)
    ids = torch.randint(4, (2, images, *size), generator=rng)
    return {
        "semantic": (ids[0], ids[1].masked_fill(void[:, 0], -1)),
        "parts": (ids[0], ids[1].masked_fill(void[:, 0], -1)),
        "normals": (prediction, target.masked_fill(void, 0)),
        "saliency": (probability, salient.masked_fill(void, -1)),
        "albedo": (prediction.abs(), target.abs()),
        "depth": (metres[0], metres[1].masked_fill(void, 0)),
        "disparity": (metres[0], metres[1].masked_fill(void, 0)),
    }


def test_normals_go_through_a_picture():
    prediction, target = draw()["normals"]
    png = ((prediction.numpy() + 1) * 255 / 2).astype(np.uint8)
    decoded = 2 * png.astype(np.float64) / 255 - 1
    decoded /= np.linalg.norm(decoded, axis=1, keepdims=True)
    angles = np.degrees(np.arccos(np.clip((decoded * target.numpy()).sum(1), -1, 1)))[(target != 0).any(1).numpy()]
    found = measure("normals", "astmt", prediction, target, cut=2)
    assert [found["mean"], found["rmse"]] == pytest.approx([angles.mean(), math.sqrt((angles**2).mean())], rel=1e-5)
    assert found["median"] == pytest.approx(np.median(angles), abs=0.06)
    assert [found[f"within_{t:g}"] for t in metrics.THRESHOLDS] == [(angles < t).mean() for t in metrics.THRESHOLDS]
    plain = measure("normals", "pooled", prediction, target)
    assert "rmse" not in plain and 0 < abs(found["mean"] - plain["mean"]) < 0.5
    stretched = measure("normals", "astmt", prediction, 3 * target)
    assert stretched == pytest.approx(found, rel=1e-5), "targets are made unit vectors"


def test_saliency_equals_plain_loops():
    probability, target = draw(1)["saliency"]
    bytes_, true = (255 * probability).numpy().astype(np.uint8), target.numpy()
    by_threshold = []
    for threshold in np.linspace(0.2, 0.9, 15):
        ratios = []
        for picture, truth in zip(bytes_, true, strict=True):
            yes, salient = (picture / 255.0 >= threshold)[truth >= 0], truth[truth >= 0] == 1
            hits = (yes & salient).sum()
            ratios.append([hits / (yes | salient).sum(), hits / (yes.sum() + 1e-12), hits / (salient.sum() + 1e-12)])
        by_threshold.append(np.mean(ratios, axis=0))
    expected = [max(iou for iou, _, _ in by_threshold), max(2 * p * r / (p + r + 1e-12) for _, p, r in by_threshold)]
    assert list(measure("saliency", "astmt", probability, target, cut=2).values()) == pytest.approx(expected)


def test_nothing_predicted_by_a_nan():
    _, target = draw(2)["saliency"]
    found = measure("saliency", "pooled", torch.full_like(target, math.nan), target)
    assert found == {"miou": 0, "max_f": 0}


@pytest.mark.parametrize("task", draw())
@pytest.mark.parametrize("protocol", ["pooled", "astmt"])
def test_neither_cut_nor_order_matters(task, protocol):
    prediction, target = draw(3)[task]
    whole = measure(task, protocol, prediction, target)
    order = torch.tensor([3, 0, 4, 1, 2])
    for cut in (1, 3):
        assert measure(task, protocol, prediction[order], target[order], cut) == pytest.approx(whole, rel=1e-6)


def test_every_task_of_astmt_has_a_number_in_both_protocols_and_is_better_when_right():
    made = [tasks.semantic("abcd"), tasks.parts("abcd"), tasks.normals(), tasks.saliency(), tasks.albedo()]
    made += [tasks.depth(rmse=True), tasks.disparity()]
    assert {"pooled", "astmt"} <= set(evaluation.measuring(made))
    for task in made:
        prediction, target = draw(4)[task.name]
        for protocol in ("pooled", "astmt"):
            meters = [task.metrics(protocol) for _ in range(2)]
            # what cannot be known is not asked: with a target everywhere, the truth is the best answer
            seen = target.where(target > 0, 1) if task.name in ("depth", "disparity", "saliency") else target
            for meter, answer in zip(
                meters, (prediction, seen.clamp_min(0) if task.class_names else seen), strict=True
            ):
                meter.update(answer, seen)
            main = meters[0].specs[0]
            there, best = (meter.compute()[main.name] for meter in meters)
            assert (best > there) == main.higher_is_better, (task.name, protocol)
            assert main.name == metrics.mains([f"{task.name}/{spec.name}" for spec in meters[0].specs])[0].split("/")[1]


# --- images at their own size -----------------------------------------------------------------------------------------

NAMES = ["edges", "semantic", "parts", "normals", "saliency"]


@pytest.fixture(scope="module")
def sample(tmp_path_factory):
    """Four images of PASCAL-MT, the third of them upright."""
    root = tmp_path_factory.mktemp("pascal") / "mt"
    PascalMT.write_sample(root, 4, height=36, width=48)
    return root


def recipe(root, **changes):
    table = {"dataset.name": "pascal-mt", "dataset.root": str(root), "tasks": NAMES, "protocols": ["pooled", "astmt"]}
    network = {"architecture.name": "split", "architecture.width": 0.125}
    return recipes.load("rooms-tiny", {**table, **network, "resize": [32, 32], "batch": 4, **changes})


def measured(root, **changes):
    made = recipe(root, **changes)
    data = datasets.build("pascal-mt", "train", root=root)
    chosen = made.choose(data.tasks)
    torch.manual_seed(0)
    model = made.network(chosen, made.input_size(data.size)).double()  # a threshold hears the last bit of a float
    batches = [
        batch | {"image": batch["image"].double()} for batch in evaluation.batches(data, ["image", *NAMES], made)
    ]
    floor = evaluation.floor(data, chosen, batches, made.protocols)
    return model, chosen, data, batches, evaluation.measure(model, chosen, batches, made.protocols), floor


def test_images_of_different_sizes_are_measured_at_their_own(sample):
    model, chosen, data, batches, rows, floor = measured(sample)
    (batch,) = batches
    assert batch["image"].shape == (4, 3, 32, 32)
    assert [target.shape[-2:] for target in batch["normals"]] == [(36, 48), (36, 48), (48, 36), (36, 48)]
    found = {tuple(row[:3]): row[3] for row in rows}
    with torch.no_grad():
        outputs = model(batch["image"])
    for task in chosen:  # one image after the other, by hand
        each = []
        meter = task.metrics("pooled")
        for i in range(4):
            target = data[i][task.name][None]
            raw = outputs[task.name][i : i + 1].float()
            each.append(task.loss(F.interpolate(raw, size=target.shape[-2:], mode="bilinear"), target))
            meter.update(task.predict(raw), target)
        assert found[task.name, "loss", ""] == pytest.approx(torch.stack(each).mean().item(), rel=1e-6)
        for name, value in meter.compute().items():
            assert found[task.name, name, "pooled"] == pytest.approx(value.item(), rel=1e-6, nan_ok=True)
    assert {(task, metric, protocol) for task, metric, protocol, _ in floor} == {key for key in found if key[2]}


def test_the_batch_does_not_matter(sample):
    """One image at a time is a batch of one size, as without ``resize``; four of two sizes are a list."""
    apart, together = (measured(sample, batch=batch) for batch in (1, 4))
    assert isinstance(apart[3][2]["parts"], torch.Tensor) and isinstance(together[3][0]["parts"], list)
    for one, other in zip(apart[4] + apart[5], together[4] + together[5], strict=True):
        assert one[:3] == other[:3] and one[3] == pytest.approx(other[3], rel=1e-4, abs=1e-6, nan_ok=True)


def test_what_makes_no_batch_is_said_in_one_line(sample):
    train = datasets.build("pascal-mt", "train", root=sample)
    sized = {"augmentation.name": "astmt", "augmentation.height": 32, "augmentation.width": 32}
    evaluation.check_sizes(recipe(sample, **sized), train)
    evaluation.check_sizes(recipe(sample, batch=1), train)
    for changes, words in (({}, "augmentation 'flip' leaves them so"), (sized | {"resize": []}, r"set resize = \[512")):
        with pytest.raises(KitError, match=words) as error:
            evaluation.check_sizes(recipe(sample, **changes), train)
        assert "\n" not in str(error.value)
    with pytest.raises(KitError, match=r"found 36 x 48 and 48 x 36; set resize"):
        list(evaluation.batches(train, ["image"], recipe(sample, resize=[])))


def test_resize_is_a_size_and_younger_than_the_ids():
    plain = recipes.load("rooms-tiny")
    assert "resize" not in plain.canonical() and plain.input_size((96, 128)) == (96, 128)
    small = recipes.load("rooms-tiny", {"resize": [48, 64]})
    assert small.input_size((96, 128)) == (48, 64) and small.identity("data") != plain.identity("data")
    for size in ([48], [48, 64, 3], [48, 0]):
        with pytest.raises(KitError, match="resize") as error:
            recipes.load("rooms-tiny", {"resize": size})
        assert "\n" not in str(error.value)


def test_resized_inputs_leave_the_targets_of_one_size_in_a_batch():
    small = recipes.load("rooms-tiny", {"resize": [48, 64], "dataset.train": 2, "dataset.test": 2})
    data = datasets.build(small.dataset.name, "test", **small.dataset.options)
    (batch,) = evaluation.batches(data, ["image", *small.tasks], small)
    assert batch["image"].shape == (2, 3, 48, 64) and batch["depth"].shape == (2, 1, *data.size)
    assert torch.equal(batch["depth"][1], data[1]["depth"])
    assert losses.valid_normals(batch["normals"]).any()


# --- the published table ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("protocol", "expected"), [("astmt", -50.0), ("pooled", -50.0 / 3)])
def test_a_report_by_astmt_counts_one_number_a_task(tmp_path, protocol, expected):
    def finished(value, **table):
        run = Run.create(recipes.load("rooms-tiny", {"tasks": ["normals"], **table}), "data", root=tmp_path)
        scores = {"normals/mean": 10.0 * value, "normals/within_30": 0.5, "normals/rmse": 12.0}
        result = {"metrics": {protocol: scores}, "floor": {}, "parameters": 1, "macs": 1, "seconds": 1.0}
        files.write_json(run.folder / "result.json", result)
        run.say("finished")
        return run

    runs = [finished(1.0, **{"architecture.name": "single", "weighting.name": "equal"}), finished(1.5)]
    assert report.entries(runs, protocol)[-1].delta == {0: pytest.approx(expected)}
    assert report.entries(runs, protocol, by="metric")[-1].delta == {0: pytest.approx(-50 / 3)}


def test_the_published_drops_follow_from_the_rows():
    rows = {entry.name.removeprefix("astmt-pascal: "): entry for entry in report.published("astmt-pascal")}
    scores = {name: entry.seeds[0] for name, entry in rows.items()}
    single = scores.pop("single resnet101")
    printed = {name: -rows[name].delta[0] for name in scores}
    drops = {name: metrics.delta_mtl(row, single, by="main", convention="astmt") for name, row in scores.items()}
    assert drops == pytest.approx(printed, abs=0.015) and sorted(printed.values()) == [0.04, 6.81]
    assert single["normals/mean"] == 14.61 and single["edges/ods_f"] == pytest.approx(0.727)
    table = report.table(list(rows.values()))
    assert table.loc["astmt-pascal: astmt resnet101, equal", "Δ_MTL %"] == "-0.04", (
        "positive is better, as everywhere here"
    )
    assert "`published/astmt-pascal.csv`" in (files.checkout() / "data/README.md").read_text()
