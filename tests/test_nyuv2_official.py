"""NYUv2 from the official files: a release made of rendered rooms, prepared, checked, and read as what was rendered."""

import dataclasses
import json
import shutil
from pathlib import Path

import h5py
import numpy as np
import PIL.Image
import pytest
import scipy.io

from mtlkit import scenes
from mtlkit.datasets import DATASETS, build, layout, normals, nyuv2, nyuv2_official
from mtlkit.errors import KitError

NYUv2 = DATASETS["nyuv2"]
LABELED = "nyu_depth_v2_labeled.mat"
COUNTS = {"train": 3, "val": 2}
TRAIN, TEST = (1, 3, 4), (2, 5)  # numbers of frames, from 1
HOLE = (slice(240, 280), slice(300, 360))  # where nothing was measured


def frame(number):
    """A room as the camera of the official toolbox would have seen it, but for parts of a pixel: 480 x 640 of a larger
    picture, whose middle is the camera's axis.
    """
    shot = scenes.FAMILIES["rooms"].compose("train", number, 0)
    shot = dataclasses.replace(shot, focal=nyuv2_official.CAMERA.fx / 652)
    return {name: field[..., :480, :640] for name, field in shot.render(508, 652).items()}


def maps():
    """894 labels -> 40 -> 13. Of a room, class k is label 100 + k, then class 20 + k of 40, then k + 1 of 13; label 894
    is in none of the 13.
    """
    to_40 = np.full(894, 1)
    to_40[99:112] = np.arange(20, 33)
    to_40[893] = 40
    to_13 = np.full(40, 13)
    to_13[19:32] = np.arange(1, 14)
    to_13[39] = 0
    return to_40, to_13


def write_official(dest, frames):
    """The files of the official release, from rendered rooms."""
    dest.mkdir()
    labels = [np.where(f["semantic"] < 0, 0, f["semantic"] + 100) for f in frames]
    for label in labels:
        label[200:210, 200:210] = 894
    measured = [f["depth"][0].copy() for f in frames]
    for depth in measured:
        depth[HOLE] = 0
    arrays = {
        "images": np.stack([np.rint(f["image"] * 255).astype(np.uint8) for f in frames]),
        "depths": np.stack([f["depth"][0] for f in frames]).astype(np.float32),
        "rawDepths": np.stack(measured).astype(np.float32),
        "labels": np.stack(labels).astype(np.uint16),
    }
    with h5py.File(dest / LABELED, "w", userblock_size=512) as file:  # as MATLAB writes it
        for name, array in arrays.items():
            file.create_dataset(name, data=array.swapaxes(-1, -2), compression="gzip", compression_opts=1)
    lists = {"trainNdxs": np.array(TRAIN, dtype=float)[:, None], "testNdxs": np.array(TEST, dtype=float)[:, None]}
    scipy.io.savemat(dest / "splits.mat", lists)
    to_40, to_13 = maps()
    scipy.io.savemat(dest / "classMapping40.mat", {"mapClass": to_40.astype(float)[None]})
    scipy.io.savemat(dest / "class13Mapping.mat", {"classMapping13": {"labels13": to_13.astype(np.uint8)[None]}})


def write_normals(source, frames):
    """Exact normals as pictures, with a mask that leaves out the first ten rows of the frame."""
    for kind in ("normals", "masks"):
        (source / "normals_gt" / kind).mkdir(parents=True)
    for number, made in enumerate(frames, 1):
        colours = np.rint((made["normals"].transpose(1, 2, 0) + 1) * 127.5).astype(np.uint8)
        mask = np.full((480, 640), 255, dtype=np.uint8)
        mask[:60] = 0
        for kind, picture in (("normals", colours), ("masks", mask)):
            PIL.Image.fromarray(picture).save(source / "normals_gt" / kind / f"{number:04d}.png")


@pytest.fixture(autouse=True)
def five_frames(monkeypatch):
    """The release has 3 + 2 frames here."""
    for part, count in COUNTS.items():
        monkeypatch.setitem(nyuv2.COUNTS, part, count)


@pytest.fixture(scope="module")
def frames():
    return [frame(number) for number in range(5)]


@pytest.fixture(scope="module")
def official(tmp_path_factory, frames):
    folder = tmp_path_factory.mktemp("nyuv2") / "official"
    write_official(folder, frames)
    return folder


@pytest.fixture(scope="module")
def prepared(official):
    with pytest.MonkeyPatch.context() as patch:
        for part, count in COUNTS.items():
            patch.setitem(nyuv2.COUNTS, part, count)
        NYUv2.prepare(official, official.parent / "prepared")
    return official.parent / "prepared"


@pytest.fixture
def source(official, tmp_path):
    """A copy of the release to damage."""
    return Path(shutil.copytree(official, tmp_path / "source"))


