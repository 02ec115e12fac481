"""NYUv2: the reader against the rooms its sample was made from, the sample, the command line."""

import json
import os
import pickle
import re

import numpy as np
import pytest
import torch
from damage import change, contents

from mtlkit import recipes, scenes, training
from mtlkit.datasets import DATASETS, build, layout, nyuv2
from mtlkit.errors import KitError
from mtlkit.runs import Run

NYUv2 = DATASETS["nyuv2"]
FIELDS = ("image", "label", "depth", "normal")


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A small sample: 4 images to train, 2 to test."""
    folder = tmp_path_factory.mktemp("nyuv2") / "sample"
    NYUv2.write_sample(folder, height=32, width=64)
    return folder


# --- reading ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("split", "count", "family_split"), [("train", 4, "train"), ("test", 2, "test")])
def test_a_sample_is_read_as_what_was_rendered(made, split, count, family_split):
    data = build("nyuv2", split, root=made)
    assert len(data) == count and data.size == (32, 64)
    for index in range(count):
        room, sample = scenes.sample("rooms", family_split, index, 32, 64), data[index]
        assert {name: (t.dtype, tuple(t.shape)) for name, t in sample.items()} == {
            "image": (torch.float32, (3, 32, 64)),
            "semantic": (torch.int64, (32, 64)),
            "depth": (torch.float32, (1, 32, 64)),
            "normals": (torch.float32, (3, 32, 64)),
            "index": (torch.int64, ()),
        }
        assert all((sample[name].numpy() == room[name]).all() for name in sample if name != "index")
        assert sample["index"] == index and all(t.is_contiguous() for t in sample.values())


def test_a_sample_of_the_true_size_lies_as_the_real_files_do(tmp_path):
    NYUv2.write_sample(tmp_path / "new" / "sample", 1)
    found = {str(path.relative_to(tmp_path / "new" / "sample")) for path in (tmp_path / "new").rglob("*.*")}
    shapes = {"image": (288, 384, 3), "label": (288, 384), "depth": (288, 384, 1), "normal": (288, 384, 3)}
    places = {f"{part}/{field}/0.npy": shapes[field] for part in ("train", "val") for field in FIELDS}
    assert found == {*places, "mtlkit-sample.json"}
    for place, shape in places.items():
        array = np.load(tmp_path / "new" / "sample" / place)
        assert array.dtype == np.float64 and array.shape == shape
    assert NYUv2.check(tmp_path / "new" / "sample") == []
    # without its note it is judged as the real set
    (tmp_path / "new" / "sample" / "mtlkit-sample.json").unlink()
    assert NYUv2.check(tmp_path / "new" / "sample") == ["train: 1 images; expected 795", "val: 1 images; expected 654"]


def test_tasks_and_classes_are_those_of_the_paper(made):
    data = build("nyuv2", "train", root=made)
    assert list(data.tasks) == ["semantic", "depth", "normals"]
    assert data.tasks["semantic"].class_names == (
        "bed", "books", "ceiling", "chair", "floor", "furniture", "objects", "picture", "sofa", "table", "tv", "wall",
        "window",
    )  # fmt: skip


@pytest.mark.parametrize("dtype", ["<f2", "<f4", ">f8"])
@pytest.mark.parametrize("order", ["C", "F"])
def test_every_floating_dtype_and_integer_labels_are_read(made, root, dtype, order):
    for path in root.rglob("*.npy"):
        kind = "int8" if path.parent.name == "label" else dtype
        change(path, lambda a, kind=kind: np.asarray(a, dtype=kind, order=order))
    sample, expected = build("nyuv2", "train", root=root)[1], build("nyuv2", "train", root=made)[1]
    assert all(sample[key].dtype == expected[key].dtype for key in expected)
    assert all(torch.allclose(sample[key], expected[key], rtol=1e-3, atol=1e-3) for key in expected)
    assert NYUv2.check(root) == []


def test_a_number_is_that_of_the_file(made):
    test = build("nyuv2", "test", root=made)
    assert [test.info(i).name for i in range(2)] == ["val/0", "val/1"] and test.info(0).size == (32, 64)
    for index in (-1, 2):
        with pytest.raises(IndexError):
            test[index]
        with pytest.raises(IndexError):
            test.info(index)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """795 training images by name: the published split goes by numbers alone."""
    folder = tmp_path_factory.mktemp("whole")
    for field, shape in (("image", (1, 1, 3)), ("label", (1, 1)), ("depth", (1, 1, 1)), ("normal", (1, 1, 3))):
        (folder / "train" / field).mkdir(parents=True)
        np.save(folder / "train" / field / "0.npy", np.zeros(shape))
        for n in range(1, 795):
            os.link(folder / "train" / field / "0.npy", folder / "train" / field / f"{n}.npy")
    return folder


def test_the_published_validation_images_are_held_out(whole):
    train, validation = (build("nyuv2", split, root=whole, holdout=True) for split in ("train", "validation"))
    names = [[data.info(i).name for i in range(len(data))] for data in (train, validation)]
    assert (len(train), len(validation)) == (716, 79)
    assert set(names[0]) | set(names[1]) == {f"train/{n}" for n in range(795)}
    # the first numbers of the published list, in its own order
    assert {f"train/{n}" for n in (691, 662, 63, 531, 66, 749, 382, 683, 554, 624)} <= set(names[1])
    assert list(nyuv2.HOLDOUT) == sorted(set(nyuv2.HOLDOUT)) and sum(nyuv2.HOLDOUT) == 33291
    assert len(build("nyuv2", "train", root=whole)) == 795


def test_a_sample_holds_out_every_tenth(made):
    train, validation = (build("nyuv2", split, root=made, holdout=True) for split in ("train", "validation"))
    assert [validation.info(i).name for i in range(len(validation))] == ["train/0"]
    assert [train.info(i).name for i in range(len(train))] == ["train/1", "train/2", "train/3"]
    assert torch.equal(train[0]["image"], build("nyuv2", "train", root=made)[1]["image"])
    assert len(build("nyuv2", "test", root=made, holdout=True)) == 2


@pytest.mark.parametrize(
    ("split", "options", "message"),
    [
        ("validation", {}, "no validation split of its own; set holdout=true"),
        ("val", {}, "unknown split 'val'"),
        ("train", {"hold": True}, "did you mean 'holdout'"),
        ("train", {"holdout": 1}, "should be bool"),
    ],
)
def test_what_it_does_not_have_is_refused(made, split, options, message):
    with pytest.raises(KitError, match=message):
        build("nyuv2", split, root=made, **options)


def test_it_is_looked_for_at_root_then_where_the_environment_says(made, tmp_path, monkeypatch):
    monkeypatch.setenv("MTLKIT_DATA", str(made.parent))
    with pytest.raises(KitError, match=f"no nyuv2 at {made.parent}/nyuv2; .*mtlkit data sample nyuv2 DEST"):
        build("nyuv2", "train")
    (tmp_path / "nyuv2").symlink_to(made)
    monkeypatch.setenv("MTLKIT_DATA", str(tmp_path))
    assert len(build("nyuv2", "train")) == 4 and NYUv2.check() == [] and NYUv2.folder() == tmp_path / "nyuv2"
    with pytest.raises(KitError, match="no nyuv2 at .*elsewhere"):
        build("nyuv2", "train", root=tmp_path / "elsewhere")
    monkeypatch.delenv("MTLKIT_DATA")
    assert NYUv2.folder().parts[-2:] == ("data", "nyuv2")


def test_loading_processes_read_the_same(made):
    data = build("nyuv2", "train", root=made)
    expected = [data[i] for i in range(4)]
    loader = torch.utils.data.DataLoader(data, batch_size=2, num_workers=2)
    for start, batch in zip((0, 2), loader, strict=True):
        for key, values in batch.items():
            assert all(torch.equal(values[i], expected[start + i][key]) for i in range(2))
    twin = pickle.loads(pickle.dumps(data))  # as where processes are not forked
    assert torch.equal(twin[3]["depth"], expected[3]["depth"]) and twin.fingerprint == data.fingerprint


def test_the_fingerprint_changes_with_the_data_and_with_nothing_else(made, root):
    def mark(split="train", folder=root, **options):
        return build("nyuv2", split, root=folder, **options).fingerprint

    original = mark()
    assert original == mark(folder=made) and original.startswith("nyuv2-train4-32x64-")
    assert len({original, mark("test"), mark(holdout=True), mark("validation", holdout=True)}) == 4
    for path in (root / "train").rglob("*.npy"):  # one value in the middle of any file
        before = path.read_bytes()
        change(path, lambda a: a.put(a.size // 2, 0.125))
        assert mark() != original, path
        path.write_bytes(before)
        assert mark() == original
    change(root / "train" / "depth" / "2.npy", lambda a: a.astype(np.float32))
    assert mark() != original and mark("test") == mark("test", made)


def test_a_network_trains_on_it_with_the_augmentation_of_mtan(made, tmp_path):
    table = recipes.read("rooms-tiny") | {"epochs": 1, "augmentation": {"name": "mtan"}}
    recipe = recipes.make(table | {"dataset": {"name": "nyuv2", "root": str(made), "holdout": True}, "batch": 3})
    run = Run(tmp_path / "run")
    run.folder.mkdir()
    result = training.fit(recipe, run, device="cpu", progress=False).result
    assert all(np.isfinite(value) for value in result["metrics"]["pooled"].values())


# --- writing a sample -------------------------------------------------------------------------------------------------


def test_the_same_sample_twice_is_the_same_bytes(made, tmp_path):
    (tmp_path / "again").mkdir()  # an empty folder is welcome
    NYUv2.write_sample(tmp_path / "again", height=32, width=64)
    assert list(contents(made).values()) == list(contents(tmp_path / "again").values())
    note = json.loads((made / "mtlkit-sample.json").read_text())
    assert note["counts"] == {"train": 4, "val": 2} and note["size"] == [32, 64]
    assert "rooms" in note["made_from"] and set(note["versions"]) == {"mtlkit", "rooms"}


@pytest.mark.parametrize("kind", ["folder", "file"])
def test_nothing_is_overwritten(tmp_path, kind):
    dest = tmp_path / "dest"
    if kind == "folder":
        dest.mkdir()
        (dest / "mine.txt").write_text("mine")
    else:
        dest.write_text("mine")
    before = contents(tmp_path)
    with pytest.raises(KitError, match="holds something already and is left as it is"):
        NYUv2.write_sample(dest, 1, height=32, width=64)
    assert contents(tmp_path) == before


def test_a_sample_that_was_broken_off_leaves_nothing(tmp_path, monkeypatch):
    def stop(shot, *size):
        rendered.append(shot)
        if len(rendered) == 2:
            raise KeyboardInterrupt
        return original(shot, *size)

    rendered, original = [], scenes.Shot.render
    monkeypatch.setattr(scenes.Shot, "render", stop)
    with pytest.raises(KeyboardInterrupt):
        NYUv2.write_sample(tmp_path / "dest", height=32, width=64)
    assert not list(tmp_path.iterdir())


def test_where_nothing_can_be_written_is_said(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(KitError, match="name a folder that you may write to"):
        NYUv2.write_sample(tmp_path / "file" / "dest", 1, height=32, width=64)
    with pytest.raises(KitError, match="at least one image"):
        NYUv2.write_sample(tmp_path / "dest", 0)
    with pytest.raises(KitError, match="there is no sample of 'scenes'"):
        DATASETS["scenes"].write_sample(tmp_path / "dest")


def test_a_folder_that_fills_meanwhile_is_left_alone(tmp_path):
    with pytest.raises(KitError, match="holds something already"):
        with layout.new_folder(tmp_path / "dest"):
            (tmp_path / "dest").mkdir()
            (tmp_path / "dest" / "mine.txt").write_text("mine")
    assert [path.name for path in tmp_path.iterdir()] == ["dest"]


# --- the command line -------------------------------------------------------------------------------------------------


def test_list_sample_check_and_show(tmp_path, mtlkit):
    assert re.search(r"^nyuv2 +absent ", mtlkit("data", "list")[1], re.M)
    assert mtlkit("data", "sample", "nyuv2", "data/nyuv2", "--count", "1")[0] == 0
    assert re.search(rf"^nyuv2 +present +{tmp_path}/data/nyuv2$", mtlkit("data", "list")[1], re.M)
    assert mtlkit("data", "check", "nyuv2")[:2] == (0, "nyuv2: present and sound\n")
    shown = mtlkit("data", "show", "nyuv2", "--split", "test", "--root", "data/nyuv2", "-o", "sheet.png")
    assert shown[:2] == (0, "sheet.png\n") and (tmp_path / "sheet.png").read_bytes().startswith(b"\x89PNG")
    (tmp_path / "data/nyuv2/val/label/0.npy").unlink()
    status, report, error = mtlkit("data", "check", "nyuv2", "--root", "data/nyuv2")
    assert status == 2 and report == "val/label/0.npy: missing; expected as in image, depth, normal\n"
    assert error.endswith("mend the files named above and check again\n")
    status, _, error = mtlkit("data", "sample", "nyuv2", "data/nyuv2")
    assert status == 2 and "left as it is" in error


def test_options_of_a_dataset_can_be_given_to_show(made, mtlkit):
    words = ("data", "show", "nyuv2", "--split", "validation", "--root", made)
    status, _, error = mtlkit(*words)
    assert status == 2 and "set holdout=true" in error
    assert mtlkit(*words, "-p", "holdout=true")[:2] == (0, "contact-sheet.png\n")
    status, _, error = mtlkit(*words, "-p", "hold=true")
    assert status == 2 and "did you mean 'holdout'" in error


def test_scenes_render_no_more_than_is_shown(mtlkit, tmp_path):
    words = ("--split", "validation", "--count", "1", "--root", tmp_path, "-p", "height=32", "-p", "width=64")
    assert mtlkit("data", "show", "scenes", *words)[:2] == (0, "contact-sheet.png\n")
    assert [path.name.split("-")[1] for path in tmp_path.glob("rooms*/")] == ["validation1"]
