"""NYUv2 as MTAN preprocessed it: indoor images with 13 classes, depth and surface normals.

    <root>/{train,val}/{image,label,depth,normal}/<i>.npy       i = 0 ... 794 in train, 0 ... 653 in val
        image    (288, 384, 3)   RGB in [0, 1]
        label    (288, 384)      -1 unlabelled, 0 ... 12
        depth    (288, 384, 1)   metres, 0 invalid
        normal   (288, 384, 3)   unit vectors, all-zero invalid

``val`` is the official *test* split of N. Silberman, D. Hoiem, P. Kohli and R. Fergus, "Indoor Segmentation and Support
Inference from RGBD Images", ECCV 2012 (795 + 654 images); there is no validation split. S. Liu, E. Johns and
A. J. Davison, "End-to-End Multi-Task Learning with Attention", CVPR 2019, made these files (link in the README of
lorenmt/mtan): they cut the invalid border from the 480 x 640 frames and resized them, by a script that is lost.

Unconfirmed: the stored dtype (9.6 GiB in all says float64; any floating-point dtype is read, and integers for labels),
and the axis signs of the stored normals. They are the precomputed ones of D. Eigen and R. Fergus (ICCV 2015), and are
passed on as stored; the released flip negates the first component, so that one is horizontal. A sample is written in
the kit's own frame: x right, y down, z forward.

``mtlkit data prepare nyuv2`` makes such files from the official release, by a recipe of the kit's own
(``nyuv2_official``); ``mtlkit-prepared.json`` beside them says so.
"""

from __future__ import annotations

import functools
import os
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from .. import tasks
from ..errors import KitError
from ..scenes import Shot, rooms
from . import layout, numbered, ranges
from .base import DATASETS, MultiTaskDataset, SampleInfo, check_split, planes
from .numbered import Field, Folder

CLASSES = rooms.CLASSES  # the rooms are drawn with the 13 classes of NYUv2; stored ids are the raw ids less 1
SIZE = (288, 384)
COUNTS = {"train": 795, "val": 654}
_PARTS = {"train": "train", "validation": "train", "test": "val"}  # split -> folder
FIELDS = {
    "image": Field((3,), ranges.unit_interval),
    "label": Field((), functools.partial(ranges.class_ids, classes=len(CLASSES)), whole=True),
    "depth": Field((1,), ranges.distances),
    "normal": Field((3,), ranges.directions),
}

# Training images that others hold out to choose hyperparameters: AvivNavon/AuxiLearn,
# experiments/nyuv2/hpo_validation_indices.json (716 + 79), in order.
HOLDOUT = (
    23, 30, 31, 33, 39, 49, 63, 65, 66, 67, 78, 86, 109, 139, 168, 174, 192, 198, 199, 215, 231, 244, 250, 260, 265,
    285, 302, 309, 314, 326, 335, 346, 356, 367, 382, 394, 405, 422, 432, 444, 465, 473, 490, 523, 531, 532, 542, 543,
    547, 554, 567, 568, 578, 589, 593, 598, 620, 624, 629, 633, 635, 638, 648, 651, 659, 662, 670, 683, 684, 689, 691,
    716, 743, 749, 753, 771, 776, 790, 791,
)  # fmt: skip