def grid():
    """The rows and columns of a frame that a file shows: the middles of its pixels in 420 x 560."""
    rows = 45 + ((np.arange(288) + 0.5) * 420 / 288).astype(int)
    columns = 40 + ((np.arange(384) + 0.5) * 560 / 384).astype(int)
    return np.ix_(rows, columns)


def angles(a_3HW, b_3HW):
    """Degrees between unit vectors, where both are."""
    both = (a_3HW != 0).any(0) & (b_3HW != 0).any(0)
    return np.degrees(np.arccos(np.clip((a_3HW * b_3HW).sum(0), -1, 1)))[both]


# --- what is made -----------------------------------------------------------------------------------------------------


def test_what_is_prepared_is_sound_and_says_how_it_was_made(prepared):
    assert NYUv2.check(prepared) == []
    assert "normals ESTIMATED from depth; depth where it was measured" in NYUv2.variant(prepared)
    found = {path.relative_to(prepared).as_posix() for path in prepared.rglob("*.*")}
    names = {
        f"{part}/{field}/{n}.npy" for part, count in COUNTS.items() for field in nyuv2.FIELDS for n in range(count)
    }
    assert found == {*names, "mtlkit-prepared.json"}
    assert {np.load(prepared / name).dtype for name in names} == {np.dtype("float32")}


@pytest.mark.parametrize(("split", "numbers"), [("train", TRAIN), ("test", TEST)])
def test_it_is_read_as_what_was_rendered(prepared, frames, split, numbers):
    data = build("nyuv2", split, root=prepared)
    assert len(data) == len(numbers) and data.size == (288, 384)
    hole = np.zeros((480, 640), dtype=bool)
    hole[HOLE] = True
    for sample, number in zip((data[i] for i in range(len(data))), numbers, strict=True):
        room = frames[number - 1]
        semantic = room["semantic"].copy()
        semantic[200:210, 200:210] = -1
        assert (sample["semantic"].numpy() == semantic[grid()]).all()
        depth = np.where(hole, 0, room["depth"][0])[grid()]
        assert (sample["depth"][0].numpy() == depth).all() and (depth == 0).any()
        # a triangle filter over a few pixels: equal but for outlines
        apart = np.abs(sample["image"].numpy() - room["image"][(slice(None), *grid())])
        assert np.median(apart) < 0.01 and np.mean(apart) < 0.02
        assert np.abs(sample["image"].numpy() * 255 - np.rint(sample["image"].numpy() * 255)).max() < 1e-3


def test_estimated_normals_agree_with_the_exact_ones(prepared, frames):
    data = build("nyuv2", "train", root=prepared)
    for sample, number in zip((data[i] for i in range(3)), TRAIN, strict=True):
        estimated, exact = sample["normals"].numpy(), frames[number - 1]["normals"][(slice(None), *grid())]
        apart = angles(estimated, exact)
        assert np.median(apart) < 0.2 and (apart < 11.25).mean() > 0.7
        none = (estimated == 0).all(0)
        assert none[sample["depth"][0].numpy() == 0].all() and none.mean() < 0.03


def test_filled_depth_is_kept_on_request(official, prepared, frames, tmp_path):
    NYUv2.prepare(official, tmp_path / "filled", filled=True)
    assert NYUv2.check(tmp_path / "filled") == [] and "holes of the depth filled" in NYUv2.variant(tmp_path / "filled")
    filled = build("nyuv2", "train", root=tmp_path / "filled")
    assert (filled[0]["depth"][0].numpy() == frames[0]["depth"][0][grid()]).all()
    assert filled.fingerprint != build("nyuv2", "train", root=prepared).fingerprint


def test_given_normals_are_taken(source, frames, tmp_path):
    write_normals(source, frames)
    NYUv2.prepare(source, tmp_path / "dest")
    assert NYUv2.check(tmp_path / "dest") == [] and "normals from normals_gt" in NYUv2.variant(tmp_path / "dest")
    found = build("nyuv2", "train", root=tmp_path / "dest")[1]["normals"].numpy()
    exact = frames[TRAIN[1] - 1]["normals"][(slice(None), *grid())]
    assert np.max(angles(found, exact)) < 0.6  # 8 bits
    rows = grid()[0].ravel()
    assert (found[:, rows < 60] == 0).all() and (found[:, rows >= 60] != 0).any(0).all()


def test_the_release_stays_as_it_is(source, tmp_path):
    before = {path: path.read_bytes() for path in source.iterdir()}
    NYUv2.prepare(source, tmp_path / "dest")
    assert before == {path: path.read_bytes() for path in source.iterdir()}


# --- what is refused --------------------------------------------------------------------------------------------------


def change(path, name, edit):
    with h5py.File(path, "r+") as file:
        values = file[name][()]
        del file[name]
        file[name] = edit(values)


def cut(path):
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])


