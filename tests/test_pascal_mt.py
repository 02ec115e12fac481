"""PASCAL-MT: its samples against the scenes they were made from, its parts against the page of SciPy, its edges."""

import functools

import numpy as np
import PIL.Image
import pytest
import scipy.io
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from scipy import ndimage

from mtlkit import scenes
from mtlkit.datasets import DATASETS, build, mat, pascal_mt, pascal_parts
from mtlkit.datasets.boundaries import boundaries, thin
from mtlkit.errors import KitError

PascalMT = DATASETS["pascal-mt"]
SIZE = (48, 64)
COUNTS = {"train": 8, "test": 4}
CASES = [(split, index) for split, count in COUNTS.items() for index in range(count)]


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pascal") / "sample"
    PascalMT.write_sample(folder, COUNTS["train"], height=SIZE[0], width=SIZE[1])
    return folder


@functools.cache
def scene(split, index):
    return scenes.sample("people", split, index, *(SIZE[::-1] if index % 3 == 2 else SIZE))


def copied(made, tmp_path, *places):
    """A folder with one image: the first of the sample."""
    for place in (
        "JPEGImages/{}.jpg", "pascal-context/trainval/{}.mat", "semseg/VOC12/{}.png", "human_parts/{}.mat",
        "normals_distill/{}.png", "sal_distill/{}.png",
    ):  # fmt: skip
        path = tmp_path / place.format("2008_000001")
        path.parent.mkdir(parents=True)
        path.write_bytes((made / place.format("2008_000001")).read_bytes())
    (tmp_path / "ImageSets/Context").mkdir(parents=True)
    (tmp_path / "ImageSets/Context/train.txt").write_text("2008_000001\n")
    return tmp_path


def picture(path, values):
    PIL.Image.fromarray(values).save(path)


# --- reading ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("split", "index"), CASES)
def test_a_sample_is_read_as_what_was_rendered(made, split, index):
    data, truth = build("pascal-mt", split, root=made), scene(split, index)
    sample, size = data[index], truth["semantic"].shape
    assert len(data) == COUNTS[split] and data.info(index).size == size
    assert {name: (t.dtype, tuple(t.shape)) for name, t in sample.items()} == {
        "image": (torch.float32, (3, *size)),
        "edges": (torch.float32, (1, *size)),
        "semantic": (torch.int64, size),
        "parts": (torch.int64, size),
        "normals": (torch.float32, (3, *size)),
        "saliency": (torch.float32, (1, *size)),
        "index": (torch.int64, ()),
    }
    assert np.abs(sample["image"].numpy() - truth["image"]).mean() < 0.02  # JPEG
    edges_HW = boundaries(truth["semantic"])
    assert (sample["edges"][0].numpy() == edges_HW).all()
    assert (sample["semantic"].numpy() == np.where(edges_HW, -1, truth["semantic"])).all(), "outlines are void"
    assert (sample["parts"].numpy() == truth["parts"]).all()
    assert (sample["saliency"].numpy() == truth["saliency"]).all()


def test_the_sample_has_images_with_and_without_persons(made):
    parts = [build("pascal-mt", split, root=made)[index]["parts"] for split, index in CASES]
    without = [bool((p == -1).all()) for p in parts]
    assert any(without) and not all(without)
    assert not any((p == -1).any() for p, none in zip(parts, without, strict=True) if not none)


@pytest.mark.parametrize(("split", "index"), CASES)
def test_normals_count_on_the_classes_that_nyud_knows(made, split, index):
    truth = scene(split, index)
    normals = build("pascal-mt", split, root=made)[index]["normals"].numpy()
    with_normals = np.isin(np.array(pascal_mt.CONTEXT_IDS)[truth["semantic"]], pascal_mt.WITH_NORMALS)
    counts = with_normals & (truth["normals"] != 0).any(0)
    assert (normals[:, ~counts] == 0).all()
    assert np.allclose(np.linalg.norm(normals[:, counts], axis=0), 1, atol=1e-5)
    cosine = (normals * truth["normals"]).sum(0)[counts]
    assert (cosine > np.cos(np.radians(0.5))).all(), "one byte for each component"


