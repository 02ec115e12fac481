"""The report on the Visual Decathlon: everything that can be wrong with its folders, images and annotations."""

import io
import json
import pickle
import shutil

import numpy as np
import PIL.Image
import pytest
from damage import Trap, contents
from hypothesis import given, settings
from hypothesis import strategies as st

from mtlkit.datasets import DATASETS, layout
from mtlkit.datasets.visual_decathlon import SETS
from mtlkit.errors import KitError

Decathlon = DATASETS["visual-decathlon"]
DATA = "decathlon-1.0-data"
AIR, PED = f"{DATA}/aircraft", f"{DATA}/daimlerpedcls"
FILE = f"{AIR}/val/C-130/000001.jpg"
VAL, TRAIN, TEST = (f"annotations/aircraft_{part}.json: " for part in ("val", "train", "test_stripped"))


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """Two sets: aircraft with 6 classes (12, 6, 6 images), daimlerpedcls with 2 (4, 2, 2)."""
    folder = tmp_path_factory.mktemp("decathlon") / "sample"
    Decathlon.write_sample(folder, 2, domains=["aircraft", "daimlerpedcls"])
    return folder


# --- images -----------------------------------------------------------------------------------------------------------


def picture(size, form="JPEG", mode="RGB"):
    file = io.BytesIO()
    PIL.Image.new(mode, size[::-1]).save(file, form)
    return file.getvalue()


def written(content):
    return lambda path: path.write_bytes(content)


def bomb():
    """A PNG whose header promises a billion pixels."""
    content = bytearray(picture((72, 72), "PNG"))
    content[16:24] = (30000).to_bytes(4, "big") * 2
    return bytes(content)


NOT_READ = "cannot be read; expected a JPEG or PNG image, found: "
# damage -> how the file's line goes on
IMAGES = {
    "cut short": (lambda path: path.write_bytes(path.read_bytes()[:2000]), NOT_READ + "image file is truncated"),
    "cut in its header": (lambda path: path.write_bytes(path.read_bytes()[:100]), NOT_READ),
    "png cut short": (written(picture((72, 90), "PNG")[:70]), NOT_READ),
    "empty": (written(b""), NOT_READ + "not an image"),
    "text": (written(b"404 not found"), NOT_READ + "not an image"),
    "gif": (written(picture((72, 72), "GIF")), NOT_READ + "not an image"),
    "pickle": (lambda path: path.write_bytes(pickle.dumps(Trap(path.parent / "sprung"))), NOT_READ + "not an image"),
    "a billion pixels": (written(bomb()), NOT_READ),
    "too many pixels": (written(picture((8000, 8000), "PNG", "1")), "has 8000 x 8000 pixels, expected at most 50"),
    "too small": (written(picture((32, 32))), "32 x 32 pixels; expected a shorter side of 72"),
    "too large": (written(picture((100, 73))), "100 x 73 pixels; expected a shorter side of 72"),
    "a line": (written(picture((72, 7201))), "has 72 x 7201 pixels; expected a picture, not a line"),
    "a link": (lambda path: (path.unlink(), path.symlink_to("/etc/hostname")), "is a link that leads out of the"),
    "a way up": (lambda path: (path.unlink(), path.symlink_to("../../../../../../x")), "is a link that leads out of"),
    "a dead link": (lambda path: (path.unlink(), path.symlink_to("gone.jpg")), "is missing"),
}  # fmt: skip


@pytest.mark.parametrize("damage", IMAGES)
def test_a_damaged_image_makes_one_line(root, damage):
    spoil, words = IMAGES[damage]
    spoil(root / FILE)
    before = contents(root)
    (line,) = Decathlon.check(root)
    assert line.startswith(f"{FILE}: {words}") and "\n" not in line
    assert contents(root) == before and not list(root.rglob("sprung")), "nothing is written, nothing unpickled"


@pytest.mark.parametrize(
    "content",
    [picture((72, 90), "JPEG", "L"), picture((72, 90), "PNG"), picture((90, 72), "JPEG", "CMYK"),
     picture((72, 90), "PNG", "RGBA"), picture((72, 90), "PNG", "P")],
    ids=["grey", "png", "cmyk", "alpha", "palette"],
)  # fmt: skip
def test_every_kind_of_jpeg_and_png_is_read_as_rgb(root, content):
    (root / FILE).write_bytes(content)
    assert Decathlon.check(root) == []
    data = Decathlon("validation", root=root, domains=["aircraft"])
    assert data[2]["image"].shape == (3, 72, 72) and data.info(2).name == FILE.removeprefix(f"{DATA}/")


