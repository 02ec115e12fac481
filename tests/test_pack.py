"""The packed cache under bad luck (killed, shared, damaged, no space), and the scenes dataset on top of it."""

from __future__ import annotations

import functools
import json
import os
import pickle
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

from mtlkit import datasets, scenes
from mtlkit.datasets import pack
from mtlkit.errors import KitError

HERE = str(Path(__file__).parent)
FIELDS = {"image": pack.Field("uint8", (3, 4)), "depth": pack.Field("float32", (2,))}
COUNT = 5 * pack.CHUNK + 3


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


def notes(folder: Path) -> list[tuple[int, int]]:
    path = folder / "made.txt"
    return [tuple(map(int, line.split())) for line in path.read_text().splitlines()] if path.exists() else []


def build(folder: Path, produce=item, workers: int = 0, fingerprint: str = "one") -> pack.Pack:
    return pack.build(folder / "cache", COUNT, FIELDS, produce, fingerprint, workers=workers)


def check(made: pack.Pack) -> None:
    assert len(made) == COUNT
    for index in range(COUNT):
        assert all((made[index][name] == item(index)[name]).all() for name in FIELDS)


def start(folder: Path, wait: float, workers: int) -> subprocess.Popen:
    """Another process that builds the same cache."""
    program = (
        f"import sys; sys.path.insert(0, {HERE!r}); import functools, test_pack as t; from pathlib import Path; "
        f"t.build(Path({str(folder)!r}), functools.partial(t.noted, {str(folder)!r}, {wait}), {workers})"
    )
    return subprocess.Popen([sys.executable, "-c", program], stderr=subprocess.PIPE, text=True)


def until(condition, seconds: float = 30.0) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "waited too long"
        time.sleep(0.02)


# --- making --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("workers", [0, 1, 2])
def test_what_is_read_is_what_was_made(tmp_path, workers, capfd):
    check(build(tmp_path, functools.partial(noted, str(tmp_path), 0.0), workers))
    assert sorted(i for i, _ in notes(tmp_path)) == list(range(COUNT))
    assert len({process for _, process in notes(tmp_path)} - {os.getpid()}) == (2 if workers == 2 else 0)
    assert f"{COUNT}/{COUNT}" in capfd.readouterr().err  # the progress bar
    assert not (tmp_path / "cache.partial").exists()
    check(build(tmp_path, broken))  # nothing is made twice


@pytest.mark.parametrize("workers", [0, 2])
def test_a_killed_build_goes_on_where_it_was(tmp_path, workers):
    process = start(tmp_path, 0.01, workers)
    until(lambda: (tmp_path / "cache.partial" / "progress.json").exists())
    time.sleep(0.1)  # somewhere in a chunk
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert not (tmp_path / "cache").exists()
    done = json.loads((tmp_path / "cache.partial" / "progress.json").read_text())["done"]
    assert 0 < done <= COUNT // pack.CHUNK
    before = len(notes(tmp_path))
    check(build(tmp_path, functools.partial(noted, str(tmp_path), 0.0)))
    again = [i for i, process in notes(tmp_path)[before:] if process == os.getpid()]
    assert again == list(range(done * pack.CHUNK, COUNT))


def test_workers_end_with_the_process_that_started_them(tmp_path):
    process = start(tmp_path, 0.01, 2)
    until(lambda: len({pid for _, pid in notes(tmp_path)}) == 2)
    workers = {pid for _, pid in notes(tmp_path)}
    process.send_signal(signal.SIGKILL)
    process.wait()

    def running(pid: int) -> bool:
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            return False
        stat = Path(f"/proc/{pid}/stat")  # a dead one that no one has waited for still answers
        return not stat.exists() or stat.read_text().rsplit(")", 1)[1].split()[0] != "Z"

    until(lambda: not any(running(pid) for pid in workers))


def test_another_plan_does_not_go_on_with_a_half_made_cache(tmp_path):
    with pytest.raises(KitError, match="item 20"):
        build(tmp_path, broken, 2)
    assert (tmp_path / "cache.partial").exists()
    made = build(tmp_path, functools.partial(noted, str(tmp_path), 0.0), fingerprint="two")
    assert sorted(i for i, _ in notes(tmp_path)) == list(range(COUNT))
    check(made)


def test_of_two_processes_one_builds_and_the_other_waits(tmp_path):
    processes = [start(tmp_path, 0.005, 0) for _ in range(2)]
    said = [process.communicate(timeout=60)[1] for process in processes]
    assert [process.returncode for process in processes] == [0, 0]
    assert sorted(i for i, _ in notes(tmp_path)) == list(range(COUNT))  # each item once
    assert len({pid for _, pid in notes(tmp_path)}) == 1
    assert sum("waiting for it" in text for text in said) <= 1  # the second may also come when all is done
    check(pack.open(tmp_path / "cache"))


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
    with pytest.raises(KitError, match="image is uint8 .2,., expected uint8 .3, 4."):
        build(tmp_path, lambda index: item(index) | {"image": np.zeros(2, np.uint8)})


