"""Parts of persons, as PASCAL-Part has them and PASCAL_MT stores them: one structure ``anno`` in a .mat file.

    anno      second field: the objects of the image
    object    second field: category, 15 is a person; third: mask (H, W); fourth: its parts
    part      first field: name; second: mask (H, W)

Fields are found by their place. X. Chen et al., "Detect What You Can", CVPR 2014, made PASCAL-Part; K.-K. Maninis,
I. Radosavovic and I. Kokkinos, "Attentive Single-Tasking of Multiple Tasks", CVPR 2019, group its 24 parts of a person.

Unconfirmed: the names of the fields.

Shapes: H/W size.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import KitError, nearest
from ..scenes import figures
from .mat import read_struct, structures

PERSON = 15  # among the categories
_HEAD = ("hair", "head", "lear", "rear", "lebrow", "rebrow", "leye", "reye", "mouth", "nose")
_TORSO = ("neck", "torso")
_ARM = {"upper arm": "uarm", "lower arm": "larm", "hand": "hand"}
_LEG = {"upper leg": "uleg", "lower leg": "lleg", "foot": "foot"}


def _both(*limbs: str) -> tuple[str, ...]:
    """The left and the right one of limbs."""
    return tuple(side + limb for limb in limbs for side in "lr")


NAMES = (*_HEAD, *_TORSO, *_both(*_ARM.values(), *_LEG.values()))
# how many groups -> name of a group -> its parts; the groups are the classes 1, 2, ..., and 0 is the rest of the image
GROUPS: dict[int, dict[str, tuple[str, ...]]] = {
    1: {"person": NAMES},
    4: {"head": _HEAD, "torso": _TORSO, "arms": _both(*_ARM.values()), "legs": _both(*_LEG.values())},
    6: {
        "head": _HEAD, "torso": _TORSO, "upper arm": _both("uarm"), "lower arm": _both("larm", "hand"),
        "upper leg": _both("uleg"), "lower leg": _both("lleg", "foot"),
    },
    14: {
        "head": _HEAD, "torso": _TORSO,
        **{f"{side} {limb}": (side[0] + part,)
           for limbs in (_ARM, _LEG) for side in ("right", "left") for limb, part in limbs.items()},
    },
}  # fmt: skip


def read_parts(path: Path, groups: int) -> np.ndarray:
    """The group that every pixel belongs to, uint8 (H, W): 0 none, 1 ... ``groups``. Where parts overlap, the later one
    counts. Without any part of a person, the array is empty, (0, 0).

    Raises:
        KitError: says why the file has none, without its name.
    """
    ids = {name: i for i, names in enumerate(GROUPS[groups].values(), 1) for name in names}
    label_HW = np.zeros((0, 0), np.uint8)
    for name, mask_HW in _persons_parts(path):
        if name not in ids:
            raise KitError(f"has a part {name!r} of a person: {nearest(name, ids)}")
        if not label_HW.size:
            label_HW = np.zeros(mask_HW.shape, np.uint8)
        if mask_HW.shape != label_HW.shape:
            raise KitError(f"{name}: a mask of shape {mask_HW.shape}; expected {label_HW.shape}, as of other parts")
        label_HW[mask_HW != 0] = ids[name]
    return label_HW


def _persons_parts(path: Path) -> list[tuple[str, np.ndarray]]:
    """Name and mask of every part of every person."""
    found = []
    for anno in read_struct(path, "anno"):
        for item in structures(_at(anno, 1, "anno"), "the objects"):
            category = _numbers(_at(item, 1, "an object"), "the category of an object")
            if not category.size or (category != PERSON).any():
                continue
            for part in structures(_at(item, 3, "a person"), "the parts of a person"):
                found.append((str(_at(part, 0, "a part"))[:40], _numbers(_at(part, 1, "a part"), "the mask of a part")))
    return found


def _at(structure: dict[str, Any], place: int, name: str) -> Any:
    """A field of a structure."""
    if place >= len(structure):
        raise KitError(f"{name} has {len(structure)} fields; expected at least {place + 1}")
    return list(structure.values())[place]


def _numbers(value: Any, name: str) -> np.ndarray:
    if not isinstance(value, np.ndarray) or value.ndim != 2:
        raise KitError(f"{name} is no matrix of numbers")
    return value


# --- the sample -------------------------------------------------------------------------------------------------------

# part of a figure -> names of its left and right half in the picture: whoever faces the camera has the right arm there
_SIDES = {
    figures.HEAD: ("head", "head"), figures.TORSO: ("torso", "torso"), figures.UPPER_ARM: ("ruarm", "luarm"),
    figures.LOWER_ARM: ("rlarm", "llarm"), figures.UPPER_LEG: ("ruleg", "luleg"),
    figures.LOWER_LEG: ("rlleg", "llleg"),
}  # fmt: skip


def annotation(image: str, scene: dict[str, np.ndarray], classes: Sequence[str]) -> dict[str, Any]:
    """The structure ``anno`` of a rendered scene with classes of PASCAL VOC: all its objects, persons with parts."""
    label_HW, instance_HW = scene["semantic"], scene["instance"]
    objects = []
    for instance, label in np.unique(np.stack([instance_HW, label_HW], -1)[label_HW > 0], axis=0):
        mask_HW = (instance_HW == instance) & (label_HW == label)
        parts = _halves(scene["parts"], mask_HW) if label == PERSON else []
        objects.append((classes[label], int(label), mask_HW.astype(np.uint8), _records(("name", "mask"), parts)))
    return {"image": image, "objects": _records(("class", "category", "mask", "parts"), objects)}


def _halves(parts_HW: np.ndarray, person_HW: np.ndarray) -> list[tuple[str, np.ndarray]]:
    """Name and mask of a figure's parts, limbs by the half of the figure they are in."""
    columns_HW = np.broadcast_to(np.arange(person_HW.shape[1]), person_HW.shape)
    left_HW = columns_HW < columns_HW[person_HW].mean()
    found: dict[str, np.ndarray] = {}
    for part, names in _SIDES.items():
        for name, half_HW in zip(names, (left_HW, ~left_HW), strict=True):
            mask_HW = person_HW & (parts_HW == part) & half_HW
            found[name] = found[name] | mask_HW if name in found else mask_HW
    return [(name, mask_HW.astype(np.uint8)) for name, mask_HW in found.items() if mask_HW.any()]


def _records(fields: Sequence[str], rows: Sequence[tuple]) -> np.ndarray:
    """Structures side by side; none are an empty array, as in MATLAB."""
    if not rows:
        return np.zeros((0, 0))
    records = np.empty((1, len(rows)), dtype=[(field, object) for field in fields])
    for i, row in enumerate(rows):
        records[0, i] = row
    return records
