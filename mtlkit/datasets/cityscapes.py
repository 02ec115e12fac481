"""Cityscapes: streets from a car with classes and disparity, preprocessed by MTAN or as their owners give them out.

    <root>/{train,val}/{image,depth,label_2,label_7,label_19}/<i>.npy     i = 0 ... 2974 in train, 0 ... 499 in val
        image      (H, W, 3)   RGB in [0, 1]
        depth      (H, W, 1)   disparity p / 65535, 0 invalid
        label_K    (H, W)      -1 ignored, 0 ... K - 1
    128 x 256 or 256 x 512 pixels

    <root>/{leftImg8bit,gtFine,disparity,camera}/{train,val}/<city>/...   the official files: ``cityscapes_official``

M. Cordts et al., "The Cityscapes Dataset for Semantic Urban Scene Understanding", CVPR 2016. S. Liu, E. Johns and
A. J. Davison, "End-to-End Multi-Task Learning with Attention", CVPR 2019, made the arrays (links in the README of
lorenmt/mtan). Its images are in random order, and nobody knows which is which (issue 57). ``val`` is what the papers
test on; the labels of the official test images are not given out, and there is no other validation split.

What MTAN calls depth is the raw disparity, an *inverse* depth, here the task ``disparity``. It was not scaled when the
images were made smaller: one unit is always 65535 / 256 pixels of an image 2048 wide. Metres need the calibration of
each image, which only the official files have; from them comes the task ``depth``, too.

Unconfirmed: the stored dtype (5.94 GiB of the small size say float64; any floating-point dtype is read, and integers
for labels); that the unit is p / 65535 (deduced: the largest value is 0.4922, the largest p 32257); the folder
``label_2`` (by analogy) and one called ``label`` that some loaders read; how MTAN shrank its images.
"""

from __future__ import annotations

import dataclasses
import functools
import json
import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import PIL.Image
import torch
from torch import Tensor

from .. import files, scenes, tasks
from ..errors import KitError, nearest
from . import cityscapes_official as official
from . import layout, numbered, ranges
from .base import DATASETS, MultiTaskDataset, SampleInfo, check_split, planes
from .cityscapes_official import COUNTS, NAME, TAXONOMIES, Calibration, Official
from .numbered import Field

SIZES = ((128, 256), (256, 512))
STORED = (2, 7, 19)  # numbers of classes, whose labels MTAN stored
FORMS = {"npy": SIZES[0], "official": SIZES[1]}  # form -> size of a sample
_PARTS = {"train": "train", "test": "val"}  # split -> folder


# --- arrays -----------------------------------------------------------------------------------------------------------


def _disparities(x: np.ndarray) -> Iterator[str]:
    yield from ranges.distances(x)
    if (x > 1).any():
        yield f"up to {x[np.isfinite(x)].max():.6g}; expected disparities p / 65535, at most 1, neither p nor metres"


def _fields(labels: tuple[int, ...]) -> dict[str, Field]:
    """The fields of a folder with labels of so many classes."""
    fields = {"image": Field((3,), ranges.unit_interval), "depth": Field((1,), _disparities)}
    for classes in labels:
        values = functools.partial(ranges.class_ids, classes=classes)
        fields[f"label_{classes}"] = Field((), values, whole=True)
    return fields


def _labels(root: Path) -> list[int]:
    """The numbers of classes whose labels lie in some part of a folder."""
    return [n for n in STORED if any((root / part / f"label_{n}").is_dir() for part in COUNTS)]


def _listed(numbers: list[int]) -> str:
    *others, last = map(str, numbers or ["no"])
    return f"{', '.join(others)} and {last}" if others else last


def _usual_size(root: Path) -> tuple[int, int]:
    """Which of MTAN's two sizes the arrays should have: that of the first image, where it is one of them."""
    data = numbered.Folder(NAME, root, _fields(()))
    for part in COUNTS:
        try:
            size = data.read(part, "image", data.numbers(part, "image")[0]).shape[:2]
        except (KitError, IndexError):  # told by the check that asks
            continue
        if size in SIZES:
            return size
    return SIZES[0]


