"""What can be wrong with the values of a stored field, in words.

Each function takes one array as it was read, float64, and yields the problems as text: found, then expected. A problem
is never more than one line, however many pixels have it.

Shapes: H/W size, channels last: x_HWC.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

Problems = Iterator[str]

ROUNDING = 1e-6  # beyond [0, 1]: what resizing in single precision leaves
# of the length of a normal: covers half precision (0.001) and one byte for each component (0.007)
LENGTH_TOLERANCE = 0.01
NO_DIRECTION = 0.5  # of a vector encoded as a colour: grey, give or take what compression does to it


def unit_interval(x: np.ndarray) -> Problems:
    """Colours in [0, 1]."""
    yield from _finite(x, "in [0, 1]")
    outside = (x < -ROUNDING) | (x > 1 + ROUNDING)
    if outside.any():
        low, high = x[outside].min(), x[outside].max()
        yield f"outside [0, 1] at {_count(outside)}: {low:.6g} ... {high:.6g}; expected numbers in [0, 1]"


def class_ids(x_HW: np.ndarray, classes: int, first: int = -1, void: int | None = None) -> Problems:
    """Whole numbers ``first`` (by default -1, ignored) ... classes - 1, and ``void``, where there is one."""
    known = (x_HW >= first) & (x_HW < classes) & (x_HW == np.rint(x_HW))  # NaN makes comparisons false
    wrong = ~known if void is None else ~(known | (x_HW == void))
    yield from _labels(x_HW, wrong, f"whole numbers {first} ... {classes - 1}{'' if void is None else f' or {void}'}")


def one_of(x_HW: np.ndarray, values: Sequence[int]) -> Problems:
    """These values alone."""
    expected = f"{', '.join(map(str, values[:-1]))} or {values[-1]}"
    yield from _labels(x_HW, ~np.isin(x_HW, values), expected)


def eight_bits(x: np.ndarray) -> Problems:
    """Bytes, as most images hold them; one of 16 bits goes beyond."""
    if x.size and x.max() > 255:
        yield f"values up to {x.max():g}; expected an image of 8 bits, 0 ... 255"


def encoded_directions(x_HW3: np.ndarray) -> Problems:
    """Directions as colours of 8 bits, 255 (n + 1) / 2; a vector shorter than ``NO_DIRECTION`` is none.

    Lossy compression leaves lengths far from 1 here and there, so only an image most of whose vectors are of no
    plausible length is a problem: it holds something else.
    """
    yield from eight_bits(x_HW3)
    length_HW = np.linalg.norm(x_HW3 / 127.5 - 1, axis=-1)
    typical = float(np.median(length_HW[length_HW > NO_DIRECTION] if (length_HW > NO_DIRECTION).any() else 1.0))
    if not 0.8 < typical < 1.2:
        yield f"the median length of its vectors is {typical:.3g}; expected about 1: colours 255 (n + 1) / 2"


def distances(x: np.ndarray) -> Problems:
    """Depth or disparity: from 0 up, 0 is invalid."""
    yield from _finite(x, "from 0 up")
    if (x < 0).any():
        yield f"negative at {_count(x < 0)}, lowest {x[x < 0].min():.6g}; expected numbers from 0 up (0 is invalid)"


def directions(x_HW3: np.ndarray) -> Problems:
    """Unit vectors, or all-zero where there is none; lengths within ``LENGTH_TOLERANCE``."""
    yield from _finite(x_HW3, "of unit vectors")
    length_HW = np.sqrt(np.einsum("hwc,hwc->hw", x_HW3, x_HW3))
    error_HW = np.abs(length_HW - 1)
    wrong_HW = (error_HW > LENGTH_TOLERANCE) & (length_HW != 0) & np.isfinite(length_HW)
    if wrong_HW.any():
        worst = length_HW[wrong_HW][error_HW[wrong_HW].argmax()]
        yield f"length {worst:.6g} (the worst of {_count(wrong_HW)}); expected 1 within {LENGTH_TOLERANCE}, or all-zero"


def _labels(x_HW: np.ndarray, wrong: np.ndarray, expected: str) -> Problems:
    if wrong.any():
        ids, counts = np.unique(x_HW[wrong], return_counts=True)
        shown = ", ".join(f"label {i:g} at {_pixels(n)}" for i, n in list(zip(ids, counts, strict=True))[:3])
        more = f" and {len(ids) - 3} more values" if len(ids) > 3 else ""
        yield f"{shown}{more}; expected {expected}"


def _finite(x: np.ndarray, expected: str) -> Problems:
    wrong = ~np.isfinite(x)
    if wrong.any():
        yield f"NaN or infinite at {_count(wrong)}; expected numbers {expected}"


def _count(wrong: np.ndarray) -> str:
    """How many pixels (H, W) or (H, W, C) have a wrong value."""
    return _pixels(int((wrong.any(-1) if wrong.ndim == 3 else wrong).sum()))


def _pixels(number: int) -> str:
    return f"{number} pixel{'' if number == 1 else 's'}"
