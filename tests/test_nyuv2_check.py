"""The report on a dataset of numbered arrays: everything that can be wrong with NYUv2's files, and what the reader says
of those that cannot be read.
"""

import json
import os
import pickle
import shutil

import numpy as np
import pytest
from damage import Trap, change, contents
from hypothesis import given, settings
from hypothesis import strategies as st

from mtlkit.datasets import DATASETS, build, layout
from mtlkit.errors import KitError

NYUv2 = DATASETS["nyuv2"]
FIELDS = ("image", "label", "depth", "normal")


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A small sample: 4 images to train, 2 to test."""
    folder = tmp_path_factory.mktemp("nyuv2") / "sample"
    NYUv2.write_sample(folder, height=32, width=64)
    return folder


# --- files that cannot be read ----------------------------------------------------------------------------------------


def objects(root):
    np.save(root / "train/depth/1.npy", np.array([Trap(root / "sprung")], dtype=object), allow_pickle=True)


def raw_pickle(root):
    (root / "train/depth/1.npy").write_bytes(pickle.dumps(Trap(root / "sprung")))


def header(root):
    """A header that promises more than there is memory."""
    with (root / "train/depth/1.npy").open("wb") as file:
        promise = {"descr": "<f8", "fortran_order": False, "shape": (10**12, 64, 1)}
        np.lib.format.write_array_header_1_0(file, promise)


def cut(root, length):
    path = root / "train/depth/1.npy"
    path.write_bytes(path.read_bytes()[:length])


def as_folder(root):
    path = root / "train/depth/1.npy"
    path.unlink()
    path.mkdir()


def save(place, array):
    return lambda root: np.save(root / place, array)


def edited(place, edit):
    return lambda root: change(root / place, edit)


def put(place, index, *values):
    """Set the values at an index of an array, as many as there are."""

    def edit(array):
        array[index] = values if len(values) > 1 else values[0]

    return edited(place, edit)


# damage -> how the file's line goes on; the reader stumbles over the first group too
UNREADABLE = {
    "cut short": (lambda root: cut(root, 1000), "is cut short: 1000 bytes, expected 16512"),
    "cut in its header": (lambda root: cut(root, 20), "cannot be read; expected a .npy file, found: EOF"),
    "empty": (lambda root: cut(root, 0), "cannot be read; expected a .npy file, found: EOF"),
    "text": (lambda root: (root / "train/depth/1.npy").write_text("not found" * 9), "cannot be read; expected a .npy"),
    "zip": (lambda root: shutil.make_archive(str(root / "train/depth/1"), "zip", root / "val") and os.replace(
        root / "train/depth/1.zip", root / "train/depth/1.npy"), "cannot be read; expected a .npy file"),
    "objects": (objects, "holds Python objects, which are never unpickled; expected an array of numbers"),
    "pickle": (raw_pickle, "cannot be read; expected a .npy file"),
    "huge": (header, "is cut short: 128 bytes, expected 512000000000128"),
    "a folder": (as_folder, "cannot be read; expected a .npy file, found: Is a directory"),
    "integers": (edited("train/depth/1.npy", lambda a: (a * 1000).astype(np.uint16)),
                 "dtype uint16; expected floating-point numbers"),
    "text dtype": (edited("train/depth/1.npy", lambda a: a.astype(str)),
                   "dtype <U32; expected floating-point numbers"),
    "channels first": (edited("train/depth/1.npy", lambda a: a.transpose(2, 0, 1)),
                       "shape (1, 32, 64); expected (32, 64, 1)"),
    "another size": (save("train/depth/1.npy", np.ones((16, 64, 1))), "shape (16, 64, 1); expected (32, 64, 1)"),
    "no channels": (save("train/depth/1.npy", np.ones((32, 64))), "shape (32, 64); expected (32, 64, 1)"),
    "missing": (lambda root: (root / "train/depth/1.npy").unlink(), "is missing"),
}  # fmt: skip


@pytest.mark.parametrize("damage", UNREADABLE)
def test_a_file_that_cannot_be_read_is_named(root, damage):
    spoil, words = UNREADABLE[damage]
    spoil(root)
    data = build("nyuv2", "train", root=root)
    with pytest.raises(KitError) as error:
        data[1]
    message = str(error.value)
    assert message.startswith(f"train/depth/1.npy: {words}") and "\n" not in message
    assert message.endswith(f"; type: mtlkit data check nyuv2 --root {root}")
    assert not (root / "sprung").exists(), "nothing is unpickled"
    assert data[0]["depth"].shape == (1, 32, 64)
    (line,) = NYUv2.check(root)
    found = "missing; expected as in image, label, normal" if damage == "missing" else words
    assert line.startswith(f"train/depth/1.npy: {found}") and "\n" not in line
    assert not (root / "sprung").exists()


@settings(deadline=None, max_examples=200)
@given(place=st.integers(0, 140), byte=st.integers(0, 255), length=st.integers(0, 400))
def test_no_damage_to_a_header_is_more_than_one_line(tmp_path_factory, place, byte, length):
    path = tmp_path_factory.getbasetemp() / "damaged.npy"
    np.save(path, np.arange(32.0))
    content = bytearray(path.read_bytes()[:length])
    content[place : place + 1] = bytes([byte])
    path.write_bytes(content)
    try:
        assert isinstance(layout.read_npy(path), np.ndarray)
    except KitError as error:
        assert "\n" not in str(error)


# --- everything else --------------------------------------------------------------------------------------------------

# damage -> the one line it makes
WRONG = {
    "image too bright": (edited("train/image/2.npy", lambda a: a * 0 + 255.0),
        "train/image/2.npy: outside [0, 1] at 2048 pixels: 255 ... 255; expected numbers in [0, 1]"),
    "image below": (put("val/image/0.npy", (3, 4, 1), -0.5),
        "val/image/0.npy: outside [0, 1] at 1 pixel: -0.5 ... -0.5; expected numbers in [0, 1]"),
    "image nan": (put("train/image/2.npy", (0, slice(5)), np.nan),
        "train/image/2.npy: NaN or infinite at 5 pixels; expected numbers in [0, 1]"),
    "label 13": (put("train/label/0.npy", (slice(2), slice(12)), 13),
        "train/label/0.npy: label 13 at 24 pixels; expected whole numbers -1 ... 12"),
    "label -2": (put("train/label/0.npy", (0, 0), -2),
        "train/label/0.npy: label -2 at 1 pixel; expected whole numbers -1 ... 12"),
    "label in between": (put("train/label/0.npy", (0, slice(3)), 3.5, 3.5, np.nan),
        "train/label/0.npy: label 3.5 at 2 pixels, label nan at 1 pixel; expected whole numbers -1 ... 12"),
    "label of everything": (edited("train/label/0.npy", lambda a: np.arange(a.size).reshape(a.shape).astype(a.dtype)),
        "train/label/0.npy: label 13 at 1 pixel, label 14 at 1 pixel, label 15 at 1 pixel and 2032 more values; "
        "expected whole numbers -1 ... 12"),
    "depth nan": (put("train/depth/3.npy", (0, 0), np.nan),
        "train/depth/3.npy: NaN or infinite at 1 pixel; expected numbers from 0 up"),
    "depth infinite": (put("train/depth/3.npy", (0, slice(2)), np.inf),
        "train/depth/3.npy: NaN or infinite at 2 pixels; expected numbers from 0 up"),
    "depth negative": (put("train/depth/3.npy", (0, slice(2), 0), -1, -2),
        "train/depth/3.npy: negative at 2 pixels, lowest -2; expected numbers from 0 up (0 is invalid)"),
    "normals nan": (put("train/normal/0.npy", (1, slice(3), 2), np.nan),
        "train/normal/0.npy: NaN or infinite at 3 pixels; expected numbers of unit vectors"),
    "normals not unit": (edited("train/normal/0.npy", lambda a: a * 0.5),
        "train/normal/0.npy: length 0.5 (the worst of 2048 pixels); expected 1 within 0.01, or all-zero"),
    "no images in a field": (lambda root: shutil.rmtree(root / "val" / "normal"),
        "val/normal: missing folder; expected 0.npy ... 1.npy in it"),
    "no part": (lambda root: shutil.rmtree(root / "val"),
        "val: missing folder; expected image, label, depth, normal in it"),
    "a part is a file": (lambda root: (shutil.rmtree(root / "val"), (root / "val").write_text("")),
        "val: missing folder; expected image, label, depth, normal in it"),
    "too many": (lambda root: shutil.copy(root / "train/image/0.npy", root / "train/image/4.npy"),
        "train/image/4.npy: stray; expected 0.npy ... 3.npy alone"),
    "padded": (lambda root: shutil.copy(root / "train/image/0.npy", root / "train/image/00.npy"),
        "train/image/00.npy: stray; expected 0.npy ... 3.npy alone"),
    "a stray file": (lambda root: (root / "val/depth/notes.txt").write_text(""),
        "val/depth/notes.txt: stray; expected 0.npy ... 1.npy alone"),
    "a stray folder": (lambda root: (root / "train" / "seg").mkdir(),
        "train/seg: stray; expected depth, image, label, normal alone"),
    "an archive": (lambda root: (root / "nyuv2.zip").write_text(""),
        "nyuv2.zip: stray; expected mtlkit-sample.json, train, val alone"),
    "missing in one field": (lambda root: (root / "train/label/1.npy").unlink(),
        "train/label/1.npy: missing; expected as in image, depth, normal"),
}  # fmt: skip


@pytest.mark.parametrize("damage", WRONG)
def test_what_is_wrong_makes_one_line(root, damage):
    spoil, line = WRONG[damage]
    spoil(root)
    before = contents(root)
    assert NYUv2.check(root) == [line]
    assert contents(root) == before, "nothing is written"


def test_a_gap_and_missing_images_at_the_end(root):
    for field in FIELDS:
        (root / f"train/{field}/1.npy").unlink()
        (root / f"val/{field}/1.npy").unlink()
    assert NYUv2.check(root) == [
        "train: 3 images; expected 4",
        "train/image/1.npy: missing, as in every field; expected no gap in the numbers",
        "val: 1 images; expected 2",
    ]
    data = build("nyuv2", "train", root=root)
    assert [data.info(i).name for i in range(3)] == ["train/0", "train/2", "train/3"]


def test_what_is_allowed_is_no_problem(root):
    put("train/depth/0.npy", slice(3), 0)(root)
    put("train/normal/0.npy", slice(3), 0)(root)
    put("train/label/0.npy", slice(3), -1)(root)
    put("train/image/0.npy", (0, 0), 1 + 1e-7)(root)
    change(root / "train/normal/1.npy", lambda a: np.round(a * 127.5) / 127.5)  # from one byte for each component
    (root / "train" / "image" / ".DS_Store").write_text("")
    assert NYUv2.check(root) == []


def test_several_problems_of_one_file_and_of_many_are_in_one_report(root):
    put("train/image/2.npy", (0, slice(3), 0), np.nan, 7, -7)(root)
    put("val/depth/0.npy", 0, -1)(root)
    (root / "train/label/3.npy").unlink()
    assert NYUv2.check(root) == [
        "train/label/3.npy: missing; expected as in image, depth, normal",
        "train/image/2.npy: NaN or infinite at 1 pixel; expected numbers in [0, 1]",
        "train/image/2.npy: outside [0, 1] at 2 pixels: -7 ... 7; expected numbers in [0, 1]",
        "val/depth/0.npy: negative at 64 pixels, lowest -1; expected numbers from 0 up (0 is invalid)",
    ]


def test_names_alone_are_checked_on_request(root, capfd):
    objects(root)
    assert NYUv2.check(root, contents=False) == [] and not capfd.readouterr().err
    (root / "train/label/1.npy").unlink()
    assert len(NYUv2.check(root, contents=False)) == 1
    assert len(NYUv2.check(root)) == 2 and "checking nyuv2" in capfd.readouterr().err  # the progress bar


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("{", "is not JSON"),
        ("[]", "mtlkit-sample.json: "),
        (json.dumps({"dataset": "nyuv2"}), "counts: Field required"),
        ('{"dataset": "cityscapes", "counts": {}, "size": [1, 1], "made_from": "", "versions": {}}', "'cityscapes'"),
    ],
)
def test_a_damaged_note_is_told_and_the_rest_still_checked(root, text, words):
    (root / "mtlkit-sample.json").write_text(text)
    first, *rest = NYUv2.check(root)
    assert words in first and "mtlkit-sample.json" in first and "\n" not in first
    assert "train: 4 images; expected 795" in rest


def test_a_folder_that_is_not_there_is_an_error(tmp_path):
    with pytest.raises(KitError, match="data/README.md says how to get it"):
        NYUv2.check(tmp_path / "nowhere")
    (tmp_path / "empty").mkdir()
    with pytest.raises(KitError, match="train/image: cannot be listed"):
        build("nyuv2", "train", root=tmp_path / "empty")
    assert len(NYUv2.check(tmp_path / "empty")) == 2
