"""Cityscapes: both forms against the streets their samples were made from, its labels, its disparities, ``prepare``."""

import json
import pickle
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from damage import contents
from hypothesis import given, settings
from hypothesis import strategies as st

from mtlkit import evaluation, scenes
from mtlkit.datasets import DATASETS, build, layout
from mtlkit.datasets import cityscapes_official as official
from mtlkit.datasets.cityscapes_official import LABELS, TAXONOMIES, Calibration
from mtlkit.errors import KitError

Cityscapes = DATASETS["cityscapes"]
FORMS = ("npy", "official")
SIZE = (32, 64)
CAMERA = Calibration(0.209313, 2262.52)  # the page of cityscapesScripts' facts: most recordings


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A small sample of each form: 4 images to train, 2 to test."""
    folder = tmp_path_factory.mktemp("cityscapes")
    for form in FORMS:
        Cityscapes.write_sample(folder / form, form=form, height=SIZE[0], width=SIZE[1])
    return folder


@pytest.fixture
def roots(made, tmp_path):
    """A copy of both to change."""
    return Path(shutil.copytree(made, tmp_path / "copy"))


# --- reading ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize(("split", "count"), [("train", 4), ("test", 2)])
def test_a_sample_is_read_as_what_was_rendered(made, form, split, count):
    data = build("cityscapes", split, root=made / form, classes=19)
    assert len(data) == count and data.size == SIZE and data.form == form
    baseline = 0.209313 if split == "train" else 0.222126
    width = 2048 if form == "npy" else SIZE[1]  # of the image whose pixels the disparity counts
    for index in range(count):
        street, sample = scenes.sample("streets", split, index, *SIZE), data[index]
        expected = {
            "image": (torch.float32, (3, *SIZE)),
            "semantic": (torch.int64, SIZE),
            "disparity": (torch.float32, (1, *SIZE)),
            "index": (torch.int64, ()),
        }
        if form == "official":
            expected["depth"] = expected["disparity"]
        assert {name: (t.dtype, tuple(t.shape)) for name, t in sample.items()} == expected
        assert all(t.is_contiguous() for t in sample.values())
        assert np.abs(sample["image"].numpy() - street["image"]).max() < 0.51 / 255
        label, inner = sample["semantic"].numpy(), np.s_[1:-2, 1:-1]
        assert (label[inner] == street["semantic"][inner]).all()
        assert (label[-2:] == -1).all() and (label[0] == -1).all() and (label[:, [0, -1]] == -1).all()
        depth, p = street["depth"], sample["disparity"].numpy() * 65535
        assert ((p == 0) == (depth == 0)).all() and (p == 0).any(), "the sky has no disparity"
        seen = depth > 0
        d = baseline * 2262.52 * width / 2048 / depth[seen]
        assert np.abs(p[seen] - 1 - 256 * d).max() < 0.51
        if form == "official":
            metres = sample["depth"].numpy()
            assert (metres[~seen] == 0).all() and (np.abs(metres[seen] / depth[seen] - 1) < 0.6 / (256 * d)).all()


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("classes", [2, 7, 19])
def test_both_forms_have_the_same_labels(made, form, classes):
    data, names = build("cityscapes", "train", root=made / form, classes=classes), TAXONOMIES[classes].names
    assert data.tasks["semantic"].class_names == names and len(names) == classes
    fine = build("cityscapes", "train", root=made / "official", classes=19)
    for index in range(4):
        label, nineteen = data[index]["semantic"].numpy(), fine[index]["semantic"].numpy()
        for number, name in enumerate(TAXONOMIES[19].names):
            found = set(label[nineteen == number])
            assert found <= {TAXONOMIES[classes].table[LABELS.index(name)]}
        assert set(label[nineteen == -1]) == {0 if classes == 2 else -1}, (
            "void is background where there are two classes"
        )


def test_tasks_are_those_of_the_form(made, roots):
    assert list(build("cityscapes", "test", root=made / "npy").tasks) == ["semantic", "disparity"]
    assert list(build("cityscapes", "test", root=made / "official").tasks) == ["semantic", "disparity", "depth"]
    shutil.rmtree(roots / "official/camera")  # without calibrations there is no depth
    data = build("cityscapes", "test", root=roots / "official")
    assert list(data.tasks) == ["semantic", "disparity"] and set(data[0]) == {"image", "semantic", "disparity", "index"}
    assert Cityscapes.check(roots / "official") == [] and "no metric depth" in Cityscapes.variant(roots / "official")


def test_names_and_what_it_does_not_have(made, roots):
    test = build("cityscapes", "test", root=made / "official")
    place = "val/streets/streets_00000{}_000019"
    assert [test.info(i).name for i in range(2)] == [place.format(i) for i in range(2)] and test.info(0).size == SIZE
    assert build("cityscapes", "test", root=made / "npy").info(1).name == "val/1"
    with pytest.raises(IndexError):
        test[2]
    shutil.rmtree(roots / "npy/train/label_2")
    shutil.rmtree(roots / "npy/val/label_2")
    assert Cityscapes.check(roots / "npy") == []
    for form, split, options, message in [
        ("npy", "validation", {}, "unknown split 'validation'"),
        ("npy", "train", {"classes": "7"}, "should be int"),
        ("npy", "train", {"class": 7}, "did you mean 'classes'"),
        ("npy", "train", {"classes": 8}, "no 8 classes of cityscapes; choose from 2, 5, 7, 19"),
        ("npy", "train", {"classes": 5}, "no labels of 5 classes in .*only the official files have others"),
        ("npy", "train", {"classes": 2}, "no labels of 2 classes in .*found labels of 7 and 19 classes"),
        ("npy", "train", {"height": 16, "width": 32}, "are of 32 x 64 pixels, not 16 x 32"),
        ("official", "train", {"height": 16}, "given together.*16 and None"),
        ("official", "train", {"height": 0, "width": 8}, "each from 1 up; found 0 and 8"),
    ]:
        with pytest.raises(KitError, match=message):
            build("cityscapes", split, root=roots / form, **options)
    assert build("cityscapes", "train", root=roots / "npy", height=32, width=64).size == SIZE


def test_the_fingerprint_changes_with_the_data_and_with_what_is_read_of_them(made, roots):
    def mark(split="train", form="official", folder=roots, **options):
        return build("cityscapes", split, root=folder / form, **options).fingerprint

    original = mark()
    assert original == mark(folder=made) and original.startswith("cityscapes-official7-train4-32x64-")
    assert len({original, mark("test"), mark(classes=5), mark(form="npy"), mark(height=16, width=32)}) == 5
    path = next((roots / "official/camera/train/streets").iterdir())
    path.write_text(path.read_text().replace("0.209313", "0.222126"))
    assert mark() != original and mark("test") == mark("test", folder=made)


@pytest.mark.parametrize("form", FORMS)
def test_it_can_be_sent_to_another_process_and_measured(made, form):
    data = build("cityscapes", "train", root=made / form)
    sent = pickle.loads(pickle.dumps(data))
    assert all(torch.equal(sent[2][name], tensor) for name, tensor in data[2].items())
    batches = torch.utils.data.DataLoader(data, batch_size=2, num_workers=1)
    rows = evaluation.floor(data, list(data.tasks.values()), batches, ["pooled"])
    assert {row[0] for row in rows} == set(data.tasks) and all(np.isfinite(row[-1]) for row in rows if row[1] != "miou")


# --- labels -----------------------------------------------------------------------------------------------------------


def test_the_19_classes_are_those_that_cityscapes_scores():
    scored = [7, 8, 11, 12, 13, 17, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 31, 32, 33]
    table = TAXONOMIES[19].table
    assert table[scored].tolist() == list(range(19)) and (np.delete(table, scored) == -1).all()
    assert TAXONOMIES[19].names == scenes.FAMILIES["streets"].classes


def test_coarser_classes_are_made_of_the_19():
    seven = [0, 0, 1, 1, 1, 2, 2, 2, 3, 3, 4, 5, 5, 6, 6, 6, 6, 6, 6]  # of each of the 19
    names = ("flat", "construction", "object", "nature", "sky", "human", "vehicle")
    nineteen, table = TAXONOMIES[19].table, TAXONOMIES[7].table
    assert TAXONOMIES[7].names == names and (table == np.array([*seven, -1])[nineteen]).all()
    foreground = {i for i, name in enumerate(LABELS) if TAXONOMIES[2].table[i] == 1}
    assert foreground == set(range(24, 34)) and TAXONOMIES[2].table.min() == 0, "nothing is ignored"


def test_the_five_classes_of_edgeai():
    table = TAXONOMIES[5].table
    found = [set(np.flatnonzero(table == i)) for i in range(4)]
    assert found == [{7}, {23}, {24, 25}, {*range(26, 34), 255}] and (np.unique(table) == range(5)).all()


# --- disparity --------------------------------------------------------------------------------------------------------


def test_metres_are_those_of_the_released_code():
    p = np.array([0, 2, 476, 500, 513, 1000, 5000, 10000, 20000, 30000, 32257, 65535])
    metres = [0, 255, 255, 242.9562, 236.7874, 121.3565, 24.2519, 12.1247, 6.0621, 4.0413, 3.7585, 1.85]
    assert np.allclose(official.metres(p, CAMERA), metres, rtol=3e-5)
    assert official.metres(np.array([1]), CAMERA) == 255, "infinitely far, and not 1 m as there"


@settings(deadline=None)
@given(st.floats(1.9, 254), st.floats(0.1, 1), st.floats(100, 3000))
def test_depth_comes_back_from_disparity(depth, baseline, fx):
    camera = Calibration(baseline, fx)
    p = official.disparities(np.array([0.0, depth]), camera)
    if p[1] < 65535:
        assert p[0] == 0 and p[1] >= 1
        back = official.metres(p, camera)
        d, found = baseline * fx / depth, baseline * fx / back[1]
        assert back[0] == 0 and (abs(found - d) < 0.51 / 256 or back[1] == 255)


def test_a_smaller_size_is_made_of_means_and_of_middles(made):
    root = made / "official"
    whole, half = build("cityscapes", "train", root=root), build("cityscapes", "train", root=root, height=16, width=32)
    assert half.size == (16, 32) and half.info(0).size == (16, 32)
    for index in range(4):
        large, small = whole[index], half[index]
        means = large["image"].unfold(1, 2, 2).unfold(2, 2, 2).mean((-1, -2))
        assert (small["image"] - means).abs().max() < 0.51 / 255
        for name in ("semantic", "disparity", "depth"):  # metres and recorded disparities do not change with the size
            assert torch.equal(small[name], large[name][..., 1::2, 1::2])
    odd = build("cityscapes", "train", root=root, height=24, width=80)[0]
    assert odd["image"].shape == (3, 24, 80) and set(odd["depth"].unique().tolist()) <= set(
        whole[0]["depth"].unique().tolist()
    )


# --- prepare ----------------------------------------------------------------------------------------------------------


def test_arrays_are_prepared_from_official_files(tmp_path):
    source, root = tmp_path / "official", tmp_path / "arrays"
    Cityscapes.write_sample(source, 1, form="official", height=160, width=320)
    before = contents(source)
    Cityscapes.prepare(source, root)
    assert contents(source) == before and Cityscapes.check(root) == []
    assert Cityscapes.variant(root) == "arrays in MTAN's layout, with labels of 2, 7 and 19 classes"
    for split in ("train", "test"):
        for classes in (2, 7, 19):
            ours = build("cityscapes", split, root=root, classes=classes)
            direct = build("cityscapes", split, root=source, classes=classes, height=128, width=256)
            assert len(ours) == len(direct) == 1 and ours.size == (128, 256)
            assert all(torch.equal(ours[0][name], direct[0][name]) for name in ours[0])
    said = json.loads((root / layout.PREPARED).read_text())
    assert said["names"] == {part: [f"{part}/streets/streets_000000_000019"] for part in ("train", "val")}
    (root / layout.NOTE).unlink()  # what is no sample has the numbers of the real set
    assert Cityscapes.check(root) == ["train: 1 images; expected 2975", "val: 1 images; expected 500"]
    Cityscapes.prepare(source, tmp_path / "large", height=256)
    assert build("cityscapes", "train", root=tmp_path / "large").size == (256, 512)


def test_prepare_refuses_and_leaves_nothing(roots, tmp_path):
    source, root = roots / "official", tmp_path / "new"
    taken = tmp_path / "taken"
    taken.mkdir()
    (taken / "mine").write_text("")
    before = contents(roots)
    for start, end, options, message in [
        (source, root, {"height": 100}, "height 100; expected 128 or 256"),
        (roots / "npy", root, {}, "holds arrays already; expected the official files"),
        (tmp_path / "nowhere", root, {}, "no cityscapes at"),
        (source, source / "arrays", {}, "lies in .*which is left as it is"),
        (source, taken, {}, "holds something already"),
    ]:
        with pytest.raises(KitError, match=message):
            Cityscapes.prepare(start, end, **options)
    assert contents(roots) == before and not root.exists() and contents(taken) == {Path("mine"): b""}
    place = "gtFine/val/streets/streets_000001_000019_gtFine_labelIds.png"
    (source / place).write_bytes((source / place).read_bytes()[:80])
    with pytest.raises(KitError, match=f"{place}: cannot be read"):
        Cityscapes.prepare(source, root)
    assert not root.exists() and not list(tmp_path.glob(".new*"))


# --- samples and the command line -------------------------------------------------------------------------------------


def test_a_sample_lies_as_the_real_files_do(tmp_path):
    Cityscapes.write_sample(tmp_path / "npy", 1)
    fields = {"image": (128, 256, 3), "depth": (128, 256, 1)} | {f"label_{n}": (128, 256) for n in (2, 7, 19)}
    for part in ("train", "val"):
        assert {p.name for p in (tmp_path / "npy" / part).iterdir()} == set(fields)
        for field, shape in fields.items():
            array = np.load(tmp_path / "npy" / part / field / "0.npy")
            assert array.shape == shape and array.dtype == np.float64
    assert 0.2 < np.load(tmp_path / "npy/train/depth/0.npy").max() < 0.5, "as real ones, which go up to 0.4922"
    Cityscapes.write_sample(tmp_path / "official", 1, form="official", height=16, width=32)
    kinds = {"leftImg8bit": "leftImg8bit.png", "gtFine": "gtFine_labelIds.png", "disparity": "disparity.png",
             "camera": "camera.json"}  # fmt: skip
    found = {str(path) for path in contents(tmp_path / "official")}
    assert found == {"mtlkit-sample.json"} | {
        f"{folder}/{part}/streets/streets_000000_000019_{suffix}"
        for folder, suffix in kinds.items()
        for part in ("train", "val")
    }
    camera = json.loads((tmp_path / "official/camera/val/streets/streets_000000_000019_camera.json").read_text())
    assert camera["extrinsic"]["baseline"] == 0.222126
    assert camera["intrinsic"]["fx"] == pytest.approx(2262.52 / 64)


def test_samples_that_cannot_be_written(tmp_path):
    for options, message in [({"form": "numpy"}, "did you mean 'npy'"), ({"height": 0}, "at least one image")]:
        with pytest.raises(KitError, match=message):
            Cityscapes.write_sample(tmp_path / "s", 1, **options)
    assert not (tmp_path / "s").exists()


def test_the_command_line_says_which_form_it_is(roots, mtlkit, tmp_path):
    line = "cityscapes: official files, with camera: metric depth\n"
    root = roots / "official"
    assert mtlkit("data", "check", "cityscapes", "--root", root)[:2] == (0, f"{line}cityscapes: present and sound\n")
    shown = mtlkit("data", "show", "cityscapes", "--root", root, "--count", "1", "-p", "classes=19")
    assert shown[:2] == (0, f"{line}contact-sheet.png\n") and (tmp_path / "contact-sheet.png").exists()
    (root / "disparity/val/streets/streets_000001_000019_disparity.png").unlink()
    status, report, _ = mtlkit("data", "check", "cityscapes", "--root", root)
    assert status == 2 and report.startswith("disparity/val/streets/streets_000001_000019_disparity.png: missing;")