def link(path):
    with h5py.File(path.with_name("other.h5"), "w") as file:
        file["labels"] = np.zeros((5, 640, 480), dtype=np.uint16)
    with h5py.File(path, "r+") as file:
        del file["labels"]
        file["labels"] = h5py.ExternalLink("other.h5", "labels")


def lists(path, train=TRAIN, test=TEST):
    scipy.io.savemat(path, {"trainNdxs": np.array(train)[:, None], "testNdxs": np.array(test)[:, None]})


def remove(path, name):
    with h5py.File(path, "r+") as file:
        del file[name]


@pytest.mark.parametrize(
    ("name", "damage", "message"),
    [
        (LABELED, Path.unlink, r"has no nyu_depth_v2_labeled.mat; data/README.md says"),
        ("class13Mapping.mat", Path.unlink, r"has no class13Mapping.mat; data/README.md says"),
        (LABELED, cut, r"nyu_depth_v2_labeled.mat: cannot be read; expected MATLAB 7.3 \(HDF5\), found: .*truncated"),
        (LABELED, lambda p: p.write_text("<html>"), r"cannot be read; expected MATLAB 7.3 \(HDF5\), found"),
        (LABELED, lambda p: remove(p, "labels"), r"no variable 'labels'; found: depths, images, rawDepths;"),
        (LABELED, link, r"no variable 'labels'"),
        (
            LABELED,
            lambda p: change(p, "labels", lambda a: a[:4]),
            r"'labels' is uint16 \(4, 640, 480\); expected .*\(5,",
        ),
        (LABELED, lambda p: change(p, "depths", lambda a: a.astype("u2")), r"'depths' is uint16 .*floating-point"),
        (LABELED, lambda p: change(p, "images", lambda a: a.swapaxes(2, 3)), r"'images' is uint8 \(5, 3, 480, 640\)"),
        (LABELED, lambda p: change(p, "labels", lambda a: a * 0 + 895), r"frame 1 has label 895; expected 0 ... 894"),
        ("splits.mat", cut, r"splits.mat: cannot be read"),
        (
            "splits.mat",
            lambda p: lists(p, TRAIN[:2]),
            r"'trainNdxs' holds 2 from 1 to 3; expected 3 whole numbers 1 ... 5",
        ),
        ("splits.mat", lambda p: lists(p, (0, 2, 3)), r"'trainNdxs' holds 3 from 0 to 3"),
        ("splits.mat", lambda p: lists(p, TRAIN, (1, 5)), r"its lists name 4 frames; expected each of 5 once"),
        ("splits.mat", lambda p: scipy.io.savemat(p, {"x": 1}), r"no variable 'trainNdxs'; found: x"),
        ("classMapping40.mat", lambda p: scipy.io.savemat(p, {"mapClass": np.ones(40)}), r"'mapClass' holds 40 from 1"),
        (
            "class13Mapping.mat",
            lambda p: scipy.io.savemat(p, {"classMapping13": 1}),
            r"'classMapping13' is an array of numbers; expected a struct",
        ),
        (
            "class13Mapping.mat",
            lambda p: scipy.io.savemat(p, {"classMapping13": {"a": 1}}),
            r"has no numbers 'labels13'; found: a",
        ),
        (
            "class13Mapping.mat",
            lambda p: scipy.io.savemat(p, {"classMapping13": {"labels13": "wall"}}),
            r"has no numbers 'labels13'; found: nothing",
        ),
    ],
)
def test_what_is_not_that_release_is_named_in_one_line(source, tmp_path, name, damage, message):
    damage(source / name)
    with pytest.raises(KitError, match=message) as error:
        NYUv2.prepare(source, tmp_path / "dest")
    assert "\n" not in str(error.value) and not (tmp_path / "dest").exists()
    assert not list(tmp_path.glob(".dest*"))


def test_damage_inside_the_large_file_is_found_where_it_is_read(source, tmp_path):
    with h5py.File(source / LABELED) as file:
        place = file["depths"].id.get_chunk_info(0)
    content = bytearray((source / LABELED).read_bytes())
    start = (
        512 + place.byte_offset if content[place.byte_offset : place.byte_offset + 1] != b"\x78" else place.byte_offset
    )
    content[start + 20 : start + 200] = bytes(180)
    (source / LABELED).write_bytes(bytes(content))
    with pytest.raises(KitError, match="'depths' from frame 1 on: cannot be read .*; fetch the file anew"):
        NYUv2.prepare(source, tmp_path / "dest")
    assert not (tmp_path / "dest").exists()


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda f: (f / "masks" / "0002.png").unlink(), "normals_gt/masks/0002.png: is missing"),
        (lambda f: cut(f / "normals" / "0001.png"), "normals_gt/normals/0001.png: cannot be read"),
        (
            lambda f: PIL.Image.new("RGB", (64, 48)).save(f / "normals" / "0001.png"),
            r"normals_gt/normals/0001.png: shape \(48, 64\); expected \(480, 640\)",
        ),
        (
            lambda f: PIL.Image.new("RGB", (640, 480), "white").save(f / "normals" / "0001.png"),
            "normals_gt/normals/0001.png: the median length of its vectors is 1.73",
        ),
    ],
)
def test_given_normals_that_are_none_are_named(source, frames, tmp_path, damage, message):
    write_normals(source, frames)
    damage(source / "normals_gt")
    with pytest.raises(KitError, match=message):
        NYUv2.prepare(source, tmp_path / "dest")
    assert not (tmp_path / "dest").exists()