class Arrays:
    """The images of one part of MTAN's arrays; as ``Official``, but of the stored size alone.

    Raises:
        KitError: for classes that have no labels there, a size that is not stored, a part without images, or a first
            image that cannot be read.
    """

    depth = False

    def __init__(self, root: Path, part: str, classes: int, size: tuple[int, int] | None = None):
        there = _labels(root)
        if classes not in there:
            found = f"labels of {_listed(there)} classes" if there else "no folder label_7"
            more = "" if classes in STORED else "; only the official files have others"
            raise KitError(f"no labels of {classes} classes in {root}; found {found}, as MTAN stored them{more}")
        self.files, self.part, self.classes = numbered.Folder(NAME, root, _fields((classes,))), part, classes
        self.numbers = self.files.numbers(part, "image")
        if not self.numbers:
            raise KitError(f"{part}/image: no images; {layout.advice(NAME, root)}")
        height, width, _ = self.files.read(part, "image", self.numbers[0]).shape
        self.size = (height, width)
        if size not in (None, self.size):
            raise KitError(
                f"the arrays in {root} are of {height} x {width} pixels, not {size[0]} x {size[1]}: leave height and "
                "width out, or make others from the official files: mtlkit data prepare cityscapes SOURCE DEST"
            )

    def __len__(self) -> int:
        return len(self.numbers)

    def name(self, index: int) -> str:
        return f"{self.part}/{self.numbers[index]}"

    def fingerprint(self) -> str:
        return self.files.fingerprint(self.part, self.numbers)

    def sample(self, index: int) -> dict[str, Tensor]:
        """The sample of one image, without its index. Raises KitError for damaged files and wrong labels."""
        number, field = self.numbers[index], f"label_{self.classes}"
        stored = {name: self.files.read(self.part, name, number, self.size) for name in self.files.fields}
        if problem := next(iter(self.files.fields[field].values(stored[field].astype(np.float64))), ""):
            raise KitError(f"{self.part}/{field}/{number}.npy: {problem}; {layout.advice(NAME, self.files.root)}")
        return {
            "image": planes(stored["image"]),
            "semantic": torch.from_numpy(stored[field].astype(np.int64)),
            "disparity": planes(stored["depth"]),
        }


def recognise(root: Path) -> str:
    """``"official"`` or ``"npy"``. Raises KitError where neither lies at ``root``."""
    if any((root / folder).is_dir() for folder in ("leftImg8bit", "gtFine")):
        return "official"
    if any((root / part).is_dir() for part in COUNTS):
        return "npy"
    raise KitError(
        f"no cityscapes at {root}: expected train and val (the arrays of MTAN), or leftImg8bit, gtFine, disparity and "
        "camera (the official files); data/README.md says how to get them"
    )


# --- the dataset ------------------------------------------------------------------------------------------------------


