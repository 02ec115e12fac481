"""Everything that can be wrong with the files of the Visual Decathlon: folders, images, annotations. The layout is told
in ``visual_decathlon``.

Files are named by their place under the root, such as ``decathlon-1.0-data/svhn/train/7/000012.jpg``. What is wrong
with the images that an annotation file names makes one line, however many they are: it names the first three.
"""

from __future__ import annotations

import collections
import dataclasses
import functools
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path, PurePosixPath

import numpy as np
import pydantic

from ..errors import KitError
from . import layout

DATA, ANNOTATIONS = "decathlon-1.0-data", "annotations"
PARTS = {"train": "train", "val": "val", "test": "test_stripped"}  # folder -> how its annotation file is called
FIRST_IMAGE = 200_001  # id of a set's first image, less its block
_SUFFIXES = (".jpg", ".jpeg", ".png")
_OTHERS = {"decathlon_mean_std.pickle", "model_weights"}  # of the released code; never read
_LONGEST = 100  # longer side of an image, as a multiple of the shorter one
_SHOWN = 3


@dataclasses.dataclass(frozen=True)
class Expected:
    """What one set should hold.

    Attributes:
        block: what its ids begin with.
        classes: how many.
        images: by part.
    """

    block: int
    classes: int
    images: Mapping[str, int]


def listed(folder: Path) -> tuple[list[str], list[str], list[str]]:
    """Folders, images and other files in a folder, sorted. Raises OSError where it cannot be listed."""
    folders, images, others = [], [], []
    with os.scandir(folder) as found:
        for entry in found:
            if not entry.name.startswith("."):
                image = entry.name.lower().endswith(_SUFFIXES)
                (folders if entry.is_dir() else images if image else others).append(entry.name)
    return sorted(folders), sorted(images), sorted(others)


def read(root: Path, place: str) -> np.ndarray:
    """An image as RGB, uint8 (H, W, 3).

    Raises:
        KitError: says why it is none, without its name: as ``layout.read_image``, a link that leads out of the root, or
            a line of pixels, which would fill the memory once its shorter side is made larger.
    """
    layout.check_inside(root, place)
    image_HW3 = layout.read_image(root / place, "RGB")
    height, width, _ = image_HW3.shape
    if max(height, width) > _LONGEST * min(height, width):
        raise KitError(f"has {height} x {width} pixels; expected a picture, not a line")
    return image_HW3


def check(root: Path, expected: Mapping[str, Expected], side: int, contents: bool = True) -> list[str]:
    """Everything that is wrong, one line each: the file or folder, what was found, what is expected.

    Args:
        root: the folder, which exists.
        expected: by set.
        side: pixels of the shorter side of every image.
        contents: read every image and the annotations through; False looks at names alone.
    """
    sets = list(expected)
    notes = {f"{name}_{suffix}.json" for name in sets for suffix in PARTS.values()}
    problems = [*layout.strays(root, "", {DATA, ANNOTATIONS, layout.NOTE, *_OTHERS})]
    problems += layout.strays(root, DATA, {*sets, *_OTHERS})
    problems += layout.strays(root, ANNOTATIONS, notes)
    images: list[str] = []
    for name, numbers in expected.items():
        checked = _Set(root, name, numbers)
        problems += checked.problems()
        if contents:
            problems += checked.annotations()
            images += checked.places()
    if contents:
        problems += layout.examine(images, functools.partial(_image, root, side), "checking visual-decathlon")
    return problems


def _image(root: Path, side: int, place: str) -> list[str]:
    """What is wrong with one image."""
    try:
        height, width, _ = read(root, place).shape
    except KitError as error:
        return [f"{place}: {error}"]
    if min(height, width) != side:
        return [f"{place}: {height} x {width} pixels; expected a shorter side of {side}"]
    return []


# --- one set ----------------------------------------------------------------------------------------------------------


