"""Cityscapes: everything that can be wrong with its files, told in one line each, and what stops the reader."""

import json
import shutil
from pathlib import Path

import numpy as np
import PIL.Image
import pytest
from damage import finds

from mtlkit.datasets import DATASETS, build
from mtlkit.errors import KitError

Cityscapes = DATASETS["cityscapes"]
SIZE = (32, 64)
ZEROS = np.zeros(SIZE)
IMAGE, IDS, DISPARITY, CAMERA = (
    f"{folder}/train/streets/streets_000001_000019_{suffix}"
    for folder, suffix in [
        ("leftImg8bit", "leftImg8bit.png"),
        ("gtFine", "gtFine_labelIds.png"),
        ("disparity", "disparity.png"),
        ("camera", "camera.json"),
    ]
)


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A small sample of each form: 4 images to train, 2 to test."""
    folder = tmp_path_factory.mktemp("cityscapes")
    for form in ("npy", "official"):
        Cityscapes.write_sample(folder / form, form=form, height=SIZE[0], width=SIZE[1])
    return folder


@pytest.fixture
def roots(made, tmp_path):
    """A copy of both to damage."""
    return Path(shutil.copytree(made, tmp_path / "copy"))


def cut(place, length=100):
    return lambda root: (root / place).write_bytes((root / place).read_bytes()[:length])


def text(place, content=""):
    return lambda root: (root / place).write_text(content)


def array(place, values):
    return lambda root: np.save(root / place, values)


def picture(place, values):
    return lambda root: PIL.Image.fromarray(values).save(root / place)


def remove(place):
    return lambda root: shutil.rmtree(root / place) if (root / place).is_dir() else (root / place).unlink()


def camera(**changes):
    content = {"extrinsic": {"baseline": 0.2}, "intrinsic": {"fx": 70.0}} | changes
    return text(CAMERA, json.dumps(content))


# damage -> the one line it makes (its beginning, where it ends in dots)
ARRAYS = {
    "image cut": (cut("train/image/1.npy", 900), "train/image/1.npy: is cut short: 900 bytes, expected 49280"),
    "image of bytes": (array("train/image/1.npy", np.zeros((*SIZE, 3), np.uint8)),
        "train/image/1.npy: dtype uint8; expected floating-point numbers"),
    "image channels first": (array("train/image/1.npy", np.zeros((3, *SIZE))),
        "train/image/1.npy: shape (3, 32, 64); expected (32, 64, 3)"),
    "depth of another size": (array("train/depth/1.npy", np.zeros((16, 32, 1))),
        "train/depth/1.npy: shape (16, 32, 1); expected (32, 64, 1)"),
    "depth is text": (text("train/depth/1.npy", "depth"), "train/depth/1.npy: cannot be read; expected a .npy file..."),
    "depth in metres": (array("train/depth/1.npy", ZEROS[..., None] + 12.5),
        "train/depth/1.npy: up to 12.5; expected disparities p / 65535, at most 1, neither p nor metres"),
    "depth negative": (array("train/depth/1.npy", ZEROS[..., None] - 1),
        "train/depth/1.npy: negative at 2048 pixels, lowest -1; expected numbers from 0 up (0 is invalid)"),
    "label 255": (array("train/label_7/1.npy", ZEROS + 255),
        "train/label_7/1.npy: label 255 at 2048 pixels; expected whole numbers -1 ... 6"),
    "label mixed": (array("train/label_7/1.npy", ZEROS + 2.5),
        "train/label_7/1.npy: label 2.5 at 2048 pixels; expected whole numbers -1 ... 6"),
    "labels of 19 classes as 7": (lambda root: np.save(root / "train/label_7/1.npy", ZEROS + 18),
        "train/label_7/1.npy: label 18 at 2048 pixels; expected whole numbers -1 ... 6"),
    "label missing": (remove("train/label_7/1.npy"),
        "train/label_7/1.npy: missing; expected as in image, depth, label_2, label_19"),
    "stray": (text("val/image/2.npy"), "val/image/2.npy: stray; expected 0.npy ... 1.npy alone"),
    "another folder": (lambda root: (root / "val/label").mkdir(),
        "val/label: stray; expected depth, image, label_19, label_2, label_7 alone"),
    "no labels of 7": (lambda root: [remove(f"{part}/label_7")(root) for part in ("train", "val")],
        "train/label_7: missing folder; expected 0.npy ... 3.npy in it"),
    "part missing": (remove("val"), "val: missing folder; expected image, depth, label_2, label_7, label_19 in it"),
}  # fmt: skip
OFFICIAL = {
    "image cut": (cut(IMAGE, 1500), f"{IMAGE}: cannot be read; expected a PNG image..."),
    "image is JPEG": (lambda root: PIL.Image.fromarray(np.zeros((*SIZE, 3), np.uint8)).save(root / IMAGE, "jpeg"),
        f"{IMAGE}: cannot be read; expected a PNG image, found: not an image"),
    "image of another size": (picture(IMAGE, np.zeros((16, 32, 3), np.uint8)),
        f"{IMAGE}: shape (16, 32, 3); expected (32, 64, 3)"),
    "labels cut": (cut(IDS), f"{IDS}: cannot be read; expected a PNG image..."),
    "labels in colour": (picture(IDS, np.zeros((*SIZE, 3), np.uint8)), f"{IDS}: shape (32, 64, 3); expected (32, 64)"),
    "label 34": (picture(IDS, np.full(SIZE, 34, np.uint8)),
        f"{IDS}: label 34 at 2048 pixels; expected whole numbers 0 ... 33"),
    "labels of 16 bits": (picture(IDS, np.full(SIZE, 26001, np.uint16)),
        f"{IDS}: label 26001 at 2048 pixels; expected whole numbers 0 ... 33"),
    "disparity cut": (cut(DISPARITY), f"{DISPARITY}: cannot be read; expected a PNG image..."),
    "disparity of 8 bits": (picture(DISPARITY, np.full(SIZE, 90, np.uint8)),
        f"{DISPARITY}: has 8 bits; expected an image of 16 bits, as disparities of Cityscapes are"),
    "disparity of another size": (picture(DISPARITY, np.zeros((64, 32), np.uint16)),
        f"{DISPARITY}: shape (64, 32); expected (32, 64)"),
    "camera is no JSON": (cut(CAMERA, 20), f"{CAMERA}: cannot be read; expected a JSON file with extrinsic..."),
    "camera without fx": (camera(intrinsic={}), f"{CAMERA}: cannot be read; expected a JSON file with extrinsic..."),
    "camera is a list": (text(CAMERA, "[1, 2]"), f"{CAMERA}: cannot be read; expected a JSON file with extrinsic..."),
    "camera is deep": (text(CAMERA, "[" * 99_999), f"{CAMERA}: cannot be read; expected a JSON file with extrinsic..."),
    "no baseline": (camera(extrinsic={"baseline": 0}),
        f"{CAMERA}: baseline and fx are 0 and 70.0; expected two numbers above 0"),
    "baseline is text": (camera(extrinsic={"baseline": "0.2"}),
        f"{CAMERA}: baseline and fx are 0.2 and 70.0; expected two numbers above 0"),
    "image missing": (remove(IMAGE), f"{IMAGE}: missing; expected as in gtFine, disparity, camera"),
    "labels missing": (remove(IDS), f"{IDS}: missing; expected as in leftImg8bit, disparity, camera"),
    "camera missing": (remove(CAMERA), f"{CAMERA}: missing; expected as in leftImg8bit, gtFine, disparity"),
    "folder missing": (remove("disparity"),
        "disparity: missing folder; expected disparity/train/streets/streets_000000_000019_disparity.png in it"),
    "city missing": (remove("gtFine/val/streets"),
        "gtFine/val/streets: missing folder; "
        "expected gtFine/val/streets/streets_000000_000019_gtFine_labelIds.png in it"),
    "stray file": (text("leftImg8bit/train/streets/notes.txt"),
        "leftImg8bit/train/streets/notes.txt: stray; expected streets_<6 digits>_<6 digits>_... alone"),
    "of another city": (text("leftImg8bit/train/streets/ulm_000001_000019_leftImg8bit.png"),
        "leftImg8bit/train/streets/ulm_000001_000019_leftImg8bit.png: stray; expected streets_<6 digits>..."),
    "stray folder": (lambda root: (root / "disparity/training").mkdir(),
        "disparity/training: stray; expected test, train, train_extra, val alone"),
    "file for a city": (text("camera/val/list.txt"), "camera/val/list.txt: stray; expected streets alone"),
}  # fmt: skip
WRONG = {("npy", name): case for name, case in ARRAYS.items()} | {("official", n): case for n, case in OFFICIAL.items()}


@pytest.mark.parametrize(("form", "damage"), WRONG)
def test_what_is_wrong_makes_one_line(roots, form, damage):
    spoil, expected = WRONG[form, damage]
    spoil(roots / form)
    finds(Cityscapes.check, roots / form, expected, count=2 if damage == "no labels of 7" else 1)  # in train and in val


# what is wrong with a file of image 1, and stops the reader; the rest are values, or files that no sample needs
VALUES = ("depth in metres", "depth negative")
STOPS = [key for key, (_, line) in WRONG.items() if "1" in line.split(":")[0] and "stray" not in line]


@pytest.mark.parametrize(("form", "damage"), [key for key in STOPS if key[1] not in VALUES])
def test_the_reader_names_the_file_that_stops_it(roots, form, damage):
    spoil, expected = WRONG[form, damage]
    spoil(roots / form)
    data = build("cityscapes", "train", root=roots / form)
    with pytest.raises(KitError) as error:
        data[1]
    message = str(error.value)
    expected = expected.split(": missing")[0] + ": is missing" if ": missing" in expected else expected
    assert message.startswith(expected.removesuffix("...")) and "\n" not in message
    assert message.endswith(f"; type: mtlkit data check cityscapes --root {roots / form}")
    assert data[0]["semantic"].shape == SIZE


def test_several_faults_are_all_told(roots):
    root = roots / "official"
    for damage in ("labels cut", "camera missing", "stray file", "disparity cut"):
        OFFICIAL[damage][0](root)
    remove("leftImg8bit/val/streets/streets_000000_000019_leftImg8bit.png")(root)
    lines = Cityscapes.check(root)
    assert [line.split(":")[0] for line in lines] == [
        "leftImg8bit/val/streets/streets_000000_000019_leftImg8bit.png",
        CAMERA,
        "leftImg8bit/train/streets/notes.txt",
        IDS,
        DISPARITY,
    ]


def test_other_packages_of_cityscapes_are_not_in_the_way(roots):
    root = roots / "official"
    for place in (
        "README",
        "license.txt",
        "gtCoarse/train_extra/nuremberg/nuremberg_000000_000019_gtCoarse_labelIds.png",
        "leftImg8bit/test/berlin/berlin_000000_000019_leftImg8bit.png",
        "gtFine/train/streets/streets_000001_000019_gtFine_polygons.json",
        "gtFine/train/streets/streets_000001_000019_gtFine_labelTrainIds.png",
        "gtFine/train/streets/streets_000001_000019_gtFine_instanceIds.png",
    ):
        (root / place).parent.mkdir(parents=True, exist_ok=True)
        text(place)(root)
    assert Cityscapes.check(root) == []
    assert len(build("cityscapes", "train", root=root)) == 4


def test_where_there_is_neither_form_one_line_says_so(tmp_path):
    (tmp_path / "images").mkdir()
    (line,) = Cityscapes.check(tmp_path)
    assert "no cityscapes at" in line and "data/README.md" in line
    with pytest.raises(KitError, match="expected train and val"):
        build("cityscapes", "train", root=tmp_path)
    with pytest.raises(KitError, match="no cityscapes at .*mtlkit data sample cityscapes DEST"):
        Cityscapes.check(tmp_path / "nowhere")


@pytest.mark.parametrize("form", ["npy", "official"])
def test_a_part_without_images(roots, form):
    root = roots / form
    for folder in root.rglob("val"):
        for path in folder.rglob("*.*"):
            path.unlink()
    assert "val: 0 images; expected 2" in Cityscapes.check(root)
    with pytest.raises(KitError, match="val.*: no images"):
        build("cityscapes", "test", root=root)


def test_without_a_note_it_is_the_real_set(roots):
    for form in ("npy", "official"):
        (roots / form / "mtlkit-sample.json").unlink()
        assert Cityscapes.check(roots / form, contents=False) == [
            "train: 4 images; expected 2975",
            "val: 2 images; expected 500",
        ]
        size = "(128, 256, 3)" if form == "npy" else "(1024, 2048, 3)"
        assert any(f"shape (32, 64, 3); expected {size}" in line for line in Cityscapes.check(roots / form))
    for path in (roots / "npy").rglob("*.npy"):  # either of MTAN's sizes is right
        np.save(path, np.load(path).repeat(8, axis=0).repeat(8, axis=1))
    assert len(Cityscapes.check(roots / "npy")) == 2


@pytest.mark.parametrize(("form", "place"), [("npy", "train/depth/1.npy"), ("official", IDS), ("official", CAMERA)])
def test_links_that_lead_out_are_not_followed(roots, tmp_path, form, place):
    root, outside = roots / form, tmp_path / "outside"
    (root / place).rename(outside)
    (root / place).symlink_to(outside)
    (line,) = Cityscapes.check(root)
    assert line == f"{place}: is a link that leads out of the dataset's folder; expected the file itself"
    with pytest.raises(KitError, match=f"{place}: is a link that leads out"):
        build("cityscapes", "train", root=root)[1]
    (root / place).unlink()
    (root / place).symlink_to("../" * place.count("/") + "nowhere")
    assert Cityscapes.check(root)[0].startswith(f"{place}: missing" if form == "official" else place)
    (root / place).unlink()
    (root / place).symlink_to(root / place)  # in a circle
    assert Cityscapes.check(root)[0].startswith(place)


def test_a_root_that_is_a_link_is_welcome(made, tmp_path):
    for form in ("npy", "official"):
        (tmp_path / form).symlink_to(made / form)
        assert Cityscapes.check(tmp_path / form) == [] and build("cityscapes", "test", root=tmp_path / form)[1]


def test_names_alone_are_checked_on_request(roots):
    cut(IMAGE)(roots / "official")
    cut("train/depth/1.npy")(roots / "npy")
    assert Cityscapes.check(roots / "official", contents=False) == Cityscapes.check(roots / "npy", contents=False) == []