@settings(deadline=None, max_examples=150)
@given(place=st.integers(0, 3000), byte=st.integers(0, 255), length=st.integers(0, 4000))
def test_no_damage_to_a_file_is_more_than_one_line(made, tmp_path_factory, place, byte, length):
    content = bytearray((made / FILE).read_bytes()[:length])
    content[place : place + 1] = bytes([byte])
    path = tmp_path_factory.getbasetemp() / "damaged.jpg"
    path.write_bytes(content)
    try:
        assert layout.read_image(path, "RGB").dtype == np.uint8
    except KitError as error:
        assert "\n" not in str(error)


# --- folders ----------------------------------------------------------------------------------------------------------


def move(root, place, to):
    (root / to).parent.mkdir(parents=True, exist_ok=True)
    (root / place).rename(root / to)


def linked_set(root):
    shutil.move(root / AIR, root.parent / "elsewhere")
    (root / AIR).symlink_to(root.parent / "elsewhere")


def linked_class(root):
    shutil.move(root / AIR / "train/C-130", root.parent / "elsewhere")
    (root / AIR / "train/C-130").symlink_to(root.parent / "elsewhere")


OUT = "is a link that leads out of the dataset's folder; expected the file itself"
# damage -> the lines it makes
FOLDERS = {
    "no set": (lambda root: shutil.rmtree(root / AIR),
        [f"{AIR}: missing folder; expected train, val, test in it"]),
    "no data": (lambda root: shutil.rmtree(root / DATA),
        [f"{DATA}: cannot be listed (No such file or directory)",
         f"{AIR}: missing folder; expected train, val, test in it",
         f"{PED}: missing folder; expected train, val, test in it"]),
    "no part": (lambda root: shutil.rmtree(root / AIR / "val"),
        [f"{AIR}/val: cannot be listed (No such file or directory); expected the images of val",
         "annotations/aircraft_val.json: 747-400/000001.jpg, A320/000001.jpg, C-130/000001.jpg and 3 more: named"]),
    "no class": (lambda root: shutil.rmtree(root / AIR / "val/DC-3"),
        [f"{AIR}/val: 5 class folders; expected 6", f"{AIR}/val: 5 images; expected 6",
         f"{AIR}/val/DC-3: missing folder; expected the same classes as in train",
         "annotations/aircraft_val.json: DC-3/000001.jpg: named, but there is no such file"]),
    "another class": (lambda root: move(root, f"{AIR}/val/DC-3", f"{AIR}/val/DC-4"),
        [f"{AIR}/val/DC-3: missing folder; expected the same classes as in train",
         f"{AIR}/train/DC-4: missing folder; expected the same classes as in val",
         "annotations/aircraft_val.json: DC-3/000001.jpg: named, but there is no such file",
         "annotations/aircraft_val.json: DC-4/000001.jpg: in the folder, but not named"]),
    "an empty class": (lambda root: (root / FILE).unlink(),
        [f"{AIR}/val/C-130: empty; expected images", f"{AIR}/val: 5 images; expected 6",
         "annotations/aircraft_val.json: C-130/000001.jpg: named, but there is no such file"]),
    "an image too many": (lambda root: shutil.copy(root / FILE, root / AIR / "val/C-130/000002.jpg"),
        [f"{AIR}/val: 7 images; expected 6",
         "annotations/aircraft_val.json: C-130/000002.jpg: in the folder, but not named"]),
    "strays": (lambda root: [(root / place).write_text("") for place in (
            "decathlon.tar", f"{DATA}/svhn.tar", f"{AIR}/notes.txt", f"{AIR}/val/000001.jpg", f"{AIR}/val/C-130/a.txt",
            f"{AIR}/test/notes.txt", f"{AIR}/.DS_Store", "annotations/svhn_val.json")],
        ["decathlon.tar: stray; expected annotations, decathlon-1.0-data, decathlon_mean_std.pickle, model_weights, "
            "mtlkit-sample.json alone",
         f"{DATA}/svhn.tar: stray; expected aircraft, daimlerpedcls, decathlon_mean_std.pickle, model_weights alone",
         "annotations/svhn_val.json: stray; expected aircraft_test_stripped.json, aircraft_train.json",
         f"{AIR}/notes.txt: stray; expected test, train, val alone",
         f"{AIR}/val/C-130/a.txt: stray; expected images alone",
         f"{AIR}/val/000001.jpg: stray; expected class folders alone",
         f"{AIR}/test/notes.txt: stray; expected images alone"]),
    "test in two folders": (lambda root: move(root, f"{AIR}/test/unlabelled/000006.jpg", f"{AIR}/test/more/000006.jpg"),
        [f"{AIR}/test: 2 folders; expected one at most, with every image in it"]),
    "a set elsewhere": (linked_set,
        [f"{AIR}/train: {OUT}", f"{AIR}/val: {OUT}", f"{AIR}/test: {OUT}"]),
    "a class elsewhere": (linked_class,
        [f"{AIR}/train/C-130: {OUT}", f"{AIR}/train: 10 images; expected 12",
         "annotations/aircraft_train.json: C-130/000001.jpg, C-130/000002.jpg: named, but there is no such file"]),
    "a part is a file": (lambda root: (shutil.rmtree(root / AIR / "val"), (root / AIR / "val").write_text("")),
        [f"{AIR}/val: cannot be listed (Not a directory); expected the images of val",
         "annotations/aircraft_val.json: "]),
}  # fmt: skip


