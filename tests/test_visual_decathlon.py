"""The Visual Decathlon: the reader against the drawings its sample was made from, the sample, the command line."""

import json
import pickle
import shutil
import sys
from pathlib import Path

import numpy as np
import PIL.Image
import pytest
import torch
from damage import contents

from mtlkit import cli, plots
from mtlkit.datasets import DATASETS, build
from mtlkit.datasets.visual_decathlon import SETS
from mtlkit.errors import KitError
from mtlkit.scenes.domains import DOMAINS, picture

Decathlon = DATASETS["visual-decathlon"]
SOME = ("svhn", "daimlerpedcls", "aircraft")  # square, upright and grey, wide
COUNTS = {"svhn": (20, 10, 10), "daimlerpedcls": (4, 2, 2), "aircraft": (12, 6, 6)}
DATA = "decathlon-1.0-data"


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A sample of three sets, two images of each class to train."""
    folder = tmp_path_factory.mktemp("decathlon") / "sample"
    Decathlon.write_sample(folder, 2, domains=SOME)
    return folder


def read(root, split="train", **options):
    return build("visual-decathlon", split, root=root, **{"domains": list(SOME)} | options)


# --- reading ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("split", "part"), [("train", 0), ("validation", 1), ("test", 2)])
def test_a_sample_is_read_as_what_was_drawn(made, split, part):
    data = read(made, split)
    assert len(data) == sum(COUNTS[domain][part] for domain in SOME)
    assert {domain: len(found) for domain, found in data.indices.items()} == {d: COUNTS[d][part] for d in SOME}
    for domain in SOME:
        classes = DOMAINS[domain].classes
        for index in data.indices[domain]:
            sample, name = data[index], data.info(index).name.split("/")
            assert {key: (t.dtype, tuple(t.shape)) for key, t in sample.items()} == {
                "image": (torch.float32, (3, 72, 72)),
                **{task: (torch.int64, ()) for task in SOME},
                "domain": (torch.int64, ()),
                "index": (torch.int64, ()),
            }
            number = int(name[-1].removesuffix(".jpg")) - 1
            label = -1 if split == "test" else classes.index(name[2])
            drawn, hidden = picture(domain, split, number if split == "test" else number * len(classes) + label)
            assert split == "test" or hidden == label
            assert data.domains[sample["domain"]] == domain
            assert sample["index"] == index and {task: int(sample[task]) for task in SOME} == {
                task: label if task == domain else -1 for task in SOME
            }
            assert data.info(index).size == drawn.shape[:2]
            top, left = (round((n - 72) / 2) for n in drawn.shape[:2])
            middle = torch.from_numpy(drawn[top : top + 72, left : left + 72] / 255).permute(2, 0, 1)
            error = (sample["image"] - middle).abs()
            assert error.mean() < 0.02 and error.max() < 0.25, "no more than what JPEG loses"


def test_tasks_are_the_domains(made):
    data = read(made)
    assert list(data.tasks) == list(data.domains) == list(SOME)
    for name, task in data.tasks.items():
        assert task.class_names == DOMAINS[name].classes and task.channels == len(task.class_names)
    batch = torch.utils.data.default_collate([data[data.indices[domain][0]] for domain in SOME])
    for position, (name, task) in enumerate(data.tasks.items()):
        assert task.valid(batch[name]).tolist() == [n == position for n in range(3)]
        raw = torch.zeros(3, task.channels, requires_grad=True)
        loss = task.loss(raw, batch[name])
        assert loss.item() == pytest.approx(np.log(task.channels))
        loss.backward()
        assert [bool(row.any()) for row in raw.grad] == [n == position for n in range(3)], "others do not count"
        assert task.predict(raw).shape == batch[name].shape and task.constant([batch[name]]).sum() == 1


def test_a_domain_is_measured_by_its_accuracy_under_pooled_alone(made):
    task = read(made).tasks["svhn"]
    meter = task.metrics("pooled")
    meter.update(torch.tensor([1, 2, 3, 0]), torch.tensor([1, 0, 3, -1]))
    assert meter.compute()["accuracy"].item() == pytest.approx(2 / 3) and task.directions == {"accuracy": True}
    with pytest.raises(KitError, match="does not measure") as error:
        task.metrics("mtan")
    assert "\n" not in str(error.value)


def test_training_images_can_be_left_whole(made):
    whole, cropped = read(made, crop=False), read(made)
    sizes = {domain: {tuple(whole[i]["image"].shape[1:]) for i in whole.indices[domain]} for domain in SOME}
    assert sizes["svhn"] == {(72, 72)} and sizes["daimlerpedcls"] == {(144, 72)}
    assert all(height == 72 and width > 72 for height, width in sizes["aircraft"])
    for index in range(len(whole)):
        height, width = whole[index]["image"].shape[1:]
        top, left = round((height - 72) / 2), round((width - 72) / 2)
        middle = whole[index]["image"][:, top : top + 72, left : left + 72]
        assert torch.equal(middle, cropped[index]["image"])
    assert read(made, "validation", crop=False)[0]["image"].shape == (3, 72, 72)


def test_middle_and_resizing_are_those_of_torchvision(root):
    """The oracle of the released code: Resize(72), CenterCrop(72)."""
    from torchvision.transforms import CenterCrop, Resize

    data = read(root, domains=["aircraft"])
    for index, size in enumerate([(100, 155), (155, 100), (36, 50), (72, 99), (72, 101), (99, 72)]):
        path = root / DATA / data.info(index).name
        noise = np.random.default_rng(index).integers(0, 256, (*size, 3), dtype=np.uint8)
        PIL.Image.fromarray(noise).save(path, quality=100)
        expected = CenterCrop(72)(Resize(72)(PIL.Image.open(path).convert("RGB")))
        ours = data[index]["image"].permute(1, 2, 0).numpy()
        assert (np.rint(ours * 255) == np.asarray(expected)).all(), size


def test_the_images_of_test_may_lie_in_one_folder_or_none(root):
    before = [read(root, "test")[i]["image"] for i in range(18)]
    for domain in SOME:
        for path in (root / DATA / domain / "test" / "unlabelled").iterdir():
            path.rename(path.parent.parent / path.name)
        (root / DATA / domain / "test" / "unlabelled").rmdir()
    after = read(root, "test")
    assert all(torch.equal(before[i], after[i]["image"]) for i in range(18))
    assert after.info(0).name == "svhn/test/000001.jpg" and Decathlon.check(root) == []
    (root / DATA / "svhn/test/a").mkdir()
    (root / DATA / "svhn/test/b").mkdir()
    with pytest.raises(KitError, match="svhn/test: 2 folders; expected the images in one folder"):
        read(root, "test")


def test_domains_can_be_chosen(made):
    svhn, all_three = read(made, domains=["svhn"]), read(made)
    assert list(svhn.tasks) == ["svhn"] and set(svhn[3]) == {"image", "svhn", "domain", "index"}
    assert torch.equal(svhn[3]["image"], all_three[all_three.indices["svhn"][3]]["image"])
    assert list(read(made, domains=["aircraft", "svhn"]).tasks) == ["aircraft", "svhn"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"domains": ["svnh"]}, "unknown domain 'svnh': did you mean 'svhn'"),
        ({"domains": "notimagenett"}, "did you mean 'notimagenet'"),
        ({"domains": "svhn"}, "or give a list of names"),
        ({"domains": []}, "each set once"),
        ({"domains": ["svhn", "svhn"]}, "each set once"),
        ({"domains": 3}, "should be"),
        ({"crop": 1}, "should be bool"),
        ({"domains": "notimagenet"}, "cifar100/train: cannot be listed"),
        (
            {"domains": "all"},
            "imagenet12/train: cannot be listed .*; domains='notimagenet' leaves it out; type: mtlkit",
        ),
    ],
)
def test_what_there_is_not_is_refused(made, options, message):
    with pytest.raises(KitError, match=message) as error:
        read(made, **options)
    assert "\n" not in str(error.value)
    with pytest.raises(KitError, match="unknown split 'val'"):
        read(made, "val")


def test_folders_that_do_not_fit_are_refused(root):
    (root / DATA / "svhn/val/7").rename(root / DATA / "svhn/val/seven")
    with pytest.raises(
        KitError, match="svhn/val: its 10 class folders are not the 10 of train; type: mtlkit data check"
    ):
        read(root, "validation")
    shutil.rmtree(root / DATA / "svhn/train/3")
    (root / DATA / "svhn/train/3").mkdir()
    with pytest.raises(KitError, match="svhn/train/3: no images"):
        read(root)
    shutil.rmtree(root / DATA / "svhn/train")
    (root / DATA / "svhn/train").mkdir()
    with pytest.raises(KitError, match="svhn/train: no class folders"):
        read(root)


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (lambda path: path.unlink(), "is missing"),
        (lambda path: path.write_bytes(path.read_bytes()[:900]), "cannot be read; expected a JPEG or PNG image"),
        (lambda path: path.write_bytes(b""), "cannot be read; expected a JPEG or PNG image, found: not an image"),
        (lambda path: path.write_bytes(pickle.dumps([1])), "found: not an image"),
        (lambda path: (path.unlink(), path.symlink_to("/etc/hostname")), "is a link that leads out"),
        (
            lambda path: PIL.Image.new("L", (60000, 2)).save(path),
            "has 2 x 60000 pixels; expected a picture, not a line",
        ),
    ],
)
def test_a_file_that_cannot_be_read_is_named(root, damage, words):
    data = read(root)
    index = data.indices["aircraft"][5]
    place = f"{DATA}/{data.info(index).name}"
    damage(root / place)
    for call in (data.__getitem__, data.info):
        with pytest.raises(KitError) as error:
            call(index)
        assert str(error.value).startswith(f"{place}: ") and words in str(error.value) and "\n" not in str(error.value)
        assert str(error.value).endswith(f"; type: mtlkit data check visual-decathlon --root {root}")
    assert data[0]["image"].shape == (3, 72, 72)


def test_an_index_beyond_the_end_is_an_index_error(made):
    data = read(made)
    for index in (-1, 36):
        with pytest.raises(IndexError):
            data[index]


def test_loading_processes_read_the_same(made):
    data = read(made)
    batches = list(torch.utils.data.DataLoader(data, batch_size=18, num_workers=2))
    assert all(torch.equal(batches[1]["image"][i], data[18 + i]["image"]) for i in range(18))
    twin = pickle.loads(pickle.dumps(data))
    assert torch.equal(twin[30]["image"], data[30]["image"]) and twin.fingerprint == data.fingerprint


def test_the_fingerprint_changes_with_the_data_and_with_nothing_else(made, root):
    original = read(root).fingerprint
    assert original == read(made).fingerprint and original.startswith("visual-decathlon-train36-")
    assert len({original, read(root, "validation").fingerprint, read(root, domains=["svhn"]).fingerprint}) == 3
    path = root / DATA / "svhn/train/4/000002.jpg"
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2] + b"?" + content[len(content) // 2 + 1 :])
    assert read(root).fingerprint != original
    path.write_bytes(content)
    path.rename(path.with_name("000003.jpg"))
    assert read(root).fingerprint != original


def test_a_glance_shows_every_domain(made):
    data = read(made)
    names = [data.info(i).name.split("/")[0] for i in data.glance(7)]
    assert {name: names.count(name) for name in names} == {"svhn": 3, "daimlerpedcls": 2, "aircraft": 2}
    assert len(set(data.glance(7))) == 7 and len(data.glance(1000)) <= len(data)
    assert len({int(data[i]["svhn"]) for i in data.glance(9) if data[i]["svhn"] >= 0}) == 3, "several classes"


# --- what is written --------------------------------------------------------------------------------------------------


def test_the_same_sample_twice_is_the_same_bytes(made, tmp_path):
    Decathlon.write_sample(tmp_path / "again", 2, domains=SOME)
    assert contents(made) == contents(tmp_path / "again")


def test_a_note_says_what_the_sample_is_and_what_it_stands_for(made):
    note = json.loads((made / "mtlkit-sample.json").read_text())
    assert note["dataset"] == "visual-decathlon" and "not real data" in note["made_from"]
    assert note["counts"]["aircraft/val"] == 6 and note["classes"] == {"svhn": 10, "daimlerpedcls": 2, "aircraft": 6}
    assert note["real"]["aircraft"] == {"classes": 100, "train": 3334, "val": 3333, "test": 3333}


def test_ids_follow_the_rules_of_the_devkit(made):
    """Image ids: block + 200000 + 1, 2, ... over train, val, test; category ids: block + 1, 2, ..."""
    files = {part: json.loads((made / f"annotations/aircraft_{part}.json").read_text())
             for part in ("train", "val", "test_stripped")}  # fmt: skip
    ids = [[image["id"] for image in files[part]["images"]] for part in files]
    assert sum(ids, []) == list(range(10_200_001, 10_200_025))
    assert [c["id"] for c in files["val"]["categories"]] == list(range(10_000_001, 10_000_007))
    assert [c["name"] for c in files["val"]["categories"]] == list(DOMAINS["aircraft"].classes)
    assert files["test_stripped"]["annotations"] == []
    assert files["test_stripped"]["images"][0]["file_name"] == "data/aircraft/test/000001.jpg"
    # the released conversion: categories of the sorted val images, in order of first appearance, are the class indices
    category = {a["image_id"]: a["category_id"] for a in files["val"]["annotations"]}
    assert list(dict.fromkeys(category[i] for i in sorted(ids[1]))) == list(range(10_000_001, 10_000_007))
    # with the real numbers: the first and last test image of aircraft, as released
    train, val, test = SETS["aircraft"].images
    assert (10_200_001 + train + val, 10_200_000 + train + val + test) == (10_206_668, 10_210_000)


def test_nothing_is_overwritten_and_nothing_half_written(made, tmp_path):
    (tmp_path / "dest").mkdir()
    (tmp_path / "dest" / "mine.txt").write_text("mine")
    with pytest.raises(KitError, match="left as it is"):
        Decathlon.write_sample(tmp_path / "dest", 1, domains=["svhn"])
    for wrong in ({"count": 0}, {"domains": ["svnh"]}):
        with pytest.raises(KitError):
            Decathlon.write_sample(tmp_path / "new", **wrong)
    assert [path.name for path in tmp_path.iterdir()] == ["dest"]


# --- the command line and pictures ------------------------------------------------------------------------------------


def test_sample_check_and_show(tmp_path, monkeypatch, capsys):
    def mtlkit(*words):
        monkeypatch.setattr(sys, "argv", ["mtlkit", "data", *map(str, words)])
        with pytest.raises(SystemExit) as end:
            cli.main()
        return end.value.code, *capsys.readouterr()

    monkeypatch.chdir(tmp_path)
    assert mtlkit("sample", "visual-decathlon", "d", "--count", "1")[0] == 0
    assert mtlkit("check", "visual-decathlon", "--root", "d")[:2] == (0, "visual-decathlon: present and sound\n")
    for words in (["--count", "12"], ["--split", "test", "-p", 'domains=["svhn"]']):
        shown = mtlkit("show", "visual-decathlon", "--root", "d", "-o", "sheet.png", *words)
        assert shown[:2] == (0, "sheet.png\n") and Path("sheet.png").read_bytes().startswith(b"\x89PNG")
    assert len(build("visual-decathlon", "train", root="d").tasks) == 10
    assert list(build("visual-decathlon", "train", root="d", domains="notimagenet").tasks) == list(SETS)[1:]
    Path("d", DATA, "svhn/val/0/000001.jpg").unlink()
    status, report, _ = mtlkit("check", "visual-decathlon", "--root", "d")
    assert status == 2 and "svhn/val: 9 images; expected 10\n" in report


def test_a_sheet_names_the_class_under_its_picture(made):
    data = read(made)
    figure = plots.samples(data, [0, data.indices["aircraft"][0]])
    assert [axis.get_title() for axis in figure.axes] == ["svhn: 0", "aircraft: 747-400"]
    unknown = plots.samples(read(made, "test"), [0])
    assert [axis.get_title() for axis in unknown.axes] == ["unknown"]