class _Set:
    """One set being checked.

    Attributes:
        files: by part, the images by name (with the class folder, where there is one) and their places.
        classes: by part, the class folders.
    """

    def __init__(self, root: Path, name: str, expected: Expected):
        self.root, self.name, self.expected = root, name, expected
        self.files: dict[str, dict[str, str]] = {part: {} for part in PARTS}
        self.classes: dict[str, list[str]] = {}

    def places(self) -> Iterator[str]:
        """Every image, in order."""
        return (place for part in PARTS for place in self.files[part].values())

    def problems(self) -> Iterator[str]:
        """What is wrong with folders and names."""
        place = f"{DATA}/{self.name}"
        if not (self.root / place).is_dir():
            yield f"{place}: missing folder; expected {', '.join(PARTS)} in it"
            return
        yield from layout.strays(self.root, place, PARTS)
        for part in PARTS:
            try:
                layout.check_inside(self.root, f"{place}/{part}")
                yield from self._part(f"{place}/{part}", part)
            except KitError as error:
                yield f"{place}/{part}: {error}"
            except OSError as error:
                yield f"{place}/{part}: cannot be listed ({error.strerror}); expected the images of {part}"
        yield from self._same_classes(place)

    def annotations(self) -> Iterator[str]:
        """What is wrong with the annotations, once ``problems`` has listed the images."""
        if not any(self.files.values()):
            return
        first = self.expected.block + FIRST_IMAGE
        for part, suffix in PARTS.items():
            yield from _Annotations(f"{ANNOTATIONS}/{self.name}_{suffix}.json", self, part, first).problems()
            first += self.expected.images[part]

    def _part(self, place: str, part: str) -> Iterator[str]:
        folders, images, others = listed(self.root / place)
        test = part == "test"
        if test and len(folders) > 1:
            yield f"{place}: {len(folders)} folders; expected one at most, with every image in it"
        if test and not folders:
            self.files[part] = {name: f"{place}/{name}" for name in images}
        else:
            others = sorted(images + others)
            for folder in folders:
                yield from self._folder(place, folder, part)
            self.classes[part] = folders
        for stray in others:
            yield f"{place}/{stray}: stray; expected {'images' if test else 'class folders'} alone"
        if not test and len(folders) != self.expected.classes:
            yield f"{place}: {len(folders)} class folders; expected {self.expected.classes}"
        if (found := len(self.files[part])) != self.expected.images[part]:
            yield f"{place}: {found} images; expected {self.expected.images[part]}"

    def _folder(self, place: str, folder: str, part: str) -> Iterator[str]:
        """One class folder, or the one in test."""
        try:
            layout.check_inside(self.root, f"{place}/{folder}")
            folders, images, others = listed(self.root / place / folder)
        except (OSError, KitError) as error:
            yield f"{place}/{folder}: {getattr(error, 'strerror', None) or error}"
            return
        for stray in folders + others:
            yield f"{place}/{folder}/{stray}: stray; expected images alone"
        if not images:
            yield f"{place}/{folder}: empty; expected images"
        inside = "" if part == "test" else f"{folder}/"
        self.files[part] |= {f"{inside}{name}": f"{place}/{folder}/{name}" for name in images}

    def _same_classes(self, place: str) -> Iterator[str]:
        train, val = (set(self.classes.get(part, ())) for part in ("train", "val"))
        if train and val:
            for folder in sorted(train ^ val):
                having, missing = ("train", "val") if folder in train else ("val", "train")
                yield f"{place}/{missing}/{folder}: missing folder; expected the same classes as in {having}"


# --- annotations ------------------------------------------------------------------------------------------------------


class _Image(pydantic.BaseModel):
    id: int
    file_name: str


class _Annotation(pydantic.BaseModel):
    image_id: int
    category_id: int


class _Category(pydantic.BaseModel):
    id: int


class Coco(pydantic.BaseModel):
    """What is read of an annotation file."""

    images: list[_Image]
    categories: list[_Category]
    annotations: list[_Annotation] = []


def read_annotations(root: Path, place: str) -> Coco:
    """An annotation file. Raises KitError without its name: says why it is none, or that it lies out of the root."""
    layout.check_inside(root, place)
    try:
        return Coco.model_validate_json((root / place).read_bytes())
    except FileNotFoundError as error:
        raise KitError("missing; expected annotations in JSON, in the style of COCO") from error
    except OSError as error:
        raise KitError(f"cannot be read ({error.strerror})") from error
    except pydantic.ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))
        raise KitError(f"{where}: {first['msg']}; expected JSON in the style of COCO".removeprefix(": ")) from error