@DATASETS.register(NAME)
class Cityscapes(MultiTaskDataset):
    """One split of Cityscapes, from the arrays of MTAN or from the official files, whichever lie there.

    A sample has ``semantic`` and ``disparity``, p / 65535 at any size; from official files with calibrations ``depth``,
    too: metres, from p > 0, cut at 255.

    Args:
        split: ``"train"`` or ``"test"`` (the folder ``val``).
        root: folder with ``train`` and ``val``, or with ``leftImg8bit``, ...; None is ``$MTLKIT_DATA/cityscapes``, else
            ``data/cityscapes``.
        classes: 19, as Cityscapes scores them; 7, their categories; 2, background and foreground (all as MTAN); 5, as
            edgeai, from the official files alone.
        height: rows of a sample, from the official files alone; None is as stored.
        width: columns, with ``height``.

    Attributes:
        form: ``"npy"`` or ``"official"``, as recognised.

    Raises:
        KitError: for an unknown split, classes that are not there, a missing folder, neither form, a height without a
            width, a split without images, or a first image that cannot be read.
    """

    name = NAME
    about = (
        "Cityscapes: 2975 + 500 images of streets, 2 ... 19 classes, disparity; as MTAN's arrays or the official files"
    )
    licence = "for those registered with its owners, not to be passed on; MTAN's arrays carry no terms (unconfirmed)"
    source = (
        "arrays of 128 x 256 or 256 x 512: links in the README of lorenmt/mtan; official files: register at "
        "cityscapes-dataset.com, get leftImg8bit, gtFine, disparity and camera (each _trainvaltest)"
    )

    def __init__(
        self,
        split: str,
        *,
        root: str | Path | None = None,
        classes: int = 7,
        height: int | None = None,
        width: int | None = None,
    ):
        self.split = check_split(split, tuple(_PARTS))
        if classes not in TAXONOMIES:
            raise KitError(f"no {classes} classes of cityscapes; choose from {', '.join(map(str, TAXONOMIES))}")
        folder = layout.find(NAME, root)
        self.form = recognise(folder)
        kind = Official if self.form == "official" else Arrays
        self.stored = kind(folder, _PARTS[split], classes, _wanted(height, width))
        self.size = self.stored.size
        self.tasks = {"semantic": tasks.semantic(TAXONOMIES[classes].names), "disparity": tasks.disparity()}
        if self.stored.depth:
            self.tasks["depth"] = tasks.depth(streets=True)

    @functools.cached_property
    def fingerprint(self) -> str:
        """Changes with the files of this split (what it misses: ``layout.fingerprint``); made on first use."""
        size = f"{self.size[0]}x{self.size[1]}"
        form = f"{self.form}{self.stored.classes}"
        return f"{NAME}-{form}-{self.split}{len(self)}-{size}-{self.stored.fingerprint()}"

    def __len__(self) -> int:
        return len(self.stored)

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        """One sample. Raises KitError where a file cannot be read or holds unknown labels; it names the file."""
        self._check_index(index)
        return self.stored.sample(index) | {"index": torch.tensor(index)}

    def info(self, index: int) -> SampleInfo:
        """Its name, such as ``train/7`` or ``val/lindau/lindau_000000_000019``, and the size of a sample."""
        self._check_index(index)
        return SampleInfo(self.stored.name(index), self.size)

    @classmethod
    def variant(cls, root: str | os.PathLike | None = None) -> str:
        """Which of the two forms lies there, and what it has."""
        folder = layout.find(NAME, root)
        if recognise(folder) == "npy":
            return f"arrays in MTAN's layout, with labels of {_listed(_labels(folder))} classes"
        camera = "with camera: metric depth" if (folder / "camera").is_dir() else "without camera: no metric depth"
        return f"official files, {camera}"

    @classmethod
    def check(cls, root: str | os.PathLike | None = None, *, contents: bool = True) -> list[str]:
        """Every problem, one line each: missing and stray files, damage, dtypes, sizes, values out of range.

        Arrays may lack ``label_2`` and ``label_19``, official files ``camera``.
        """
        folder = layout.find(NAME, root)
        try:
            form = recognise(folder)
        except KitError as error:
            return [str(error)]
        if form == "official":
            return official.check(official.tree(folder), contents=contents)
        fields = _fields(tuple(sorted({7, *_labels(folder)})))
        return numbered.check(numbered.Folder(NAME, folder, fields), COUNTS, _usual_size(folder), contents)

    @classmethod
    def write_sample(
        cls,
        root: str | os.PathLike,
        count: int = 4,
        *,
        form: str = "npy",
        height: int | None = None,
        width: int | None = None,
    ) -> None:
        """Write a sample: ``count`` streets to train and half as many (at least one) to ``val``.

        Disparity is known everywhere but in the sky. The labels of a border and of a strip at the bottom are void, as
        are the borders and the bonnet in real images; the pictures show the street there. Official files have images
        far smaller than the real ones, with the calibration and the disparities of a camera with so few pixels; arrays
        have disparities as from an image 2048 wide, as real ones do.

        Args:
            root: a folder that does not exist yet, or is empty.
            count: images in train.
            form: a name in ``FORMS``.
            height: rows of every image; None is 128 of arrays, 256 of official files.
            width: columns of every image; None is twice the rows that None would be.

        Raises:
            KitError: for an unknown form, a count or size below 1, and where ``root`` holds something already or cannot
                be written.
        """
        if form not in FORMS:
            raise KitError(f"unknown form {form!r}: {nearest(form, FORMS)}")
        size = (FORMS[form][0] if height is None else height, FORMS[form][1] if width is None else width)
        counts = {"train": count, "val": max(1, count // 2)}
        write = functools.partial(_write_arrays if form == "npy" else write_official, size)
        layout.write_sample(root, NAME, "streets", counts, size, write)

    @classmethod
    def prepare(cls, source: str | os.PathLike, root: str | os.PathLike, *, height: int = SIZES[0][0]) -> None:
        """Make the arrays of MTAN's layout from the official files: float32, labels of 2, 7 and 19 classes.

        MTAN's own script is unknown. Here the images are means of areas, labels and disparities the values at the
        middle of the new pixels; disparities stay those of the full width. The order is that of the names, which
        ``mtlkit-prepared.json`` keeps.

        Args:
            source: the folder with ``leftImg8bit``, ``gtFine`` and ``disparity``; it is only read.
            root: a folder that does not exist yet, or is empty.
            height: 128 (by 256) or 256 (by 512).

        Raises:
            KitError: for another height, a source that is not official or where a file cannot be read (it is named),
                and where ``root`` lies in the source, holds something already or cannot be written.
        """
        sizes = dict(SIZES)
        if height not in sizes:
            raise KitError(f"height {height}; expected {' or '.join(map(str, sizes))}")
        source = layout.find(NAME, source)
        if recognise(source) != "official":
            raise KitError(f"{source} holds arrays already; expected the official files, leftImg8bit and so on")
        if Path(root).resolve().is_relative_to(source.resolve()):
            raise KitError(f"{root} lies in {source}, which is left as it is; name a folder elsewhere")
        _prepare(source, Path(root), (height, sizes[height]))


def _wanted(height: int | None, width: int | None) -> tuple[int, int] | None:
    """The size that is asked for, or None."""
    if height is None and width is None:
        return None
    if height is None or width is None or min(height, width) < 1:
        raise KitError(f"height and width are given together, each from 1 up; found {height} and {width}")
    return height, width


def _prepare(source: Path, root: Path, size: tuple[int, int]) -> None:
    """The arrays of all images, by several threads."""
    parts = {part: Official(source, part, STORED[0], size) for part in COUNTS}

    jobs = [(part, number) for part, images in parts.items() for number in range(len(images))]
    with layout.new_folder(root) as folder:

        def write(job: tuple[str, int]) -> list[str]:
            part, number = job
            found = parts[part].read(number)
            _save_arrays(folder, part, number, found["image"], found["ids"], found["disparity"], np.float32)
            return []

        layout.examine(jobs, write, f"preparing {NAME}")
        names = {part: images.images for part, images in parts.items()}
        layout.write_prepared(
            folder, NAME, f"official files, {size[0]} x {size[1]}, in the order of their names", names
        )
        if note := layout.read_note(source, NAME):
            files.write_json(folder / layout.NOTE, dataclasses.asdict(dataclasses.replace(note, size=size)))


# --- what is written --------------------------------------------------------------------------------------------------


def _save_arrays(
    folder: Path, part: str, number: int, image_HW3: np.ndarray, ids_HW: np.ndarray, p_HW: np.ndarray, dtype: type
) -> None:
    """The arrays of one image: bytes, label ids, disparities p."""
    arrays = {"image": image_HW3 / 255, "depth": p_HW[..., None] / official.FULL_SCALE}
    arrays |= {f"label_{n}": TAXONOMIES[n].table[ids_HW] for n in STORED}
    for field, array in arrays.items():
        path = folder / part / field / f"{number}.npy"
        path.parent.mkdir(parents=True, exist_ok=True)
        np.save(path, array.astype(dtype))


BASELINES = {"train": 0.209313, "val": 0.222126}  # metres: of two sets of Cityscapes' recordings
# id of a street's class (the last one is nothing) -> id of its label
_IDS = np.array([*map(official.LABELS.index, official.SCORED), 0], dtype=np.uint8)


def _labelled(semantic_HW: np.ndarray) -> np.ndarray:
    """Classes of a street as label ids, with the voids of real images: borders, and the bonnet at the bottom."""
    ids_HW = _IDS[semantic_HW]
    height, width = ids_HW.shape
    ids_HW[height - height // 16 :] = official.LABELS.index("ego vehicle")
    border = max(1, width // 128)
    for edge in (np.s_[:border], np.s_[-border:], np.s_[:, :border], np.s_[:, -border:]):
        ids_HW[edge] = official.LABELS.index("rectification border")
    return ids_HW


def _drawn(size: tuple[int, int], shot: scenes.Shot) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """A street: bytes (H, W, 3), label ids and depth (H, W)."""
    scene = shot.render(*size)
    image_HW3 = np.rint(scene["image"].transpose(1, 2, 0) * 255).astype(np.uint8)
    return image_HW3, _labelled(scene["semantic"]), scene["depth"][0]


def _write_arrays(size: tuple[int, int], folder: Path, part: str, number: int, shot: scenes.Shot) -> None:
    image_HW3, ids_HW, depth_HW = _drawn(size, shot)
    camera = Calibration(BASELINES[part], shot.camera(official.SIZE[1]).focal)
    _save_arrays(folder, part, number, image_HW3, ids_HW, official.disparities(depth_HW, camera), np.float64)


def write_official(size: tuple[int, int], folder: Path, part: str, number: int, shot: scenes.Shot) -> str:
    """The official files of one street; returns the name of its image."""
    image_HW3, ids_HW, depth_HW = _drawn(size, shot)
    camera = Calibration(BASELINES[part], shot.camera(size[1]).focal)
    pictures = {"image": image_HW3, "ids": ids_HW, "disparity": official.disparities(depth_HW, camera)}
    image = f"{part}/streets/streets_{number:06d}_000019"
    for field, source in {"camera": official.CAMERA, **official.PIXELS}.items():
        path = folder / source.place.format(image)
        path.parent.mkdir(parents=True, exist_ok=True)
        if field == "camera":
            intrinsic = {"fx": camera.fx, "fy": camera.fx, "u0": size[1] / 2, "v0": size[0] / 2}
            content = {"extrinsic": {"baseline": camera.baseline}, "intrinsic": intrinsic}
            path.write_text(json.dumps(content, indent=4) + "\n", encoding="utf-8")
        else:
            PIL.Image.fromarray(pictures[field]).save(path)
    return image