def test_nothing_is_overwritten(official, tmp_path):
    (tmp_path / "mine.txt").write_text("mine")
    with pytest.raises(KitError, match="holds something already"):
        NYUv2.prepare(official, tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]


def test_a_damaged_note_is_a_problem_and_not_a_crash(prepared, tmp_path):
    copy = Path(shutil.copytree(prepared, tmp_path / "copy"))
    for content, message in (
        ("{", "is not JSON"),
        ("[]", "Input should be a dict"),
        ('{"about": 1}', "prepare the data"),
    ):
        (copy / layout.PREPARED).write_text(content)
        (problem,) = NYUv2.check(copy, contents=False)
        assert layout.PREPARED in problem and message in problem
        with pytest.raises(KitError):
            NYUv2.variant(copy)
    assert json.loads((prepared / layout.PREPARED).read_text())["dataset"] == "nyuv2"


# --- normals from depth -----------------------------------------------------------------------------------------------

CAMERA = normals.Intrinsics(fx=100.0, fy=110.0, cx=30.0, cy=20.0)


def plane(normal, distance, size=(40, 60)):
    """The depth of n . X = -distance, where it lies before the camera."""
    rows, columns = np.indices(size)
    ray = np.stack([(columns - CAMERA.cx) / CAMERA.fx, (rows - CAMERA.cy) / CAMERA.fy, np.ones(size)])
    inverse = -np.einsum("c,chw->hw", normal, ray) / distance
    return np.where(inverse > 1e-3, 1 / np.maximum(inverse, 1e-3), 0)


@pytest.mark.parametrize("direction", [(0, 0, -1), (0.3, 0.1, -1), (0, -1, -0.3), (-2, 0.5, -0.4), (1, 1, -1)])
def test_a_plane_has_one_normal(direction):
    normal = np.array(direction) / np.linalg.norm(direction)
    found = normals.from_depth(plane(normal, 2.0), CAMERA)
    known = np.linalg.norm(found, axis=-1) > 0
    assert known.mean() > 0.25
    assert np.degrees(np.arccos(np.clip(found[known] @ normal, -1, 1))).max() < 0.1
    assert np.abs(np.linalg.norm(found[known], axis=-1) - 1).max() < 1e-5


def test_a_part_of_the_image_is_computed_as_in_the_whole():
    depth = plane(np.array([0.6, 0.0, -0.8]), 2.0)
    rows, columns = np.array([3, 17, 39]), np.array([0, 30])
    part = normals.from_depth(depth, CAMERA, rows, columns)
    assert np.allclose(part, normals.from_depth(depth, CAMERA)[np.ix_(rows, columns)], atol=1e-5)


def test_another_surface_in_the_window_does_not_count():
    left, right = np.array([0.0, 0.0, -1.0]), np.array([0.6, 0.0, -0.8])
    near, far = plane(left, 1.0), plane(right, 3.0)
    depth = np.where(np.arange(60) < 30, near, far)
    found = normals.from_depth(depth, CAMERA)
    for normal, columns in ((left, slice(0, 30)), (right, slice(30, 60))):
        assert np.degrees(np.arccos(np.clip(found[:, columns] @ normal, -1, 1))).max() < 0.1


def test_there_is_no_normal_without_a_surface():
    depth = plane(np.array([0.0, 0.0, -1.0]), 2.0)
    depth[10:20] = 0
    assert (normals.from_depth(depth, CAMERA)[10:20] == 0).all()
    lonely = np.zeros_like(depth)
    lonely[20, :] = 2.0  # a line lies in many planes
    lonely[5, 5] = 2.0
    assert (normals.from_depth(lonely, CAMERA) == 0).all()
    assert (normals.from_depth(np.full((40, 60), np.nan), CAMERA) == 0).all()


def test_noise_of_a_kinect_costs_few_degrees(frames):
    noise = np.random.default_rng(0).normal(0, 0.0014, (480, 640))
    room = frames[0]
    depth = 1 / (1 / room["depth"][0] + noise)
    found = normals.from_depth(depth, nyuv2_official.CAMERA)
    assert np.median(angles(found.transpose(2, 0, 1), room["normals"])) < 4
