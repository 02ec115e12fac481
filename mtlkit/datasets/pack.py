"""The packed cache: every field of a dataset in one memory-mapped .npy file, made once, checked whenever it is opened.

    NAME/manifest.json      fields, count, fingerprint; size, time and sha256 of every file
    NAME/image.npy ...      (N, ...) arrays
    NAME.partial/           the same while it is made, with progress.json
    NAME.lock               held by the process that makes it

A cache is made chunk by chunk. A chunk counts once its bytes are on the disk and ``progress.json`` says so; a build
that was killed at any moment goes on from there. The folder gets its name only when it is complete, so a reader never
sees half of one. Arrays are written through plain files, not through a memory map: a full disk is then an error that
can be told, not a signal that kills the process.

Opening compares sizes and times of the files with the manifest, and reads a file through (sha256) only if its time has
changed.

Worker processes are bare interpreters that are sent the function by pickle over a pipe. They import what it needs and
no more (no torch for rendering), never re-run the caller's main module, and end when the pipe closes, that is also when
this process is killed.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import json
import math
import os
import pickle
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
from tqdm.auto import tqdm

from .. import files
from ..errors import KitError

FORMAT = 1  # of the manifest and the files
CHUNK = 16  # items between two saves
Item = dict[str, np.ndarray]


@dataclasses.dataclass(frozen=True)
class Field:
    """The dtype and the shape of one item of a field. The cache stores (count, *shape)."""

    dtype: str
    shape: tuple[int, ...]


# --- reading ----------------------------------------------------------------------------------------------------------


class Pack:
    """A complete cache, open for reading.

    Attributes:
        directory: where it is.
        arrays: field -> read-only memory-mapped array (count, ...).
        fingerprint: of what it was made from.
    """

    def __init__(self, directory: Path, manifest: dict):
        self.directory = directory
        self.fingerprint: str = manifest["fingerprint"]
        self._count: int = manifest["count"]
        self.arrays = {
            name: np.load(directory / f"{name}.npy", mmap_mode="r", allow_pickle=False) for name in manifest["fields"]
        }

    def __len__(self) -> int:
        return self._count

    @property
    def bytes(self) -> int:
        """Of all arrays."""
        return sum(array.nbytes for array in self.arrays.values())

    def read(self, name: str, index: int) -> np.ndarray:
        """One field of item ``index``: a copy in memory, which may be written to."""
        return np.array(self.arrays[name][index])

    def __getitem__(self, index: int) -> Item:
        """Every field of item ``index``."""
        return {name: self.read(name, index) for name in self.arrays}

    def __reduce__(self) -> tuple:
        return _reopen, (str(self.directory),)  # a pickled memory map would carry all its data


def _reopen(directory: str) -> Pack:
    return Pack(Path(directory), files.read_json(Path(directory) / "manifest.json"))


def open(directory: str | Path, *, fingerprint: str | None = None, verify: bool = False) -> Pack:
    """Open a complete cache.

    Args:
        directory: of the cache.
        fingerprint: what it must have been made from; None takes any.
        verify: read every file through, also where size and time are as they were.

    Raises:
        KitError: where there is no complete cache, or it was made from something else, or a file is missing, truncated
            or changed; the message names the file.
    """
    directory = Path(directory)
    if not (directory / "manifest.json").is_file():
        raise KitError(f"{directory} is no complete cache (it has no manifest.json); make it first, or move it away")
    remedy = f"delete {directory} and run again to make it anew"
    try:
        manifest = files.read_json(directory / "manifest.json")
        if manifest["format"] != FORMAT:
            raise KitError(f"{directory} has cache format {manifest['format']}, expected {FORMAT}; {remedy}")
        if fingerprint is not None and manifest["fingerprint"] != fingerprint:
            raise KitError(f"{directory} was made from {manifest['fingerprint']!r}, expected {fingerprint!r}; {remedy}")
        for name, entry in manifest["fields"].items():
            check_file(directory / f"{name}.npy", entry, remedy, verify=verify)
        return Pack(directory, manifest)
    except (KeyError, TypeError) as error:
        raise KitError(f"{directory / 'manifest.json'} cannot be read ({error!r}); {remedy}") from error


def problems(folder: Path, contents: bool = True) -> list[str]:
    """One line for every damaged cache in a folder of caches; ``contents`` reads them through."""
    found = []
    for manifest in sorted(folder.glob("*/manifest.json")):
        try:
            open(manifest.parent, verify=contents)
        except KitError as error:
            found.append(str(error))
    return found


def stamp(path: Path) -> dict[str, Any]:
    """Size, time and sha256 of a file, from which ``check_file`` knows it again. Raises KitError where it cannot be
    read.
    """
    try:
        found = path.stat()
        return {"bytes": found.st_size, "time": found.st_mtime_ns, "sha256": _digest(path)}
    except OSError as error:
        raise KitError(f"{path} cannot be read ({error.strerror})") from error


def check_file(path: Path, entry: Mapping[str, Any], remedy: str, *, verify: bool = False) -> None:
    """Raise KitError, which ends with ``remedy``, where a file is missing or no longer what ``stamp`` found.

    It is read through only where its time has changed, or to ``verify``.
    """
    if not path.is_file():
        raise KitError(f"{path} is missing; {remedy}")
    found = path.stat()
    if found.st_size != entry["bytes"]:
        raise KitError(f"{path} has {found.st_size} bytes, expected {entry['bytes']}; {remedy}")
    if (verify or found.st_mtime_ns != entry["time"]) and _digest(path) != entry["sha256"]:
        raise KitError(f"{path} has changed since the cache was made; {remedy}")


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


# --- making -----------------------------------------------------------------------------------------------------------


def build(
    directory: str | Path,
    count: int,
    fields: Mapping[str, Field],
    produce: Callable[[int], Item],
    fingerprint: str,
    *,
    workers: int | None = None,
    description: str | None = None,
) -> Pack:
    """Open the cache in ``directory``; where there is none, make it (or finish making it) first.

    Args:
        directory: of the cache; its parent holds the lock and the unfinished cache.
        count: number of items.
        fields: dtype and shape of every field.
        produce: index -> an array for every field. Worker processes import it; one that they could not import (a
            lambda, or a function of a notebook or script itself) runs in this process.
        fingerprint: says what the items depend on, besides their number and fields.
        workers: processes; None is one for each core, 0 and 1 work in this process.
        description: of the progress bar.

    Raises:
        KitError: where the cache cannot be written (read-only, full disk), an item has another dtype or shape than its
            field, or the cache that stands there is damaged or made from something else.
    """
    directory = Path(directory)
    if count < 1:
        raise KitError(f"a cache holds at least one item, found count={count}")
    if (directory / "manifest.json").is_file():  # no lock: a finished cache may lie on a read-only disk
        return open(directory, fingerprint=fingerprint)
    try:
        directory.parent.mkdir(parents=True, exist_ok=True)
        lock = directory.with_name(directory.name + ".lock")
        if files.locked(lock):
            print(f"another process is making {directory.name}; waiting for it", file=sys.stderr)
        with files.lock(lock, wait=-1):
            if not directory.exists():
                _Build(directory, count, dict(fields), fingerprint).run(produce, workers, description or directory.name)
    except OSError as error:
        raise unwritable(directory, error) from error
    return open(directory, fingerprint=fingerprint)


def unwritable(directory: Path, error: OSError) -> KitError:
    """What to say where a cache cannot be written."""
    remedy = "set MTLKIT_CACHE to a folder with space that you may write to"
    return KitError(f"cannot write the cache {directory} ({error.strerror or error}); {remedy}")


class _Build:
    """A cache that is being made in its ``.partial`` folder."""

    def __init__(self, directory: Path, count: int, fields: dict[str, Field], fingerprint: str):
        self.directory, self.count, self.fields = directory, count, fields
        self.partial = directory.with_name(directory.name + ".partial")
        self.plan = {
            "format": FORMAT,
            "fingerprint": fingerprint,
            "count": count,
            "chunk": CHUNK,
            "fields": {name: {"dtype": np.dtype(f.dtype).str, "shape": list(f.shape)} for name, f in fields.items()},
        }
        self.chunks = math.ceil(count / CHUNK)
        self.offsets: dict[str, int] = {}

    def run(self, produce: Callable[[int], Item], workers: int | None, description: str) -> None:
        done = self._start()
        todo = range(done, self.chunks)
        wanted = min(os.cpu_count() or 1 if workers is None else workers, len(todo))
        with tqdm(total=self.count, initial=min(done * CHUNK, self.count), desc=description, unit="image") as bar:
            for chunk, size in self._work(produce, todo, wanted):
                files.write_json(self.partial / "progress.json", self.plan | {"done": chunk + 1})
                bar.update(size)
        self._finish()

    def _start(self) -> int:
        """How many chunks an interrupted build of the same cache has left; makes empty files where there are none."""
        done = 0
        with contextlib.suppress(KitError):
            progress = files.read_json(self.partial / "progress.json") or {}
            done = progress.pop("done", 0) if progress | {"done": 0} == self.plan | {"done": 0} else 0
        if not all((self.partial / f"{name}.npy").is_file() for name in self.fields):
            done = 0
        if not done:
            shutil.rmtree(self.partial, ignore_errors=True)
        self.partial.mkdir(exist_ok=True)
        for name, field in self.fields.items():
            mode, shape = ("r+", None) if done else ("w+", (self.count, *field.shape))
            array = np.lib.format.open_memmap(
                self.partial / f"{name}.npy", mode, None if done else np.dtype(field.dtype), shape
            )
            self.offsets[name] = array.offset
        return done

    def _work(self, produce: Callable[[int], Item], todo: range, workers: int) -> Iterator[tuple[int, int]]:
        """Make the chunks; yields, in order, each chunk that is on the disk and its size."""
        message = _message(produce) if workers > 1 else None
        if message is None:
            for chunk in todo:
                yield chunk, self._chunk(chunk, produce)
            return
        local, processes = threading.local(), []

        def task(chunk: int) -> int:
            if not hasattr(local, "worker"):
                local.worker = _Worker(message)
                processes.append(local.worker)
            return self._chunk(chunk, local.worker)

        pool = ThreadPoolExecutor(workers)
        try:
            yield from zip(todo, pool.map(task, todo), strict=True)
        finally:
            pool.shutdown(wait=False, cancel_futures=True)
            for worker in processes:
                worker.end()
            pool.shutdown()

    def _chunk(self, chunk: int, produce: Callable[[int], Item]) -> int:
        """Make one chunk and save it."""
        first = chunk * CHUNK
        items = [self._checked(produce(i), i) for i in range(first, min(first + CHUNK, self.count))]
        for name, field in self.fields.items():
            size = math.prod(field.shape) * np.dtype(field.dtype).itemsize
            with (self.partial / f"{name}.npy").open("r+b") as file:
                file.seek(self.offsets[name] + first * size)
                for item in items:
                    file.write(np.ascontiguousarray(item[name]).data)
                file.flush()
                os.fsync(file.fileno())
        return len(items)

    def _checked(self, item: Item, index: int) -> Item:
        for name, field in self.fields.items():
            found = item[name]
            if found.dtype != np.dtype(field.dtype) or found.shape != field.shape:
                expected = f"expected {np.dtype(field.dtype)} {field.shape}"
                raise KitError(f"item {index}: {name} is {found.dtype} {found.shape}, {expected}")
        return item

    def _finish(self) -> None:
        manifest = json.loads(json.dumps(self.plan))
        for name, entry in manifest["fields"].items():
            entry |= stamp(self.partial / f"{name}.npy")
        files.write_json(self.partial / "manifest.json", manifest)
        os.replace(self.partial, self.directory)
        (self.directory / "progress.json").unlink(missing_ok=True)


# --- workers ----------------------------------------------------------------------------------------------------------

_PROGRAM = """
import os, pickle, sys
answers = os.fdopen(os.dup(1), "wb")
os.dup2(2, 1)  # what the function prints must not mix with its answers
sys.path[:] = pickle.load(sys.stdin.buffer)
produce = pickle.loads(pickle.load(sys.stdin.buffer))
while True:
    try:
        index = pickle.load(sys.stdin.buffer)
    except EOFError:
        break
    try:
        answer = produce(index)
    except Exception as error:
        kind = "" if type(error).__name__ == "KitError" else f"{type(error).__name__}: "  # a KitError says it all
        answer = kind + " ".join(str(error).split())
    pickle.dump(answer, answers, protocol=5)
    answers.flush()
