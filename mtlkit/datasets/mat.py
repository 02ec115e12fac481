"""Arrays and structures in MATLAB's .mat files (versions 4 to 7; 7.3 is another format), read safely and written
reproducibly.

SciPy reads arrays. Structures are read here, because SciPy follows as many of them inside each other as a file has,
and a file of 10 000 ends the process.
"""

from __future__ import annotations

import contextlib
import io
import math
import struct
import zlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import scipy.io

from ..errors import KitError

_NUMBERS = {"double", "single", "logical", *(f"{sign}int{bits}" for sign in ("", "u") for bits in (8, 16, 32, 64))}
_MOST_VALUES = 50_000_000  # of an array: a small compressed file may promise more than there is memory
_MOST_BYTES = 8 * _MOST_VALUES  # of a file with structures, unpacked
_DEEPEST = 8  # structures inside each other
_TEXT = b"MATLAB 5.0 MAT-file, written by mtlkit"
_VERSION_73 = "is of MATLAB's version 7.3; expected version 7 or older: save it with -v7"


def read_mat(path: Path, variable: str) -> np.ndarray:
    """One array of numbers from a .mat file; ``structure.field`` is a field of a structure.

    Raises:
        KitError: says why there is none, without the file's name: missing, cut short, another format, no such variable,
            cells, structures or text, more than 50 million values.
    """
    structure, _, field = variable.partition(".")
    if field:
        return _field(read_struct(path, structure), structure, field)
    with _explained(), path.open("rb") as file:
        _check_header(scipy.io.whosmat(file), variable)
        file.seek(0)
        return np.asarray(scipy.io.loadmat(file, variable_names=[variable])[variable])


@contextlib.contextmanager
def _explained() -> Iterator[None]:
    """Whatever goes wrong while a file is read, as a KitError of one line."""
    try:
        yield
    except KitError:
        raise
    except FileNotFoundError as error:
        raise KitError("is missing") from error
    except NotImplementedError as error:  # what scipy says of version 7.3
        raise KitError(_VERSION_73) from error
    except Exception as error:  # whatever a damaged file makes others say
        reason = " ".join(str(getattr(error, "strerror", None) or error).split()) or type(error).__name__
        raise KitError(f"cannot be read; expected a .mat file, found: {reason}") from error


def _check_header(found: list[tuple[str, tuple[int, ...], str]], variable: str) -> None:
    """Refuse, before its values are read, what is no array of numbers."""
    shapes = {name: (shape, kind) for name, shape, kind in found}
    if variable not in shapes:
        raise _absent(variable, shapes)
    shape, kind = shapes[variable]
    if kind not in _NUMBERS:
        raise KitError(f"{variable!r} is of type {kind}; expected an array of numbers")
    if math.prod(shape) > _MOST_VALUES:
        raise KitError(f"{variable!r} has {math.prod(shape)} values; expected at most {_MOST_VALUES}")


def _field(structures: list[dict[str, Any]], structure: str, field: str) -> np.ndarray:
    """A field of the only structure there is."""
    found = structures[0] if len(structures) == 1 else {}
    if not isinstance(found.get(field), np.ndarray):
        numbers = [name for name, value in found.items() if isinstance(value, np.ndarray)]
        raise KitError(f"{structure!r} has no numbers {field!r}; found: {', '.join(sorted(numbers)) or 'nothing'}")
    return found[field]


def _absent(variable: str, found: Mapping[str, Any]) -> KitError:
    return KitError(f"has no variable {variable!r}; found: {', '.join(sorted(found)) or 'nothing'}")


def write_mat(path: Path, variables: Mapping[str, Any]) -> None:
    """Write arrays and structures (a dict is one structure, a structured array several), compressed. The same values
    are the same bytes: scipy would write the time into the header.
    """
    written = io.BytesIO()
    scipy.io.savemat(written, dict(variables), do_compression=True)
    path.write_bytes(_TEXT.ljust(116) + written.getvalue()[116:])


# --- structures: "MAT-File Format", The MathWorks, level 5 ------------------------------------------------------------

_COMPRESSED, _MATRIX = 15, 14  # types of elements
_DTYPES = {1: "i1", 2: "u1", 3: "i2", 4: "u2", 5: "i4", 6: "u4", 7: "f4", 9: "f8", 12: "i8", 13: "u8"}
_TEXTS = {1: "latin-1", 2: "latin-1", 4: "utf-16", 16: "utf-8", 17: "utf-16", 18: "utf-32"}
_STRUCTURE, _CHARACTERS, _ARRAYS = 2, 4, range(6, 16)  # classes of matrices


