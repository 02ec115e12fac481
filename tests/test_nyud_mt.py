"""NYUD-MT: both packages against the rooms their samples were made from, and everything that can be wrong with them."""

import io
import os
import shutil
from pathlib import Path

import numpy as np
import PIL.Image
import pytest
import scipy.io
import torch
from damage import contents, finds
from hypothesis import given, settings
from hypothesis import strategies as st

from mtlkit import recipes, scenes, training
from mtlkit.datasets import DATASETS, build, mat, nyud_mt
from mtlkit.errors import KitError
from mtlkit.runs import Run

NYUDMT = DATASETS["nyud-mt"]
PACKAGES = ("astmt", "survey")
SIZE = (32, 64)


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A small sample of each package: 1 ... 4 to train, 5 and 6 to test."""
    folder = tmp_path_factory.mktemp("nyud")
    for package in PACKAGES:
        NYUDMT.write_sample(folder / package, package=package, height=SIZE[0], width=SIZE[1])
    return folder


@pytest.fixture
def roots(made, tmp_path):
    """A copy of both to damage."""
    return Path(shutil.copytree(made, tmp_path / "copy"))


# --- reading ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("package", PACKAGES)
@pytest.mark.parametrize(("split", "count"), [("train", 4), ("test", 2)])
def test_a_sample_is_read_as_what_was_rendered(made, package, split, count):
    data = build("nyud-mt", split, root=made / package)
    assert len(data) == count and data.size == SIZE and data.package == package
    for index in range(count):
        room, sample = scenes.sample("rooms", split, index, *SIZE), data[index]
        assert {name: (t.dtype, tuple(t.shape)) for name, t in sample.items()} == {
            "image": (torch.float32, (3, *SIZE)),
            "edges": (torch.float32, (1, *SIZE)),
            "semantic": (torch.int64, SIZE),
            "normals": (torch.float32, (3, *SIZE)),
            "depth": (torch.float32, (1, *SIZE)),
            "index": (torch.int64, ()),
        }
        assert np.abs(sample["image"].numpy() - room["image"]).mean() < 0.02  # JPEG
        assert (sample["edges"].numpy() == room["edges"]).all() and (sample["depth"].numpy() == room["depth"]).all()
        cosine = (sample["normals"].numpy() * room["normals"]).sum(0)
        if package == "survey":
            assert (sample["normals"].numpy() == room["normals"]).all()
        else:  # JPEG, then unit vectors again
            assert np.degrees(np.arccos(np.clip(cosine, -1, 1))).mean() < 6
            assert np.allclose(np.linalg.norm(sample["normals"].numpy(), axis=0), 1, atol=1e-5)


@pytest.mark.parametrize("package", PACKAGES)
@pytest.mark.parametrize("background", [None, True, False])
def test_classes_of_rooms_become_those_of_the_same_name(made, package, background):
    data = build("nyud-mt", "train", root=made / package, background=background)
    with_background = package == "astmt" if background is None else background
    names = data.tasks["semantic"].class_names
    assert len(names) == (41 if with_background else 40) and (names[0] == "background") == with_background
    other = {"furniture": "otherfurniture", "objects": "otherprop", "tv": "television"}
    for index in range(4):
        room, label = scenes.sample("rooms", "train", index, *SIZE)["semantic"], data[index]["semantic"].numpy()
        for i, name in enumerate(scenes.FAMILIES["rooms"].classes):
            assert (label[room == i] == names.index(other.get(name, name))).all()
        assert (label[room == -1] == (0 if with_background else -1)).all()


def test_classes_and_tasks_are_those_of_the_papers(made):
    data = build("nyud-mt", "train", root=made / "astmt")
    names = data.tasks["semantic"].class_names
    ids = {"wall": 1, "bed": 4, "window": 9, "floor mat": 20, "television": 25, "person": 31, "otherprop": 40}
    assert {name: names.index(name) for name in ids} == ids and len(set(names)) == 41
    assert {name: task.channels for name, task in data.tasks.items()} == {
        "edges": 1, "semantic": 41, "normals": 3, "depth": 1,
    }  # fmt: skip


def test_grey_is_no_normal(roots):
    path = roots / "astmt/normals/1.jpg"
    colours = np.full((*SIZE, 3), 127, np.uint8)
    colours[:, 32:] = (128, 128, 0)  # (0, 0, -1), as far as bytes go
    PIL.Image.fromarray(colours).save(path, quality=95, subsampling=0)
    normals = build("nyud-mt", "train", root=roots / "astmt")[0]["normals"]
    assert (normals[:, :, :30] == 0).all()
    assert torch.allclose(normals[:, :, 34:], torch.tensor([0.0, 0, -1]).view(3, 1, 1), atol=0.03)
    assert NYUDMT.check(roots / "astmt") == []


def test_a_grey_level_is_an_edge_from_the_middle_on(roots):
    grey = np.arange(np.prod(SIZE)).reshape(SIZE) % 256
    PIL.Image.fromarray(grey.astype(np.uint8)).save(roots / "astmt/edge/1.png")
    np.save(roots / "survey/edge/1.npy", (grey / 255)[..., None] > 0.5)  # booleans, a channel of its own
    for package in PACKAGES:
        edges = build("nyud-mt", "train", root=roots / package)[0]["edges"]
        assert (edges[0].numpy() == (grey >= 128)).all()
        assert NYUDMT.check(roots / package) == []


def test_a_sample_of_the_true_size_lies_as_the_real_files_do(tmp_path):
    NYUDMT.write_sample(tmp_path / "s", 1)
    found = {str(path.relative_to(tmp_path / "s")) for path in (tmp_path / "s").rglob("*.*")}
    suffixes = {"images": "jpg", "edge": "png", "segmentation": "mat", "normals": "jpg", "depth": "mat"}
    files = {f"{folder}/{n}.{suffix}" for folder, suffix in suffixes.items() for n in (1, 2)}
    assert found == files | {"gt_sets/train.txt", "gt_sets/val.txt", "mtlkit-sample.json"}
    for folder in ("images", "normals", "edge"):
        with PIL.Image.open(tmp_path / "s" / folder / f"1.{suffixes[folder]}") as image:
            assert image.size == (560, 425)
    for folder in ("segmentation", "depth"):
        assert scipy.io.loadmat(tmp_path / "s" / folder / "1.mat")[folder].shape == (425, 560)
    assert NYUDMT.check(tmp_path / "s") == []
    (tmp_path / "s" / "mtlkit-sample.json").unlink()  # without its note it is judged as the real set
    counted = ["gt_sets/train.txt: 1 images; expected 795", "gt_sets/val.txt: 1 images; expected 654"]
    assert NYUDMT.check(tmp_path / "s") == counted


def test_names_and_what_it_does_not_have(made):
    test = build("nyud-mt", "test", root=made / "survey")
    assert [test.info(i).name for i in range(2)] == ["val/5", "val/6"] and test.info(0).size == SIZE
    with pytest.raises(IndexError):
        test[2]
    for split, options, message in [
        ("validation", {}, "unknown split 'validation'"),
        ("train", {"background": "yes"}, "should be bool"),
        ("train", {"backgrounds": True}, "did you mean 'background'"),
    ]:
        with pytest.raises(KitError, match=message):
            build("nyud-mt", split, root=made / "survey", **options)


def test_the_fingerprint_changes_with_the_data_and_with_nothing_else(made, roots):
    def mark(split="train", package="astmt", folder=roots, **options):
        return build("nyud-mt", split, root=folder / package, **options).fingerprint

    original = mark()
    assert original == mark(folder=made) and original.startswith("nyud-mt-astmt41-train4-32x64-")
    assert len({original, mark("test"), mark(background=False), mark(package="survey")}) == 4
    depth = scipy.io.loadmat(roots / "astmt/depth/2.mat")["depth"]
    depth[16:] += 0.5
    mat.write_mat(roots / "astmt/depth/2.mat", {"depth": depth})
    assert mark() != original and mark("test") == mark("test", folder=made)


def test_a_network_trains_on_the_tasks_that_have_metrics(made, tmp_path):
    table = recipes.read("rooms-tiny") | {"epochs": 1, "batch": 4}
    recipe = recipes.make(table | {"dataset": {"name": "nyud-mt", "root": str(made / "survey")}})
    run = Run(tmp_path / "run")
    run.folder.mkdir()
    result = training.fit(recipe, run, device="cpu", progress=False).result
    assert all(np.isfinite(value) for value in result["metrics"]["pooled"].values())


# --- which package ----------------------------------------------------------------------------------------------------


def test_files_of_the_other_package_are_strays(roots):
    shutil.copy(roots / "survey/depth/1.npy", roots / "astmt/depth")
    shutil.copy(roots / "survey/segmentation/2.png", roots / "astmt/segmentation")
    assert build("nyud-mt", "train", root=roots / "astmt").package == "astmt"
    assert NYUDMT.check(roots / "astmt") == [
        "segmentation/2.png: stray; no list names it",
        "depth/1.npy: stray; no list names it",
    ]


def test_where_there_is_neither_one_line_says_so(made, tmp_path):
    shutil.copytree(made / "astmt/images", tmp_path / "images")
    (line,) = NYUDMT.check(tmp_path)
    assert "no file of either package" in line and "data/README.md" in line
    with pytest.raises(KitError, match="no file of either package"):
        build("nyud-mt", "train", root=tmp_path)
    with pytest.raises(KitError, match="no nyud-mt at .*mtlkit data sample nyud-mt DEST"):
        NYUDMT.check(tmp_path / "nowhere")


def test_the_command_line_says_which_package_it_is(roots, mtlkit, tmp_path):
    line = f"nyud-mt: {nyud_mt.PACKAGES['survey'].about}\n"
    assert "survey" in line
    assert mtlkit("data", "check", "nyud-mt", "--root", roots / "survey")[:2] == (
        0,
        f"{line}nyud-mt: present and sound\n",
    )
    shown = mtlkit("data", "show", "nyud-mt", "--root", roots / "survey", "--count", "1")
    assert shown[:2] == (0, f"{line}contact-sheet.png\n") and (tmp_path / "contact-sheet.png").exists()
    (roots / "survey/depth/1.npy").unlink()
    status, report, error = mtlkit("data", "check", "nyud-mt", "--root", roots / "survey")
    assert status == 2 and report == f"depth/1.npy: missing; a list names it\n{line}" and "1 problem(s)" in error
    shutil.rmtree(roots / "survey")
    (roots / "survey").mkdir()
    status, report, _ = mtlkit("data", "check", "nyud-mt", "--root", roots / "survey")
    assert status == 2 and report.count("\n") == 1


# --- what can be wrong ------------------------------------------------------------------------------------------------


def cut(place, length=100):
    return lambda root: (root / place).write_bytes((root / place).read_bytes()[:length])


def text(place, content):
    return lambda root: (root / place).write_text(content)


def matrix(place, **variables):
    return lambda root: scipy.io.savemat(root / place, variables)


def array(place, values):
    return lambda root: np.save(root / place, values)


def picture(place, values):
    return lambda root: PIL.Image.fromarray(values).save(root / place)


def remove(place):
    return lambda root: shutil.rmtree(root / place) if (root / place).is_dir() else (root / place).unlink()


def trap(root):
    np.save(root / "depth/1.npy", np.array([os.mkdir], dtype=object), allow_pickle=True)


def bomb(root):
    """A PNG of a few kilobytes that is 100 million pixels."""
    PIL.Image.new("1", (10_000, 8_000)).save(root / "edge/1.png")


ZEROS = np.zeros(SIZE)
# package, damage -> the one line it makes (its beginning, where it ends in dots)
WRONG = {
    "image cut": ("astmt", cut("images/1.jpg", 700), "images/1.jpg: cannot be read; expected a JPEG or PNG image..."),
    "image of another size": ("astmt", picture("images/2.jpg", np.zeros((16, 64, 3), np.uint8)),
        "images/2.jpg: shape (16, 64, 3); expected (32, 64, 3)"),
    "image is text": ("survey", text("images/1.jpg", "<html>not found</html>"),
        "images/1.jpg: cannot be read; expected a JPEG or PNG image, found: not an image"),
    "edges cut": ("astmt", cut("edge/1.png"), "edge/1.png: cannot be read; expected a JPEG or PNG image..."),
    "edges in colour": ("astmt", picture("edge/1.png", np.zeros((*SIZE, 3), np.uint8)),
        "edge/1.png: shape (32, 64, 3); expected (32, 64)"),
    "edges of 16 bits": ("astmt", picture("edge/1.png", np.full(SIZE, 900, np.uint16)),
        "edge/1.png: values up to 900; expected an image of 8 bits, 0 ... 255"),
    "edges huge": ("astmt", bomb, "edge/1.png: has 8000 x 10000 pixels, expected at most 50 million..."),
    "edges above 1": ("survey", array("edge/1.npy", ZEROS + 255),
        "edge/1.npy: outside [0, 1] at 2048 pixels: 255 ... 255; expected numbers in [0, 1]"),
    "label cut": ("astmt", cut("segmentation/1.mat", 200), "segmentation/1.mat: cannot be read; expected a .mat..."),
    "label 41": ("astmt", matrix("segmentation/1.mat", segmentation=ZEROS + 41),
        "segmentation/1.mat: label 41 at 2048 pixels; expected whole numbers 0 ... 40"),
    "label 255": ("survey", picture("segmentation/1.png", np.full(SIZE, 255, np.uint8)),
        "segmentation/1.png: label 255 at 2048 pixels; expected whole numbers 0 ... 40"),
    "label of another size": ("survey", picture("segmentation/1.png", np.ones((64, 32), np.uint8)),
        "segmentation/1.png: shape (64, 32); expected (32, 64)"),
    "variable of another name": ("astmt", matrix("segmentation/1.mat", labels=ZEROS),
        "segmentation/1.mat: has no variable 'segmentation'; found: labels"),
    "variable is text": ("astmt", matrix("depth/1.mat", depth="deep"),
        "depth/1.mat: 'depth' is of type char; expected an array of numbers"),
    "depth in cells": ("astmt", matrix("depth/1.mat", depth=np.array([1, "a"], dtype=object)),
        "depth/1.mat: 'depth' is of type cell; expected an array of numbers"),
    "depth as integers": ("astmt", matrix("depth/1.mat", depth=ZEROS.astype(np.uint16)),
        "depth/1.mat: dtype uint16; expected floating-point numbers"),
    "depth is no .mat": ("astmt", text("depth/1.mat", "depth"), "depth/1.mat: cannot be read; expected a .mat file..."),
    "depth of version 7.3": ("astmt", lambda root: (root / "depth/1.mat").write_bytes(
        b"MATLAB 7.3 MAT-file".ljust(116) + bytes(8) + b"\x00\x02IM" + bytes(400)),
        "depth/1.mat: is of MATLAB's version 7.3; expected version 7 or older: save it with -v7"),
    "depth negative": ("survey", array("depth/1.npy", ZEROS - 1),
        "depth/1.npy: negative at 2048 pixels, lowest -1; expected numbers from 0 up (0 is invalid)"),
    "depth nan": ("astmt", matrix("depth/1.mat", depth=ZEROS + np.nan),
        "depth/1.mat: NaN or infinite at 2048 pixels; expected numbers from 0 up"),
    "depth cut": ("survey", cut("depth/1.npy", 500), "depth/1.npy: is cut short: 500 bytes, expected 8320"),
    "depth is objects": ("survey", trap, "depth/1.npy: holds Python objects, which are never unpickled..."),
    "normals black": ("astmt", picture("normals/1.jpg", np.zeros((*SIZE, 3), np.uint8)),
        "normals/1.jpg: the median length of its vectors is 1.73; expected about 1: colours 255 (n + 1) / 2"),
    "normals not unit": ("survey", array("normals/1.npy", np.ones((*SIZE, 3))),
        "normals/1.npy: length 1.73205 (the worst of 2048 pixels); expected 1 within 0.01, or all-zero"),
    "file missing": ("astmt", remove("normals/6.jpg"), "normals/6.jpg: missing; a list names it"),
    "folder missing": ("astmt", remove("normals"), "normals: missing folder; expected normals/{}.jpg in it"),
    "stray file": ("survey", text("edge/7.npy", ""), "edge/7.npy: stray; no list names it"),
    "stray folder": ("astmt", lambda root: (root / "masks").mkdir(),
        "masks: stray; expected depth, edge, gt_sets, images, mtlkit-sample.json, normals, segmentation alone"),
    "list missing": ("astmt", remove("gt_sets/val.txt"),
        "gt_sets/val.txt: is missing; expected the names of images, one on every line"),
    "list empty": ("survey", text("gt_sets/val.txt", "\n\n"),
        "gt_sets/val.txt: is empty; expected an image on every line"),
    "list of bytes": ("astmt", lambda root: (root / "gt_sets/val.txt").write_bytes(b"\xff\xfe5"),
        "gt_sets/val.txt: cannot be read (no text in UTF-8); expected the names of images, one on every line"),
    "list names a path": ("astmt", text("gt_sets/val.txt", "5\n6\n../../1\n"),
        "gt_sets/val.txt: line 3: '../../1'; expected the name of an image, without its suffix"),
    "list names a place": ("astmt", text("gt_sets/val.txt", "5\n6\n/etc/passwd\n"),
        "gt_sets/val.txt: line 3: '/etc/passwd'; expected the name of an image, without its suffix"),
    "list names one twice": ("astmt", text("gt_sets/val.txt", "5\n6\n5\n"),
        "gt_sets/val.txt: line 3: 5 for the second time; expected every image once"),
}  # fmt: skip


@pytest.mark.parametrize("damage", WRONG)
def test_what_is_wrong_makes_one_line(roots, damage):
    package, spoil, expected = WRONG[damage]
    spoil(roots / package)
    finds(NYUDMT.check, roots / package, expected)


# what stops the reader as well; the rest are values, or files that no sample needs
STOPS = [name for name, (_, _, line) in WRONG.items() if "/1." in line and ("shape" in line or "read" in line)]


@pytest.mark.parametrize("damage", [*STOPS, "depth is objects", "variable of another name", "list names a path"])
def test_the_reader_names_the_file_that_stops_it(roots, damage):
    package, spoil, expected = WRONG[damage]
    spoil(roots / package)
    with pytest.raises(KitError) as error:
        build("nyud-mt", "test" if "gt_sets" in expected else "train", root=roots / package)[0]
    message = str(error.value)
    assert message.startswith(expected.removesuffix("...")) and "\n" not in message
    assert message.endswith(f"; type: mtlkit data check nyud-mt --root {roots / package}")


def test_lists_that_do_not_fit_the_files(roots):
    text("gt_sets/val.txt", "1\n5\n9\n")(roots / "survey")
    assert NYUDMT.check(roots / "survey") == [
        "gt_sets/val.txt: 3 images; expected 2",
        "gt_sets/val.txt: 1 is in gt_sets/train.txt too; expected it in one part alone",
        *(f"{place}: missing; a list names it" for place in (
            "images/9.jpg", "edge/9.npy", "segmentation/9.png", "normals/9.npy", "depth/9.npy")),
        *(f"{place}: stray; no list names it" for place in (
            "images/6.jpg", "edge/6.npy", "segmentation/6.png", "normals/6.npy", "depth/6.npy")),
    ]  # fmt: skip


def test_without_a_note_most_images_say_what_their_size_is(roots):
    root = roots / "survey"
    (root / "mtlkit-sample.json").unlink()
    small = {"images/1.jpg": np.uint8, "segmentation/1.png": np.uint8}
    for place, dtype in small.items():
        PIL.Image.fromarray(np.zeros((8, 8, 3) if "jpg" in place else (8, 8), dtype)).save(root / place)
    for place, shape in {"edge/1.npy": (8, 8), "depth/1.npy": (8, 8), "normals/1.npy": (8, 8, 3)}.items():
        np.save(root / place, np.zeros(shape))
    assert NYUDMT.check(root)[2:] == ["images/1.jpg: 8 x 8 pixels; expected 32 x 64, as most images"]


@pytest.mark.parametrize("place", ["depth/1.mat", "gt_sets/train.txt"])
def test_links_that_lead_out_are_not_followed(roots, tmp_path, place):
    root, outside = roots / "astmt", tmp_path / "outside"
    (root / place).rename(outside)
    (root / place).symlink_to(outside)
    (line, *_) = NYUDMT.check(root)
    assert line == f"{place}: is a link that leads out of the dataset's folder; expected the file itself"
    with pytest.raises(KitError, match=f"{place}: is a link that leads out"):
        build("nyud-mt", "train", root=root)[0]
    (root / place).unlink()
    (root / place).symlink_to(root / place)  # in a circle
    assert any(line.startswith(place) for line in NYUDMT.check(root))
    (root / place).unlink()
    shutil.move(outside, root / "depth/copy") if "depth" in place else shutil.move(outside, root / place)
    if "depth" in place:
        (root / place).symlink_to("copy")  # inside is inside
        assert NYUDMT.check(root) == ["depth/copy: stray; no list names it"]
    assert len(build("nyud-mt", "train", root=root)) == 4


def test_a_root_that_is_a_link_is_welcome(made, tmp_path):
    (tmp_path / "link").symlink_to(made / "astmt")
    assert NYUDMT.check(tmp_path / "link") == [] and build("nyud-mt", "test", root=tmp_path / "link")[1]


def test_names_alone_are_checked_on_request(roots):
    cut("images/1.jpg")(roots / "astmt")
    assert NYUDMT.check(roots / "astmt", contents=False) == []
    remove("images/1.jpg")(roots / "astmt")
    assert NYUDMT.check(roots / "astmt", contents=False) == ["images/1.jpg: missing; a list names it"]


# --- .mat files -------------------------------------------------------------------------------------------------------


@settings(deadline=None, max_examples=200)
@given(place=st.integers(0, 330), byte=st.integers(0, 255), length=st.integers(0, 500))
def test_no_damage_to_a_mat_file_is_more_than_one_line(tmp_path_factory, place, byte, length):
    path = tmp_path_factory.getbasetemp() / "damaged.mat"
    mat.write_mat(path, {"depth": np.arange(60.0).reshape(6, 10)})
    content = bytearray(path.read_bytes()[:length])
    content[place : place + 1] = bytes([byte])
    path.write_bytes(content)
    try:
        assert isinstance(mat.read_mat(path, "depth"), np.ndarray)
    except KitError as error:
        assert "\n" not in str(error)


def test_a_mat_file_that_promises_too_much_is_refused_before_it_is_read(tmp_path):
    written = io.BytesIO()
    scipy.io.savemat(written, {"depth": np.zeros((7001, 7300), np.uint8)}, do_compression=True)
    (tmp_path / "big.mat").write_bytes(written.getvalue())
    assert (tmp_path / "big.mat").stat().st_size < 100_000
    with pytest.raises(KitError, match="'depth' has 51107300 values; expected at most 50000000"):
        mat.read_mat(tmp_path / "big.mat", "depth")


# --- writing a sample -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("package", PACKAGES)
def test_the_same_sample_twice_is_the_same_bytes(made, tmp_path, package):
    NYUDMT.write_sample(tmp_path / "again", package=package, height=SIZE[0], width=SIZE[1])
    assert list(contents(made / package).values()) == list(contents(tmp_path / "again").values())


def test_nothing_is_overwritten_and_wrong_options_are_told(made, tmp_path):
    before = contents(made)
    with pytest.raises(KitError, match="holds something already and is left as it is"):
        NYUDMT.write_sample(made / "astmt", 1, height=8, width=8)
    assert contents(made) == before
    with pytest.raises(KitError, match="unknown package 'surveys': did you mean 'survey'"):
        NYUDMT.write_sample(tmp_path / "s", package="surveys")
    with pytest.raises(KitError, match="at least one image of one pixel, found 4 of 0 x 560"):
        NYUDMT.write_sample(tmp_path / "s", height=0)
    assert not (tmp_path / "s").exists()
