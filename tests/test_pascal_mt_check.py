"""What can be wrong with the files of PASCAL-MT, and with structures in .mat files."""

import io
import shutil
import struct
import zlib
from pathlib import Path

import numpy as np
import PIL.Image
import pytest
import scipy.io
from damage import contents, finds
from hypothesis import given, settings
from hypothesis import strategies as st

from mtlkit.datasets import DATASETS, build, mat
from mtlkit.errors import KitError

PascalMT = DATASETS["pascal-mt"]
SIZE = (24, 32)


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """1 ... 4 to train, 5 and 6 to test; 3 is upright."""
    folder = tmp_path_factory.mktemp("pascal") / "sample"
    PascalMT.write_sample(folder, height=SIZE[0], width=SIZE[1])
    return folder


def at(place):
    """``human_parts/1.mat`` is human_parts/2008_000001.mat."""
    path = Path(place)
    return f"{path.parent}/2008_{int(path.stem):06d}{path.suffix}" if path.stem.isdigit() else place


def cut(place, length=100):
    return lambda root: (root / at(place)).write_bytes((root / at(place)).read_bytes()[:length])


def text(place, content):
    return lambda root: (root / at(place)).write_text(content)


def matrix(place, **variables):
    return lambda root: scipy.io.savemat(root / at(place), variables)


def picture(place, values):
    return lambda root: PIL.Image.fromarray(values).save(root / at(place))


def remove(place):
    path = at(place)
    return lambda root: shutil.rmtree(root / path) if (root / path).is_dir() else (root / path).unlink()


def records(fields, *rows):
    array = np.empty((1, len(rows)), dtype=[(field, object) for field in fields.split()])
    for i, row in enumerate(rows):
        array[0, i] = row
    return array


MASK = np.ones(SIZE, np.uint8)


def anno(*parts, category=15):
    objects = records("class category mask parts", ("person", category, MASK, records("name mask", *parts)))
    return matrix("human_parts/1.mat", anno={"image": "x", "objects": objects})


