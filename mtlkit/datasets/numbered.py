"""Folders of numbered arrays, as MTAN's preprocessed datasets come: ``<root>/<part>/<field>/<i>.npy``, channel last.

The numbers go from 0 up without padding; the same number is the same image in every field of a part. Here is what
reads such a folder, takes its fingerprint and finds everything that is wrong with it; which parts and fields there are,
a dataset says itself.

Files are named in messages by their place under the root, such as ``train/depth/7.npy``.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np

from ..errors import KitError
from . import layout

_NUMBERED = re.compile(r"(0|[1-9][0-9]*)\.npy")


@dataclasses.dataclass(frozen=True)
class Field:
    """One field as it is stored.

    Attributes:
        channels: the shape of a file after (height, width).
        values: what is wrong with the values of an array, in words (see ``ranges``).
        whole: True where integers and booleans are as welcome as floating-point numbers.
        scaled: True where another size is as welcome, if it is in proportion; and an empty array, which is of none.
    """

    channels: tuple[int, ...]
    values: Callable[[np.ndarray], Iterable[str]]
    whole: bool = False
    scaled: bool = False

    def check_form(self, array: np.ndarray, size: tuple[int, int] | None) -> None:
        """Raise KitError where an array is not of this field's dtype and shape; size None is any."""
        if array.dtype.kind not in ("fiub" if self.whole else "f"):
            wanted = "numbers" if self.whole else "floating-point numbers"
            raise KitError(f"dtype {array.dtype}; expected {wanted}")
        fits = size is None or (self.scaled and _in_proportion(array.shape[:2], size))
        expected = (*(array.shape[:2] if fits else size), *self.channels)
        if array.shape != expected:
            raise KitError(f"shape {array.shape}; expected {expected}")


def _in_proportion(shape: tuple[int, ...], size: tuple[int, int]) -> bool:
    """Whether a shape is a size, smaller or larger, but for rounding; or has no pixel at all."""
    return len(shape) == 2 and (0 in shape or abs(shape[0] * size[1] - shape[1] * size[0]) < max(size))


@dataclasses.dataclass(frozen=True)
class Folder:
    """The files of a dataset.

    Attributes:
        name: of the dataset.
        root: the folder that holds its parts.
        fields: the fields of every part.
    """

    name: str
    root: Path
    fields: Mapping[str, Field]

    def numbers(self, part: str, field: str) -> list[int]:
        """The numbers of the files of one field, in order. Raises KitError where there is no such folder."""
        try:
            found = map(_NUMBERED.fullmatch, layout.entries(self.root / part / field))
        except OSError as error:
            raise self._error(f"{part}/{field}", f"cannot be listed ({error.strerror})") from error
        return sorted(int(match[1]) for match in found if match)

    def read(self, part: str, field: str, number: int, size: tuple[int, int] | None = None) -> np.ndarray:
        """One file as it is stored; ``size`` is the (height, width) that it must have, None is any.

        Raises:
            KitError: names the file that cannot be read or has another dtype or shape.
        """
        place = f"{part}/{field}/{number}.npy"
        try:
            layout.check_inside(self.root, place)
            array = layout.read_npy(self.root / place)
            self.fields[field].check_form(array, size)
        except KitError as error:
            raise self._error(place, str(error)) from error
        return array

    def fingerprint(self, part: str, numbers: Sequence[int]) -> str:
        """``layout.fingerprint`` of the files with these numbers. Raises KitError as it does."""
        places = (f"{part}/{field}/{number}.npy" for field in self.fields for number in numbers)
        return layout.fingerprint(self.name, self.root, places)

    def _error(self, place: str, reason: str) -> KitError:
        return KitError(f"{place}: {reason}; {layout.advice(self.name, self.root)}")


# --- checking ---------------------------------------------------------------------------------------------------------


def check(data: Folder, counts: Mapping[str, int], size: tuple[int, int], contents: bool = True) -> list[str]:
    """Everything that is wrong with a folder, one line each: the file or folder, what was found, what is expected.

    Args:
        data: the folder, which exists.
        counts: images by part, where there is no ``mtlkit-sample.json``, which says it of a sample.
        size: (height, width) of an image, likewise.
        contents: read every file through; False looks at names alone.
    """
    note, problems = layout.note_and_problems(data.root, data.name)
    if note is not None:
        counts, size = {part: note.counts.get(part, 0) for part in counts}, note.size
    problems += layout.strays(data.root, "", {*counts, *layout.notes(data.root)})
    for part, count in counts.items():
        problems += _part(data, part, count)
    if contents:
        jobs = list(_files(data, counts))
        problems += layout.examine(jobs, functools.partial(_file, data, size), f"checking {data.name}")
    return problems


def _part(data: Folder, part: str, count: int) -> Iterator[str]:
    """What is wrong with the names of the files of one part."""
    if not (data.root / part).is_dir():
        yield f"{part}: missing folder; expected {', '.join(data.fields)} in it"
        return
    yield from layout.strays(data.root, part, set(data.fields))
    expected = f"0.npy ... {count - 1}.npy"
    there: dict[str, set[int]] = {}
    for field in data.fields:
        try:
            there[field] = set(data.numbers(part, field))
        except KitError:
            yield f"{part}/{field}: missing folder; expected {expected} in it"
            continue
        for entry in layout.entries(data.root / part / field):
            match = _NUMBERED.fullmatch(entry)
            if not match or int(match[1]) >= count:
                yield f"{part}/{field}/{entry}: stray; expected {expected} alone"
    yield from _gaps(part, there, count)


def _gaps(part: str, there: dict[str, set[int]], count: int) -> Iterator[str]:
    """Numbers that are missing in some field, or in all of them before the last one; and how many there are."""
    somewhere = sorted(n for n in set().union(*there.values()) if n < count)
    if len(somewhere) != count:
        yield f"{part}: {len(somewhere)} images; expected {count}"
    for n in range(somewhere[-1] + 1 if somewhere else 0):
        having = [field for field in there if n in there[field]]
        if not having:
            yield f"{part}/{next(iter(there))}/{n}.npy: missing, as in every field; expected no gap in the numbers"
            continue
        for field in there:
            if n not in there[field]:
                yield f"{part}/{field}/{n}.npy: missing; expected as in {', '.join(having)}"


def _files(data: Folder, counts: Mapping[str, int]) -> Iterator[tuple[str, str, int]]:
    for part, count in counts.items():
        for field in data.fields:
            with contextlib.suppress(KitError):  # a folder that is missing has been told
                yield from ((part, field, n) for n in data.numbers(part, field) if n < count)


def _file(data: Folder, size: tuple[int, int], job: tuple[str, str, int]) -> list[str]:
    """What is wrong with one file."""
    part, field, number = job
    shown = f"{part}/{field}/{number}.npy"
    try:
        layout.check_inside(data.root, shown)
        array = layout.read_npy(data.root / shown)
        data.fields[field].check_form(array, size)
    except KitError as error:
        return [f"{shown}: {error}"]
    with np.errstate(all="ignore"):  # what overflows is found as not finite
        return [f"{shown}: {problem}" for problem in data.fields[field].values(array.astype(np.float64, copy=False))]
