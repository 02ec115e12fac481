"""NYUD-v2 for four tasks, in either of two packages: edges, 40 classes (41 with background), normals, depth.

    <root>/gt_sets/{train,val}.txt      one id a line: 795 and 654
    <root>/images/<id>.jpg              RGB

                                        package astmt (425 x 560)           package survey (480 x 640)
    <root>/edge/<id>                    .png   (H, W)     0 ... 255         .npy   (H, W)     0 ... 1
    <root>/segmentation/<id>            .mat   (H, W)     0 ... 40          .png   (H, W)     0 ... 40
    <root>/normals/<id>                 .jpg   (H, W, 3)  255 (n + 1) / 2   .npy   (H, W, 3)  unit vectors
    <root>/depth/<id>                   .mat   (H, W)     metres            .npy   (H, W)     metres, 0 invalid

``astmt`` is the package of K.-K. Maninis, I. Radosavovic and I. Kokkinos, "Attentive Single-Tasking of Multiple Tasks",
CVPR 2019 (variables ``segmentation`` and ``depth`` in the .mat files); ``survey`` that of S. Vandenhende et al.,
"Multi-Task Learning for Dense Prediction Tasks: A Survey", TPAMI 2021. Both bear the name NYUD_MT; the suffixes tell
them apart. ``val`` is the official test split of N. Silberman, D. Hoiem, P. Kohli and R. Fergus, ECCV 2012.

Classes: the files hold 0 (no label) and 1 ... 40. ASTMT trains and scores 0 as a class of its own, ``background``, 41
in all; the survey, and most work since, ignores it: 40 classes, label - 1. Their mean IoUs do not compare.

Normals of ``astmt`` are lossy colours without a mask; here they are made unit vectors again, and one shorter than 0.5
(grey) is invalid. The released code takes every pixel.

Unconfirmed: the size of ``astmt``; dtypes, a last axis of one channel (read as well) and the range of the edges in
``survey``, and that its images are .jpg; the axis signs of the normals, which are passed on as stored; how the edges
were made.
"""

from __future__ import annotations

import dataclasses
import functools
import os
from pathlib import Path

import numpy as np
import PIL.Image
import torch
from torch import Tensor

from .. import scenes, tasks
from ..errors import KitError, nearest
from ..scenes import rooms
from . import layout, listed, normals, ranges
from .base import DATASETS, MultiTaskDataset, SampleInfo, check_split, planes
from .listed import Source
from .mat import read_mat, write_mat
from .numbered import Field

CLASSES = (
    "wall", "floor", "cabinet", "bed", "chair", "sofa", "table", "door", "window", "bookshelf", "picture", "counter",
    "blinds", "desk", "shelves", "curtain", "dresser", "pillow", "mirror", "floor mat", "clothes", "ceiling", "books",
    "refridgerator", "television", "paper", "towel", "shower curtain", "box", "whiteboard", "person", "night stand",
    "toilet", "sink", "lamp", "bathtub", "bag", "otherstructure", "otherfurniture", "otherprop",
)  # fmt: skip
COUNTS = {"train": 795, "val": 654}
LISTS = {part: f"gt_sets/{part}.txt" for part in COUNTS}
EDGE_WEIGHT = 0.8  # of an edge pixel in the loss (ASTMT, its configuration for NYUD)
EDGE_DISTANCE = 0.011  # of the diagonal, within which predicted edges count (ATRC and InvPT, which evaluate as ASTMT)
_PARTS = {"train": "train", "test": "val"}  # split -> list

# A room's class -> the class of the same name, where there is one; else the nearest of the 40.
_OTHER_NAMES = {"furniture": "otherfurniture", "objects": "otherprop", "tv": "television"}
# room's id + 1 (0: unlabelled) -> label in the files
_LABELS = np.array([0, *(1 + CLASSES.index(_OTHER_NAMES.get(name, name)) for name in rooms.CLASSES)], dtype=np.uint8)


# --- the two packages -------------------------------------------------------------------------------------------------

_picture = functools.partial(layout.read_image, mode="RGB")


def _plane(path: Path) -> np.ndarray:
    """A .npy file without its last axis of one channel."""
    array = layout.read_npy(path)
    return array[..., 0] if array.ndim == 3 and array.shape[-1] == 1 else array


_IMAGE = Source("images/{}.jpg", _picture, Field((3,), ranges.eight_bits, whole=True))
_LABEL = Field((), functools.partial(ranges.class_ids, classes=1 + len(CLASSES), first=0), whole=True)
_DEPTH = Field((), ranges.distances)