ZEROS, GREY = np.zeros(SIZE, np.uint16), np.full(SIZE, 128, np.uint8)
# damage -> the one line it makes (its beginning, where it ends in dots)
WRONG = {
    "image cut": (cut("JPEGImages/1.jpg", 700), "JPEGImages/1.jpg: cannot be read; expected a JPEG or PNG image..."),
    "image is text": (text("JPEGImages/1.jpg", "<html>"), "JPEGImages/1.jpg: cannot be read; expected a JPEG or..."),
    "label map cut": (cut("pascal-context/trainval/1.mat", 200),
        "pascal-context/trainval/1.mat: cannot be read; expected a .mat file..."),
    "label map of another name": (matrix("pascal-context/trainval/1.mat", labels=ZEROS),
        "pascal-context/trainval/1.mat: has no variable 'LabelMap'; found: labels"),
    "label 460": (matrix("pascal-context/trainval/1.mat", LabelMap=ZEROS + 460),
        "pascal-context/trainval/1.mat: label 460 at 768 pixels; expected whole numbers 0 ... 459"),
    "label map of another size": (matrix("pascal-context/trainval/1.mat", LabelMap=ZEROS[:12]),
        "pascal-context/trainval/1.mat: shape (12, 32); expected (24, 32)"),
    "class 21": (picture("semseg/VOC12/1.png", np.full(SIZE, 21, np.uint8)),
        "semseg/VOC12/1.png: label 21 at 768 pixels; expected whole numbers 0 ... 20 or 255"),
    "labels in colour": (picture("semseg/VOC12/1.png", np.zeros((*SIZE, 3), np.uint8)),
        "semseg/VOC12/1.png: shape (24, 32, 3); expected (24, 32)"),
    "labels of the other place cut": (cut("semseg/pascal-context/2.png", 50),
        "semseg/pascal-context/2.png: cannot be read; expected a JPEG or PNG image..."),
    "normals cut": (cut("normals_distill/1.png"), "normals_distill/1.png: cannot be read; expected a JPEG or PNG..."),
    "normals black": (picture("normals_distill/1.png", np.zeros((*SIZE, 3), np.uint8)),
        "normals_distill/1.png: the median length of its vectors is 1.73; expected about 1: colours 255 (n + 1) / 2"),
    "normals upright": (picture("normals_distill/1.png", np.full((32, 24, 3), 128, np.uint8)),
        "normals_distill/1.png: shape (32, 24, 3); expected (24, 32, 3)"),
    "saliency of 16 bits": (picture("sal_distill/1.png", np.full(SIZE, 900, np.uint16)),
        "sal_distill/1.png: values up to 900; expected an image of 8 bits, 0 ... 255"),
    "saliency square": (picture("sal_distill/1.png", GREY[:, :24]),
        "sal_distill/1.png: shape (24, 24); expected (24, 32)"),
    "parts cut": (cut("human_parts/1.mat", 300), "human_parts/1.mat: cannot be read; expected a .mat file, found:..."),
    "parts cut in the header": (cut("human_parts/1.mat", 60),
        "human_parts/1.mat: cannot be read; expected a .mat file, found:..."),
    "parts are text": (text("human_parts/1.mat", "anno"), "human_parts/1.mat: cannot be read; expected a .mat file..."),
    "parts of another name": (matrix("human_parts/1.mat", annotation=ZEROS),
        "human_parts/1.mat: has no variable 'anno'; found: annotation"),
    "parts are numbers": (matrix("human_parts/1.mat", anno=ZEROS),
        "human_parts/1.mat: 'anno' is an array of numbers; expected a structure"),
    "parts without objects": (matrix("human_parts/1.mat", anno={"image": "x"}),
        "human_parts/1.mat: anno has 1 fields; expected at least 2"),
    "objects are cells": (matrix("human_parts/1.mat", anno={"image": "x", "objects": np.array([[1, "a"]], object)}),
        "human_parts/1.mat: 'the objects' is of another type; expected a structure"),
    "category is text": (anno(category="person"), "human_parts/1.mat: the category of an object is no matrix of..."),
    "mask is text": (anno(("head", "mask")), "human_parts/1.mat: the mask of a part is no matrix of numbers"),
    "unknown part": (anno(("heat", MASK)), "human_parts/1.mat: has a part 'heat' of a person: did you mean 'head'?..."),
    "masks differ": (anno(("head", MASK), ("torso", MASK[:3])),
        "human_parts/1.mat: torso: a mask of shape (3, 32); expected (24, 32), as of other parts"),
    "parts upright": (anno(("head", MASK.T)), "human_parts/1.mat: shape (32, 24); expected (24, 32)"),
    "parts of version 7.3": (lambda root: (root / at("human_parts/1.mat")).write_bytes(
        b"MATLAB 7.3 MAT-file".ljust(116) + bytes(8) + b"\x00\x02IM" + bytes(400)),
        "human_parts/1.mat: is of MATLAB's version 7.3; expected version 7 or older: save it with -v7"),
    "file missing": (remove("sal_distill/6.png"), "sal_distill/6.png: missing; a list names it"),
    "labels in neither place": (remove("semseg/pascal-context/6.png"), "semseg/VOC12/6.png: missing; a list names it"),
    "folder missing": (remove("normals_distill"),
        "normals_distill: missing folder; expected normals_distill/{}.png in it"),
    "stray file": (text("human_parts/7.mat", ""), "human_parts/7.mat: stray; no list names it"),
    "stray folder": (lambda root: (root / "masks").mkdir(), "masks: stray; expected ImageSets, JPEGImages..."),
    "list missing": (remove("ImageSets/Context/val.txt"),
        "ImageSets/Context/val.txt: is missing; expected the names of images, one on every line"),
    "list empty": (text("ImageSets/Context/val.txt", "\n"),
        "ImageSets/Context/val.txt: is empty; expected an image on every line"),
    "list names a path": (text("ImageSets/Context/val.txt", "2008_000005\n2008_000006\n../1\n"),
        "ImageSets/Context/val.txt: line 3: '../1'; expected the name of an image, without its suffix"),
}  # fmt: skip


def line_of(damage):
    place, colon, reason = WRONG[damage][1].partition(": ")
    return at(place) + colon + reason


@pytest.mark.parametrize("damage", WRONG)
def test_what_is_wrong_makes_one_line(root, damage):
    WRONG[damage][0](root)
    finds(PascalMT.check, root, line_of(damage))


VALUES = {"label 460", "class 21", "normals black", "saliency of 16 bits"}  # which the reader takes as they are
ELSEWHERE = {"file missing", "labels in neither place", "stray file", "stray folder"}


@pytest.mark.parametrize("damage", [name for name in WRONG if name not in VALUES | ELSEWHERE])
def test_the_reader_names_the_file_that_stops_it(root, damage):
    WRONG[damage][0](root)
    with pytest.raises(KitError) as error:
        data = build("pascal-mt", "test" if "ImageSets" in WRONG[damage][1] else "train", root=root)
        for index in range(2):
            data[index]
    message, expected = str(error.value), line_of(damage).removesuffix("...")
    if damage == "folder missing":
        expected = f"{at('normals_distill/1.png')}: is missing"
    assert message.startswith(expected) and "\n" not in message
    assert message.endswith(f"; type: mtlkit data check pascal-mt --root {root}")


