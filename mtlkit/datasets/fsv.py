"""FSV, "Free Supervision from Video games": frames of a game (GTA) with 3 classes, albedo and disparity.

    <root>/gt_sets/gta_{train,test}.txt             one id a line
    <root>/gta_{train,test}/<id>_final.webp         RGB, the picture as the game shows it
    <root>/gta_{train,test}/<id>_object_id.png      class ids 0 ... 7 in the red channel
    <root>/gta_{train,test}/<id>_albedo.webp        RGB, 255 is reflectance 1
    <root>/gta_{train,test}/<id>_disparity.webp     a number of 24 bits in three channels, see ``decode``

All files of an image have its size. The data are read as by the code of K.-K. Maninis, I. Radosavovic and I. Kokkinos,
"Attentive Single-Tasking of Multiple Tasks" (ASTMT), CVPR 2019, who train three tasks on them.

Classes: ids 1, 4, 5, 6 and 7 are rare and become 0; what is left is 0 background, 2 vehicle and 3 object, three classes
in all. Green and blue of ``_object_id.png`` do not count.

Disparity is in the recorded unit. Its code is a sum of bytes times 65536, 256 and 1: the released line multiplies an
array of bytes by 256, which numpy 2 refuses; here it is computed in whole numbers of 32 bits. A 24-bit code fits single
precision exactly.

Unconfirmed: how many images there are and of what size, so that none of it is expected; that a line of a list is an id
alone; which of the rare classes is which; the unit of the disparity, that 0 is invalid, and that its files are
compressed without loss, as those of a sample are (a code does not survive anything else); the authors of the data and
their terms. ASTMT's code has no configuration, weights or script for this set.
"""

from __future__ import annotations

import functools
import os
from pathlib import Path

import numpy as np
import PIL.Image
import torch
from torch import Tensor

from .. import tasks
from ..errors import KitError
from ..scenes import Shot, streets
from . import layout, listed, ranges
from .base import DATASETS, MultiTaskDataset, SampleInfo, check_split, planes
from .listed import Source
from .numbered import Field

CLASSES = ("background", "vehicle", "object")
MERGED = (0, 0, 1, 2, 0, 0, 0, 0)  # id in the files -> class
STEPS = 8192  # of a code in one unit of disparity
SIZE = (256, 512)  # of a sample
BASELINE = 0.5  # metres between the two cameras whose disparity a sample has, in pixels
PARTS = ("train", "test")
LISTS = {part: f"gt_sets/gta_{part}.txt" for part in PARTS}
FOLDERS = {part: f"gta_{part}" for part in PARTS}
MINI = 5000  # images that the short form of the test split has, nearly

# a street's class -> id in the files; the others are 0. Persons and riders stand for what is rare.
_IDS = {"person": 1, "rider": 4, "pole": 3, "traffic light": 3, "traffic sign": 3} | dict.fromkeys(
    ("car", "truck", "bus", "train", "motorcycle", "bicycle"), 2
)
_RED = np.array([0, *(_IDS.get(name, 0) for name in streets.CLASSES)], dtype=np.uint8)  # street's id + 1 -> red


# --- the code of 24 bits ----------------------------------------------------------------------------------------------


def decode(code_HW3: np.ndarray) -> np.ndarray:
    """Disparity float32 (H, W), from 0 to below 2048, of RGB bytes (H, W, 3): (65536 blue + 256 green + red) / 8192."""
    red, green, blue = np.moveaxis(code_HW3.astype(np.int32), -1, 0)
    return ((blue << 16) + (green << 8) + red).astype(np.float32) / STEPS


def encode(disparity_HW: np.ndarray) -> np.ndarray:
    """The RGB bytes (H, W, 3) of the nearest multiples of 1/8192. Raises KitError outside 0 ... 2048."""
    code_HW = np.rint(np.asarray(disparity_HW, dtype=np.float64) * STEPS)
    if not ((code_HW >= 0) & (code_HW < 2**24)).all():  # NaN makes comparisons false
        found = f"{np.min(disparity_HW):g} ... {np.max(disparity_HW):g}"
        raise KitError(f"a code of 24 bits holds a disparity from 0 to below {2**24 // STEPS}, found {found}")
    return np.stack([code_HW.astype(np.int32) >> shift & 255 for shift in (0, 8, 16)], axis=-1).astype(np.uint8)


def _codes(code_HW3: np.ndarray) -> ranges.Problems:
    """Codes; an ordinary grey picture of the disparity is none."""
    if code_HW3.any() and (code_HW3 == code_HW3[..., :1]).all():
        yield "red, green and blue are the same everywhere; expected a code of 24 bits, not a picture in grey"


def _ids(rgb_HW3: np.ndarray) -> ranges.Problems:
    """Class ids in the red channel."""
    yield from ranges.class_ids(rgb_HW3[..., 0], classes=len(MERGED), first=0)


# --- the reader -------------------------------------------------------------------------------------------------------

_webp = functools.partial(layout.read_image, mode="RGB", formats=("WEBP",))
_png = functools.partial(layout.read_image, mode="RGB", formats=("PNG",))
SOURCES = {
    "image": Source("{}_final.webp", _webp, Field((3,), ranges.eight_bits, whole=True)),
    "semantic": Source("{}_object_id.png", _png, Field((3,), _ids, whole=True)),
    "albedo": Source("{}_albedo.webp", _webp, Field((3,), ranges.eight_bits, whole=True)),
    "disparity": Source("{}_disparity.webp", _webp, Field((3,), _codes, whole=True)),
}