@dataclasses.dataclass(frozen=True)
class Package:
    """One form of the dataset.

    Attributes:
        about: one line.
        size: (height, width) of a sample.
        background: whether its released code counts label 0 as a class.
        coded: whether edges and normals are pictures of 8 bits, instead of numbers.
        sources: its files by field.
    """

    about: str
    size: tuple[int, int]
    background: bool
    coded: bool
    sources: dict[str, Source]


PACKAGES = {
    "astmt": Package(
        "package astmt: labels and depth as .mat, normals as .jpg; its code counts 41 classes, background among them",
        size=(425, 560),
        background=True,
        coded=True,
        sources={
            "image": _IMAGE,
            "edges": Source("edge/{}.png", layout.read_image, Field((), ranges.eight_bits, whole=True)),
            "semantic": Source("segmentation/{}.mat", functools.partial(read_mat, variable="segmentation"), _LABEL),
            "normals": Source("normals/{}.jpg", _picture, Field((3,), ranges.encoded_directions, whole=True)),
            "depth": Source("depth/{}.mat", functools.partial(read_mat, variable="depth"), _DEPTH),
        },
    ),
    "survey": Package(
        "package survey: labels as .png; edges, normals and depth as .npy; its code counts 40 classes, 0 is void",
        size=(480, 640),
        background=False,
        coded=False,
        sources={
            "image": _IMAGE,
            "edges": Source("edge/{}.npy", _plane, Field((), ranges.unit_interval, whole=True)),
            "semantic": Source("segmentation/{}.png", layout.read_image, _LABEL),
            "normals": Source("normals/{}.npy", layout.read_npy, Field((3,), ranges.directions)),
            "depth": Source("depth/{}.npy", _plane, _DEPTH),
        },
    ),
}


def recognise(root: Path) -> str:
    """The name in ``PACKAGES`` of what lies at ``root``: that with more files of its suffixes.

    Raises:
        KitError: where there is no file of either.
    """
    found = {name: sum(map(functools.partial(_files, root), p.sources.values())) for name, p in PACKAGES.items()}
    if any(found.values()):
        return max(found, key=found.__getitem__)
    raise KitError(
        f"no file of either package of nyud-mt at {root}; expected segmentation/*.mat (astmt) or segmentation/*.png "
        "(survey); data/README.md says how to get them"
    )


def _files(root: Path, source: Source) -> int:
    """How many files of a source there are; images, which both packages have, do not count."""
    folder, suffix = (root / source.place).parent, Path(source.place).suffix
    if source is _IMAGE or not folder.is_dir():
        return 0
    return sum(name.endswith(suffix) for name in layout.entries(folder))


# --- the reader -------------------------------------------------------------------------------------------------------