def test_a_list_that_names_an_absent_file(root):
    text("ImageSets/Context/val.txt", "2008_000005\n2008_000099\n")(root)
    found = PascalMT.check(root)
    assert sum("2008_000099" in line and "missing; a list names it" in line for line in found) == 6
    assert sum("2008_000006" in line and "stray" in line for line in found) == 6 and len(found) == 12
    with pytest.raises(KitError, match="JPEGImages/2008_000099.jpg: is missing"):
        build("pascal-mt", "test", root=root)[1]


def test_a_larger_package_makes_few_lines_and_its_tables_are_no_strays(root):
    for n in range(100, 130):
        shutil.copy(root / at("JPEGImages/1.jpg"), root / at(f"JPEGImages/{n}.jpg"))
    (root / "ImageSets/Parts").mkdir()
    text("ImageSets/Parts/train.txt", "{}")(root)
    found = PascalMT.check(root)
    assert len(found) == 21 and found[-1] == "JPEGImages: 10 more stray files; no list names them"
    assert len(build("pascal-mt", "train", root=root)) == 4


def test_every_image_has_its_own_size_with_and_without_a_note(root):
    assert PascalMT.check(root) == []
    (root / "mtlkit-sample.json").unlink()
    assert PascalMT.check(root) == [
        "ImageSets/Context/train.txt: 4 images; expected 4998",
        "ImageSets/Context/val.txt: 2 images; expected 5105",
    ]


@pytest.mark.parametrize("place", ["human_parts/1.mat", "semseg/VOC12/1.png", "ImageSets/Context/train.txt"])
def test_links_that_lead_out_are_not_followed(root, tmp_path, place):
    (root / at(place)).rename(tmp_path / "outside")
    (root / at(place)).symlink_to(tmp_path / "outside")
    (line, *_) = PascalMT.check(root)
    assert line == f"{at(place)}: is a link that leads out of the dataset's folder; expected the file itself"
    with pytest.raises(KitError, match=f"{at(place)}: is a link that leads out"):
        build("pascal-mt", "train", root=root)[0]


def test_names_alone_are_checked_on_request(root):
    cut("JPEGImages/1.jpg")(root)
    assert PascalMT.check(root, contents=False) == []
    remove("JPEGImages/1.jpg")(root)
    assert PascalMT.check(root, contents=False) == [f"{at('JPEGImages/1.jpg')}: missing; a list names it"]


def test_the_same_sample_twice_is_the_same_bytes_and_nothing_is_overwritten(made, tmp_path):
    PascalMT.write_sample(tmp_path / "again", height=SIZE[0], width=SIZE[1])
    assert list(contents(made).values()) == list(contents(tmp_path / "again").values())
    before = contents(made)
    with pytest.raises(KitError, match="holds something already and is left as it is"):
        PascalMT.write_sample(made, 1)
    assert contents(made) == before
    with pytest.raises(KitError, match="at least one image of one pixel"):
        PascalMT.write_sample(tmp_path / "s", 0)
    with pytest.raises(KitError, match="no pascal-mt at .*mtlkit data sample pascal-mt DEST"):
        PascalMT.check(tmp_path / "s")


# --- structures in .mat files -----------------------------------------------------------------------------------------


def plain(value):
    """What SciPy read, as ``read_struct`` says it."""
    if value.dtype.names:
        return [{name: plain(one[name]) for name in value.dtype.names} for one in value.ravel(order="F")]
    return str(value[0]) if value.dtype.kind == "U" else value


def same(a, b):
    if isinstance(a, list):
        return isinstance(b, list) and len(a) == len(b) and all(map(same, a, b))
    if isinstance(a, dict):
        return list(a) == list(b) and all(same(a[name], b[name]) for name in a)
    return a == b if isinstance(a, str) else a.shape == b.shape and np.array_equal(a, b)


DTYPES = (np.float64, np.float32, np.uint8, np.int16, np.uint16, np.int32, np.int64, bool)


@settings(deadline=None, max_examples=60)
@given(seed=st.integers(0, 10**6), compressed=st.booleans())
def test_structures_are_read_as_scipy_reads_them(tmp_path_factory, seed, compressed):
    rng, path = np.random.default_rng(seed), tmp_path_factory.getbasetemp() / "structures.mat"

    def value(depth):
        kind = rng.integers(0, 4 if depth else 2)
        if kind == 0:
            return rng.integers(0, 100, rng.integers(1, 5, 2)).astype(DTYPES[rng.integers(len(DTYPES))])
        if kind == 1:
            return "".join(rng.choice(list("abc xyz0"), rng.integers(1, 12)))
        rows = [(value(depth - 1), value(depth - 1)) for _ in range(rng.integers(1, 4))]
        return records("first second", *rows)

    scipy.io.savemat(
        path, {"other": np.arange(3), "s": records("a b", (value(2), value(2)))}, do_compression=compressed
    )
    assert same(mat.read_struct(path, "s"), plain(scipy.io.loadmat(path)["s"]))


