"""The packed cache under bad luck (killed, shared, damaged, no space), and the scenes dataset on top of it."""

from __future__ import annotations

import functools
import json
import os
import pickle
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
from processes import CONTEXT

import mtlkit  # its modules are loaded where they are used: a worker that imports this file for ``item`` needs no torch
from mtlkit.errors import KitError

if TYPE_CHECKING:
    from mtlkit.datasets import pack

HERE = str(Path(__file__).parent)
NAMES = ("image", "depth")
COUNT = 83  # five chunks and a bit


def item(index: int) -> dict[str, np.ndarray]:
    return {"image": np.full((3, 4), index % 256, np.uint8), "depth": np.array([index, -index], np.float32)}


def noted(folder: str, wait: float, index: int) -> dict[str, np.ndarray]:
    """``item``, slowly, leaving a note of the index and the process."""
    print("a function may print")
    with open(Path(folder) / "made.txt", "a") as file:
        file.write(f"{index} {os.getpid()}\n")
    time.sleep(wait)
    return item(index)


def broken(index: int) -> dict[str, np.ndarray]:
    if index == 20:
        raise ValueError("no such picture")
    return item(index)


def refused(index: int) -> dict[str, np.ndarray]:
    if index == 20:
        raise KitError("20.png: is missing")
    return item(index)


def notes(folder: Path) -> list[tuple[int, int]]:
    path = folder / "made.txt"
    return [tuple(map(int, line.split())) for line in path.read_text().splitlines()] if path.exists() else []


def build(folder: Path, produce=item, workers: int = 0, fingerprint: str = "one") -> pack.Pack:
    pack = mtlkit.datasets.pack
    fields = {"image": pack.Field("uint8", (3, 4)), "depth": pack.Field("float32", (2,))}
    return pack.build(folder / "cache", COUNT, fields, produce, fingerprint, workers=workers)


def check(made: pack.Pack) -> None:
    assert len(made) == COUNT
    for index in range(COUNT):
        assert all((made[index][name] == item(index)[name]).all() for name in NAMES)


def start(folder: Path, wait: float, workers: int):
    """Another process that builds the same cache."""
    process = CONTEXT.Process(target=build, args=(folder, functools.partial(noted, str(folder), wait), workers))
    process.start()
    return process


def until(condition, seconds: float = 30.0) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "waited too long"
        time.sleep(0.02)


# --- making ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("workers", [0, 1, 2])
def test_what_is_read_is_what_was_made(tmp_path, workers, capfd):
    check(build(tmp_path, functools.partial(noted, str(tmp_path), 0.0), workers))
    assert sorted(i for i, _ in notes(tmp_path)) == list(range(COUNT))
    assert len({process for _, process in notes(tmp_path)} - {os.getpid()}) == (2 if workers == 2 else 0)
    assert f"{COUNT}/{COUNT}" in capfd.readouterr().err  # the progress bar
    assert not (tmp_path / "cache.partial").exists()
    check(build(tmp_path, broken))  # nothing is made twice


