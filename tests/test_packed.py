"""Packed datasets: the same samples within the stated bounds, changes noticed and named, builds that go on."""

from __future__ import annotations

import pickle
import shutil

import numpy as np
import PIL.Image
import pytest
import torch
from torch.utils.data import DataLoader
from typer.testing import CliRunner

from mtlkit import datasets, recipes, training
from mtlkit.cli import app
from mtlkit.datasets import DATASETS, packed
from mtlkit.datasets.nyuv2 import NYUv2
from mtlkit.errors import KitError

SIZE = {"height": 40, "width": 56}
SAMPLES = {  # options with which a sample is small
    "nyuv2": SIZE,
    "nyud-mt": SIZE,
    "fsv": SIZE,
    "cityscapes": SIZE,
    "cityscapes-motion": SIZE,
}
REFUSED = {"scenes", "mini-decathlon", "pascal-mt"}  # cached anyway; images of many sizes


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("MTLKIT_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "packed"


@pytest.fixture(scope="module")
def original(tmp_path_factory):
    root = tmp_path_factory.mktemp("nyuv2") / "sample"
    NYUv2.write_sample(root, 20, **SIZE)
    return root


@pytest.fixture
def root(original, tmp_path):
    """A copy that a test may change."""
    return shutil.copytree(original, tmp_path / "nyuv2")


def refused(match: str, root, *names: str) -> str:
    with pytest.raises(KitError, match=match) as error:
        datasets.build("nyuv2", "train", root=root, packed=True)
    message = str(error.value)
    assert "\n" not in message and all(name in message for name in names)
    return message


def edit(path, place: int = 200) -> None:
    """Another byte at a place that no fingerprint looks at."""
    content = bytearray(path.read_bytes())
    content[place] ^= 1
    path.write_bytes(content)


# --- the samples ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", sorted(set(DATASETS) - REFUSED))
def test_a_packed_sample_is_the_sample_within_what_is_promised(name, tmp_path):
    root = tmp_path / "sample"
    DATASETS[name].write_sample(root, 2, **SAMPLES.get(name, {}))
    options = {"train": 20, "test": 20} if name == "digits" else {}
    for split in ("train", "test"):
        want = datasets.build(name, split, root=root, **options)
        packed.make(name, split, root=root, **options)
        made = datasets.build(name, split, root=root, packed=True, **options)
        assert (len(made), made.size, made.name, made.split) == (len(want), want.size, name, split)
        assert list(made.tasks) == list(want.tasks) and made.about == want.about
        for index in sorted({*want.glance(4), len(want) - 1}):
            sample, other = made[index], want[index]
            assert list(sample) == list(other) and made.info(index) == want.info(index)
            for field, value in other.items():
                assert sample[field].dtype == value.dtype and sample[field].shape == value.shape
                assert (sample[field] - value).abs().max() <= (1 / 510 + 1e-6 if field in ("image", "albedo") else 0)


def test_images_of_eight_bits_are_read_bit_for_bit(tmp_path):
    DATASETS["nyud-mt"].write_sample(tmp_path / "sample", 2, **SIZE)
    want = datasets.build("nyud-mt", "train", root=tmp_path / "sample")
    made = packed.make("nyud-mt", "train", root=tmp_path / "sample")
    assert all(torch.equal(made[1][name], value) for name, value in want[1].items())


def test_a_sample_is_memory_of_its_own(root):
    made = packed.make("nyuv2", "train", root=root)
    before = {name: value.clone() for name, value in made[0].items()}
    for value in made[0].values():
        value.zero_()
    assert all(torch.equal(made[0][name], value) for name, value in before.items())


def test_half_precision_normals_are_made_unit_vectors_as_torch_does_it():
    x = torch.nn.functional.normalize(torch.randn(3, 40, 50, generator=torch.manual_seed(0)), dim=0).half()
    x[:, 3:5] = 0
    assert torch.equal(packed.FORMS["normals"].load(x), torch.nn.functional.normalize(x.float(), dim=0))


@pytest.mark.parametrize(("classes", "dtype"), [(13, "int8"), (128, "int8"), (129, "int16"), (70000, "int32")])
def test_labels_take_the_smallest_type_that_holds_them(classes, dtype):
    form = packed.FORMS["semantic"]
    labels = torch.tensor([-1, 0, classes - 1])
    stored = labels.to(getattr(torch, form.dtype(classes)))
    assert form.dtype(classes) == dtype and torch.equal(form.load(stored), labels)


def test_loading_processes_are_sent_a_place_and_no_data(root):
    made = packed.make("nyuv2", "train", root=root)
    message = pickle.dumps(made)
    assert len(message) < 4000
    again = pickle.loads(message)
    assert torch.equal(again[19]["normals"], made[19]["normals"]) and again.size == made.size
    batches = list(DataLoader(made, batch_size=8, num_workers=1))
    assert [len(batch["index"]) for batch in batches] == [8, 8, 4]


def test_what_only_this_dataset_has_is_there(tmp_path):
    made = packed.make("digits-domains", "test", domains=["plain", "stripes"])
    assert made.domains == ("plain", "stripes") and list(made.indices) == ["plain", "stripes"]
    with pytest.raises(AttributeError):
        made.nonsense  # noqa: B018


# --- which data a run is on -------------------------------------------------------------------------------------------


def test_packed_data_are_another_run_and_unpacked_ones_the_run_they_were(root):
    def recipe(**more):
        data = {"name": "nyuv2", "root": str(root)} | more
        return recipes.make({"name": "any", "dataset": data, "tasks": ["depth"], "architecture": {"name": "single"}})

    plain, packing = recipe(), recipe(packed=True)
    assert "packed" not in plain.canonical()["dataset"]
    for split in ("train", "test"):
        packed.make("nyuv2", split, root=root)
    ids = {r.identity(training.fingerprint(*training.load_data(r))) for r in (plain, packing)}
    assert len(ids) == 2
    with pytest.raises(KitError, match="packed"):
        recipe(packed="yes")


# --- no cache, another source -----------------------------------------------------------------------------------------


def test_without_a_cache_the_command_that_makes_it_is_named(root):
    message = refused("nyuv2/train is not packed", root)
    assert message.endswith(f"type: mtlkit data pack nyuv2 --root {root}")
    with pytest.raises(KitError, match="-p holdout=true"):
        datasets.build("nyuv2", "train", root=root, holdout=True, packed=True)


def test_a_change_that_the_fingerprint_misses_is_found_and_mended(root):
    made = packed.make("nyuv2", "train", root=root)
    path = root / "train" / "normal" / "7.npy"
    edit(path)
    assert datasets.build("nyuv2", "train", root=root).fingerprint == made.original.fingerprint
    refused("has changed since", root, str(path), "mtlkit data pack nyuv2")
    again = packed.make("nyuv2", "train", root=root)
    want = datasets.build("nyuv2", "train", root=root)
    assert torch.equal(again[7]["normals"], want[7]["normals"])


def test_a_truncated_a_missing_and_a_new_source_are_named(root):
    packed.make("nyuv2", "train", root=root)
    path = root / "train" / "depth" / "12.npy"
    content = path.read_bytes()
    path.write_bytes(content[:-8])
    refused(f"has {len(content) - 8} bytes, expected {len(content)}", root, str(path), "mtlkit data pack")
    path.write_bytes(content)
    for field in ("image", "label", "depth", "normal"):
        (root / "train" / field / "19.npy").rename(root / f"{field}.npy")
    refused("19.npy is missing", root)
    for field in ("image", "label", "depth", "normal"):
        shutil.copy(root / f"{field}.npy", root / "train" / field / "20.npy")
        (root / f"{field}.npy").rename(root / "train" / field / "19.npy")
    refused("is not packed as its files are now", root)


def test_a_copy_of_the_files_is_the_same_data(root, tmp_path):
    packed.make("nyuv2", "train", root=root)
    moved = shutil.copytree(root, tmp_path / "moved", copy_function=shutil.copyfile)  # new times
    assert len(datasets.build("nyuv2", "train", root=moved, packed=True)) == 20


def test_a_truncated_cache_and_a_damaged_list_are_named_and_made_anew(root, cache):
    made = packed.make("nyuv2", "train", root=root)
    path = made.pack.directory / "depth.npy"
    path.write_bytes(path.read_bytes()[:-8])
    refused("bytes, expected", root, str(path))
    assert packed.Packed.check() and str(path) in packed.Packed.check()[0]
    packed.make("nyuv2", "train", root=root)
    (table,) = cache.glob("*.files.json")
    for content in ("{}", "[]", '{"root": "", "files": {}}'):
        table.write_text(content)
        refused("files.json", root)
    packed.make("nyuv2", "train", root=root)
    assert packed.Packed.check() == []


# --- making -----------------------------------------------------------------------------------------------------------


def test_an_interrupted_build_goes_on_unless_the_source_has_changed(root, monkeypatch):
    read, seen = NYUv2.__getitem__, []

    def stops(self, index):
        seen.append(index)
        if len(seen) == 19:
            raise KeyboardInterrupt
        return read(self, index)

    monkeypatch.setattr(NYUv2, "__getitem__", stops)
    with pytest.raises(KeyboardInterrupt):
        packed.make("nyuv2", "train", root=root)
    packed.make("nyuv2", "train", root=root)
    assert seen[19:] == [0, 16, 17, 18, 19]  # the first tells the shapes; a chunk is 16
    shutil.rmtree(packed.Packed.folder())
    seen.clear()
    with pytest.raises(KeyboardInterrupt):
        packed.make("nyuv2", "train", root=root)
    edit(root / "train" / "normal" / "0.npy")
    packed.make("nyuv2", "train", root=root)
    assert seen[19:] == [0, *range(20)]


def test_processes_make_what_one_makes(root):
    alone = packed.make("nyuv2", "train", root=root)
    arrays = {name: array.copy() for name, array in alone.pack.arrays.items()}
    shutil.rmtree(packed.Packed.folder())
    several = packed.make("nyuv2", "train", root=root, workers=2)
    assert all(np.array_equal(several.pack.arrays[name], array) for name, array in arrays.items())


def test_a_source_that_changes_while_it_is_packed_is_found(root, monkeypatch):
    read = NYUv2.__getitem__

    def changing(self, index):
        if index == 19:
            edit(root / "train" / "image" / "3.npy")
        return read(self, index)

    monkeypatch.setattr(NYUv2, "__getitem__", changing)
    with pytest.raises(KitError, match="3.npy has changed"):
        packed.make("nyuv2", "train", root=root)


@pytest.mark.parametrize(
    ("split", "options", "message"),
    [
        ("trian", {}, "did you mean 'train'"),
        ("validation", {}, "holdout=true"),
        ("train", {"holdot": True}, "did you mean 'holdout'"),
        ("train", {"packed": "yes"}, "packed"),
    ],
)
def test_bad_options_are_refused(root, split, options, message):
    with pytest.raises(KitError, match=message):
        datasets.build("nyuv2", split, root=root, **({"packed": True} | options))


def test_scenes_are_packed_anyway(tmp_path):
    with pytest.raises(KitError, match="leave packed out"):
        datasets.build("scenes", "train", root=tmp_path / "none", packed=True)
    assert not (tmp_path / "none").exists()


def test_images_of_several_sizes_are_refused(tmp_path):
    DATASETS["pascal-mt"].write_sample(tmp_path / "sample", 3, **SIZE)
    with pytest.raises(KitError, match=r"image: shape \(3, 56, 40\); expected \(3, 40, 56\).*one size") as error:
        packed.make("pascal-mt", "train", root=tmp_path / "sample")
    assert "\n" not in str(error.value)


def test_a_value_that_is_no_number_is_refused_with_its_place(root):
    path = root / "train" / "depth" / "2.npy"
    depth = np.load(path)
    depth[0, 0] = np.nan
    np.save(path, depth)
    with pytest.raises(KitError, match="train/2: depth: values nan .* cannot be stored as float32"):
        packed.make("nyuv2", "train", root=root)


def test_a_file_that_cannot_be_read_ends_it_with_its_name(tmp_path):
    DATASETS["nyud-mt"].write_sample(tmp_path / "sample", 4, **SIZE)
    PIL.Image.new("RGB", (7, 7)).save(tmp_path / "sample" / "images" / "3.jpg")
    with pytest.raises(KitError, match="images/3.jpg") as error:
        packed.make("nyud-mt", "train", root=tmp_path / "sample")
    assert "\n" not in str(error.value)


def test_a_folder_that_cannot_be_written_to_is_said(root, tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("MTLKIT_CACHE", str(tmp_path / "file"))
    with pytest.raises(KitError, match="MTLKIT_CACHE"):
        packed.make("nyuv2", "train", root=root)


def test_the_command_line(root):
    runner = CliRunner()
    done = runner.invoke(app, ["data", "pack", "nyuv2", "--root", str(root), "-p", "holdout=true"])
    lines = done.stdout.splitlines()
    assert done.exit_code == 0, done.exception
    assert [line.split(":")[0] for line in lines[:3]] == ["nyuv2/train", "nyuv2/validation", "nyuv2/test"]
    assert "dataset.packed=true" in lines[-1]
    for words in (["nyuv2", "--root", str(root), "--split", "trian"], ["scenes"], ["nyuv"]):
        assert isinstance(runner.invoke(app, ["data", "pack", *words]).exception, KitError)
