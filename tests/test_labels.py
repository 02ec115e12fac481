"""One answer for an image: its metrics, its floor, its tables over folds, its pictures, and the recipes of AFANet."""

import math

import matplotlib.pyplot as plt
import numpy as np
import PIL.Image
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mtlkit import architectures, datasets, evaluation, files, metrics, plots, predict, recipes, report, tasks, training
from mtlkit.errors import KitError
from mtlkit.runs import Run

AGE = tasks.classification("age", [f"class {i}" for i in range(8)], ordered=True)
GENDER = tasks.classification("gender", ["man", "woman"])


def measure(task, *pairs):
    metric = task.metrics("pooled")
    for prediction, target in pairs:
        metric.update(torch.tensor(prediction), torch.tensor(target))
    return {name: value.item() for name, value in metric.compute().items()}


# --- metrics ---


def test_accuracy_and_one_off_by_hand():
    # right, one below, one above, two off; the last is not known
    prediction, target = [3, 2, 6, 0, 4], [3, 3, 5, 2, -1]
    assert measure(AGE, (prediction, target)) == {"accuracy": 1 / 4, "one_off": 3 / 4}
    assert measure(GENDER, ([0, 1, 1], [0, 0, -1])) == {"accuracy": 1 / 2}


def test_an_unknown_label_is_not_one_off_from_the_first_class():
    assert all(math.isnan(value) for value in measure(AGE, ([0, 0], [-1, -1])).values())


@settings(deadline=None, max_examples=40)
@given(
    st.lists(st.tuples(st.integers(0, 7), st.integers(-1, 7)), min_size=1, max_size=20).filter(
        lambda pairs: any(true >= 0 for _, true in pairs)
    ),
    st.integers(1, 20),
)
def test_labels_are_counted_alike_however_they_are_cut_into_batches(pairs, size):
    batches = [list(zip(*pairs[i : i + size], strict=True)) for i in range(0, len(pairs), size)]
    found = measure(AGE, *batches)
    predicted, true = np.array([pair for pair in pairs if pair[1] >= 0]).T
    assert found["accuracy"] == pytest.approx((predicted == true).mean())
    assert found["one_off"] == pytest.approx((abs(predicted - true) < 2).mean())


def test_directions_are_those_of_the_numbers_that_there_are():
    assert AGE.directions == {"accuracy": True, "one_off": True} and GENDER.directions == {"accuracy": True}
    assert tasks.parts(["head", "torso"]).directions == {"miou": True}
    assert set(tasks.semantic(["a", "b"]).directions) == {"miou", "pixel_accuracy"}


def test_delta_knows_labels():
    values, base = {"age/accuracy": 0.6, "gender/accuracy": 0.9}, {"age/accuracy": 0.5, "gender/accuracy": 0.9}
    assert metrics.delta_mtl(values, base) == pytest.approx(10)
    with pytest.raises(KitError, match="no direction for 'age/acuracy'"):
        metrics.delta_mtl({"age/acuracy": 1.0}, {"age/acuracy": 1.0})


@pytest.mark.parametrize("protocol", [name for name in metrics.PROTOCOLS if name != "pooled"])
def test_the_protocols_of_papers_do_not_measure_faces(protocol):
    with pytest.raises(KitError, match=f"'{protocol}' does not measure task 'age'"):
        AGE.metrics(protocol)
    assert evaluation.measuring([AGE, GENDER]) == ["pooled"]
    assert evaluation.measuring([tasks.depth(streets=True)]) == list(metrics.PROTOCOLS)
    assert evaluation.measuring([tasks.depth()]) == [name for name in metrics.PROTOCOLS if name != "edgeai"]


@pytest.mark.parametrize(
    ("prediction", "target"),
    [
        (torch.zeros(3, 8), torch.zeros(3).long()),
        (torch.zeros(3), torch.zeros(3).long()),
        (torch.zeros(2).long(), torch.zeros(3).long()),
        (torch.zeros(3, 4, 4).long(), torch.zeros(3, 4, 4).long()),
    ],
)
def test_what_is_no_class_of_an_image_is_refused_in_one_line(prediction, target):
    with pytest.raises(KitError, match=r"expected integer class ids \(B,\).*give task.predict") as caught:
        AGE.metrics("pooled").update(prediction, target)
    assert "\n" not in str(caught.value)


# --- runs on pairs of digits ---

DIGITS = {
    "name": "digits-labels",
    "tasks": ["left", "right"],
    "dataset": {"name": "digits", "train": 48, "test": 20},
    "architecture": {"name": "split", "backbone": "resnet50", "width": 0.0625},
    "weighting": {"name": "dwa"},
    "epochs": 1,
    "batch": 16,
}