def test_classes_and_tasks_are_those_of_the_paper(made):
    data = build("pascal-mt", "train", root=made)
    assert {name: task.channels for name, task in data.tasks.items()} == {
        "edges": 1, "semantic": 21, "parts": 7, "normals": 3, "saliency": 1,
    }  # fmt: skip
    assert data.tasks["semantic"].class_names[15] == "person" and pascal_mt.CONTEXT_IDS[15] == 284
    having = {pascal_mt.CLASSES[i] for i, c in enumerate(pascal_mt.CONTEXT_IDS) if c in pascal_mt.WITH_NORMALS}
    assert {"person", "chair", "sofa", "tvmonitor"} <= having and not {"background", "horse", "train"} & having
    assert len(set(pascal_mt.WITH_NORMALS)) == 170 and len(set(pascal_mt.CONTEXT_IDS)) == 21
    constants = {name: task.constant([data[0][name][None], data[1][name][None]]) for name, task in data.tasks.items()}
    assert all(constants[name].shape == (task.channels,) for name, task in data.tasks.items())


def test_names_sizes_and_wrong_options(made):
    data = build("pascal-mt", "test", root=made)
    assert [data.info(i).name for i in range(2)] == ["val/2008_000009", "val/2008_000010"]
    assert data.size == SIZE and data.info(2).size == SIZE[::-1]
    with pytest.raises(IndexError):
        data[4]
    for split, options, message in [
        ("validation", {}, "unknown split 'validation'"),
        ("train", {"parts": 5}, "parts of persons fall into 1, 4, 6, 14 groups, not 5"),
        ("train", {"part": 4}, "did you mean 'parts'"),
    ]:
        with pytest.raises(KitError, match=message):
            build("pascal-mt", split, root=made, **options)


def test_images_are_loaded_one_by_one_or_in_batches_of_one_size(made):
    data = build("pascal-mt", "train", root=made)
    loaded = list(torch.utils.data.DataLoader(data, num_workers=1))
    assert [tuple(batch["parts"].shape[1:]) for batch in loaded] == [data.info(i).size for i in range(8)]
    for i in (2, 3):
        assert all(torch.equal(loaded[i][name][0], value) for name, value in data[i].items())
    (batch,) = torch.utils.data.DataLoader(torch.utils.data.Subset(data, [0, 1, 3]), batch_size=3)
    assert batch["semantic"].shape == (3, *SIZE)


def test_the_fingerprint_changes_with_the_data_and_with_nothing_else(made, tmp_path):
    def mark(folder, **options):
        return build("pascal-mt", "train", root=folder, **options).fingerprint

    root = copied(made, tmp_path)
    original = mark(root)
    assert original.startswith("pascal-mt-parts6-train1-") and original == mark(root)
    assert len({original, mark(root, parts=4), mark(made), build("pascal-mt", "test", root=made).fingerprint}) == 4
    label = scipy.io.loadmat(root / "pascal-context/trainval/2008_000001.mat")["LabelMap"]
    label[20:] += 1
    mat.write_mat(root / "pascal-context/trainval/2008_000001.mat", {"LabelMap": label})
    changed = mark(root)
    (root / "semseg/pascal-context").mkdir()
    (root / "semseg/VOC12/2008_000001.png").rename(root / "semseg/pascal-context/2008_000001.png")
    assert len({original, changed, mark(root)}) == 3


# --- where targets come from ------------------------------------------------------------------------------------------


def test_voc_is_preferred_and_palettes_are_ids(made, tmp_path):
    root = copied(made, tmp_path)
    (root / "semseg/pascal-context").mkdir()
    voc, context = root / "semseg/VOC12/2008_000001.png", root / "semseg/pascal-context/2008_000001.png"
    ids = np.arange(np.prod(SIZE), dtype=np.uint8).reshape(SIZE) % 21
    ids[0] = 255
    coloured = PIL.Image.fromarray(ids, mode="P")
    coloured.putpalette(np.random.default_rng(0).integers(0, 256, 768).tolist())
    coloured.save(voc)
    picture(context, np.zeros(SIZE, np.uint8))
    data = build("pascal-mt", "train", root=root)
    assert (data[0]["semantic"].numpy() == np.where(ids == 255, -1, ids.astype(int))).all()
    voc.unlink()
    assert (data[0]["semantic"] == 0).all()


