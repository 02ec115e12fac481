"""From the age and gender strings of Adience's fold files to classes: the rules by which others have done it.

Eight classes of age, ``RANGES``; the third is written ``(8, 12)`` in the files and 8-13 in papers. Beside the eight
strings there are 22 others, bare ages and odd ranges, and ``None``. What to do with them is a *policy*, a map from
string to class; a string that it does not name has no age. Results under different policies are on different images:

    strict        the eight strings alone: the released lists of G. Levi and T. Hassner, "Age and Gender Classification
                  Using Convolutional Neural Networks", CVPR Workshops 2015; also bozliu/Adience
    fixed         and ``(25, 23)``, a slip for (25, 32). The script behind the released lists wanted to do this too,
                  but looks for ``(25 23)`` without the comma
    paper-table   strict, ``13`` and ``(38, 42)``; its counts by class and gender are believed to be those of the table
                  of images in Levi and Hassner's paper (unconfirmed)
    containing    bare ages and ranges that lie in one of the eight: dlordinal. It takes ``(25, 23)`` along, which
                  begins late enough and ends early enough
    nearest       every string: the map of MiVOLO, and ``(25, 23)``. Others differ: cjiang2/AgeEstimateAdience has
                  ``35`` in 38-43 and ``55`` in 60-100
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from ..scenes.faces import AGES as RANGES  # years, both ends included

CLASSES = tuple(f"{low}-{high}" for low, high in RANGES)
GENDERS = ("m", "f")  # by class id, in the order of Levi and Hassner; bozliu's is the other, AFANet's is not known
BABIES, UNKNOWN, NO_AGE = "(0, 2)", "u", "None"  # most of the unknown genders are babies'

# Every age string of the fold files, and in how many of their 19,487 lines it stands.
AGES = {
    "(0, 2)": 2519, "(4, 6)": 2163, "(8, 12)": 2132, "(15, 20)": 1655, "(25, 32)": 4950, "(38, 43)": 2300,
    "(48, 53)": 830, "(60, 100)": 875, "None": 753, "35": 294, "13": 169, "22": 149, "34": 105, "23": 96, "45": 88,
    "55": 77, "(27, 32)": 77, "(25, 23)": 72, "36": 57, "(38, 42)": 50, "57": 24, "3": 18, "29": 12, "(38, 48)": 6,
    "58": 5, "2": 3, "32": 3, "56": 2, "(8, 23)": 1, "42": 1, "46": 1,
}  # fmt: skip
# likewise; "" is no answer
GENDER_STRINGS = {"f": 9411, "m": 8192, "u": 1100, "": 784}

_STRICT = {age: k for k, age in enumerate(tuple(AGES)[: len(CLASSES)])}
_TYPO = {"(25, 23)": 4}
_NEAREST = {
    "2": 0, "3": 0, "13": 2, "(8, 23)": 2, "22": 3, "23": 4, "29": 4, "32": 4, "34": 4, "35": 4, "(27, 32)": 4,
    "36": 5, "42": 5, "45": 5, "(38, 42)": 5, "(38, 48)": 5, "46": 6, "55": 6, "56": 6, "57": 7, "58": 7,
}  # fmt: skip


def _inside(age: str) -> int | None:
    """The class whose range begins no later and ends no earlier than a string's, where there is one."""
    numbers = [int(n) for n in re.findall(r"\d+", age)]
    inside = (k for k, (low, high) in enumerate(RANGES) if numbers and low <= numbers[0] and numbers[-1] <= high)
    return next(inside, None)


# name -> age string -> class id
POLICIES: dict[str, Mapping[str, int]] = {
    "strict": _STRICT,
    "fixed": _STRICT | _TYPO,
    "paper-table": _STRICT | {"13": 2, "(38, 42)": 5},
    "containing": {age: k for age in AGES if (k := _inside(age)) is not None},
    "nearest": _STRICT | _TYPO | _NEAREST,
}


def gender_class(gender: str) -> int:
    """Class id of a gender string; -1 for ``u`` and no answer."""
    return GENDERS.index(gender) if gender in GENDERS else -1