@pytest.fixture(scope="module")
def digits(tmp_path_factory):
    """Finished runs: the single nets, hard sharing and AFA."""
    root = tmp_path_factory.mktemp("digits")
    changes = [
        {"tasks": ["left"], "weighting": {"name": "equal"}},
        {"tasks": ["right"], "weighting": {"name": "equal"}},
    ]
    names = ["single", "single", "split", "afa"]
    made = []
    for name, change in zip(names, [*changes, {}, {}], strict=True):
        recipe = recipes.make(DIGITS | change | {"architecture": DIGITS["architecture"] | {"name": name}})
        run = Run.create(recipe, training.fingerprint(*training.load_data(recipe)), root=root)
        made.append(training.fit(recipe, run, device="cpu", progress=False))
    return made


def test_a_run_is_measured_as_by_hand(digits):
    run = digits[-1]
    data, model = datasets.build("digits", "test", train=48, test=20), run.model()
    with torch.no_grad():
        outputs = model(torch.stack([data[i]["image"] for i in range(len(data))]))
    for name in ("left", "right"):
        right = [int(outputs[name][i].argmax()) == int(data[i][name]) for i in range(len(data))]
        assert run.result["metrics"]["pooled"][f"{name}/accuracy"] == pytest.approx(np.mean(right))
    table = evaluation.side_by_side(run, progress=False)
    assert list(table.columns) == ["pooled"] and list(table.index) == ["left/accuracy", "right/accuracy"]


def test_the_floor_is_the_commonest_class_of_training(digits):
    train, test = (datasets.build("digits", split, train=48, test=20) for split in ("train", "test"))
    for name in ("left", "right"):
        commonest = np.bincount([int(train[i][name]) for i in range(len(train))], minlength=10).argmax()
        share = np.mean([int(test[i][name]) == commonest for i in range(len(test))])
        assert digits[-1].result["floor"]["pooled"][f"{name}/accuracy"] == pytest.approx(share)


def test_a_run_may_be_chosen_by_a_label(digits):
    recipe = recipes.make(DIGITS | {"select": "left/accuracy"})
    assert training.check(recipe, datasets.build("digits", "train", train=48))[0].directions == {"accuracy": True}
    with pytest.raises(KitError, match="'left/one_off' is no metric of this run"):
        training.check(recipes.make(DIGITS | {"select": "left/one_off"}), datasets.build("digits", "train", train=48))


def test_tables_and_page_of_labels(digits, tmp_path):
    rows = report.entries(digits)
    table = report.table(rows)
    assert list(table.index) == ["constant (floor)", "single", "split, dwa", "afa, dwa"]
    assert list(table.columns[:2]) == ["left accuracy % ↑", "right accuracy % ↑"] and "folds" not in table
    assert [note.partition(":")[0] for note in report.footnotes(rows)] == ["mean rank"], "two rows compete"
    page = report.write_html(rows, tmp_path / "report.html").read_text()
    assert "left accuracy" in page and len(list((tmp_path / "figures").glob("*.png"))) == 4


def words(figure):
    found = [text.get_text() for axis in figure.axes for text in axis.texts]
    plt.close(figure)
    return found


def test_predictions_of_labels_are_written_out(digits):
    data, model = datasets.build("digits", "test", test=20), digits[2].model()
    with torch.no_grad():
        outputs = model(data[0]["image"][None])
    expected = [x for name in ("left", "right") for x in (int(data[0][name]), int(outputs[name].argmax()))]
    assert words(plots.predictions(model, data, [0])) == list(map(str, expected))
    shown = words(report.side_by_side(report.entries(digits), [0]))
    assert len(shown) == 8 and shown[0] == str(expected[0]) and shown[4] == str(expected[2])
    assert plots.cell_of(GENDER, torch.tensor(1)) == "woman" and plots.cell_of(GENDER, torch.tensor(-1)) == "unknown"


def test_a_label_of_a_persons_own_image_is_a_line_of_text(digits, tmp_path):
    PIL.Image.new("RGB", (50, 40)).save(tmp_path / "mine.png")
    written = list(predict.predict_images(digits[2], [tmp_path / "mine.png"], tmp_path / "out"))
    assert [path.name for path in written] == ["mine-left.txt", "mine-right.txt"]
    assert all(path.read_text().strip() in "0123456789" for path in written)


# --- folds ---