class _Annotations:
    """One annotation file being compared with the images of its part.

    Args:
        place: of the file, under the root.
        of: the set.
        part: of the set.
        first: id of the first image.
    """

    def __init__(self, place: str, of: _Set, part: str, first: int):
        self.place, self.part, self.files, self.expected = place, part, of.files[part], of.expected
        self.root, self.first = of.root, first
        self.prefix = f"data/{of.name}/{part}/"

    def problems(self) -> Iterator[str]:
        try:
            content = read_annotations(self.root, self.place)
        except KitError as error:
            yield f"{self.place}: {error}"
            return
        yield from (f"{self.place}: {problem}" for problem in self._wrong(content))

    def _wrong(self, content: Coco) -> Iterator[str]:
        if not content.images:
            yield f"names no image; expected {self.expected.images[self.part]}"
            return
        yield from self._names([image.file_name for image in content.images])
        yield from self._image_ids(content.images)
        block, classes = self.expected.block, self.expected.classes
        if sorted(c.id for c in content.categories) != list(range(block + 1, block + classes + 1)):
            yield f"{len(content.categories)} categories; expected the ids {block + 1} ... {block + classes}, each once"
        if self.part != "test":
            yield from self._labels(content)

    def _names(self, names: Sequence[str]) -> Iterator[str]:
        """File names that lead elsewhere, that no file has, that stand twice; files without a name."""
        groups: dict[bool, list[str]] = {True: [], False: []}
        for name in names:
            groups[name.startswith(self.prefix) and ".." not in PurePosixPath(name).parts].append(name)
        if groups[False]:
            yield f"{_some(groups[False])} not in {self.prefix}; expected the images of {self.part} alone"
        inside = [name.removeprefix(self.prefix) for name in groups[True]]
        if absent := [name for name in inside if name not in self.files]:
            yield f"{_some(absent)} named, but there is no such file"
        if twice := [name for name, count in collections.Counter(inside).items() if count > 1]:
            yield f"{_some(twice)} named more than once"
        known = set(inside)
        if unnamed := [name for name in self.files if name not in known]:
            yield f"{_some(unnamed)} in the folder, but not named"

    def _image_ids(self, images: Sequence[_Image]) -> Iterator[str]:
        ids = sorted(image.id for image in images)
        if ids != list(range(self.first, self.first + len(ids))):
            last = self.first + self.expected.images[self.part] - 1
            yield f"image ids {ids[0]} ... {ids[-1]}; expected {self.first} ... {last}, each once"
        if self.part == "test":  # predictions are sent in this order
            by_id = [image.file_name for image in sorted(images, key=lambda image: image.id)]
            if by_id != sorted(by_id):
                yield "image ids are not in the order of the file names; expected so in test"

    def _labels(self, content: Coco) -> Iterator[str]:
        """Images that have not one annotation, categories that are none, and folders that are no category."""
        names = {image.id: image.file_name.removeprefix(self.prefix) for image in content.images}
        count = collections.Counter(annotation.image_id for annotation in content.annotations)
        if wrong := [name for image, name in names.items() if count[image] != 1]:
            yield f"{_some(wrong)} without exactly one annotation"
        if unknown := [str(image) for image in count if image not in names]:
            yield f"{_some(unknown)} annotated, but no id of an image"
        block, classes = self.expected.block, self.expected.classes
        found = sorted({annotation.category_id for annotation in content.annotations})
        if outside := [str(category) for category in found if not block < category <= block + classes]:
            yield f"{_some(outside)} as category; expected {block + 1} ... {block + classes}"
        labels = [(names[a.image_id], a.category_id) for a in content.annotations if a.image_id in names]
        yield from _pairs((name.split("/")[0], category) for name, category in labels if "/" in name)


def _pairs(labels: Iterable[tuple[str, int]]) -> Iterator[str]:
    """Class folders and categories that do not belong to each other one to one."""
    categories, folders = collections.defaultdict(set), collections.defaultdict(set)
    for folder, category in labels:
        categories[folder].add(category)
        folders[category].add(folder)
    if several := [folder for folder, found in categories.items() if len(found) > 1]:
        yield f"{_some(several)} with images of several categories; expected one for each class folder"
    if several := [str(category) for category, found in folders.items() if len(found) > 1]:
        yield f"{_some(several)} as category of images in several class folders; expected one"


def _some(names: Sequence[str]) -> str:
    """The first names, and how many more there are."""
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return f"{', '.join(names[:_SHOWN])}{more}:"
