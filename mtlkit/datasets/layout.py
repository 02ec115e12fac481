"""What datasets on disk share: where one lies, arrays and images opened safely, a fingerprint, files checked side by
side, samples.

A *sample* is a small generated set in a dataset's own layout. Its folder holds ``mtlkit-sample.json`` (see ``Note``),
from which ``check`` takes the counts and the size to expect, instead of those of the real set. A folder of real data
that ``prepare`` made holds ``mtlkit-prepared.json``, which says from what and how.
"""

from __future__ import annotations

import contextlib
import contextvars
import dataclasses
import errno
import hashlib
import itertools
import math
import os
import secrets
import shutil
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Self, TypeVar

import numpy as np
import PIL.Image
import pydantic
from tqdm.auto import tqdm

from .. import files, scenes
from ..errors import KitError
from ..version import __version__

NOTE = "mtlkit-sample.json"
PREPARED = "mtlkit-prepared.json"
MOST_PIXELS = 50_000_000  # of an image: more is a mistake or an attack, and would fill the memory
_BLOCK = 4096  # bytes of a file that a fingerprint reads
THREADS = 8  # enough to keep a disk busy; numpy frees the interpreter while it reads and computes
_SLICE = 1024  # jobs
Job = TypeVar("Job")


# --- where ------------------------------------------------------------------------------------------------------------


def find(name: str, root: str | os.PathLike | None = None) -> Path:
    """The folder of dataset ``name`` (see ``files.data_dir``). Raises KitError where there is none."""
    folder = files.data_dir(name, root)
    if folder.is_dir():
        return folder
    raise KitError(
        f"no {name} at {folder}; data/README.md says how to get it, "
        f"or type: mtlkit data sample {name} DEST (a small generated set, to be read with root=DEST)"
    )


def advice(name: str, root: Path) -> str:
    """How a message about one file of dataset ``name`` ends."""
    return f"type: mtlkit data check {name} --root {root}"


# --- files ------------------------------------------------------------------------------------------------------------

_HEADERS = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}


def read_npy(path: Path) -> np.ndarray:
    """An array of numbers from a .npy file.

    Raises:
        KitError: says why the file is not one, without its name: missing, cut short, another format, Python objects
            (which are never unpickled).
    """
    try:
        with path.open("rb") as file:
            shape, _, dtype = _HEADERS[np.lib.format.read_magic(file)](file)
            expected = file.tell() + math.prod(shape) * dtype.itemsize
            found = os.fstat(file.fileno()).st_size
            if dtype.hasobject:
                raise KitError("holds Python objects, which are never unpickled; expected an array of numbers")
            if found < expected:  # before memory is taken for what a damaged header promises
                raise KitError(f"is cut short: {found} bytes, expected {expected}")
            file.seek(0)
            return np.lib.format.read_array(file, allow_pickle=False)
    except KitError:
        raise
    except FileNotFoundError as error:
        raise KitError("is missing") from error
    except Exception as error:  # whatever a damaged header makes numpy say
        reason = " ".join(str(getattr(error, "strerror", None) or error).split())
        raise KitError(f"cannot be read; expected a .npy file, found: {reason}") from error


def read_image(path: Path, mode: str | None = None, formats: Sequence[str] = ("JPEG", "PNG")) -> np.ndarray:
    """An image file as an array (H, W) or (H, W, channels), in Pillow's ``mode``; None leaves it as stored. ``formats``
    are Pillow's names of those that are welcome.

    Raises:
        KitError: says why the file is not one, without its name: missing, cut short, another format, too large.
    """
    try:
        with path.open("rb") as file, PIL.Image.open(file, formats=formats) as image:
            if image.width * image.height > MOST_PIXELS:
                size = f"{image.height} x {image.width} pixels"
                raise KitError(f"has {size}, expected at most {MOST_PIXELS // 10**6} million; is this the right file?")
            return np.array(image if mode is None else image.convert(mode))
    except KitError:
        raise
    except FileNotFoundError as error:
        raise KitError("is missing") from error
    except Exception as error:  # whatever a damaged file makes Pillow say
        reason = getattr(error, "strerror", None) or ("not an image" if "cannot identify" in str(error) else str(error))
        expected = f"a {' or '.join(formats)} image"
        raise KitError(f"cannot be read; expected {expected}, found: {' '.join(reason.split())}") from error


_watched: contextvars.ContextVar[dict[str, Path]] = contextvars.ContextVar("watched")


