"""Cityscapes with flow: what is read against what was rendered, and what ``prepare`` makes of the official files."""

import json
import os
import shutil
from pathlib import Path

import numpy as np
import PIL.Image
import pytest
import torch
from damage import contents, finds
from torch.utils.data import DataLoader

from mtlkit import scenes
from mtlkit.datasets import DATASETS, build, cityscapes_motion, flow
from mtlkit.datasets import cityscapes_official as official
from mtlkit.errors import KitError

Motion = DATASETS["cityscapes-motion"]
H, W = 48, 96
FIRST = "train/streets/streets_000000_000019"
FIVE = ("road", "sky", "pedestrian", "vehicle", "background")


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    """Official files, the frames before and motion masks: two streets to train and one to test."""
    folder = tmp_path_factory.mktemp("cityscapes") / "source"
    cityscapes_motion.write_source(folder, 2, height=H, width=W)
    return folder


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    folder = tmp_path_factory.mktemp("motion") / "sample"
    Motion.write_sample(folder, 2, height=H, width=W)
    return folder


@pytest.fixture
def release(source, tmp_path):
    """A copy of the official files to damage."""
    return Path(shutil.copytree(source, tmp_path / "release"))


def picture(path):
    with PIL.Image.open(path) as image:
        return np.array(image)


def frame(shot, height=H, width=W):
    return np.rint(shot.render(height, width)["image"].transpose(1, 2, 0) * 255).astype(np.uint8)


# --- reading ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("split", "count"), [("train", 2), ("test", 1)])
def test_a_sample_is_read_as_what_was_rendered(made, split, count):
    data = build("cityscapes-motion", split, root=made)
    assert len(data) == count and data.size == (H, W)
    for index in range(count):
        shot = scenes.FAMILIES["streets"].compose(split, index, 0)
        street, sample = shot.render(H, W, flow=True), data[index]
        assert {name: (t.dtype, tuple(t.shape)) for name, t in sample.items()} == {
            "image": (torch.float32, (3, H, W)),
            "flow": (torch.float32, (3, H, W)),
            "depth": (torch.float32, (1, H, W)),
            "semantic": (torch.int64, (H, W)),
            "motion": (torch.int64, (H, W)),
            "index": (torch.int64, ()),
        }
        assert np.abs(sample["image"].numpy() - street["image"]).max() <= 0.5 / 255 + 1e-6
        assert (sample["motion"].numpy() == street["motion"]).all()
        known, depth = street["depth"] > 0, sample["depth"].numpy()
        assert (depth[~known] == 0).all()  # the sky
        near = known & (street["depth"] < 60)  # a disparity has steps of 1/256 pixel
        assert np.allclose(depth[near], street["depth"][near], rtol=0.02)
        found = flow.estimate(frame(shot), frame(shot.before()))
        assert np.abs(sample["flow"].numpy() - found)[:2].max() <= 0.5
        assert (sample["flow"].numpy() == flow.decode(flow.encode(found))).all()


def test_the_five_classes_are_made_of_the_nineteen(made):
    five = build("cityscapes-motion", "train", root=made)
    nineteen = build("cityscapes-motion", "train", root=made, classes=19)
    assert five.tasks["semantic"].class_names == FIVE and nineteen.tasks["semantic"].channels == 19
    names = nineteen.tasks["semantic"].class_names
    coarse = {"road": 0, "sky": 1, "person": 2, "rider": 2}
    coarse |= dict.fromkeys(("car", "truck", "bus", "train", "motorcycle", "bicycle"), 3)
    for index in range(2):
        fine, found = nineteen[index]["semantic"], five[index]["semantic"]
        assert (fine == -1).any() and (found[fine == -1] == 4).all(), "void is background, by the guess"
        for label in fine[fine >= 0].unique().tolist():
            assert (found[fine == label] == coarse.get(names[label], 4)).all()


def test_tasks_and_their_order_are_those_of_the_paper(made):
    tasks = build("cityscapes-motion", "test", root=made).tasks
    assert {name: task.channels for name, task in tasks.items()} == {"depth": 1, "semantic": 5, "motion": 2}


def test_255_is_ignored_in_the_five_classes(root):
    path = root / f"gtFine/{FIRST}_gtFine_labelTrainIds.png"
    PIL.Image.fromarray(np.full((H, W), 255, np.uint8)).save(path)
    assert (build("cityscapes-motion", "train", root=root)[0]["semantic"] == -1).all() and Motion.check(root) == []