def running(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    stat = Path(f"/proc/{process}/stat")  # a dead one that no one has waited for still answers
    return not stat.exists() or stat.read_text().rsplit(")", 1)[1].split()[0] != "Z"


@pytest.mark.parametrize("workers", [0, 2])
def test_a_killed_build_goes_on_where_it_was_and_leaves_no_process(tmp_path, workers):
    process = start(tmp_path, 0.01, workers)
    until(lambda: (tmp_path / "cache.partial" / "progress.json").exists())
    time.sleep(0.1)  # somewhere in a chunk
    process.kill()
    process.join()
    assert not (tmp_path / "cache").exists()
    processes = {pid for _, pid in notes(tmp_path)}
    assert len(processes) == max(1, workers)
    until(lambda: not any(running(pid) for pid in processes))
    done = json.loads((tmp_path / "cache.partial" / "progress.json").read_text())["done"]
    assert 0 < done <= COUNT // mtlkit.datasets.pack.CHUNK
    before = len(notes(tmp_path))
    check(build(tmp_path, functools.partial(noted, str(tmp_path), 0.0)))
    assert [i for i, _ in notes(tmp_path)[before:]] == list(range(done * mtlkit.datasets.pack.CHUNK, COUNT))


def test_another_plan_does_not_go_on_with_a_half_made_cache(tmp_path):
    with pytest.raises(KitError, match="item 20"):
        build(tmp_path, broken, 2)
    assert (tmp_path / "cache.partial").exists()
    made = build(tmp_path, functools.partial(noted, str(tmp_path), 0.0), fingerprint="two")
    assert sorted(i for i, _ in notes(tmp_path)) == list(range(COUNT))
    check(made)


def test_of_two_processes_one_builds_and_the_other_waits(tmp_path, capfd):
    other = start(tmp_path, 0.01, 0)
    until(lambda: len(notes(tmp_path)) > 0)
    check(build(tmp_path, functools.partial(noted, str(tmp_path), 0.0)))
    assert "another process is making cache; waiting" in capfd.readouterr().err
    other.join(timeout=60)
    assert other.exitcode == 0
    assert [i for i, _ in notes(tmp_path)] == list(range(COUNT))  # each item once
    assert {process for _, process in notes(tmp_path)} == {other.pid}


def test_a_script_without_a_main_guard_may_build(tmp_path):
    script = tmp_path / "script.py"
    script.write_text(
        "import functools, pathlib, sys\n"
        f"sys.path.insert(0, {HERE!r})\n"
        "import test_pack as t\n"
        "def own(index): return t.item(index)\n"
        f"t.check(t.build(pathlib.Path({str(tmp_path / 'a')!r}), t.item, 2))\n"
        f"t.check(t.build(pathlib.Path({str(tmp_path / 'b')!r}), own, 2))\n"
    )
    assert subprocess.run([sys.executable, script], capture_output=True).returncode == 0


@pytest.mark.parametrize("workers", [0, 2])
def test_a_picture_that_cannot_be_made_is_named(tmp_path, workers):
    with pytest.raises((KitError, ValueError), match="no such picture"):
        build(tmp_path, broken, workers)
    with pytest.raises(KitError, match="20.png: is missing") as error:
        build(tmp_path, refused, workers)
    assert "KitError" not in str(error.value)
    with pytest.raises(KitError, match="image is uint8 .2,., expected uint8 .3, 4."):
        build(tmp_path, lambda index: item(index) | {"image": np.zeros(2, np.uint8)})


# --- opening ---------------------------------------------------------------------------------------------------------


def test_a_truncated_a_changed_and_a_missing_file_are_named(tmp_path):
    build(tmp_path)
    path = tmp_path / "cache" / "depth.npy"
    content = path.read_bytes()

    def refused(match: str) -> None:
        for call in (lambda: mtlkit.datasets.pack.open(tmp_path / "cache"), lambda: build(tmp_path)):
            with pytest.raises(KitError, match=match) as error:
                call()
            assert "depth.npy" in str(error.value) and "delete" in str(error.value) and "\n" not in str(error.value)

    path.write_bytes(content[:-8])
    refused(f"has {len(content) - 8} bytes, expected {len(content)}")
    path.write_bytes(content[:200] + bytes([content[200] ^ 1]) + content[201:])
    refused("has changed")
    path.unlink()
    refused("is missing")
    path.write_bytes(content)  # restored, as from a copy: another time, the same bytes
    check(mtlkit.datasets.pack.open(tmp_path / "cache"))


def test_a_change_that_keeps_the_time_is_found_on_request(tmp_path):
    build(tmp_path)
    path = tmp_path / "cache" / "image.npy"
    times = path.stat().st_atime_ns, path.stat().st_mtime_ns
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    os.utime(path, ns=times)
    with pytest.raises(KitError, match="image.npy has changed"):
        mtlkit.datasets.pack.open(tmp_path / "cache", verify=True)


def test_a_cache_that_was_made_from_something_else_is_refused(tmp_path):
    build(tmp_path)
    with pytest.raises(KitError, match="made from 'one', expected 'two'"):
        build(tmp_path, fingerprint="two")
    (tmp_path / "cache" / "manifest.json").write_text("{")
    with pytest.raises(KitError, match="manifest.json is not JSON"):
        mtlkit.datasets.pack.open(tmp_path / "cache")
    shutil.rmtree(tmp_path / "cache")
    with pytest.raises(KitError, match="no complete cache"):
        mtlkit.datasets.pack.open(tmp_path / "cache")
    (tmp_path / "cache").mkdir()
    with pytest.raises(KitError, match="is no complete cache"):  # a folder of a person's own is left alone
        build(tmp_path)


def test_a_cache_is_read_only_in_memory_and_small_to_send(tmp_path):
    made = build(tmp_path)
    with pytest.raises(ValueError, match="read-only"):
        made.arrays["image"][0] = 0
    message = pickle.dumps(made)
    assert len(message) < 500
    check(pickle.loads(message))


# --- no place --------------------------------------------------------------------------------------------------------


def test_a_folder_that_cannot_be_written_to_is_said_with_the_way_out(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(KitError, match="MTLKIT_CACHE") as error:
        build(tmp_path / "file")
    assert "\n" not in str(error.value)


def test_a_full_disk_is_an_error_and_no_signal(tmp_path):
    resource = pytest.importorskip("resource")  # a limit on the size of files stands for the full disk
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    fields = {"image": mtlkit.datasets.pack.Field("uint8", (1 << 20,))}
    resource.setrlimit(resource.RLIMIT_FSIZE, (32 << 20, before[1]))
    try:
        with pytest.raises(KitError, match="MTLKIT_CACHE"):
            mtlkit.datasets.pack.build(tmp_path / "cache", 64, fields, item, "one", workers=0)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


# --- the scenes dataset ----------------------------------------------------------------------------------------------

SMALL = {"height": 32, "width": 64, "train": 4, "test": 3, "workers": 0}


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    return tmp_path_factory.mktemp("scenes")


def test_a_sample_is_what_was_rendered_and_keeps_the_contract(root):
    import torch

    data = mtlkit.datasets.build("scenes", "train", root=root, **SMALL)
    made, want = data[2], mtlkit.scenes.sample("rooms", "train", 2, 32, 64)
    assert {name: (t.dtype, tuple(t.shape)) for name, t in made.items()} == {
        "image": (torch.float32, (3, 32, 64)),
        "semantic": (torch.int64, (32, 64)),
        "depth": (torch.float32, (1, 32, 64)),
        "normals": (torch.float32, (3, 32, 64)),
        "edges": (torch.float32, (1, 32, 64)),
        "saliency": (torch.float32, (1, 32, 64)),
        "albedo": (torch.float32, (3, 32, 64)),
        "index": (torch.int64, ()),
    }
    for name in ("semantic", "depth", "edges", "saliency"):
        assert (made[name].numpy() == want[name]).all()
    for name in ("image", "albedo"):
        assert np.abs(made[name].numpy() - want[name]).max() <= 0.5 / 255 + 1e-6
    assert (made["normals"].norm(dim=0) - 1).abs().max() < 1e-5
    cosine = (made["normals"].numpy() * want["normals"]).sum(0).clip(-1, 1)
    assert np.degrees(np.arccos(cosine)).max() < 0.1
    assert int(made["index"]) == 2
    assert data.info(2).name == "rooms/train/00002" and data.info(2).size == data.size == (32, 64)
    assert list(data.tasks) == ["semantic", "depth", "normals"] and data.tasks["semantic"].channels == 13


def test_a_loader_batches_it(root):
    from torch.utils.data import DataLoader

    loader = DataLoader(mtlkit.datasets.build("scenes", "test", root=root, **SMALL), batch_size=2)
    assert [batch["image"].shape[0] for batch in loader] == [2, 1]


def test_flow_is_there_on_request(root):
    data = mtlkit.datasets.build("scenes", "test", root=root, flow=True, fields=("image", "flow", "motion"), **SMALL)
    made = data[0]
    assert set(made) == {"image", "flow", "motion", "index"} and list(data.tasks) == ["motion"]
    assert made["flow"].shape == (3, 32, 64) and not made["motion"].is_floating_point()


def test_every_option_that_changes_the_data_changes_the_fingerprint(root):
    options = [{}, {"seed": 1}, {"train": 5}, {"height": 64}, {"flow": True}]
    data = [mtlkit.datasets.build("scenes", "train", root=root, **(SMALL | option)) for option in options]
    assert len({d.fingerprint for d in data}) == len(options)
    assert (
        mtlkit.datasets.build("scenes", "train", root=root, **SMALL, fields=("depth",)).fingerprint
        == data[0].fingerprint
    )


def test_the_cache_lies_where_the_environment_says(tmp_path, monkeypatch):
    monkeypatch.setenv("MTLKIT_CACHE", str(tmp_path))
    data = mtlkit.datasets.build("scenes", "validation", validation=1, **SMALL)
    assert (tmp_path / "scenes" / data.fingerprint / "image.npy").is_file()


@pytest.mark.parametrize(
    ("split", "options", "message"),
    [
        ("trian", {}, "did you mean 'train'"),
        ("validation", {}, "give validation=N"),
        ("train", {"heigth": 96}, "did you mean 'height'"),
        ("train", {"height": 100}, "multiples of 32"),
        ("train", {"width": 0}, "multiples of 32"),
        ("train", {"family": "room"}, "did you mean 'rooms'"),
        ("train", {"seed": -1}, "from 0, found -1"),
        ("train", {"fields": ("detph",)}, "did you mean 'depth'"),
        ("train", {"fields": ("flow",)}, "flow=True"),
    ],
)
def test_bad_options_are_refused_before_anything_is_rendered(tmp_path, split, options, message):
    with pytest.raises(KitError, match=message):
        mtlkit.datasets.build("scenes", split, root=tmp_path, **(SMALL | options))
    assert not list(tmp_path.iterdir())


def test_an_index_outside_the_split_is_an_index_error(root):
    data = mtlkit.datasets.build("scenes", "test", root=root, **SMALL)
    for index in (-1, 3):
        with pytest.raises(IndexError):
            data[index]
        with pytest.raises(IndexError):
            data.info(index)
