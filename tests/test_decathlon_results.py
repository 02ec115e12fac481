"""results.json: ids by the rules of the evaluation server, round trips through generated annotations, the command."""

import json
import shutil

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mtlkit import predict, recipes, training
from mtlkit.datasets import DATASETS, build
from mtlkit.datasets.decathlon_results import results, score_results, write_results
from mtlkit.datasets.visual_decathlon import SETS
from mtlkit.errors import KitError
from mtlkit.scenes.domains import DOMAINS

SOME = ("svhn", "daimlerpedcls")
Decathlon = DATASETS["visual-decathlon"]


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    folder = tmp_path_factory.mktemp("decathlon") / "sample"
    Decathlon.write_sample(folder, 2, domains=SOME)
    return folder


def truth(domain, count):
    """Classes of the drawn test images, in the order of their file names."""
    return [index % len(DOMAINS[domain].classes) for index in range(count)]


def labelled(folder, domain):
    """The test annotations with the labels that the server keeps."""
    content = json.loads((folder / f"{domain}_test_stripped.json").read_text())
    block, classes = SETS[domain].block, truth(domain, len(content["images"]))
    content["annotations"] = [
        {"image_id": image["id"], "category_id": block + 1 + label}
        for image, label in zip(sorted(content["images"], key=lambda i: i["file_name"]), classes, strict=True)
    ]
    path = folder / f"{domain}_test.json"
    path.write_text(json.dumps(content))
    return path


def test_perfect_predictions_score_one_and_shifted_ones_nothing(made, tmp_path):
    folder = shutil.copytree(made / "annotations", tmp_path / "annotations")
    data = build("visual-decathlon", "test", root=made, domains=list(SOME))
    right = {domain: truth(domain, len(data.indices[domain])) for domain in SOME}
    wrong = {d: [(k + 1) % len(DOMAINS[d].classes) for k in labels] for d, labels in right.items()}
    files = [labelled(folder, domain) for domain in SOME]
    for predictions, expected in ((right, 1.0), (wrong, 0.0), (right | {"svhn": wrong["svhn"]}, None)):
        path = tmp_path / "results.json"
        write_results(path, results(predictions, folder))
        expected = {"svhn": 0.0, "daimlerpedcls": 1.0} if expected is None else dict.fromkeys(SOME, expected)
        assert score_results(path, files) == expected


def test_ids_and_their_order_are_those_of_the_page(made):
    """Sets by name; block + 200 000 + a running number over train, val and test."""
    answers = results({"svhn": truth("svhn", 10), "daimlerpedcls": [1, 0]}, made / "annotations")
    assert answers[0] == {"image_id": 30_200_000 + 4 + 2 + 1, "category_id": 30_000_002}
    assert [a["image_id"] for a in answers] == [30_200_007, 30_200_008, *range(80_200_031, 80_200_041)]
    assert [a["category_id"] for a in answers[2:]] == list(range(80_000_001, 80_000_011))
    real = sum(SETS["aircraft"].images[:2]), sum(SETS["aircraft"].images)
    assert (10_200_000 + real[0] + 1, 10_200_000 + real[1]) == (10_206_668, 10_210_000)  # as released


def coco(path, images, annotations=()):
    keys = ("image_id", "category_id")
    content = {
        "images": [{"id": number, "file_name": name} for number, name in images],
        "annotations": [dict(zip(keys, pair, strict=True)) for pair in annotations],
        "categories": [{"id": number} for number in sorted({c for _, c in annotations})],
    }
    path.write_text(json.dumps(content))


@settings(deadline=None, max_examples=25)
@given(categories=st.permutations(range(1, 6)), data=st.data())
def test_classes_are_categories_in_order_of_first_appearance(tmp_path_factory, categories, data):
    """Whatever numbers the class folders have, and in whatever order the file holds its images."""
    folder = tmp_path_factory.mktemp("annotations")
    labels = [0, 0, 1, 2, 2, 3, 4, 4]  # images of val, folder after folder
    images = [(100 + n, f"data/svhn/val/class{k}/{n:06d}.jpg") for n, k in enumerate(labels)]
    labels = [(100 + n, categories[k]) for n, k in enumerate(labels)]
    coco(folder / "svhn_val.json", data.draw(st.permutations(images)), data.draw(st.permutations(labels)))
    test = [(200 + n, f"data/svhn/test/{n:06d}.jpg") for n in range(5)]
    coco(folder / "svhn_test_stripped.json", data.draw(st.permutations(test)))
    predicted = data.draw(st.permutations(range(5)))
    expected = [{"image_id": 200 + n, "category_id": categories[k]} for n, k in enumerate(predicted)]
    assert results({"svhn": predicted}, folder) == expected


