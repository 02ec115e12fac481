"""Arrays in MATLAB's .mat files (versions 4 to 7; 7.3 is another format), read safely and written reproducibly."""

from __future__ import annotations

import io
import math
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import scipy.io

from ..errors import KitError

_NUMBERS = {"double", "single", "logical", *(f"{sign}int{bits}" for sign in ("", "u") for bits in (8, 16, 32, 64))}
_MOST_VALUES = 50_000_000  # of an array: a small compressed file may promise more than there is memory
_TEXT = b"MATLAB 5.0 MAT-file, written by mtlkit"


def read_mat(path: Path, variable: str) -> np.ndarray:
    """One array of numbers from a .mat file.

    Raises:
        KitError: says why there is none, without the file's name: missing, cut short, another format, no such variable,
            cells, structures or text, more than 50 million values.
    """
    try:
        with path.open("rb") as file:
            _check_header(scipy.io.whosmat(file), variable)
            file.seek(0)
            return np.asarray(scipy.io.loadmat(file, variable_names=[variable])[variable])
    except KitError:
        raise
    except FileNotFoundError as error:
        raise KitError("is missing") from error
    except NotImplementedError as error:  # what scipy says of version 7.3
        raise KitError("is of MATLAB's version 7.3; expected version 7 or older: save it with -v7") from error
    except Exception as error:  # whatever a damaged file makes scipy say
        reason = " ".join(str(getattr(error, "strerror", None) or error).split()) or type(error).__name__
        raise KitError(f"cannot be read; expected a .mat file, found: {reason}") from error


def _check_header(found: list[tuple[str, tuple[int, ...], str]], variable: str) -> None:
    """Refuse, before its values are read, what is no array of numbers."""
    shapes = {name: (shape, kind) for name, shape, kind in found}
    if variable not in shapes:
        raise KitError(f"has no variable {variable!r}; found: {', '.join(sorted(shapes)) or 'nothing'}")
    shape, kind = shapes[variable]
    if kind not in _NUMBERS:
        raise KitError(f"{variable!r} is of type {kind}; expected an array of numbers")
    if math.prod(shape) > _MOST_VALUES:
        raise KitError(f"{variable!r} has {math.prod(shape)} values; expected at most {_MOST_VALUES}")


def write_mat(path: Path, variables: Mapping[str, np.ndarray]) -> None:
    """Write arrays, compressed. The same arrays are the same bytes: scipy would write the time into the header."""
    written = io.BytesIO()
    scipy.io.savemat(written, dict(variables), do_compression=True)
    path.write_bytes(_TEXT.ljust(116) + written.getvalue()[116:])
