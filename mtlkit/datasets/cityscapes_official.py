"""The files that the owners of Cityscapes give out: their labels, calibrations and folders.

    <root>/leftImg8bit/<part>/<city>/<image>_leftImg8bit.png          RGB, 1024 x 2048
    <root>/gtFine/<part>/<city>/<image>_gtFine_labelIds.png           8 bits: ids 0 ... 33, see ``CATEGORIES``
    <root>/disparity/<part>/<city>/<image>_disparity.png              16 bits: p, see ``metres``
    <root>/camera/<part>/<city>/<image>_camera.json                   baseline (metres), fx (pixels)

``<part>`` is train (2975 images) or val (500), ``<image>`` is ``<city>_<6 digits>_<6 digits>``: the recording, and the
frame. Several packages share these folders, so what else lies in them is not in the way: ``test``, whose labels are not
given out, ``train_extra``, ``_instanceIds.png``, ``_color.png``, ... Table of labels and coding of disparity:
mcordts/cityscapesScripts.

Unconfirmed: in MTAN's 7 classes, whether caravans and trailers are vehicles. Here they are ignored, as in all that
Cityscapes scores; in its 2 classes they are foreground, as its table says. The 5 classes of edgeai (Texas Instruments)
are known by name alone: which ids they hold is mtlkit's own guess.

Shapes: H/W size.
"""

from __future__ import annotations

import dataclasses
import functools
import itertools
import json
import math
import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path, PurePosixPath
from typing import Any

import cv2
import numpy as np
from torch import Tensor, from_numpy

from ..errors import KitError
from . import layout, listed, ranges
from .base import nearest_pixels, planes
from .listed import Source
from .numbered import Field

NAME = "cityscapes"
SIZE = (1024, 2048)
COUNTS = {"train": 2975, "val": 500}
_FOLDERS = ("train", "val", "test", "train_extra")

# --- labels -----------------------------------------------------------------------------------------------------------

# category -> its labels; counted through, they are the ids 0 ... 33
CATEGORIES = {
    "void": ("unlabeled", "ego vehicle", "rectification border", "out of roi", "static", "dynamic", "ground"),
    "flat": ("road", "sidewalk", "parking", "rail track"),
    "construction": ("building", "wall", "fence", "guard rail", "bridge", "tunnel"),
    "object": ("pole", "polegroup", "traffic light", "traffic sign"),
    "nature": ("vegetation", "terrain"),
    "sky": ("sky",),
    "human": ("person", "rider"),
    "vehicle": ("car", "truck", "bus", "caravan", "trailer", "train", "motorcycle", "bicycle"),
}
LABELS = tuple(itertools.chain.from_iterable(CATEGORIES.values()))
LICENCE_PLATE = 255  # id -1, in a byte
_NOT_SCORED = {
    *CATEGORIES["void"], "parking", "rail track", "guard rail", "bridge", "tunnel", "polegroup", "caravan", "trailer",
}  # fmt: skip
SCORED = tuple(name for name in LABELS if name not in _NOT_SCORED)  # the 19 classes: "train ids" 0 ... 18
_CATEGORY = {name: category for category, names in CATEGORIES.items() for name in names}


@dataclasses.dataclass(frozen=True)
class Taxonomy:
    """One way to make classes of the labels.

    Attributes:
        names: of the classes.
        number: label -> class id; other labels are ``rest``.
        plate: class id of licence plates.
        rest: -1 (ignored), or a class.
    """

    names: tuple[str, ...]
    number: Mapping[str, int]
    plate: int = -1
    rest: int = -1

    @functools.cached_property
    def table(self) -> np.ndarray:
        """Byte of a label file -> class id, int64 (256,)."""
        table = np.full(256, self.rest)
        table[: len(LABELS)] = [self.number.get(name, self.rest) for name in LABELS]
        table[LICENCE_PLATE] = self.plate
        return table