@pytest.fixture
def fake(tmp_path):
    """Write a finished run of afanet-adience without training it."""
    base = tmp_path / "afanet-adience.toml"
    base.write_text('extends = "afanet-adience"\n[sweep]\n')

    def write(fold, value, name="split", chosen=("gender", "age"), **more):
        overrides = {"dataset.fold": fold, "architecture.name": name, "tasks": list(chosen)}
        weighting = "equal" if name == "single" else "dwa"
        recipe = recipes.load(str(base), overrides | {"weighting.name": weighting} | more)
        run = Run.create(recipe, f"fold {fold}", root=tmp_path)
        known = {"gender": ["accuracy"], "age": ["accuracy", "one_off"]}
        keys = [f"{task}/{metric}" for task in recipe.tasks for metric in known[task]]
        files.write_json(
            run.folder / "result.json",
            {
                "metrics": {"pooled": dict.fromkeys(keys, value)},
                "floor": {"pooled": dict.fromkeys(keys, 0.1 * (fold + 1))},
                "selected": None,
                "parameters": 100,
                "macs": 1000,
                "seconds": 10.0,
                "device": "cpu",
                "versions": {},
            },
        )
        run.say("finished")
        return run

    return write


def test_five_folds_make_one_row(fake):
    singles = [fake(fold, 0.5, "single", [task]) for fold in range(5) for task in ("gender", "age")]
    rows = report.entries([*singles, *(fake(fold, 0.5 + 0.1 * fold) for fold in range(5))])
    table = report.table(rows)
    assert list(table.index) == ["constant (floor)", "single", "split, dwa"]
    shown = f"70.00 ± {100 * np.std([0.5, 0.6, 0.7, 0.8, 0.9], ddof=1):.2f}"
    for column in ("gender accuracy % ↑", "age accuracy % ↑", "1-off % ↑"):
        assert table.loc["split, dwa", column] == shown
        assert table.loc["single", column] == "50.00 ± 0.00"
    assert table.loc["constant (floor)", "1-off % ↑"].startswith("30.00 ± "), "every fold has its own floor"
    assert table.loc["split, dwa", ["seeds", "folds"]].tolist() == [1, 5]
    assert report.footnotes(rows) == ["± standard deviation over 5 folds"]
    assert rows[2].delta == {(0, fold): pytest.approx(20 * fold) for fold in range(5)}, "against the same fold"
    assert rows[1].seconds == 20.0 and rows[1].parameters == 200


def test_a_fold_without_its_baseline_has_no_delta(fake):
    singles = [fake(1, 0.5, "single", [task]) for task in ("gender", "age")]
    rows = report.entries([*singles, fake(0, 0.6), fake(1, 0.6)])
    assert rows[-1].delta == {(0, 1): pytest.approx(20)}
    assert report.footnotes(rows) == ["± standard deviation over 1 fold or 2 folds"]


def test_folds_of_several_seeds_are_pooled_and_told(fake):
    rows = report.entries([fake(fold, 0.5, seed=seed) for fold in (0, 1) for seed in (0, 1)])
    assert len(rows[1].seeds) == 4 and report.footnotes(rows) == ["± standard deviation over 2 folds of 2 seeds"]
    (record,) = report.records(rows)[1:]
    assert record["seeds"] == [0, 1] and record["folds"] == [0, 1]
    tidy = report.tidy(rows, "pooled")
    assert set(tidy[tidy.name == "split, dwa"].folds) == {"0 1"}


def test_what_starts_from_single_nets_says_so(fake):
    rows = report.entries([fake(0, 0.5), fake(0, 0.5, "afa", init_from=["single"])])
    assert [row.name for row in rows[1:]] == ["split, dwa", "afa, dwa, from single"]


def test_what_belongs_to_an_architecture_is_no_part_of_its_name(fake):
    rate = "optimiser.multipliers.exchange"
    rows = report.entries([fake(0, 0.5), fake(0, 0.5, "nddr", **{rate: 100})])
    assert [row.name for row in rows[1:]] == ["split, dwa", "nddr, dwa"]
    rows = report.entries([fake(0, 0.5, "nddr"), fake(0, 0.5, "nddr", **{rate: 100})])
    assert [row.name for row in rows[1:]] == ["nddr, dwa", "nddr, dwa, exchange=100.0"]


@pytest.fixture(scope="module")
def faces(tmp_path_factory):
    """A root of drawn faces, and runs: AFA on two folds, hard sharing on the second alone."""
    root = tmp_path_factory.mktemp("faces")
    datasets.DATASETS["adience"].write_sample(root / "adience", 2, size=48)
    small = {"dataset.root": str(root / "adience"), "dataset.resize": 40, "dataset.size": 32, "epochs": 1, "batch": 4}
    made = []
    for name, fold in (("afa", 0), ("afa", 1), ("split", 1)):
        overrides = {"dataset.fold": fold, "architecture.name": name, "architecture.width": 0.0625}
        recipe = recipes.load("afanet-adience-tiny", small | overrides)
        run = Run.create(recipe, training.fingerprint(*training.load_data(recipe)), root=root / "runs")
        made.append(training.fit(recipe, run, device="cpu", progress=False))
    return root / "adience", made