def read_struct(path: Path, variable: str) -> list[dict[str, Any]]:
    """The structures of one variable of a .mat file, in order, each with its fields in order.

    A field is an array of numbers, text, a list of structures, or None for what is neither (cells, objects, sparse
    matrices).

    Raises:
        KitError: says why there is none, without the file's name: missing, cut short, another format, no such variable,
            no structure, more than 400 MB when unpacked, more than 8 structures inside each other.
    """
    with _explained():
        with path.open("rb") as file:
            content = file.read(_MOST_BYTES + 1)
        found = dict(_variables(content))
        if variable not in found:
            raise _absent(variable, found)
        return structures(found[variable], variable)


def structures(value: Any, name: str) -> list[dict[str, Any]]:
    """``value`` itself, which ``name`` is, where it is a list of structures; an empty array, which MATLAB writes where
    there is none, is an empty list. Raises KitError for anything else.
    """
    if isinstance(value, np.ndarray) and not value.size:
        return []
    if not isinstance(value, list):
        raise KitError(f"{name!r} is {_kind(value)}; expected a structure")
    return value


def _kind(value: Any) -> str:
    """What a value is, in a word or two."""
    return {np.ndarray: "an array of numbers", str: "text", list: "a structure"}.get(type(value), "of another type")


def _variables(content: bytes) -> Iterator[tuple[str, Any]]:
    """The variables of a file, each with its name."""
    version, order = content[124:126], {b"IM": "<", b"MI": ">"}.get(content[126:128])
    if order is None:
        raise ValueError("not an array of version 5 to 7")
    if version in (b"\0\2", b"\2\0"):
        raise KitError(_VERSION_73)
    left = _MOST_BYTES
    for kind, data in _elements(memoryview(content)[128:], order, padded=False):
        packed = kind == _COMPRESSED
        if packed:
            data = memoryview(zlib.decompressobj().decompress(data, left + 1))
        left -= len(data)
        if left < 0:
            raise KitError(f"has more than {_MOST_BYTES // 10**6} MB; is this the right file?")
        if packed:
            ((kind, data),) = _elements(data, order)
        if kind == _MATRIX:
            yield _matrix(data, order, _DEEPEST)


def _elements(data: memoryview, order: str, padded: bool = True) -> Iterator[tuple[int, memoryview]]:
    """The type and the bytes of everything that stands side by side."""
    place = 0
    while place < len(data):
        (kind,) = struct.unpack_from(f"{order}I", data, place)
        if kind >> 16:  # up to 4 bytes, in the place of their number
            kind, length, start, place = kind & 0xFFFF, kind >> 16, place + 4, place + 8
        else:
            (length,) = struct.unpack_from(f"{order}I", data, place + 4)
            start, place = place + 8, place + 8 + (-(-length // 8) * 8 if padded and kind != _COMPRESSED else length)
        if start + length > len(data):
            raise ValueError("it is cut short")
        yield kind, data[start : start + length]


def _matrix(data: memoryview, order: str, depth: int) -> tuple[str, Any]:
    """The name and the value of one matrix, which is what everything in a file is."""
    if not data:  # an empty field
        return "", np.zeros((0, 0))
    elements = _elements(data, order)
    what = int(_numbers(next(elements), order)[0]) & 0xFF
    if what not in (_STRUCTURE, _CHARACTERS, *_ARRAYS):
        return "", None
    shape = _numbers(next(elements), order).astype(int).tolist()
    name = bytes(next(elements)[1]).decode("latin-1")
    if what == _STRUCTURE:
        return name, _structures(elements, math.prod(shape), order, depth - 1)
    kind, values = next(elements)
    if what == _CHARACTERS:
        return name, bytes(values).decode(_TEXTS[kind].replace("-16", "-16le" if order == "<" else "-16be"))
    return name, _numbers((kind, values), order).reshape(shape, order="F")


def _structures(elements: Iterator[tuple[int, memoryview]], count: int, order: str, depth: int) -> list[dict[str, Any]]:
    if depth < 0:
        raise KitError(f"has more than {_DEEPEST} structures inside each other; is this the right file?")
    width, names = int(_numbers(next(elements), order)[0]), bytes(next(elements)[1])
    fields = [names[i : i + width].split(b"\0")[0].decode("latin-1") for i in range(0, len(names), width)]
    if not fields:  # nothing in the file bounds their number
        return []
    return [{field: _matrix(next(elements)[1], order, depth)[1] for field in fields} for _ in range(count)]


def _numbers(element: tuple[int, memoryview], order: str) -> np.ndarray:
    kind, data = element
    return np.frombuffer(data, np.dtype(_DTYPES[kind]).newbyteorder(order))