@DATASETS.register("nyuv2")
class NYUv2(MultiTaskDataset):
    """One split of NYUv2.

    Args:
        split: ``"train"`` or ``"test"`` (the folder ``val``); ``"validation"`` with ``holdout``.
        root: folder with ``train`` and ``val``; None is ``$MTLKIT_DATA/nyuv2``, else ``data/nyuv2``.
        holdout: split the 795 training images into 716 for training and the 79 in ``HOLDOUT`` for validation. Another
            number of training images (a sample) holds out every tenth, the first included.

    Raises:
        KitError: for an unknown split, a missing folder, a split without images, or a first image that cannot be read.
    """

    name = "nyuv2"
    about = "NYUv2 as MTAN preprocessed it: 13 classes, depth, normals; 795 + 654 images of 288 x 384"
    licence = "the terms of NYU's owners, not recorded; the preprocessed copy carries no licence text (unconfirmed)"
    source = (
        "MTAN's .npy files, about 9 GB: linked in the README of github.com/lorenmt/mtan; or the official files, and "
        "then: mtlkit data prepare nyuv2 SOURCE DEST"
    )

    def __init__(self, split: str, *, root: str | Path | None = None, holdout: bool = False):
        self.split = check_split(split, tuple(_PARTS))
        if split == "validation" and not holdout:
            raise KitError("nyuv2 has no validation split of its own; set holdout=true to hold out training images")
        self.part = _PARTS[split]
        self.stored = Folder(self.name, layout.find(self.name, root), FIELDS)
        self.numbers = self.stored.numbers(self.part, "image")
        if holdout and self.part == "train":
            self.numbers = _held_out(self.numbers, split == "validation")
        if not self.numbers:
            raise KitError(f"no {split} images in {self.stored.root}; type: mtlkit data sample nyuv2 DEST")
        self.tasks = {"semantic": tasks.semantic(CLASSES), "depth": tasks.depth(), "normals": tasks.normals()}
        height, width, _ = self.stored.read(self.part, "image", self.numbers[0]).shape
        self.size = (height, width)

    @functools.cached_property
    def fingerprint(self) -> str:
        """Changes with the files of this split (what it misses: ``layout.fingerprint``); made on first use."""
        digest = self.stored.fingerprint(self.part, self.numbers)
        return f"{self.name}-{self.split}{len(self)}-{self.size[0]}x{self.size[1]}-{digest}"

    def __len__(self) -> int:
        return len(self.numbers)

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        """One sample. Raises KitError where a file cannot be read; it names the file."""
        self._check_index(index)
        number = self.numbers[index]
        stored = {field: self.stored.read(self.part, field, number, self.size) for field in FIELDS}
        return {
            "image": planes(stored["image"]),
            "semantic": torch.from_numpy(stored["label"].astype(np.int64)),
            "depth": planes(stored["depth"]),
            "normals": planes(stored["normal"]),
            "index": torch.tensor(index),
        }

    def info(self, index: int) -> SampleInfo:
        """Its name, such as ``train/7`` for the files ``train/*/7.npy``, and its size."""
        self._check_index(index)
        return SampleInfo(f"{self.part}/{self.numbers[index]}", self.size)

    @classmethod
    def check(cls, root: str | os.PathLike | None = None, *, contents: bool = True) -> list[str]:
        """Every problem, one line each: missing and stray files, gaps, damage, dtypes, shapes, values out of range."""
        return numbered.check(Folder(cls.name, layout.find(cls.name, root), FIELDS), COUNTS, SIZE, contents)

    @classmethod
    def variant(cls, root: str | os.PathLike | None = None) -> str:
        """How the files were made, where ``prepare`` made them."""
        return layout.prepared(layout.find(cls.name, root))

    @classmethod
    def prepare(cls, source: str | os.PathLike, root: str | os.PathLike, *, filled: bool = False) -> None:
        """Make the files from the official ones (``nyuv2_official`` says which, and how).

        Args:
            source: folder with the official files; with ``normals_gt`` in it, normals are taken from there, otherwise
                they are estimated from depth.
            root: a folder that does not exist yet, or is empty.
            filled: keep the depth that the release filled into holes; otherwise it is 0, invalid, there.

        Raises:
            KitError: where a file is missing, damaged or of another form, and where ``root`` holds something already or
                cannot be written.
        """
        from . import nyuv2_official  # needs this module, and HDF5 alone

        nyuv2_official.prepare(source, root, filled=filled)

    @classmethod
    def write_sample(
        cls, root: str | os.PathLike, count: int = 4, *, height: int = SIZE[0], width: int = SIZE[1]
    ) -> None:
        """Write a sample: ``count`` rooms to train and half as many (at least one) to ``val``, float64.

        Unlike real images, rooms have no invalid border and few unlabelled pixels: depth and normals are valid
        everywhere.

        Args:
            root: a folder that does not exist yet, or is empty.
            count: images in train.
            height: rows of every image.
            width: columns of every image.

        Raises:
            KitError: for a count or size below 1, and where ``root`` holds something already or cannot be written.
        """
        counts = {"train": count, "val": max(1, count // 2)}

        def write(folder: Path, part: str, number: int, shot: Shot) -> None:
            for field, array in _stored(shot.render(height, width)).items():
                path = folder / part / field / f"{number}.npy"
                path.parent.mkdir(parents=True, exist_ok=True)
                np.save(path, array.astype(np.float64))

        layout.write_sample(root, cls.name, "rooms", counts, (height, width), write)


def _held_out(numbers: list[int], validation: bool) -> list[int]:
    """The training numbers that are held out for validation, or the others."""
    held_out = set(HOLDOUT if numbers == list(range(COUNTS["train"])) else numbers[::10])
    return [n for n in numbers if (n in held_out) == validation]


def _stored(scene: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """A rendered scene in the form of the files."""
    return {
        "image": scene["image"].transpose(1, 2, 0),
        "label": scene["semantic"],
        "depth": scene["depth"].transpose(1, 2, 0),
        "normal": scene["normals"].transpose(1, 2, 0),
    }