@settings(deadline=None, max_examples=200)
@given(place=st.integers(0, 900), byte=st.integers(0, 255), length=st.integers(0, 1400), compressed=st.booleans())
def test_no_damage_to_a_structure_is_more_than_one_line(tmp_path_factory, place, byte, length, compressed):
    path = tmp_path_factory.getbasetemp() / "damaged.mat"
    parts = records("name mask", ("head", np.arange(12.0)), ("torso", np.ones((3, 4), np.uint8)))
    scipy.io.savemat(path, {"s": {"x": "text", "parts": parts}}, do_compression=compressed)
    content = bytearray(path.read_bytes()[:length])
    content[place : place + 1] = bytes([byte])
    path.write_bytes(content)
    try:
        assert isinstance(mat.read_struct(path, "s"), list)
    except KitError as error:
        assert "\n" not in str(error)


def element(order, kind, content):
    return struct.pack(f"{order}II", kind, len(content)) + content + bytes(-len(content) % 8)


def nested(order, depth, innermost):
    """A file with structures inside each other: s.f.f.f ..."""
    inner = innermost
    for i in range(depth):
        head = element(order, 6, struct.pack(f"{order}II", 2, 0)) + element(order, 5, struct.pack(f"{order}ii", 1, 1))
        head += element(order, 1, b"" if i < depth - 1 else b"s")
        head += element(order, 5, struct.pack(f"{order}i", 8)) + element(order, 1, b"f".ljust(8, b"\0"))
        inner = element(order, 14, head + inner)
    version = struct.pack(f"{order}H", 0x100)
    return b"MATLAB 5.0".ljust(124) + version + (b"IM" if order == "<" else b"MI") + inner


def characters(order, letters):
    head = element(order, 6, struct.pack(f"{order}II", 4, 0))
    head += element(order, 5, struct.pack(f"{order}ii", 1, len(letters))) + element(order, 1, b"")
    return element(order, 14, head + element(order, 4, letters.encode("utf-16le" if order == "<" else "utf-16be")))


@pytest.mark.parametrize("order", ["<", ">"])
def test_either_order_of_bytes_and_text_of_two_bytes(tmp_path, order):
    (tmp_path / "s.mat").write_bytes(nested(order, 3, characters(order, "Zürich")))
    assert mat.read_struct(tmp_path / "s.mat", "s") == [{"f": [{"f": [{"f": "Zürich"}]}]}]
    (tmp_path / "s.mat").write_bytes(nested(order, 3, characters(order, "Bern")))
    assert scipy.io.loadmat(tmp_path / "s.mat")["s"][0, 0]["f"][0, 0]["f"][0, 0]["f"][0] == "Bern"


@pytest.mark.parametrize("depth", [9, 2000])
def test_structures_too_deep_inside_each_other_are_refused(tmp_path, depth):
    (tmp_path / "s.mat").write_bytes(nested("<", depth, characters("<", "x")))
    with pytest.raises(KitError, match="has more than 8 structures inside each other"):
        mat.read_struct(tmp_path / "s.mat", "s")


def test_a_file_that_unpacks_to_too_much_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(mat, "_MOST_BYTES", 10**6)
    written = io.BytesIO()
    scipy.io.savemat(written, {"s": {"mask": np.zeros((1200, 1200), np.uint8)}}, do_compression=True)
    (tmp_path / "s.mat").write_bytes(written.getvalue())
    assert len(written.getvalue()) < 10_000
    with pytest.raises(KitError, match="has more than 1 MB"):
        mat.read_struct(tmp_path / "s.mat", "s")
    packed = zlib.compress(bytes(5 * 10**6))
    (tmp_path / "s.mat").write_bytes(written.getvalue()[:128] + struct.pack("<II", 15, len(packed)) + packed)
    with pytest.raises(KitError):
        mat.read_struct(tmp_path / "s.mat", "s")


def test_a_field_of_a_structure_is_an_array(tmp_path):
    mat.write_mat(tmp_path / "s.mat", {"s": {"ids": np.arange(5), "name": "x"}, "a": np.arange(3)})
    assert mat.read_mat(tmp_path / "s.mat", "s.ids").tolist() == [[0, 1, 2, 3, 4]]
    for variable, message in [
        ("s.name", "'s' has no numbers 'name'; found: ids"),
        ("a.ids", "'a' is an array of numbers; expected a structure"),
        ("t.ids", "has no variable 't'; found: a, s"),
    ]:
        with pytest.raises(KitError, match=message):
            mat.read_mat(tmp_path / "s.mat", variable)