_SEVEN = tuple(CATEGORIES)[1:]  # without void
_FIVE = {"road": 0, "sky": 1, "person": 2, "rider": 2} | dict.fromkeys(CATEGORIES["vehicle"], 3)
TAXONOMIES = {
    2: Taxonomy(
        ("background", "foreground"),
        {name: 1 for name in LABELS if _CATEGORY[name] in ("human", "vehicle")},
        plate=1,
        rest=0,
    ),
    5: Taxonomy(("road", "sky", "pedestrian", "vehicle", "background"), _FIVE, plate=3, rest=4),
    7: Taxonomy(_SEVEN, {name: _SEVEN.index(_CATEGORY[name]) for name in SCORED}),
    19: Taxonomy(SCORED, {name: i for i, name in enumerate(SCORED)}),
}


def label_ids(ids_HW: np.ndarray) -> Iterator[str]:
    """What is wrong with the values of a label file, in words (see ``ranges``)."""
    yield from ranges.class_ids(np.where(ids_HW == LICENCE_PLATE, 0, ids_HW), len(LABELS), first=0)


# --- disparity --------------------------------------------------------------------------------------------------------

FARTHEST = 255.0  # metres: beyond, disparity says nothing but "far" (edgeai clips its depth here, too)
FULL_SCALE = 65535


@dataclasses.dataclass(frozen=True)
class Calibration:
    """Of the pair of cameras that took one image.

    Attributes:
        baseline: between them, metres.
        fx: focal length in pixels of the disparity file.
    """

    baseline: float
    fx: float


def metres(p: np.ndarray, camera: Calibration) -> np.ndarray:
    """Depth from the values p of a disparity file: baseline fx / d with d = (p - 1) / 256 pixels, float32.

    0 is invalid in both. Depth is cut at ``FARTHEST``, which is that of p = 1 (no disparity: infinitely far), too; the
    released code of edgeai makes 1 m of it.

    >>> metres(np.array([0, 1, 500, 1000, 32257]), Calibration(0.209313, 2262.52)).astype(float).round(3).tolist()
    [0.0, 255.0, 242.956, 121.357, 3.759]
    """
    d = np.maximum(np.asarray(p, dtype=np.float64) - 1, 0) / 256
    depth = camera.baseline * camera.fx / np.maximum(d, camera.baseline * camera.fx / FARTHEST)
    return np.where(np.asarray(p) > 0, depth, 0).astype(np.float32)


def disparities(depth: np.ndarray, camera: Calibration) -> np.ndarray:
    """The values p of a disparity file, uint16, from depth in metres; 0 is invalid in both."""
    known = depth > 0
    p = 1 + 256 * camera.baseline * camera.fx / np.where(known, depth, 1)
    return np.where(known, np.rint(np.minimum(p, FULL_SCALE)), 0).astype(np.uint16)


# --- files ------------------------------------------------------------------------------------------------------------


def _picture(path: Path) -> np.ndarray:
    return layout.read_image(path, "RGB", formats=("PNG",))


def _label(path: Path) -> np.ndarray:
    return layout.read_image(path, formats=("PNG",))


def _disparity(path: Path) -> np.ndarray:
    array = layout.read_image(path, formats=("PNG",))
    if array.dtype.itemsize < 2:
        raise KitError("has 8 bits; expected an image of 16 bits, as disparities of Cityscapes are")
    return array