def test_salient_from_the_middle_grey_on(made, tmp_path):
    root = copied(made, tmp_path)
    grey = np.arange(np.prod(SIZE)).reshape(SIZE) % 256
    picture(root / "sal_distill/2008_000001.png", grey.astype(np.uint8))
    saliency = build("pascal-mt", "train", root=root)[0]["saliency"]
    assert (saliency[0].numpy() == (grey >= 128)).all()


@pytest.mark.parametrize("factor", [0.5, 2])
def test_a_target_of_another_scale_is_brought_to_the_image(made, tmp_path, factor):
    """Nearest pixels; and no rim of flipped normals beside the invalid area, which resizing them after masking makes
    (measured: bicubic interpolation overshoots there)."""
    root, whole = copied(made, tmp_path), build("pascal-mt", "train", root=made)[0]
    size = tuple(int(n * factor) for n in SIZE)
    valid = np.zeros(SIZE, bool)
    valid[10:40, 20:50] = True
    mat.write_mat(
        root / "pascal-context/trainval/2008_000001.mat", {"LabelMap": np.where(valid, 72, 0).astype(np.uint16)}
    )
    normals_HW3 = np.broadcast_to(np.array([0.6, 0.0, -0.8]), (*size, 3))
    picture(root / "normals_distill/2008_000001.png", np.rint((normals_HW3 + 1) * 127.5).astype(np.uint8))
    for place in ("semseg/VOC12/2008_000001.png", "sal_distill/2008_000001.png"):
        with PIL.Image.open(root / place) as image:
            enlarged = image.resize(size[::-1], PIL.Image.Resampling.NEAREST)
        enlarged.save(root / place)
    sample = build("pascal-mt", "train", root=root)[0]
    assert sample["normals"].shape == (3, *SIZE)
    assert (sample["normals"].numpy()[:, ~valid] == 0).all()
    expected = torch.tensor([0.6, 0.0, -0.8])[:, None]
    assert torch.allclose(sample["normals"][:, torch.from_numpy(valid)], expected, atol=0.01)
    agreeing = [(sample[name] == whole[name]).float().mean() for name in ("semantic", "saliency")]
    assert min(agreeing) == 1 if factor == 2 else min(agreeing) > 0.9
    assert all(line.startswith("ImageSets/Context/") for line in PascalMT.check(root)), "the lists alone"


# --- parts ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("groups", "count"), [(1, 1), (4, 4), (6, 6), (14, 14)])
def test_every_part_is_in_one_group(groups, count):
    every = [name for names in pascal_parts.GROUPS[groups].values() for name in names]
    assert len(pascal_parts.GROUPS[groups]) == count and sorted(every) == sorted(pascal_parts.NAMES)
    assert len(every) == 24


def test_the_groups_are_those_of_the_paper():
    def ids(groups):
        found = pascal_parts.GROUPS[groups].values()
        return {name: i for i, names in enumerate(found, 1) for name in names}

    assert [ids(6)[n] for n in ("nose", "neck", "luarm", "rhand", "ruleg", "lfoot")] == [1, 2, 3, 4, 5, 6]
    assert [ids(4)[n] for n in ("lear", "torso", "luarm", "rhand", "ruleg", "lfoot")] == [1, 2, 3, 3, 4, 4]
    order = ["ruarm", "rlarm", "rhand", "luarm", "llarm", "lhand", "ruleg", "rlleg", "rfoot", "luleg", "llleg", "lfoot"]
    assert [ids(14)[n] for n in ["hair", "neck", *order]] == list(range(1, 15))


@pytest.mark.parametrize(("split", "index"), CASES)
def test_fewer_groups_are_unions_of_more(made, split, index):
    of = {g: build("pascal-mt", split, root=made, parts=g)[index]["parts"] for g in pascal_parts.GROUPS}
    names = {g: ("background", *pascal_parts.GROUPS[g]) for g in of}
    if (of[6] == -1).all():
        assert all((parts == -1).all() for parts in of.values())
        return
    assert torch.equal(of[1], of[6].clamp(max=1))
    assert torch.equal(of[4], torch.tensor([0, 1, 2, 3, 3, 4, 4])[of[6]])
    assert torch.equal(of[6], torch.tensor([0, 1, 2, 3, 4, 4, 3, 4, 4, 5, 6, 6, 5, 6, 6])[of[14]])
    assert names[14][3] == "right upper arm" and max(int(parts.max()) for parts in of.values()) <= 13