def assert_report(root, lines):
    before, found = contents(root), Decathlon.check(root)
    assert len(found) == len(lines), "\n".join(found)
    for line, start in zip(found, lines, strict=True):
        assert line.startswith(start) and "\n" not in line
    assert contents(root) == before, "nothing is written"


@pytest.mark.parametrize("damage", FOLDERS)
def test_what_is_wrong_with_folders_is_told(root, damage):
    spoil, lines = FOLDERS[damage]
    spoil(root)
    assert_report(root, lines)


def test_files_of_the_released_code_are_welcome_and_never_opened(root):
    (root / "model_weights").mkdir()
    (root / DATA / "decathlon_mean_std.pickle").write_bytes(pickle.dumps(Trap(root / "sprung")))
    assert Decathlon.check(root) == [] and not (root / "sprung").exists()


def test_without_its_note_a_sample_is_judged_as_the_real_set(root):
    (root / "mtlkit-sample.json").unlink()
    found = Decathlon.check(root)
    for line in (
        f"{DATA}/imagenet12: missing folder; expected train, val, test in it",
        f"{AIR}/train: 6 class folders; expected 100",
        f"{AIR}/train: 12 images; expected 3334",
        f"{PED}/test: 2 images; expected 19600",
        TEST + "image ids 10200019 ... 10200024; expected 10206668 ... 10210000, each once",
        VAL + "6 categories; expected the ids 10000001 ... 10000100, each once",
    ):
        assert line in found
    assert not any(line.startswith(f"{PED}/train: 2 class folders") for line in found)


def test_the_published_numbers_add_up():
    """Sums over the ten sets: a slip of the pen in one of the numbers would show."""
    assert [sum(facts.images[part] for facts in SETS.values()) for part in range(3)] == [1_405_943, 113_439, 139_760]
    assert sum(facts.classes for facts in SETS.values()) == 3128
    assert sorted(facts.block for facts in SETS.values()) == list(range(10_000_000, 110_000_000, 10_000_000))
    assert all(0 < value < 1 for facts in SETS.values() for value in facts.mean + facts.std)


def test_names_alone_are_checked_on_request(root, capfd):
    (root / FILE).write_bytes(b"")
    (root / "annotations/aircraft_val.json").write_text("{")
    assert Decathlon.check(root, contents=False) == [] and not capfd.readouterr().err
    (root / FILE).unlink()
    assert len(Decathlon.check(root, contents=False)) == 2


@pytest.mark.parametrize("change", [{"classes": {"aircraft": 0}}, {"classes": None}, {"real": 1}, {"dataset": "nyuv2"}])
def test_a_damaged_note_is_told_and_the_rest_still_checked(root, change):
    note = json.loads((root / "mtlkit-sample.json").read_text())
    (root / "mtlkit-sample.json").write_text(json.dumps(note | change))
    first, *rest = Decathlon.check(root)
    assert first.startswith("mtlkit-sample.json: ") and "\n" not in first
    assert f"{AIR}/train: 12 images; expected 3334" in rest


def test_a_folder_that_is_not_there_is_an_error(tmp_path):
    with pytest.raises(KitError, match="no visual-decathlon at .*data/README.md says how to get it"):
        Decathlon.check(tmp_path / "nowhere")
    assert len(Decathlon.check(tmp_path)) == 2 + len(SETS)


# --- annotations ------------------------------------------------------------------------------------------------------


def annotated(part, edit):
    """Change the content of an annotation file of aircraft."""

    def spoil(root):
        path = root / f"annotations/aircraft_{part}.json"
        content = json.loads(path.read_text())
        edit(content)
        path.write_text(json.dumps(content))

    return spoil


def rename(number, name):
    return lambda content: content["images"][number].update(file_name=name)


def shifted(content):
    for image in content["images"]:
        image["id"] += 1
    for annotation in content["annotations"]:
        annotation["image_id"] += 1