def _calibration(path: Path) -> np.ndarray:
    """Baseline and fx from the JSON of one image."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        values = [found["extrinsic"]["baseline"], found["intrinsic"]["fx"]]
        if all(isinstance(v, int | float) and math.isfinite(v) and v > 0 for v in values):
            return np.array(values, dtype=np.float64)
    except FileNotFoundError as error:
        raise KitError("is missing") from error
    except Exception as error:  # whatever a damaged file makes of json, or something else in its place
        reason = getattr(error, "strerror", None) or "another content"
        raise KitError(
            f"cannot be read; expected a JSON file with extrinsic.baseline and intrinsic.fx ({reason})"
        ) from (error)
    raise KitError(f"baseline and fx are {values[0]} and {values[1]}; expected two numbers above 0")


def _judged(array: np.ndarray) -> Iterable[str]:
    """Nothing is wrong with what its reader has taken."""
    return ()


IMAGE = Source("leftImg8bit/{}_leftImg8bit.png", _picture, Field((3,), ranges.eight_bits, whole=True))
IDS = Source("gtFine/{}_gtFine_labelIds.png", _label, Field((), label_ids, whole=True))
DISPARITY = Source("disparity/{}_disparity.png", _disparity, Field((), ranges.distances, whole=True))
PIXELS = {"image": IMAGE, "ids": IDS, "disparity": DISPARITY}
CAMERA = Source("camera/{}_camera.json", _calibration, Field((), _judged), group="camera")


@dataclasses.dataclass(frozen=True)
class Tree(listed.Folder):
    """Files of images by part and city. There are no lists: what lies there is what belongs to a part.

    An image is called by its place, such as ``val/lindau/lindau_000000_000019``.
    """

    lists: Mapping[str, str] = dataclasses.field(default_factory=dict)

    def ids(self, part: str) -> list[str]:
        """The images of a part in order: all that have a file in some field. Raises KitError where there is none."""
        if found := sorted(set().union(*self.there(part).values())):
            return found
        places = " and ".join(source.place.replace("{}", f"{part}/<city>/<image>") for source in self.sources.values())
        raise KitError(f"{part}: no images; expected {places}; {layout.advice(self.name, self.root)}")

    def there(self, part: str) -> dict[str, set[str]]:
        """The images of a part that have a file, by field."""
        return {field: set(self._images(*source.place.split("{}"), part)) for field, source in self.sources.items()}

    def _images(self, folder: str, suffix: str, part: str) -> Iterator[str]:
        for city, names in self.cities(f"{folder}{part}"):
            stems = (name.removesuffix(suffix) for name in names if name.endswith(suffix))
            yield from (f"{part}/{city}/{stem}" for stem in stems if _of_city(city).fullmatch(stem))

    def cities(self, place: str) -> Iterator[tuple[str, list[str]]]:
        """The folders in a folder, and the names in each."""
        folder = self.root / place
        for city in layout.entries(folder) if folder.is_dir() else ():
            if (folder / city).is_dir():
                yield city, layout.entries(folder / city)

    def tops(self) -> list[str]:
        """The folders right under the root."""
        return list(dict.fromkeys(PurePosixPath(source.place).parts[0] for source in self.sources.values()))


def _of_city(city: str) -> re.Pattern[str]:
    return re.compile(rf"{re.escape(city)}_[0-9]{{6}}_[0-9]{{6}}")


def tree(root: Path) -> Tree:
    """The files of Cityscapes at ``root``; ``camera`` is a field where there is such a folder."""
    return Tree(NAME, root, PIXELS | ({"camera": CAMERA} if (root / "camera").is_dir() else {}))


# --- checking ---------------------------------------------------------------------------------------------------------


def check(data: Tree, contents: bool = True) -> list[str]:
    """Everything that is wrong with a tree, one line each: the file or folder, what was found, what is expected.

    Args:
        data: its folder exists. Its images should be as many and as large as those of Cityscapes, or as the note of a
            sample says.
        contents: read every file through; False looks at names alone.
    """
    note, problems = layout.note_and_problems(data.root, data.name)
    counts, size = (COUNTS, SIZE) if note is None else ({part: note.counts.get(part, 0) for part in COUNTS}, note.size)
    images: list[str] = []
    for part, count in counts.items():
        found = sorted(set().union(*data.there(part).values()))
        if len(found) != count:
            problems.append(f"{part}: {len(found)} images; expected {count}")
        images += found
    problems += _missing(data, images)
    problems += _strays(data, counts)
    if contents:
        problems += listed.look_inside(data, images, size)
    return problems


def _missing(data: Tree, images: list[str]) -> Iterator[str]:
    """Files of images that have some, but not all; a folder that is missing is told once."""
    told: set[PurePosixPath] = set()
    for source in data.sources.values():
        for image in images:
            place = PurePosixPath(source.place.format(image))
            if (data.root / place).exists():
                continue
            folders = [folder for folder in list(place.parents)[-2::-1] if not (data.root / folder).is_dir()]
            if not folders:
                places = [other.place.format(image) for other in data.sources.values()]
                having = [PurePosixPath(other).parts[0] for other in places if (data.root / other).exists()]
                yield f"{place}: missing; expected as in {', '.join(having)}"
            elif folders[0] not in told:
                told.add(folders[0])
                yield f"{folders[0]}: missing folder; expected {place} in it"


def _strays(data: Tree, parts: Iterable[str]) -> Iterator[str]:
    """What belongs to no image, and no other package of Cityscapes."""
    for top in data.tops():
        if (data.root / top).is_dir():
            yield from layout.strays(data.root, top, _FOLDERS)
        for part in parts:
            cities = dict(data.cities(f"{top}/{part}"))
            if (data.root / top / part).is_dir():
                yield from layout.strays(data.root, f"{top}/{part}", cities)
            for city, names in cities.items():
                for name in names:
                    if not _of_city(city).match(name):
                        yield f"{top}/{part}/{city}/{name}: stray; expected {city}_<6 digits>_<6 digits>_... alone"


# --- reading ----------------------------------------------------------------------------------------------------------


def resized(image_HW3: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """An image of 8 bits in another size: means of areas where it shrinks, else bilinear."""
    height, width = size
    shrinks = height < image_HW3.shape[0] or width < image_HW3.shape[1]
    return cv2.resize(image_HW3, (width, height), interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR)


class Official:
    """The images of one part in the official files, as they are stored or in another size.

    Args:
        root: folder with ``leftImg8bit``, ...
        part: ``"train"`` or ``"val"``.
        classes: a key of ``TAXONOMIES``.
        size: (height, width) of a sample; None is that of the first image.

    Attributes:
        depth: whether there are calibrations.

    Raises:
        KitError: for a part without images, or a first image that cannot be read.
    """

    def __init__(self, root: Path, part: str, classes: int, size: tuple[int, int] | None = None):
        self.files, self.part, self.classes = tree(root), part, classes
        self.images = self.files.ids(part)
        height, width, _ = self.files.read("image", self.images[0]).shape
        self.stored, self.size = (height, width), size or (height, width)
        self.depth = "camera" in self.files.sources

    def __len__(self) -> int:
        return len(self.images)

    def name(self, index: int) -> str:
        return self.images[index]

    def fingerprint(self) -> str:
        return self.files.fingerprint(self.images)

    def read(self, index: int) -> dict[str, Any]:
        """Image (H, W, 3) uint8, label ids and disparities (H, W), all of ``size``; the calibration where there is one.

        Raises:
            KitError: names a file that cannot be read, or holds other labels.
        """
        image = self.images[index]
        found: dict[str, Any] = {
            field: self.files.read(field, image, self.stored if source.group == "image" else None)
            for field, source in self.files.sources.items()
        }
        if problem := next(label_ids(found["ids"]), ""):
            raise KitError(f"{IDS.place.format(image)}: {problem}; {layout.advice(NAME, self.files.root)}")
        if self.size != self.stored:
            found["image"] = resized(found["image"], self.size)
            found |= {field: nearest_pixels(found[field], self.size) for field in ("ids", "disparity")}
        if self.depth:
            found["camera"] = Calibration(*map(float, found["camera"]))
        return found

    def sample(self, index: int) -> dict[str, Tensor]:
        """The sample of one image, without its index. Raises KitError as ``read``."""
        found = self.read(index)
        p_1HW = found["disparity"].astype(np.int64)[None]
        sample = {
            "image": planes(found["image"]) / 255,
            "semantic": from_numpy(TAXONOMIES[self.classes].table[found["ids"].astype(np.uint8)]),
            "disparity": from_numpy((p_1HW / FULL_SCALE).astype(np.float32)),
        }
        return sample | ({"depth": from_numpy(metres(p_1HW, found["camera"]))} if self.depth else {})