def test_annotations_are_found_where_the_released_code_finds_them(made):
    """By place, as SciPy shows structures: the objects are anno[0][0][1][0]."""
    ids = {name: i for i, names in enumerate(pascal_parts.GROUPS[6].values(), 1) for name in names}
    for index in range(COUNTS["train"]):
        path = made / f"human_parts/2008_{index + 1:06d}.mat"
        truth, found = scene("train", index), np.zeros(scene("train", index)["semantic"].shape, int)
        categories = np.zeros_like(found)
        for item in scipy.io.loadmat(path)["anno"][0][0][1][0]:
            categories[item[2] != 0] = item[1][0, 0]
            for part in item[3][0] if item[3].size else ():
                assert item[1][0, 0] == 15
                found[part[1] != 0] = ids[part[0][0]]
        assert (categories == truth["semantic"]).all()
        assert (found == np.maximum(truth["parts"], 0)).all()
        read = pascal_parts.read_parts(path, 6)
        assert (read == found).all() if found.any() else read.shape == (0, 0)


def records(fields, *rows):
    array = np.empty((1, len(rows)), dtype=[(field, object) for field in fields])
    for i, row in enumerate(rows):
        array[0, i] = row
    return array


def test_fields_go_by_their_place_and_later_parts_lie_on_top(tmp_path):
    left = np.zeros((4, 6), np.uint8)
    left[:, :4] = 1
    none = np.zeros((0, 0))
    parts = records(("a", "b", "c"), ("hair", left, 0), ("torso", 1 - left[:, ::-1], 0))
    dog = records(("a", "b"), ("head", np.ones((4, 6))))
    objects = records(
        ("p", "q", "r", "s"), ("dog", 12, left, dog), ("person", 15, left, parts), ("person", 15, left, none)
    )
    mat.write_mat(tmp_path / "a.mat", {"anno": {"x": "2008_1", "y": objects, "z": 3}})
    assert pascal_parts.read_parts(tmp_path / "a.mat", 6).tolist() == [[2, 2, 1, 1, 0, 0]] * 4
    for objects in (none, records(("p", "q", "r", "s"), ("person", 15, left, none))):
        mat.write_mat(tmp_path / "a.mat", {"anno": {"x": "2008_1", "y": objects}})
        assert pascal_parts.read_parts(tmp_path / "a.mat", 6).shape == (0, 0)


# --- edges ------------------------------------------------------------------------------------------------------------


def test_thinning_as_in_the_manual_of_scikit_image():
    shape = np.zeros((7, 7), bool)
    shape[1:-1, 2:-2] = shape[0, 1] = True
    expected = np.zeros((7, 7), bool)
    expected[[0, 1, 2, 3, 4], [1, 2, 3, 3, 3]] = True
    assert (thin(shape) == expected).all()


@settings(deadline=None, max_examples=100)
@given(arrays.arrays(bool, st.tuples(st.integers(1, 16), st.integers(1, 16))))
def test_thinning_takes_pixels_away_but_no_piece(shape):
    thinned, eight = thin(shape), np.ones((3, 3))
    assert not (thinned & ~shape).any() and (thin(thinned) == thinned).all()
    assert ndimage.label(thinned, eight)[1] == ndimage.label(shape, eight)[1]


def test_edges_run_between_labels_once():
    labels = np.zeros((9, 12), np.uint16)
    labels[:, 5:] = 400
    edges = boundaries(labels)
    assert (edges.sum(1)[1:-1] == 1).all(), "one pixel wide, where the Laplacian is two"
    assert not boundaries(np.full((5, 5), 7)).any()
    balanced = np.repeat([[1, 2, 3]], 5, axis=0)
    assert not boundaries(balanced)[:, 1].any(), "numbers that balance: the Laplacian of labels has no edge there"