def test_faces_are_trained_and_measured_on_the_held_out_fold(faces):
    root, runs = faces
    first, second, _ = (set(run.result["metrics"]["pooled"]) for run in runs)
    assert first == second == {"gender/accuracy", "age/accuracy", "age/one_off"}
    assert runs[0].folder.name != runs[1].folder.name, "a fold is a run of its own"
    data = datasets.build("adience", "test", root=root, fold=1, resize=40, size=32)
    shown = words(report.side_by_side(report.entries(runs[1:]), [0]))
    names = [data.tasks[task].class_names[int(data[0][task])] for task in ("gender", "age")]
    assert [shown[0], shown[len(shown) // 2]] == names


def test_only_held_out_faces_are_shown(faces):
    """The row without a run of the fold that is shown stays empty: that network was trained on these people."""
    _, (afa_0, _, split_1) = faces
    rows = report.entries([afa_0, split_1])
    assert [row.name for row in rows[1:]] == ["split, dwa", "afa, dwa"] and [row.folds for row in rows[1:]] == [
        [1],
        [0],
    ]
    (_, split, afa), (_, split_too, afa_too) = np.split(np.array(words(report.side_by_side(rows, [0]))), 2)
    assert split and split_too and not afa and not afa_too


def test_a_crop_in_training_leaves_labels_alone(tmp_path):
    root = tmp_path / "adience"
    datasets.DATASETS["adience"].write_sample(root, 1, size=48)
    recipe = recipes.expand("afanet-adience", {"dataset.root": str(root), "dataset.fold": 2})[0]
    train, _ = training.load_data(recipe)
    view = evaluation.View(train, ["image", "age", "gender"], recipe, epoch=0)
    assert view[0]["image"].shape == (3, 224, 224)
    assert [view[i]["age"] for i in range(len(view))] == [train[i]["age"] for i in range(len(train))]


# --- recipes ---


def test_afanet_adience_is_as_its_scripts_train():
    runs = recipes.expand("afanet-adience")
    assert len(runs) == 30 and {run.dataset.options["fold"] for run in runs} == set(range(5))
    for run in runs:
        assert (run.optimiser.name, run.optimiser.lr, run.optimiser.momentum) == ("sgd", 1e-3, 0.9)
        assert (run.optimiser.weight_decay, run.epochs, run.batch) == (5e-4, 50, 32)
        assert (run.schedule.name, run.optimiser.multipliers["heads"]) == ("constant", 10)
        starts = run.architecture.name in ("cross_stitch", "nddr", "afa")
        assert run.init_from == (["single"] if starts else [])
        assert run.weighting.name == ("equal" if run.architecture.name == "single" else "dwa")
    exchange = {run.architecture.name: run.optimiser.multipliers.get("exchange") for run in runs}
    assert exchange == {"single": None, "split": None, "cross_stitch": 100, "nddr": 100, "afa": None}


@pytest.mark.parametrize("name", ["afanet-adience", "afanet-nyuv2", "afanet-rooms"])
def test_what_others_start_from_is_in_the_sweep(name):
    runs = recipes.expand(name)
    planned = {run.identity("data") for run in runs}
    wanted = {single.identity("data") for run in runs if run.init_from for single in run.singles()}
    assert wanted and wanted <= planned


@pytest.mark.parametrize("name", ["afanet-adience", "afanet-nyuv2", "afanet-rooms", "afanet-tiny"])
def test_every_network_of_the_recipes_can_be_built(name):
    known = {"semantic": tasks.semantic([str(i) for i in range(40)]), "depth": tasks.depth()}
    known |= {"age": AGE, "gender": GENDER}
    size = (224, 224) if name == "afanet-adience" else (64, 96)
    for run in {run.architecture.name: run for run in recipes.expand(name)}.values():
        with torch.device("meta"):
            model = run.network(tasks.select(known, run.tasks), size)
        assert all(model.parameter_groups()[group] for group in run.optimiser.multipliers)
        if name == "afanet-adience" and run.architecture.name == "afa":
            assert architectures.count_parameters(model) == 53_342_710, "as measured on AFANet's code"


def test_the_rooms_differ_in_data_and_start_alone():
    for real, twin in zip(recipes.expand("afanet-nyuv2"), recipes.expand("afanet-rooms"), strict=True):
        changed = {"name", "about", "dataset", "pretrained", "normalise"}
        assert real.model_dump(exclude=changed) == twin.model_dump(exclude=changed)
        assert real.dataset.options == {"background": False} and twin.dataset.name == "scenes"


def test_published_faces_stand_beside_ours():
    table = report.table(report.published("adience"))
    assert table.loc["adience: levi-hassner over-sample", "age accuracy % ↑"] == "50.70"
    assert table.loc["adience: levi-hassner single crop", "1-off % ↑"] == "84.60?"
    assert not any("afa" in name for name in table.index), "its numbers are not known"