@contextlib.contextmanager
def watching() -> Iterator[dict[str, Path]]:
    """Which files the fingerprints look at that are taken in the block: place -> root, filled in as it goes on."""
    found: dict[str, Path] = {}
    token = _watched.set(found)
    try:
        yield found
    finally:
        _watched.reset(token)


def fingerprint(name: str, root: Path, places: Iterable[str]) -> str:
    """16 hexadecimal digits of the names, sizes and contents of files of dataset ``name`` under ``root``.

    Of each file the 4 KiB in its middle are read, which takes a second for thousands. It misses a change that leaves
    the size and these bytes as they were: another value at the border of one image, say. Times do not count: a copy is
    the same data.

    Raises:
        KitError: names a file that cannot be read.
    """
    digest = hashlib.sha256()
    for place in places:
        path = root / place
        _watched.get({})[place] = root
        try:
            with path.open("rb") as file:
                size = path.stat().st_size
                file.seek(max(0, size - _BLOCK) // 2)
                digest.update(f"{place} {size}\n".encode() + file.read(_BLOCK))
        except OSError as error:
            raise KitError(f"{place}: cannot be read ({error.strerror}); {advice(name, root)}") from error
    return digest.hexdigest()[:16]


# --- checking ---------------------------------------------------------------------------------------------------------


def entries(folder: Path) -> list[str]:
    """Names in a folder, sorted; those that begin with a dot belong to the system and do not count."""
    return sorted(name for name in os.listdir(folder) if not name.startswith("."))


def strays(root: Path, folder: str, known: Collection[str]) -> Iterator[str]:
    """One line for everything in a folder under ``root`` (``""`` is the root) that does not belong there."""
    try:
        found = [entry for entry in entries(root / folder) if entry not in known]
    except OSError as error:
        yield f"{folder or root}: cannot be listed ({error.strerror})"
        return
    for entry in found:
        yield f"{folder}/{entry}: stray; expected {', '.join(sorted(known))} alone".removeprefix("/")


def check_inside(root: Path, place: str) -> None:
    """Raise KitError where a link on the way to a file or folder under ``root`` leads out of it."""
    if not Path(os.path.realpath(root / place)).is_relative_to(os.path.realpath(root)):  # resolve() refuses circles
        raise KitError("is a link that leads out of the dataset's folder; expected the file itself")


def examine(jobs: Sequence[Job], problems: Callable[[Job], list[str]], description: str) -> list[str]:
    """``problems`` of every job, in order, found by several threads behind a progress bar."""
    found: list[str] = []
    with ThreadPoolExecutor(THREADS) as pool:
        # a slice at a time: a million jobs that wait would take gigabytes
        slices = (jobs[start : start + _SLICE] for start in range(0, len(jobs), _SLICE))
        several = itertools.chain.from_iterable(pool.map(problems, some) for some in slices)
        try:
            for one in tqdm(several, total=len(jobs), desc=description, unit="file"):
                found += one
        except BaseException:  # Ctrl-C: do not read the other gigabytes first
            pool.shutdown(wait=False, cancel_futures=True)
            raise
    return found


# --- samples ----------------------------------------------------------------------------------------------------------


@pydantic.dataclasses.dataclass(frozen=True)
class Note:
    """What ``mtlkit-sample.json`` says.

    Attributes:
        dataset: whose layout it is.
        counts: images by folder.
        size: (height, width) of every image.
        made_from: the family of scenes.
        versions: of mtlkit and of the family.
    """

    dataset: str
    counts: dict[str, pydantic.NonNegativeInt]
    size: tuple[pydantic.PositiveInt, pydantic.PositiveInt]
    made_from: str
    versions: dict[str, str]

    @classmethod
    def new(
        cls,
        dataset: str,
        counts: dict[str, int],
        size: tuple[int, int],
        family: str,
        version: str = "",
        **more: Any,
    ) -> Self:
        """A note with the versions of today; ``version`` is that of what is no family of ``scenes.FAMILIES``."""
        versions = {"mtlkit": __version__, family: version or scenes.FAMILIES[family].version}
        return cls(dataset, counts, size, f"rendered {family}, not real data", versions, **more)


NoteKind = TypeVar("NoteKind", bound=Note)


def read_note(folder: Path, dataset: str, kind: type[NoteKind] = Note) -> NoteKind | None:
    """The note of a sample, of a class that may say more than ``Note``; None in a folder of real data.

    Raises:
        KitError: where it cannot be read or belongs to another dataset.
    """
    content = files.read_json(folder / NOTE)
    if content is None:
        return None
    try:
        note = pydantic.TypeAdapter(kind).validate_python(content)
    except pydantic.ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))
        raise KitError(f"{NOTE}: {where}: {first['msg']}; write the sample anew, or remove the file") from error
    if note.dataset != dataset:
        raise KitError(f"{NOTE}: says {note.dataset!r}, expected {dataset!r}; is this the folder that you meant?")
    return note