@DATASETS.register("fsv")
class FSV(MultiTaskDataset):
    """One split of FSV.

    Args:
        split: ``"train"`` or ``"test"``.
        root: folder with ``gt_sets``, ``gta_train`` and ``gta_test``; None is ``$MTLKIT_DATA/fsv``, else ``data/fsv``.
        mini: of a test split of N images, every int(N / 5000)-th alone, as released; fewer than 10000 are all taken.

    Raises:
        KitError: for an unknown split, a missing folder, a list that cannot be read or is empty, or a first image that
            cannot be read.
    """

    name = "fsv"
    about = "FSV: frames of a game (GTA) with 3 classes, albedo and disparity, as ASTMT reads them"
    licence = "not recorded; ASTMT's code is CC BY-NC 4.0, for non-commercial use"
    source = "where the files are to be had is not recorded: ask the authors of ASTMT; data/README.md has their layout"

    def __init__(self, split: str, *, root: str | Path | None = None, mini: bool = False):
        self.split = check_split(split, PARTS)
        self.stored = _stored(layout.find(self.name, root))
        self.images = self.stored.ids(split)
        if mini and split == "test":
            self.images = self.images[:: max(1, len(self.images) // MINI)]
        self.tasks = {"semantic": tasks.semantic(CLASSES), "albedo": tasks.albedo(), "disparity": tasks.disparity()}
        height, width, _ = self.stored.read("image", self.images[0]).shape
        self.size = (height, width)

    @functools.cached_property
    def fingerprint(self) -> str:
        """Changes with the files of this split (what it misses: ``layout.fingerprint``); made on first use."""
        digest = self.stored.fingerprint(self.images)
        return f"{self.name}-{self.split}{len(self)}-{self.size[0]}x{self.size[1]}-{digest}"

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        """One sample. Raises KitError where a file cannot be read or has an id above 7; it names the file."""
        self._check_index(index)
        image = self.images[index]
        stored = {field: self.stored.read(field, image, self.size) for field in SOURCES}
        return {
            "image": planes(stored["image"] / 255),
            "semantic": torch.from_numpy(self._merged(stored["semantic"][..., 0], image)),
            "albedo": planes(stored["albedo"] / 255),
            "disparity": torch.from_numpy(decode(stored["disparity"])[None]),
            "index": torch.tensor(index),
        }

    def _merged(self, ids_HW: np.ndarray, image: str) -> np.ndarray:
        """Classes, int64 (H, W). Raises KitError for an id that has none."""
        if ids_HW.max() >= len(MERGED):
            place = SOURCES["semantic"].place.format(image)
            found = f"label {ids_HW.max()}; expected whole numbers 0 ... {len(MERGED) - 1} in the red channel"
            raise KitError(f"{place}: {found}; {layout.advice(self.name, self.stored.root)}")
        return np.array(MERGED, dtype=np.int64)[ids_HW]

    def info(self, index: int) -> SampleInfo:
        """Its name, such as ``gta_test/17`` for the files ``gta_test/17_*``, and its size."""
        self._check_index(index)
        return SampleInfo(self.images[index], self.size)

    @classmethod
    def check(cls, root: str | os.PathLike | None = None, *, contents: bool = True) -> list[str]:
        """Every problem, one line each: lists, missing and stray files, damage, sizes, ids out of range."""
        return listed.check(_stored(layout.find(cls.name, root)), dict.fromkeys(PARTS), contents)

    @classmethod
    def write_sample(
        cls, root: str | os.PathLike, count: int = 4, *, height: int = SIZE[0], width: int = SIZE[1]
    ) -> None:
        """Write a sample: ``count`` streets to train and half as many (at least one) to test.

        Poles, traffic lights and signs are the objects; persons and riders have the rare ids 1 and 4. Disparity is that
        of two cameras half a metre apart, in pixels; the sky has none, and its albedo is its colour. Pictures are
        compressed with loss, the rest without.

        Args:
            root: a folder that does not exist yet, or is empty.
            count: images in train.
            height: rows of every image.
            width: columns of every image.

        Raises:
            KitError: for a count or size below 1, and where ``root`` holds something already or cannot be written.
        """
        counts = {"train": count, "test": max(1, count // 2)}

        def write(folder: Path, part: str, number: int, shot: Shot) -> None:
            image = f"{number + 1:08d}"
            _write(folder / FOLDERS[part] / image, shot, height, width)
            listed.append(folder, LISTS[part], image)

        layout.write_sample(root, cls.name, "streets", counts, (height, width), write)


def _stored(folder: Path) -> listed.Folder:
    return listed.Folder(FSV.name, folder, SOURCES, LISTS, FOLDERS)


# --- the sample -------------------------------------------------------------------------------------------------------


def _write(image: Path, shot: Shot, height: int, width: int) -> None:
    """The four files of one street; ``image`` is their folder and id."""
    street = shot.render(height, width)
    depth_HW, red_HW = street["depth"][0].astype(np.float64), _RED[street["semantic"] + 1]
    seen_HW = depth_HW > 0
    disparity_HW = np.where(seen_HW, BASELINE * shot.camera(width).focal / np.where(seen_HW, depth_HW, 1), 0)
    values = {
        "image": _bytes(street["image"]),
        "semantic": np.stack([red_HW, np.zeros_like(red_HW), np.zeros_like(red_HW)], axis=-1),
        "albedo": _bytes(street["albedo"]),
        "disparity": encode(disparity_HW),
    }
    image.parent.mkdir(parents=True, exist_ok=True)
    for field, source in SOURCES.items():
        how = {"quality": 95} if field == "image" else {} if field == "semantic" else {"lossless": True}
        PIL.Image.fromarray(values[field]).save(source.place.format(image), **how)


def _bytes(colours_3HW: np.ndarray) -> np.ndarray:
    """Colours in [0, 1] as bytes, channels last."""
    return np.rint(colours_3HW.transpose(1, 2, 0) * 255).astype(np.uint8)