ANNOTATIONS = {
    "missing": (lambda root: (root / "annotations/aircraft_val.json").unlink(),
        [VAL + "missing; expected annotations in JSON, in the style of COCO"]),
    "no folder": (lambda root: shutil.rmtree(root / "annotations"),
        ["annotations: cannot be listed (No such file or directory)",
         *(f"annotations/{name}_{part}.json: missing; expected annotations" for name in ("aircraft", "daimlerpedcls")
           for part in ("train", "val", "test_stripped"))]),
    "not json": (lambda root: (root / "annotations/aircraft_val.json").write_text('{"images": ['),
        [VAL + "Invalid JSON: EOF while parsing"]),
    "a pickle": (lambda root: (root / "annotations/aircraft_val.json").write_bytes(pickle.dumps([])),
        [VAL + "Invalid JSON: "]),
    "another form": (lambda root: (root / "annotations/aircraft_val.json").write_text('{"images": [{"id": 1}]}'),
        [VAL + "images.0.file_name: Field required; expected JSON in the style of COCO"]),
    "a folder": (lambda root: ((root / "annotations/aircraft_val.json").unlink(),
                               (root / "annotations/aircraft_val.json").mkdir()),
        [VAL + "cannot be read (Is a directory)"]),
    "a link": (lambda root: ((root / "annotations/aircraft_val.json").unlink(),
                             (root / "annotations/aircraft_val.json").symlink_to("/etc/hostname")),
        [VAL + OUT]),
    "empty": (annotated("val", lambda content: content.update(images=[])),
        [VAL + "names no image; expected 6"]),
    "an absent file": (annotated("val", rename(2, "data/aircraft/val/C-130/9.jpg")),
        [VAL + "C-130/9.jpg: named, but there is no such file",
         VAL + "C-130/000001.jpg: in the folder, but not named"]),
    "a way out": (annotated("val", rename(2, "data/aircraft/val/../../../../etc/passwd")),
        [VAL + "data/aircraft/val/../../../../etc/passwd: not in data/aircraft/val/; expected the images of val alone",
         VAL + "C-130/000001.jpg: in the folder, but not named"]),
    "an absolute way": (annotated("val", rename(2, "/etc/passwd")),
        [VAL + "/etc/passwd: not in data/aircraft/val/", VAL + "C-130/000001.jpg: in the folder, but not named"]),
    "twice": (annotated("val", rename(2, "data/aircraft/val/A320/000001.jpg")),
        [VAL + "A320/000001.jpg: named more than once", VAL + "C-130/000001.jpg: in the folder, but not named",
         VAL + "A320: with images of several categories; expected one for each class folder"]),
    "ids": (annotated("val", shifted),
        [VAL + "image ids 10200014 ... 10200019; expected 10200013 ... 10200018, each once"]),
    "order of test": (annotated("test_stripped", lambda content: (rename(0, content["images"][1]["file_name"])(content),
                                                                  rename(1, "data/aircraft/test/000001.jpg")(content))),
        [TEST + "image ids are not in the order of the file names; expected so in test"]),
    "a category too few": (annotated("test_stripped", lambda content: content["categories"].pop()),
        [TEST + "5 categories; expected the ids 10000001 ... 10000006, each once"]),
    "a category out of range": (annotated("train", lambda content: content["annotations"][0].update(category_id=7)),
        [TRAIN + "7: as category; expected 10000001 ... 10000006",
         TRAIN + "747-400: with images of several categories; expected one for each class folder"]),
    "a wrong label": (annotated("train", lambda content: content["annotations"][0].update(category_id=10_000_003)),
        [TRAIN + "747-400: with images of several categories; expected one for each class folder",
         TRAIN + "10000003: as category of images in several class folders; expected one"]),
    "not annotated": (annotated("train", lambda content: content["annotations"].pop(0)),
        [TRAIN + "747-400/000001.jpg: without exactly one annotation"]),
    "annotates nothing": (annotated("train", lambda content: content["annotations"][0].update(image_id=5)),
        [TRAIN + "747-400/000001.jpg: without exactly one annotation", TRAIN + "5: annotated, but no id of an image"]),
    "many": (annotated("train", lambda content: content["annotations"].clear()),
        [TRAIN + "747-400/000001.jpg, 747-400/000002.jpg, A320/000001.jpg and 9 more: without exactly one annotation"]),
}  # fmt: skip


@pytest.mark.parametrize("damage", ANNOTATIONS)
def test_what_is_wrong_with_annotations_is_told(root, damage):
    spoil, lines = ANNOTATIONS[damage]
    spoil(root)
    assert_report(root, lines)


def test_everything_at_once_is_in_one_report(root):
    ANNOTATIONS["ids"][0](root)
    FOLDERS["strays"][0](root)
    (root / PED / "train/pedestrian/000001.jpg").write_bytes(b"")
    found = Decathlon.check(root)
    assert len(found) == 9 and found[-1].startswith(f"{PED}/train/pedestrian/000001.jpg: ")