def note_and_problems(folder: Path, dataset: str, kind: type[NoteKind] = Note) -> tuple[NoteKind | None, list[str]]:
    """``read_note``, for a report: what is wrong with a note is a problem among others."""
    try:
        prepared(folder)
        return read_note(folder, dataset, kind), []
    except KitError as error:
        return None, [str(error)]


@pydantic.dataclasses.dataclass(frozen=True)
class Prepared:
    """What ``mtlkit-prepared.json`` says.

    Attributes:
        dataset: whose layout it is.
        about: one line: from what, and how.
        names: what the images were called before, in order, by part; empty where they kept their names.
        version: of mtlkit.
    """

    dataset: str
    about: str
    names: dict[str, list[str]] = dataclasses.field(default_factory=dict)
    version: str = __version__


def write_prepared(folder: Path, dataset: str, about: str, names: Mapping[str, list[str]] | None = None) -> None:
    """Leave a note of how the files of dataset ``dataset`` were made; ``names`` are those of ``Prepared``."""
    files.write_json(folder / PREPARED, dataclasses.asdict(Prepared(dataset, about, dict(names or {}))))


def prepared(folder: Path) -> str:
    """One line on how the files in a folder were made; empty where nothing is said.

    Raises:
        KitError: where the note cannot be read.
    """
    content = files.read_json(folder / PREPARED)
    if content is None:
        return ""
    try:
        return pydantic.TypeAdapter(Prepared).validate_python(content).about
    except pydantic.ValidationError as error:
        raise KitError(f"{PREPARED}: {error.errors()[0]['msg']}; prepare the data anew, or remove the file") from error


def notes(folder: Path) -> set[str]:
    """Names of notes that may lie in a folder: a sample's, and what ``prepare`` left where it made the folder."""
    return {NOTE, PREPARED} if (folder / PREPARED).exists() else {NOTE}


@contextlib.contextmanager
def new_folder(folder: str | os.PathLike) -> Iterator[Path]:
    """A temporary folder beside ``folder`` that takes its name when the block ends, and vanishes when it fails.

    Raises:
        KitError: where ``folder`` holds something already (nothing is overwritten) or cannot be written.
    """
    folder = Path(folder).resolve()
    taken = KitError(f"{folder} holds something already and is left as it is; name a new folder")
    temporary = folder.with_name(f".{folder.name}.{secrets.token_hex(4)}.tmp")
    try:
        if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
            raise taken
        temporary.mkdir(parents=True)
        yield temporary
        if folder.is_dir():
            folder.rmdir()  # it was empty, and refuses where it no longer is
        temporary.rename(folder)
    except OSError as error:
        if error.errno in (errno.ENOTEMPTY, errno.EEXIST):
            raise taken from error
        raise KitError(f"cannot write {folder} ({error.strerror or error}); name a folder that you may write to") from (
            error
        )
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def write_sample(
    root: str | os.PathLike,
    dataset: str,
    family: str,
    counts: Mapping[str, int],
    size: tuple[int, int],
    write: Callable[[Path, str, int, scenes.Shot], None],
) -> None:
    """Write a sample of rendered scenes, with its note.

    Args:
        root: a folder that does not exist yet, or is empty.
        dataset: whose layout it is.
        family: of the scenes.
        counts: images by part; the part ``val`` shows scenes of the split ``test``, as no dataset here has both.
        size: (height, width) of every image.
        write: (folder, part, number in its part, scene and camera) -> the files of this image.

    Raises:
        KitError: for a count or size below 1, and where ``root`` holds something already or cannot be written.
    """
    if min(*counts.values(), *size) < 1:
        first = next(iter(counts.values()))
        raise KitError(f"a sample has at least one image of one pixel, found {first} of {size[0]} x {size[1]}")
    jobs = [(part, number) for part, count in counts.items() for number in range(count)]
    with new_folder(root) as folder:
        for part, number in tqdm(jobs, desc=f"rendering {family}", unit="image"):
            shot = scenes.FAMILIES[family].compose("test" if part == "val" else part, number, 0)
            write(folder, part, number, shot)
        note = Note.new(dataset, dict(counts), size, family)
        files.write_json(folder / NOTE, dataclasses.asdict(note))