"""


def _message(produce: Callable[[int], Item]) -> bytes | None:
    """The function, to be sent; None where another process, which has another ``__main__``, could not load it."""
    try:
        message = pickle.dumps(produce)
    except (pickle.PicklingError, AttributeError, TypeError):
        return None
    return None if b"__main__" in message else message


class _Worker:
    """One process with one thread. Calling it with an index gives the item."""

    def __init__(self, message: bytes):
        threads = dict.fromkeys(
            ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "VECLIB_MAXIMUM_THREADS"), "1"
        )
        self.process = subprocess.Popen(
            [sys.executable, "-c", _PROGRAM], stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=os.environ | threads
        )
        self._send(sys.path)
        self._send(message)

    def _send(self, value: object) -> None:
        pickle.dump(value, self.process.stdin)
        self.process.stdin.flush()

    def __call__(self, index: int) -> Item:
        try:
            self._send(index)
            answer = pickle.load(self.process.stdout)  # from our own child, never from a file
        except (EOFError, BrokenPipeError) as error:
            raise KitError(
                f"the worker that made item {index} has died; run again to go on, with workers=0 to see why"
            ) from error
        if isinstance(answer, str):
            raise KitError(f"item {index} could not be made: {answer}")
        return answer

    def end(self) -> None:
        self.process.kill()
        self.process.wait()
        for pipe in (self.process.stdin, self.process.stdout):
            with contextlib.suppress(OSError):
                pipe.close()