# --- opening -------------------------------------------------------------------------------------------------------------


def test_a_truncated_a_changed_and_a_missing_file_are_named(tmp_path):
    build(tmp_path)
    path = tmp_path / "cache" / "depth.npy"
    content = path.read_bytes()

    def refused(match: str) -> None:
        for call in (lambda: pack.open(tmp_path / "cache"), lambda: build(tmp_path)):
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
    check(pack.open(tmp_path / "cache"))


def test_a_change_that_keeps_the_time_is_found_on_request(tmp_path):
    build(tmp_path)
    path = tmp_path / "cache" / "image.npy"
    times = path.stat().st_atime_ns, path.stat().st_mtime_ns
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    os.utime(path, ns=times)
    with pytest.raises(KitError, match="image.npy has changed"):
        pack.open(tmp_path / "cache", verify=True)


def test_a_cache_that_was_made_from_something_else_is_refused(tmp_path):
    build(tmp_path)
    with pytest.raises(KitError, match="made from 'one', expected 'two'"):
        build(tmp_path, fingerprint="two")
    (tmp_path / "cache" / "manifest.json").write_text("{")
    with pytest.raises(KitError, match="manifest.json is not JSON"):
        pack.open(tmp_path / "cache")
    shutil.rmtree(tmp_path / "cache")
    with pytest.raises(KitError, match="no complete cache"):
        pack.open(tmp_path / "cache")
    (tmp_path / "cache").mkdir()
    with pytest.raises(KitError, match="is no cache"):  # a folder of a person's own is left alone
        build(tmp_path)


def test_a_cache_is_read_only_in_memory_and_small_to_send(tmp_path):
    made = build(tmp_path)
    with pytest.raises(ValueError, match="read-only"):
        made.arrays["image"][0] = 0
    message = pickle.dumps(made)
    assert len(message) < 500
    check(pickle.loads(message))


# --- no place ------------------------------------------------------------------------------------------------------------


def test_a_folder_that_cannot_be_written_to_is_said_with_the_way_out(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(KitError, match="MTLKIT_CACHE") as error:
        build(tmp_path / "file")
    assert "\n" not in str(error.value)


@pytest.mark.skipif(sys.platform == "win32", reason="needs a limit on the size of files")
def test_a_full_disk_is_an_error_and_no_signal(tmp_path):
    program = (
        f"import sys; sys.path.insert(0, {HERE!r}); import resource, test_pack as t; from pathlib import Path\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (700, 700))\n"
        "try: t.build(Path(sys.argv[1]))\n"
        "except t.KitError as error: print(error)"
    )
    answer = subprocess.run([sys.executable, "-c", program, tmp_path], capture_output=True, text=True)
    assert answer.returncode == 0 and "MTLKIT_CACHE" in answer.stdout


# --- the scenes dataset --------------------------------------------------------------------------------------------------

SMALL = {"height": 32, "width": 64, "train": 4, "test": 3, "workers": 0}


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    return tmp_path_factory.mktemp("scenes")


def test_a_sample_is_what_was_rendered_and_keeps_the_contract(root):
    data = datasets.build("scenes", "train", root=root, **SMALL)
    made, want = data[2], scenes.sample("rooms", "train", 2, 32, 64)
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
    loader = DataLoader(datasets.build("scenes", "test", root=root, **SMALL), batch_size=2)
    assert [batch["image"].shape[0] for batch in loader] == [2, 1]


def test_flow_is_there_on_request(root):
    data = datasets.build("scenes", "test", root=root, flow=True, fields=("image", "flow", "motion"), **SMALL)
    made = data[0]
    assert set(made) == {"image", "flow", "motion", "index"} and data.tasks == {}
    assert made["flow"].shape == (3, 32, 64) and made["motion"].dtype == torch.int64


def test_every_option_that_changes_the_data_changes_the_fingerprint(root):
    options = [{}, {"seed": 1}, {"train": 5}, {"height": 64}, {"flow": True}]
    data = [datasets.build("scenes", "train", root=root, **(SMALL | option)) for option in options]
    assert len({d.fingerprint for d in data}) == len(options)
    assert datasets.build("scenes", "train", root=root, **SMALL, fields=("depth",)).fingerprint == data[0].fingerprint


def test_the_cache_lies_where_the_environment_says(tmp_path, monkeypatch):
    monkeypatch.setenv("MTLKIT_CACHE", str(tmp_path))
    data = datasets.build("scenes", "validation", validation=1, **SMALL)
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
        datasets.build("scenes", split, root=tmp_path, **(SMALL | options))
    assert not list(tmp_path.iterdir())


def test_an_index_outside_the_split_is_an_index_error(root):
    data = datasets.build("scenes", "test", root=root, **SMALL)
    for index in (-1, 3):
        with pytest.raises(IndexError):
            data[index]
        with pytest.raises(IndexError):
            data.info(index)