@DATASETS.register("nyud-mt")
class NYUDMT(MultiTaskDataset):
    """One split of NYUD-MT.

    Args:
        split: ``"train"`` or ``"test"`` (the list ``val``).
        root: folder with ``gt_sets``, ``images``, ...; None is ``$MTLKIT_DATA/nyud-mt``, else ``data/nyud-mt``.
        background: True counts label 0 as a class (41, as ASTMT); False ignores it (40, as the survey); None is as the
            released code of the package that lies there.

    Attributes:
        package: ``"astmt"`` or ``"survey"``, as recognised.

    Raises:
        KitError: for an unknown split, a missing folder, neither package, a list that cannot be read or is empty, or a
            first image that cannot be read.
    """

    name = "nyud-mt"
    about = (
        "NYUD-v2 as ASTMT (425 x 560) or the multi-task survey (480 x 640) packed it: edges, 40 classes, normals, "
        "depth; 795 + 654 images"
    )
    licence = "of the data: not recorded; the code that came with both packages is CC BY-NC 4.0 (non-commercial)"
    source = "NYUD_MT.tgz of either package: the links are in data/README.md"

    def __init__(self, split: str, *, root: str | Path | None = None, background: bool | None = None):
        self.split = check_split(split, tuple(_PARTS))
        folder = layout.find(self.name, root)
        self.package = recognise(folder)
        self.form = PACKAGES[self.package]
        self.stored = _stored(folder, self.package)
        self.ids = self.stored.ids(_PARTS[split])
        self.background = self.form.background if background is None else background
        classes = ("background", *CLASSES) if self.background else CLASSES
        self.tasks = {
            "edges": tasks.edges(EDGE_WEIGHT, EDGE_DISTANCE),
            "semantic": tasks.semantic(classes),
            "normals": tasks.normals(),
            "depth": tasks.depth(rmse=True),
        }
        height, width, _ = self.stored.read("image", self.ids[0]).shape
        self.size = (height, width)

    @functools.cached_property
    def fingerprint(self) -> str:
        """Changes with the files of this split (what it misses: ``layout.fingerprint``); made on first use."""
        digest = self.stored.fingerprint(self.ids)
        form = f"{self.package}{41 if self.background else 40}"
        return f"{self.name}-{form}-{self.split}{len(self)}-{self.size[0]}x{self.size[1]}-{digest}"

    def __len__(self) -> int:
        return len(self.ids)

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        """One sample. Raises KitError where a file cannot be read; it names the file."""
        self._check_index(index)
        stored = {name: self.stored.read(name, self.ids[index], self.size) for name in self.form.sources}
        label_HW = torch.from_numpy(stored["semantic"].astype(np.int64))
        edges_HW = stored["edges"] >= (128 if self.form.coded else 0.5)
        return {
            "image": planes(stored["image"] / 255),
            "edges": torch.from_numpy(edges_HW[None].astype(np.float32)),
            "semantic": label_HW if self.background else label_HW - 1,
            "normals": planes(normals.from_colours(stored["normals"]) if self.form.coded else stored["normals"]),
            "depth": torch.from_numpy(stored["depth"][None].astype(np.float32)),
            "index": torch.tensor(index),
        }

    def info(self, index: int) -> SampleInfo:
        """Its name, such as ``val/17`` for the files ``*/17.*`` that the list ``val`` names, and its size."""
        self._check_index(index)
        return SampleInfo(f"{_PARTS[self.split]}/{self.ids[index]}", self.size)

    @classmethod
    def variant(cls, root: str | os.PathLike | None = None) -> str:
        """Which of the two packages lies there."""
        return PACKAGES[recognise(layout.find(cls.name, root))].about

    @classmethod
    def check(cls, root: str | os.PathLike | None = None, *, contents: bool = True) -> list[str]:
        """Every problem, one line each: lists, missing and stray files, damage, dtypes, sizes, values out of range."""
        folder = layout.find(cls.name, root)
        try:
            package = recognise(folder)
        except KitError as error:
            return [str(error)]
        return listed.check(_stored(folder, package), COUNTS, contents)

    @classmethod
    def write_sample(
        cls,
        root: str | os.PathLike,
        count: int = 4,
        *,
        package: str = "astmt",
        height: int | None = None,
        width: int | None = None,
    ) -> None:
        """Write a sample: ``count`` rooms to train and half as many (at least one) to ``val``.

        The 13 classes of the rooms become those of NYUD of the same name; furniture, objects and tv become
        otherfurniture, otherprop and television. Depth and normals are valid everywhere.

        Args:
            root: a folder that does not exist yet, or is empty.
            count: images in train.
            package: whose layout, a name in ``PACKAGES``.
            height: rows of every image; None is as the package.
            width: columns of every image; None is as the package.

        Raises:
            KitError: for an unknown package, a count or size below 1, and where ``root`` holds something already or
                cannot be written.
        """
        if package not in PACKAGES:
            raise KitError(f"unknown package {package!r}: {nearest(package, PACKAGES)}")
        form = PACKAGES[package]
        size = (form.size[0] if height is None else height, form.size[1] if width is None else width)
        counts = {"train": count, "val": max(1, count // 2)}

        def write(folder: Path, part: str, number: int, shot: scenes.Shot) -> None:
            image = str(1 + number + (counts["train"] if part == "val" else 0))
            _write(folder, form, image, shot.render(*size))
            listed.append(folder, LISTS[part], image)

        layout.write_sample(root, cls.name, "rooms", counts, size, write)


def _stored(folder: Path, package: str) -> listed.Folder:
    return listed.Folder(NYUDMT.name, folder, PACKAGES[package].sources, LISTS)


# --- the sample -------------------------------------------------------------------------------------------------------


def _write(folder: Path, form: Package, image: str, scene: dict[str, np.ndarray]) -> None:
    """The files of one room."""
    normals_HW3 = scene["normals"].transpose(1, 2, 0)
    values = {
        "image": np.rint(scene["image"].transpose(1, 2, 0) * 255).astype(np.uint8),
        "edges": (scene["edges"][0] * (255 if form.coded else 1)).astype(np.uint8 if form.coded else np.float32),
        "semantic": _LABELS[scene["semantic"] + 1],
        "normals": normals.to_colours(normals_HW3) if form.coded else normals_HW3,
        "depth": scene["depth"][0],
    }
    for field, source in form.sources.items():
        path = folder / source.place.format(image)
        path.parent.mkdir(parents=True, exist_ok=True)
        match path.suffix:
            case ".mat":
                write_mat(path, {path.parent.name: values[field]})  # the variable has the name of its folder
            case ".npy":
                np.save(path, values[field])
            case _:
                PIL.Image.fromarray(values[field]).save(path, quality=95, subsampling=0)