def test_depth_of_the_page_and_of_a_disparity_that_says_infinitely_far(root):
    # measured in the reference: baseline 0.209313, fx 2262.52
    expected = {0: 0, 2: 255, 500: 242.9562, 513: 236.7874, 1000: 121.3565, 5000: 24.2519, 32257: 3.7585, 65535: 1.85}
    p = np.ones((H, W), np.uint16)
    p[0, : len(expected)] = list(expected)
    PIL.Image.fromarray(p).save(root / f"disparity/{FIRST}_disparity.png")
    (root / f"camera/{FIRST}_camera.json").write_text(
        json.dumps({"extrinsic": {"baseline": 0.209313}, "intrinsic": {"fx": 2262.52}})
    )
    corrected = build("cityscapes-motion", "train", root=root)
    released = build("cityscapes-motion", "train", root=root, released_depth=True)
    for data, far in ((corrected, 255.0), (released, 1.0)):
        depth = data[0]["depth"][0]
        assert np.allclose(depth[0, : len(expected)], list(expected.values()), atol=5e-4)
        assert (depth[1:] == far).all()
    assert corrected.fingerprint != released.fingerprint


def test_everything_has_the_size_of_the_flow_image(source, tmp_path):
    Motion.prepare(source, tmp_path / "small", height=H // 2, width=W // 2)
    assert Motion.check(tmp_path / "small") == []
    data = build("cityscapes-motion", "train", root=tmp_path / "small")
    assert data.size == (H // 2, W // 2)
    shot = scenes.FAMILIES["streets"].compose("train", 1, 0)
    street, sample = shot.render(H, W, flow=True), data[1]
    assert all(value.shape[-2:] == data.size for name, value in sample.items() if name != "index")
    means = frame(shot).reshape(H // 2, 2, W // 2, 2, 3).mean((1, 3)).transpose(2, 0, 1) / 255
    assert np.abs(sample["image"].numpy() - means).max() < 1 / 255
    assert (sample["motion"].numpy() == street["motion"][1::2, 1::2]).all()
    known = (street["depth"][:, 1::2, 1::2] > 0) & (street["depth"][:, 1::2, 1::2] < 60)
    assert np.allclose(sample["depth"].numpy()[known], street["depth"][:, 1::2, 1::2][known], rtol=0.02), "in metres"
    frames = (official.resized(frame(one), data.size) for one in (shot, shot.before()))
    assert (sample["flow"].numpy() == flow.decode(flow.encode(flow.estimate(*frames)))).all(), (
        "in pixels of its own size"
    )


def test_without_masks_there_is_no_task_of_motion(root):
    for path in root.rglob("*_motion.png"):
        path.unlink()
    (root / "mtlkit-prepared.json").unlink()
    data = build("cityscapes-motion", "train", root=root)
    assert list(data.tasks) == ["depth", "semantic"] and "motion" not in data[0]
    assert Motion.check(root) == []
    assert Motion.variant(root) == (
        "flow in leftImg8bit_flow_confidence_96x48; without motion masks, so without the task motion"
    )


def test_names_and_what_it_does_not_have(made):
    data = build("cityscapes-motion", "test", root=made)
    assert data.info(0).name == "val/streets/streets_000000_000019" and data.info(0).size == (H, W)
    with pytest.raises(IndexError):
        data[1]
    for split, options, message in [
        ("validation", {}, "no validation split of its own; set holdout=true"),
        ("valid", {}, "unknown split 'valid'"),
        ("train", {"classes": 7}, "has 5 or 19 classes, found 7"),
        ("train", {"class": 5}, "did you mean 'classes'"),
    ]:
        with pytest.raises(KitError, match=message):
            build("cityscapes-motion", split, root=made, **options)


def test_a_tenth_of_the_training_images_is_held_out(made):
    names = {}
    for holdout in (False, True):
        for split in ("train", "validation", "test") if holdout else ("train", "test"):
            data = build("cityscapes-motion", split, root=made, holdout=holdout)
            names[split, holdout] = [data.info(i).name for i in range(len(data))]
            assert data.fingerprint.startswith(f"cityscapes-motion-5-{split}{len(data)}-")
    assert names["train", True] + names["validation", True] == names["train", False]
    assert len(names["validation", True]) == 1 and names["test", True] == names["test", False]
    assert cityscapes_motion._held_out([str(i) for i in range(2975)], True) == [str(i) for i in range(2677, 2975)]
    with pytest.raises(KitError, match="two training images or more, found 1"):
        cityscapes_motion._held_out(["one"], False)


def test_the_fingerprint_changes_with_the_data_and_with_nothing_else(made, root):
    def mark(split="train", folder=root, **options):
        return build("cityscapes-motion", split, root=folder, **options).fingerprint

    original = mark()
    assert original == mark(folder=made) and original.startswith("cityscapes-motion-5-train2-48x96-")
    assert len({original, mark("test"), mark(classes=19)}) == 3
    path = root / f"leftImg8bit_flow_confidence_96x48/{FIRST}_leftImg8bit.png"
    PIL.Image.fromarray(np.full((H, W, 3), 128, np.uint8)).save(path)
    assert mark() != original and mark("test") == mark("test", folder=made)


def test_processes_load_it_and_its_tasks_measure_it(made):
    data = build("cityscapes-motion", "train", root=made)
    (batch,) = DataLoader(data, batch_size=2, num_workers=1)
    for name, task in data.tasks.items():
        constant = task.constant([batch[name]]).view(1, -1, 1, 1).expand(2, -1, H, W)
        assert torch.isfinite(task.loss(constant * 4, batch[name])) and task.valid(batch[name]).any()
        assert task.predict(constant).shape == batch[name].shape


# --- preparing --------------------------------------------------------------------------------------------------------


def test_a_sample_lies_as_the_code_needs_it(made):
    places = {
        "leftImg8bit/{}_leftImg8bit.png",
        "leftImg8bit_flow_confidence_96x48/{}_leftImg8bit.png",
        "disparity/{}_disparity.png",
        "camera/{}_camera.json",
        "gtFine/{}_gtFine_labelIds.png",
        "gtFine/{}_gtFine_labelTrainIds.png",
        "gtFine/{}_gtFine_labelTrainIds_motion.png",
    }
    images = ("train/streets/streets_000000_000019", "train/streets/streets_000001_000019")
    images += ("val/streets/streets_000000_000019",)
    expected = {place.format(image) for place in places for image in images}
    found = {str(path) for path in contents(made)}
    assert found == expected | {"mtlkit-sample.json", "mtlkit-prepared.json"}
    assert set(np.unique(picture(made / f"gtFine/{FIRST}_gtFine_labelTrainIds_motion.png"))) == {0, 255}
    assert picture(made / f"leftImg8bit_flow_confidence_96x48/{FIRST}_leftImg8bit.png").shape == (H, W, 3)
    assert "mtlkit's table; motion masks: those of the source" in Motion.variant(made)
    assert Motion.check(made) == []
    (made / "mtlkit-sample.json").rename(made / "note")  # without its note it is judged as the real set
    try:
        lines = Motion.check(made, contents=False)
        assert lines == ["train: 2 images; expected 2975", "val: 1 images; expected 500"]
    finally:
        (made / "note").rename(made / "mtlkit-sample.json")


def test_the_source_stays_as_it_is_and_the_sample_is_what_prepare_makes(source, made, tmp_path, monkeypatch):
    before = contents(source)
    Motion.prepare(source, tmp_path / "linked", height=H, width=W)
    monkeypatch.setattr(os, "link", lambda *_: (_ for _ in ()).throw(OSError("another disk")))
    Motion.prepare(source, tmp_path / "copied", height=H, width=W)
    assert contents(source) == before and contents(tmp_path / "linked") == contents(tmp_path / "copied") == contents(
        made
    )
    assert DATASETS["cityscapes"].check(source) == [], "the source is a sample of the official files"


def test_a_release_of_frames_without_masks(release, tmp_path):
    for path in release.rglob("*_motion.png"):
        path.unlink()
    (release / "mtlkit-sample.json").unlink()
    Motion.prepare(release, tmp_path / "made", height=24, width=48)
    assert not (tmp_path / "made/mtlkit-sample.json").exists() and "motion masks: none" in Motion.variant(
        tmp_path / "made"
    )
    assert "motion" not in build("cityscapes-motion", "train", root=tmp_path / "made").tasks
    assert Motion.check(tmp_path / "made", contents=False) == [
        "train: 2 images; expected 2975", "val: 1 images; expected 500",
    ]  # fmt: skip


def cut(place):
    return lambda root: (root / place).write_bytes((root / place).read_bytes()[:100])


def remove(place):
    return lambda root: (root / place).unlink()


def first_frame(root):
    """As if the labelled frame were the first one of its recording."""
    for path in list(root.rglob("streets_000001_000019*")):
        path.rename(path.with_name(path.name.replace("000019", "000000")))


PREVIOUS = "leftImg8bit_sequence/train/streets/streets_000000_000018_leftImg8bit.png"
REFUSED = {
    "no frame before": (remove(PREVIOUS), rf"^{PREVIOUS}: missing; expected every frame with the frame before it"),
    "no frames before": (lambda root: shutil.rmtree(root / "leftImg8bit_sequence"), r": missing \(and 2 more files\);"),
    "the first frame": (first_frame, "streets_000001_000000: is the first frame of its recording"),
    "frame before cut": (cut(PREVIOUS), rf"^{PREVIOUS}: cannot be read; expected a PNG image.*nothing was written"),
    "frame of another size": (
        lambda root: PIL.Image.new("RGB", (8, 4)).save(root / PREVIOUS),
        rf"^{PREVIOUS}: shape \(4, 8, 3\); expected \(48, 96, 3\)",
    ),
    "label of another table": (
        lambda root: PIL.Image.fromarray(np.full((H, W), 99, np.uint8)).save(
            root / f"gtFine/{FIRST}_gtFine_labelIds.png"
        ),
        f"^gtFine/{FIRST}_gtFine_labelIds.png: label 99 at 4608 pixels",
    ),
    "some masks": (remove(f"gtFine/{FIRST}_gtFine_labelTrainIds_motion.png"), "labelTrainIds_motion.png: missing"),
    "no labels": (lambda root: shutil.rmtree(root / "gtFine"), "gtFine/.*_labelIds.png: missing"),
    "something else": (lambda root: [shutil.rmtree(p) for p in root.iterdir() if p.is_dir()], "^train: no images"),
}


@pytest.mark.parametrize("damage", REFUSED)
def test_a_source_that_lacks_something_is_refused_and_nothing_is_written(release, tmp_path, damage):
    spoil, message = REFUSED[damage]
    spoil(release)
    before = contents(release)
    with pytest.raises(KitError, match=message) as error:
        Motion.prepare(release, tmp_path / "new", height=24, width=48)
    assert "\n" not in str(error.value) and contents(release) == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["release"]


def test_nothing_is_overwritten_and_wrong_options_are_told(source, made, tmp_path):
    before = contents(made)
    for make in (lambda: Motion.write_sample(made, 1), lambda: Motion.prepare(source, made)):
        with pytest.raises(KitError, match="holds something already and is left as it is"):
            make()
    assert contents(made) == before
    with pytest.raises(KitError, match="at least one image of one pixel"):
        Motion.write_sample(tmp_path / "s", height=0)
    with pytest.raises(KitError, match="at least one pixel, found 0 x 768"):
        Motion.prepare(source, tmp_path / "s", height=0)
    with pytest.raises(KitError, match="lies in .*left as it is"):
        Motion.prepare(source, source / "s")
    with pytest.raises(KitError, match="no folder .*expected the packages of Cityscapes"):
        Motion.prepare(tmp_path / "nowhere", tmp_path / "s")
    assert not (tmp_path / "s").exists()


# --- what can be wrong ------------------------------------------------------------------------------------------------

FLOW = f"leftImg8bit_flow_confidence_96x48/{FIRST}_leftImg8bit.png"
LABELS = f"gtFine/{FIRST}_gtFine_labelTrainIds.png"
MASK = f"gtFine/{FIRST}_gtFine_labelTrainIds_motion.png"


def put(place, values):
    return lambda root: PIL.Image.fromarray(values).save(root / place)


def write(place, text):
    return lambda root: (root / place).write_text(text)


FRAME, DISPARITY = f"leftImg8bit/{FIRST}_leftImg8bit.png", f"disparity/{FIRST}_disparity.png"
CAMERA, NOTES = f"camera/{FIRST}_camera.json", f"{Path(FLOW).parent}/notes.txt"
BYTES, COLOURS = np.zeros((H, W), np.uint8), np.zeros((H, W, 3), np.uint8)
# damage -> the one line it makes (its beginning, where it ends in dots)
WRONG = {
    "frame cut": (cut(FRAME), f"{FRAME}: cannot be read; expected a PNG image..."),
    "flow cut": (cut(FLOW), f"{FLOW}: cannot be read; expected a PNG image..."),
    "flow of another size": (put(FLOW, COLOURS[:24, :48]), f"{FLOW}: 24 x 48 pixels; expected 48 x 96..."),
    "flow missing": (remove(FLOW), f"{FLOW}: missing..."),
    "labels of 19 classes": (put(LABELS, BYTES + 18),
        f"{LABELS}: label 18 at 4608 pixels; expected whole numbers 0 ... 4 or 255"),
    "labels of another size": (put(LABELS, BYTES[:8]), f"{LABELS}: shape (8, 96); expected (48, 96)"),
    "labels in colour": (put(LABELS, COLOURS), f"{LABELS}: shape (48, 96, 3); expected (48, 96)"),
    "mask of another value": (put(MASK, BYTES + 1), f"{MASK}: label 1 at 4608 pixels; expected 0 or 255"),
    "mask missing": (remove(MASK), f"{MASK}: missing..."),
    "mask is text": (write(MASK, "<html>"), f"{MASK}: cannot be read; expected a PNG image, found: not an image"),
    "disparity of 8 bits": (put(DISPARITY, BYTES), f"{DISPARITY}: has 8 bits..."),
    "camera of another kind": (write(CAMERA, "{}"), f"{CAMERA}: cannot be read..."),
    "camera without a number": (write(CAMERA, '{"extrinsic": {"baseline": 0}, "intrinsic": {"fx": 9}}'),
        f"{CAMERA}: baseline and fx are 0 and 9..."),
    "stray file": (write(NOTES, ""), f"{NOTES}: stray..."),
}  # fmt: skip


@pytest.mark.parametrize("damage", WRONG)
def test_what_is_wrong_makes_one_line(root, damage):
    spoil, expected = WRONG[damage]
    spoil(root)
    finds(Motion.check, root, expected)


@pytest.mark.parametrize("damage", [name for name in WRONG if name != "stray file"])
def test_the_reader_names_the_file_that_stops_it(root, damage):
    spoil, expected = WRONG[damage]
    place = expected.split(":")[0]
    spoil(root)
    with pytest.raises(KitError) as error:
        data = build("cityscapes-motion", "train", root=root)
        data[0], data[1]
    message = str(error.value)
    # a first flow image of another size makes the others wrong
    assert message.startswith(place.split("/")[0]) if "of another size" in damage else message.startswith(f"{place}: ")
    assert "\n" not in message and message.endswith(f"; type: mtlkit data check cityscapes-motion --root {root}")


def test_one_flow_folder_is_expected(root, tmp_path):
    flows = root / "leftImg8bit_flow_confidence_96x48"
    flows.rename(root / "leftImg8bit_flow_farneback_confidence")  # the other name of the released code's README
    assert Motion.check(root) == [] and len(build("cityscapes-motion", "test", root=root)) == 1
    flows.mkdir()
    (line,) = Motion.check(root)
    assert line.startswith("leftImg8bit_flow_confidence_96x48, leftImg8bit_flow_farneback_confidence at ")
    shutil.rmtree(flows)
    shutil.rmtree(root / "leftImg8bit_flow_farneback_confidence")
    (line,) = Motion.check(root)
    assert line.startswith("no folder of flow images at ") and "data/README.md" in line
    with pytest.raises(KitError, match="no folder of flow images"):
        build("cityscapes-motion", "train", root=root)
    with pytest.raises(KitError, match="no cityscapes-motion at .*mtlkit data sample cityscapes-motion DEST"):
        Motion.check(tmp_path / "nowhere")


@pytest.mark.parametrize("place", [FLOW, MASK])
def test_links_that_lead_out_are_not_followed(root, tmp_path, place):
    (root / place).rename(tmp_path / "outside.png")
    (root / place).symlink_to(tmp_path / "outside.png")
    line = f"{place}: is a link that leads out of the dataset's folder; expected the file itself"
    assert Motion.check(root) == [line]
    with pytest.raises(KitError, match="is a link that leads out"):
        build("cityscapes-motion", "train", root=root)[0]


def test_a_source_with_links_that_lead_out_is_refused(release, tmp_path):
    place = f"disparity/{FIRST}_disparity.png"
    (release / place).rename(tmp_path / "outside.png")
    (release / place).symlink_to(tmp_path / "outside.png")
    with pytest.raises(KitError, match="is a link that leads out"):
        Motion.prepare(release, tmp_path / "new", height=24, width=48)
    assert not (tmp_path / "new").exists()


def test_an_empty_part_is_told(root):
    for top in root.iterdir():
        if top.is_dir():
            shutil.rmtree(top / "val")
    with pytest.raises(KitError, match="^val: no images; expected leftImg8bit/val/<city>/<image>_leftImg8bit.png"):
        build("cityscapes-motion", "test", root=root)
    assert "val: 0 images; expected 1" in Motion.check(root)


def test_the_source_of_a_sample_is_known_to_the_official_reader(source):
    assert official.tree(source).ids("train") == [FIRST, FIRST.replace("000000", "000001")]
