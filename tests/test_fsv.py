"""FSV: its sample against the streets it shows, the code of 24 bits, and all that can be wrong with the files."""

import shutil

import numpy as np
import PIL.Image
import pytest
import torch
from damage import finds
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from mtlkit import scenes
from mtlkit.datasets import DATASETS, build, fsv
from mtlkit.errors import KitError

FSV = DATASETS["fsv"]
SIZE = (32, 64)


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A small sample: 1 ... 4 to train, 1 and 2 to test."""
    root = tmp_path_factory.mktemp("fsv") / "sample"
    FSV.write_sample(root, height=SIZE[0], width=SIZE[1])
    return root


def webp(place, values):
    return lambda root: PIL.Image.fromarray(values).save(root / place, "WEBP", lossless=True)


def png(place, values):
    return lambda root: PIL.Image.fromarray(values).save(root / place, "PNG")


# --- reading ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("split", "count"), [("train", 4), ("test", 2)])
def test_a_sample_is_read_as_what_was_rendered(made, split, count):
    data = build("fsv", split, root=made)
    assert len(data) == count and data.size == SIZE
    names = scenes.FAMILIES["streets"].classes
    vehicles = [names.index(name) for name in ("car", "truck", "bus", "train", "motorcycle", "bicycle")]
    objects = [names.index(name) for name in ("pole", "traffic light", "traffic sign")]
    for index in range(count):
        street, sample = scenes.sample("streets", split, index, *SIZE), data[index]
        assert {name: (t.dtype, tuple(t.shape)) for name, t in sample.items()} == {
            "image": (torch.float32, (3, *SIZE)),
            "semantic": (torch.int64, SIZE),
            "albedo": (torch.float32, (3, *SIZE)),
            "disparity": (torch.float32, (1, *SIZE)),
            "index": (torch.int64, ()),
        }
        assert np.abs(sample["image"].numpy() - street["image"]).mean() < 0.02  # compressed with loss
        assert np.abs(sample["albedo"].numpy() - street["albedo"]).max() < 0.5 / 255 + 1e-6
        kind = np.isin(street["semantic"], vehicles) + 2 * np.isin(street["semantic"], objects)
        assert (sample["semantic"].numpy() == kind).all()
        depth, disparity = street["depth"], sample["disparity"].numpy()
        assert ((disparity == 0) == (depth == 0)).all()
        focal = scenes.streets.FOCAL * SIZE[1]
        exact = np.where(depth > 0, fsv.BASELINE * focal / np.where(depth > 0, depth, 1), 0)
        assert np.abs(disparity - exact).max() <= 0.5 / 8192 + 1e-6


def test_tasks_are_those_of_the_paper(made):
    data = build("fsv", "train", root=made)
    assert {name: task.channels for name, task in data.tasks.items()} == {"semantic": 3, "albedo": 3, "disparity": 1}
    assert data.tasks["semantic"].class_names == ("background", "vehicle", "object")
    batch = next(iter(torch.utils.data.DataLoader(data, batch_size=4, num_workers=1)))
    for name, task in data.tasks.items():
        raw = task.constant([batch[name]]).view(1, -1, 1, 1).expand(4, -1, *SIZE)
        assert torch.isfinite(task.loss(raw, batch[name])) and task.valid(batch[name]).shape == (4, *SIZE)


def test_only_the_red_channel_is_a_class_and_rare_ids_are_background(root):
    ids = np.arange(np.prod(SIZE)).reshape(SIZE) % 8
    png("gta_train/00000001_object_id.png", np.stack([ids, 255 - ids, 7 + ids], -1).astype(np.uint8))(root)
    label = build("fsv", "train", root=root)[0]["semantic"].numpy()
    assert (label == np.where(ids == 2, 1, np.where(ids == 3, 2, 0))).all()
    assert FSV.check(root) == []


def test_the_sample_has_rare_ids_to_merge(tmp_path):
    FSV.write_sample(tmp_path / "s", 1, height=64, width=128)
    with PIL.Image.open(tmp_path / "s/gta_train/00000001_object_id.png") as image:
        assert 1 in np.array(image)[..., 0]
    found = {str(path.relative_to(tmp_path / "s")) for path in (tmp_path / "s").rglob("*.*")}
    suffixes = ("_final.webp", "_object_id.png", "_albedo.webp", "_disparity.webp")
    files = {f"gta_{part}/00000001{suffix}" for part in ("train", "test") for suffix in suffixes}
    assert found == files | {"gt_sets/gta_train.txt", "gt_sets/gta_test.txt", "mtlkit-sample.json"}
    (tmp_path / "s/mtlkit-sample.json").unlink()  # nobody says how many real images there are, nor of what size
    assert FSV.check(tmp_path / "s") == []


def test_names_and_what_it_does_not_have(made, tmp_path):
    test = build("fsv", "test", root=made)
    assert [test.info(i).name for i in range(2)] == ["gta_test/00000001", "gta_test/00000002"]
    assert test.info(0).size == SIZE and test.fingerprint.startswith("fsv-test2-32x64-")
    assert test.fingerprint != build("fsv", "train", root=made).fingerprint
    with pytest.raises(IndexError):
        test[2]
    for split, options, message in [
        ("validation", {}, "unknown split 'validation'"),
        ("train", {"mini": "yes"}, "should be bool"),
    ]:
        with pytest.raises(KitError, match=message):
            build("fsv", split, root=made, **options)
    with pytest.raises(KitError, match="no fsv at .*mtlkit data sample fsv DEST"):
        FSV.check(tmp_path / "nowhere")
    with pytest.raises(KitError, match="nothing to prepare for 'fsv'"):
        FSV.prepare(made, tmp_path / "p")


@pytest.mark.parametrize(("count", "kept"), [(9_999, 9_999), (10_000, 5_000), (16_000, 5_334)])
def test_mini_is_every_so_many_th_test_image(root, count, kept):
    (root / "gt_sets/gta_test.txt").write_text("".join(f"{i + 1:08d}\n" for i in range(count)))
    data = build("fsv", "test", root=root, mini=True)
    assert len(data) == kept and data.info(1).name == f"gta_test/{1 + count // 5000:08d}"
    assert len(build("fsv", "test", root=root)) == count
    assert len(build("fsv", "train", root=root, mini=True)) == 4


# --- the code of 24 bits ----------------------------------------------------------------------------------------------


def test_the_code_is_the_sum_of_the_papers_code():
    code = np.array([[[0, 0, 0], [255, 0, 0], [0, 1, 0], [0, 0, 1], [255, 255, 255]]], np.uint8)  # red, green, blue
    assert fsv.decode(code).tolist() == [[0, 255 / 8192, 256 / 8192, 8.0, (2**24 - 1) / 8192]]
    assert fsv.decode(code).dtype == np.float32


@given(arrays.arrays(np.int32, (3, 4), elements=st.integers(0, 2**24 - 1)))
def test_every_code_survives(code):
    disparity = code / 8192
    assert (fsv.decode(fsv.encode(disparity)) == disparity).all()


@given(st.floats(0, 2047.99, width=64))
def test_what_lies_between_two_codes_becomes_the_nearer(value):
    assert abs(float(fsv.decode(fsv.encode([[value]]))[0, 0]) - value) <= 0.5 / 8192


@pytest.mark.parametrize("value", [-0.001, 2048.0, np.nan, np.inf])
def test_what_24_bits_do_not_hold_is_refused(value):
    with pytest.raises(KitError, match="holds a disparity from 0 to below 2048, found"):
        fsv.encode(np.array([[1.0, value]]))


# --- what can be wrong ------------------------------------------------------------------------------------------------


def text(place, content):
    return lambda root: (root / place).write_text(content)


def cut(place, length=300):
    return lambda root: (root / place).write_bytes((root / place).read_bytes()[:length])


IDS, BLACK = np.zeros((*SIZE, 3), np.uint8), np.zeros((16, 64, 3), np.uint8)
ONE = "gta_train/00000001"
# damage -> the one line it makes (its beginning, where it ends in dots)
WRONG = {
    "image cut": (cut(f"{ONE}_final.webp"), f"{ONE}_final.webp: cannot be read; expected a WEBP image, found: ..."),
    "image is a JPEG": (lambda root: PIL.Image.fromarray(IDS).save(root / f"{ONE}_final.webp", "JPEG"),
        f"{ONE}_final.webp: cannot be read; expected a WEBP image, found: not an image"),
    "image of another size": (webp("gta_train/00000002_final.webp", BLACK),
        "gta_train/00000002_final.webp: shape (16, 64, 3); expected (32, 64, 3)"),
    "labels cut": (cut(f"{ONE}_object_id.png", 60), f"{ONE}_object_id.png: cannot be read; expected a PNG image..."),
    "labels of another size": (png(f"{ONE}_object_id.png", BLACK),
        f"{ONE}_object_id.png: shape (16, 64, 3); expected (32, 64, 3)"),
    "label 8": (png(f"{ONE}_object_id.png", IDS + np.array([8, 0, 0], np.uint8)),
        f"{ONE}_object_id.png: label 8 at 2048 pixels; expected whole numbers 0 ... 7"),
    "albedo cut": (cut(f"{ONE}_albedo.webp"), f"{ONE}_albedo.webp: cannot be read; expected a WEBP image..."),
    "albedo of another size": (webp(f"{ONE}_albedo.webp", BLACK),
        f"{ONE}_albedo.webp: shape (16, 64, 3); expected (32, 64, 3)"),
    "disparity cut": (cut(f"{ONE}_disparity.webp"), f"{ONE}_disparity.webp: cannot be read; expected a WEBP image..."),
    "disparity is text": (text(f"{ONE}_disparity.webp", "<html>not found</html>"),
        f"{ONE}_disparity.webp: cannot be read; expected a WEBP image, found: not an image"),
    "disparity of 8 bits": (webp(f"{ONE}_disparity.webp", np.full_like(IDS, 40)),
        f"{ONE}_disparity.webp: red, green and blue are the same everywhere; expected a code of 24 bits, not a..."),
    "file missing": (lambda root: (root / "gta_test/00000002_albedo.webp").unlink(),
        "gta_test/00000002_albedo.webp: missing; a list names it"),
    "folder missing": (lambda root: shutil.rmtree(root / "gta_test"),
        "gta_test: missing folder; expected {}_final.webp in it"),
    "stray file": (text("gta_test/00000003_final.webp", ""), "gta_test/00000003_final.webp: stray; no list names it"),
    "stray folder": (lambda root: (root / "gta_val").mkdir(),
        "gta_val: stray; expected gt_sets, gta_test, gta_train, mtlkit-sample.json alone"),
    "list missing": (lambda root: (root / "gt_sets/gta_test.txt").unlink(),
        "gt_sets/gta_test.txt: is missing; expected the names of images, one on every line"),
    "list empty": (text("gt_sets/gta_test.txt", "\n"), "gt_sets/gta_test.txt: is empty; expected an image on every..."),
    "list of a sample too short": (lambda root: [text("gt_sets/gta_test.txt", "00000001\n")(root),
        [path.unlink() for path in (root / "gta_test").glob("00000002*")]],
        "gt_sets/gta_test.txt: 1 images; expected 2"),
    "list names one twice": (text("gt_sets/gta_test.txt", "00000001\n00000002\n00000001\n"),
        "gt_sets/gta_test.txt: line 3: 00000001 for the second time; expected every image once"),
    "list names a path": (text("gt_sets/gta_test.txt", "00000001\n00000002\n../gta_train/00000001\n"),
        "gt_sets/gta_test.txt: line 3: '../gta_train/00000001'; expected the name of an image, without its suffix"),
}  # fmt: skip


@pytest.mark.parametrize("damage", WRONG)
def test_what_is_wrong_makes_one_line(root, damage):
    spoil, expected = WRONG[damage]
    spoil(root)
    finds(FSV.check, root, expected)


STOPS = [name for name, (_, line) in WRONG.items() if line.startswith(ONE) and "8 bits" not in name]
LISTS = ["list missing", "list empty", "list names one twice", "list names a path"]


@pytest.mark.parametrize("damage", [*STOPS, *LISTS])
def test_the_reader_names_the_file_that_stops_it(root, damage):
    spoil, expected = WRONG[damage]
    spoil(root)
    with pytest.raises(KitError) as error:
        build("fsv", "test" if damage in LISTS else "train", root=root)[0]
    message = str(error.value)
    assert message.startswith(expected.split(";")[0].split(" at ")[0].removesuffix("...")) and "\n" not in message
    assert message.endswith(f"; type: mtlkit data check fsv --root {root}")


def test_an_id_that_no_list_names_and_one_without_files(root):
    (root / "gt_sets/gta_test.txt").write_text("00000001\n00000009\n")
    suffixes = ("final.webp", "object_id.png", "albedo.webp", "disparity.webp")
    assert FSV.check(root, contents=False) == [
        *(f"gta_test/00000009_{suffix}: missing; a list names it" for suffix in suffixes),
        *(f"gta_test/00000002_{suffix}: stray; no list names it" for suffix in sorted(suffixes)),
    ]


@pytest.mark.parametrize("place", [f"{ONE}_disparity.webp", "gt_sets/gta_train.txt"])
def test_links_that_lead_out_are_not_followed(root, tmp_path, place):
    (root / place).rename(tmp_path / "outside")
    (root / place).symlink_to(tmp_path / "outside")
    (line, *_) = FSV.check(root)
    assert line == f"{place}: is a link that leads out of the dataset's folder; expected the file itself"
    with pytest.raises(KitError, match=f"{place}: is a link that leads out"):
        build("fsv", "train", root=root)[0]


@pytest.mark.parametrize("options", [{"count": 0}, {"height": 0}])
def test_a_sample_of_nothing_is_refused(tmp_path, options):
    with pytest.raises(KitError, match="at least one image of one pixel"):
        FSV.write_sample(tmp_path / "s", **options)
    (tmp_path / "full").mkdir()
    (tmp_path / "full/notes.txt").write_text("mine")
    with pytest.raises(KitError, match="holds something already"):
        FSV.write_sample(tmp_path / "full", 1, height=8, width=8)
    assert [path.name for path in tmp_path.iterdir()] == ["full"]
