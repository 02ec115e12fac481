"""What datasets on disk share: where one lies, arrays opened safely, files checked side by side, samples.

A *sample* is a small generated set in a dataset's own layout. Its folder holds ``mtlkit-sample.json`` (see ``Note``),
from which ``check`` takes the counts and the size to expect, instead of those of the real set.
"""

from __future__ import annotations

import contextlib
import errno
import math
import os
import secrets
import shutil
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

import numpy as np
import pydantic
from tqdm.auto import tqdm

from .. import files, scenes
from ..errors import KitError
from ..version import __version__

NOTE = "mtlkit-sample.json"
THREADS = 8  # enough to keep a disk busy; numpy frees the interpreter while it reads and computes
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


# --- arrays -----------------------------------------------------------------------------------------------------------

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


# --- checking ---------------------------------------------------------------------------------------------------------


def entries(folder: Path) -> list[str]:
    """Names in a folder, sorted; those that begin with a dot belong to the system and do not count."""
    return sorted(name for name in os.listdir(folder) if not name.startswith("."))


def examine(jobs: Sequence[Job], problems: Callable[[Job], list[str]], description: str) -> list[str]:
    """``problems`` of every job, in order, found by several threads behind a progress bar."""
    with ThreadPoolExecutor(THREADS) as pool:
        try:
            found = tqdm(pool.map(problems, jobs), total=len(jobs), desc=description, unit="file")
            return [problem for several in found for problem in several]
        except BaseException:  # Ctrl-C: do not read the other gigabytes first
            pool.shutdown(wait=False, cancel_futures=True)
            raise


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
    def new(cls, dataset: str, counts: dict[str, int], size: tuple[int, int], family: str) -> Note:
        """A note with the versions of today."""
        versions = {"mtlkit": __version__, family: scenes.FAMILIES[family].version}
        return cls(dataset, counts, size, f"rendered {family}, not real data", versions)


def read_note(folder: Path, dataset: str) -> Note | None:
    """The note of a sample; None in a folder of real data.

    Raises:
        KitError: where it cannot be read or belongs to another dataset.
    """
    content = files.read_json(folder / NOTE)
    if content is None:
        return None
    try:
        note = pydantic.TypeAdapter(Note).validate_python(content)
    except pydantic.ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))
        raise KitError(f"{NOTE}: {where}: {first['msg']}; write the sample anew, or remove the file") from error
    if note.dataset != dataset:
        raise KitError(f"{NOTE}: says {note.dataset!r}, expected {dataset!r}; is this the folder that you meant?")
    return note


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