def test_annotations_that_do_not_fit_are_named(made, tmp_path):
    folder = shutil.copytree(made / "annotations", tmp_path / "annotations")

    def refused(match, predictions):
        with pytest.raises(KitError, match=match) as error:
            results(predictions, folder)
        assert "\n" not in str(error.value)

    refused("svhn_test_stripped.json names 10 images, found 3", {"svhn": [0, 1, 2]})
    refused("images of 10 categories, found class 10", {"svhn": [10] * 10})
    refused("gtsrb_val.json: missing", {"gtsrb": [0]})
    val = json.loads((folder / "svhn_val.json").read_text())
    for image in val["images"]:  # another order of ids than that of the folders
        image["id"] = -image["id"]
    for annotation in val["annotations"]:
        annotation["image_id"] = -annotation["image_id"]
    (folder / "svhn_val.json").write_text(json.dumps(val))
    refused("not in the order of their class folders", {"svhn": [0] * 10})
    (folder / "svhn_val.json").write_text("{}")
    refused("svhn_val.json: images: Field required", {"svhn": [0] * 10})


def test_every_labelled_image_needs_exactly_one_prediction(made, tmp_path):
    folder = shutil.copytree(made / "annotations", tmp_path / "annotations")
    path, file = tmp_path / "results.json", labelled(folder, "svhn")
    answers = results({"svhn": truth("svhn", 10)}, folder)
    for found, match in ((answers[1:], "0 predictions for image 80200031"), ([*answers, answers[3]], "2 predictions")):
        write_results(path, found)
        with pytest.raises(KitError, match=match):
            score_results(path, [file])
    path.write_text('[{"image_id": 1}]')
    with pytest.raises(KitError, match="0.category_id: Field required; expected a list"):
        score_results(path, [file])


# --- a run ------------------------------------------------------------------------------------------------------------


@pytest.fixture
def run(made):
    table = {
        "name": "small",
        "loop": "per_domain",
        "tasks": list(SOME),
        "dataset": {"name": "visual-decathlon", "root": str(made), "domains": list(SOME), "crop": False},
        "architecture": {"name": "wrn_shared", "depth": 10, "width": 0.0625},
        "augmentation": {"name": "decathlon"},
        "normalise": "domain",
        "statistics": "refresh",
        "epochs": 1,
        "batch": 4,
        "evaluate_on": "validation",
    }
    return training.fit(recipes.make(table), device="cpu", progress=False)


def test_a_run_becomes_results(run, made, tmp_path, mtlkit):
    path = tmp_path / "results.json"
    status, out, err = mtlkit("predict", run.folder, "-o", path, "--device", "cpu")
    assert status == 0, err
    assert "12 predictions" in out
    answers = json.loads(path.read_text())
    predictions, _ = predict.predict_domains(run, device="cpu")
    assert answers == results(predictions, made / "annotations") and len(answers) == 12
    status, _, err = mtlkit("predict", run.folder, "-o", path)
    assert status == 2 and "is there already" in err and json.loads(path.read_text()) == answers
    with pytest.raises(KitError, match="normalises an image by its domain"):
        predict.Predictor(run)


def test_statistics_are_those_of_the_set_that_is_predicted(run, made):
    """The classes of a set are those of its network with the statistics of its own training images."""
    from mtlkit import statistics

    model, recipe = run.model(), run.recipe
    predictions, _ = predict.predict_domains(run, device="cpu")
    test = build("visual-decathlon", "test", root=made, domains=list(SOME))
    train = build("visual-decathlon", "train", root=made, domains=list(SOME))
    for domain in SOME:
        mean, std = (torch.tensor(v).view(3, 1, 1) for v in (SETS[domain].mean, SETS[domain].std))

        def images(data, domain=domain, mean=mean, std=std):
            return [(data[i]["image"] - mean) / std for i in data.indices[domain]]

        seen = torch.stack(images(train)).split(recipe.batch)
        with statistics.refreshed(model, [{"image": batch} for batch in seen], [domain]), torch.no_grad():
            found = torch.cat([model(batch, [domain])[domain] for batch in torch.stack(images(test)).split(4)])
        assert predictions[domain] == found.argmax(1).tolist()


def test_other_runs_are_refused(run, tmp_path):
    run.recipe = run.recipe.model_copy(update={"loop": "joint"})
    with pytest.raises(KitError, match="loop 'joint'; results.json is of visual-decathlon and per_domain"):
        predict.predict_results(run, tmp_path / "results.json")
    assert not (tmp_path / "results.json").exists()
