"""PASCAL-Context for five tasks, as ASTMT packs it: edges, 21 classes, parts of persons, surface normals, saliency.

    <root>/ImageSets/Context/{train,val}.txt      one id a line: 4998 and 5105
    <root>/JPEGImages/<id>.jpg                    RGB; images differ in size
    <root>/pascal-context/trainval/<id>.mat       LabelMap (H, W): one of 459 classes, 0 is none
    <root>/semseg/VOC12/<id>.png                  (H, W)     0 ... 20, 255 void; where there is none,
    <root>/semseg/pascal-context/<id>.png         the same
    <root>/human_parts/<id>.mat                   anno: objects, their masks and parts (see ``pascal_parts``)
    <root>/normals_distill/<id>.png               (H, W, 3)  255 (n + 1) / 2
    <root>/sal_distill/<id>.png                   (H, W)     0 ... 255

The package ``PASCAL_MT`` is of K.-K. Maninis, I. Radosavovic and I. Kokkinos, "Attentive Single-Tasking of Multiple
Tasks", CVPR 2019. The labels are those of PASCAL VOC (M. Everingham et al., IJCV 2010), PASCAL-Context (R. Mottaghi et
al., CVPR 2014) and PASCAL-Part (X. Chen et al., CVPR 2014); normals and saliency are *distilled*: the predictions of
other networks. ``ImageSets/Parts``, a table that the released code makes for itself, may lie there and is not read.

What the targets are made of:

* ``edges``: where the 459 classes of LabelMap meet (``boundaries``). Two objects of one class have no edge between
  them.
* ``semantic``: the 21 classes of VOC, background among them.
* ``parts``: those of persons alone, in 6, 4, 14 or 1 groups. An image without any counts nowhere: -1 throughout.
* ``normals``: where LabelMap has one of the 170 classes in ``WITH_NORMALS``, which NYUD has too; all-zero elsewhere.
* ``saliency``: 1 from the middle grey on.

Images keep their size: batches need an augmentation or a resize that makes one size of all. Targets that are smaller or
larger than their image, in proportion, are brought to its size, as in the released code: every pixel from the nearest
one, normals bicubic. There, invalid normals take part in this, which leaves a rim of wrong ones; here, only colours do.
When parts are the only task, the released code leaves out images without persons; here they stay, and count nowhere.

Unconfirmed: whether the download still exists; whether any target has another size than its image; how many images show
persons; the axis signs of the normals, which are passed on as stored; whether the package holds more files than these.
"""

from __future__ import annotations

import functools
import os
from pathlib import Path

import numpy as np
import PIL.Image
import torch
from torch import Tensor

from .. import scenes, tasks
from ..errors import KitError
from ..scenes import people
from . import layout, listed, normals, pascal_parts, ranges
from .base import DATASETS, MultiTaskDataset, SampleInfo, check_split, nearest_pixels, planes
from .boundaries import boundaries
from .listed import Source
from .mat import read_mat, write_mat
from .numbered import Field

CLASSES = people.CLASSES  # the scenes are drawn with the 21 classes of VOC
COUNTS = {"train": 4998, "val": 5105}
LISTS = {part: f"ImageSets/Context/{part}.txt" for part in COUNTS}
CONTEXT_CLASSES = 459
EDGE_WEIGHT = 0.95  # of an edge pixel in the loss (ASTMT, its configuration for PASCAL)
VOID = 255
SIZE = (375, 500)  # of a sample
_PARTS = {"train": "train", "test": "val"}  # split -> list

# The 21 classes among the 459 of PASCAL-Context, in the order of CLASSES.
CONTEXT_IDS = (0, 2, 23, 25, 31, 34, 45, 59, 65, 72, 98, 397, 113, 207, 258, 284, 308, 347, 368, 416, 427)
# Classes of PASCAL-Context that have normals: NYUD's list of 894 has the same name, or they are tvmonitor.
WITH_NORMALS = (
    3, 4, 6, 9, 10, 11, 13, 15, 17, 18, 22, 23, 29, 30, 33, 34, 36, 37, 38, 39, 41, 43, 46, 49, 50, 51, 53, 55, 56, 59,
    61, 62, 65, 66, 68, 69, 72, 73, 78, 83, 84, 85, 87, 88, 95, 96, 101, 104, 105, 107, 111, 113, 115, 122, 124, 135,
    141, 142, 143, 146, 150, 154, 157, 158, 159, 165, 172, 174, 181, 183, 184, 191, 193, 195, 197, 199, 202, 213, 215,
    216, 219, 220, 223, 225, 228, 230, 232, 233, 238, 239, 242, 243, 246, 250, 251, 252, 255, 260, 261, 263, 269, 272,
    273, 275, 281, 283, 284, 285, 286, 287, 288, 290, 291, 292, 293, 295, 304, 307, 309, 310, 314, 315, 319, 323, 329,
    330, 331, 336, 342, 345, 349, 350, 351, 352, 355, 357, 368, 370, 371, 374, 379, 380, 383, 384, 397, 401, 403, 405,
    407, 408, 411, 412, 413, 414, 417, 419, 421, 423, 427, 429, 430, 432, 440, 441, 442, 443, 444, 446, 454, 457,
)  # fmt: skip


# --- the files --------------------------------------------------------------------------------------------------------

_picture = functools.partial(layout.read_image, mode="RGB")


def _stored(folder: Path, groups: int) -> listed.Folder:
    def labels(**options: int) -> Field:
        return Field((), functools.partial(ranges.class_ids, **options), whole=True, scaled=True)

    context = labels(classes=1 + CONTEXT_CLASSES, first=0)
    semantic = labels(classes=len(CLASSES), first=0, void=VOID)
    parts = labels(classes=1 + groups, first=0)
    directions = Field((3,), ranges.encoded_directions, whole=True, scaled=True)
    grey = Field((), ranges.eight_bits, whole=True, scaled=True)
    read_context = functools.partial(read_mat, variable="LabelMap")
    read_parts = functools.partial(pascal_parts.read_parts, groups=groups)
    sources = {
        "image": Source("JPEGImages/{}.jpg", _picture, Field((3,), ranges.eight_bits, whole=True)),
        "context": Source("pascal-context/trainval/{}.mat", read_context, context),
        "semantic": Source(
            "semseg/VOC12/{}.png", layout.read_image, semantic, otherwise="semseg/pascal-context/{}.png"
        ),
        "parts": Source("human_parts/{}.mat", read_parts, parts),
        "normals": Source("normals_distill/{}.png", _picture, directions),
        "saliency": Source("sal_distill/{}.png", layout.read_image, grey),
    }
    return listed.Folder(PascalMT.name, folder, sources, LISTS, one_size=False)


# --- the reader -------------------------------------------------------------------------------------------------------


@DATASETS.register("pascal-mt")
class PascalMT(MultiTaskDataset):
    """One split of PASCAL-MT.

    Args:
        split: ``"train"`` or ``"test"`` (the list ``val``).
        root: folder with ``ImageSets``, ``JPEGImages``, ...; None is ``$MTLKIT_DATA/pascal-mt``, else
            ``data/pascal-mt``.
        parts: into how many groups the parts of a person fall: 6 (as ASTMT trains), 4, 14 or 1.

    Attributes:
        size: (height, width) of its first image; the others differ (``info(index).size``).

    Raises:
        KitError: for an unknown split, another number of groups, a missing folder, a list that cannot be read or is
            empty, or a first image that cannot be read.
    """

    name = "pascal-mt"
    one_size = False
    about = "PASCAL-Context as ASTMT packed it: edges, 21 classes, parts of persons, normals, saliency; 4998 + 5105"
    licence = "of the data: not recorded; ASTMT's code is CC BY-NC 4.0, for non-commercial use"
    source = "PASCAL_MT.tgz at data.vision.ee.ethz.ch/kmaninis/share/MTL (availability unconfirmed): see data/README.md"

    def __init__(self, split: str, *, root: str | Path | None = None, parts: int = 6):
        self.split = check_split(split, tuple(_PARTS))
        if parts not in pascal_parts.GROUPS:
            raise KitError(f"parts of persons fall into {', '.join(map(str, pascal_parts.GROUPS))} groups, not {parts}")
        self.stored = _stored(layout.find(self.name, root), parts)
        self.ids = self.stored.ids(_PARTS[split])
        self.groups = tuple(pascal_parts.GROUPS[parts])
        self.tasks = {
            "edges": tasks.edges(EDGE_WEIGHT),
            "semantic": tasks.semantic(CLASSES),
            "parts": tasks.parts(("background", *self.groups)),
            "normals": tasks.normals(),
            "saliency": tasks.saliency(),
        }
        self.size = self.info(0).size

    @functools.cached_property
    def fingerprint(self) -> str:
        """Changes with the files of this split (what it misses: ``layout.fingerprint``); made on first use."""
        digest = self.stored.fingerprint(self.ids)
        return f"{self.name}-parts{len(self.groups)}-{self.split}{len(self)}-{digest}"

    def __len__(self) -> int:
        return len(self.ids)

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        """One sample. Raises KitError where a file cannot be read; it names the file."""
        self._check_index(index)
        image_HW3 = self.stored.read("image", self.ids[index])
        size = image_HW3.shape[:2]
        fields = [name for name in self.stored.sources if name != "image"]
        stored = {name: _fitted(self.stored.read(name, self.ids[index], size), size) for name in fields}
        semantic_HW = torch.from_numpy(stored["semantic"].astype(np.int64))
        parts_HW = torch.from_numpy(stored["parts"].astype(np.int64))
        normals_HW3 = normals.from_colours(stored["normals"])
        normals_HW3[~np.isin(stored["context"], WITH_NORMALS)] = 0
        return {
            "image": planes(image_HW3 / 255),
            "edges": planes(boundaries(stored["context"])[..., None]),
            "semantic": semantic_HW.masked_fill(semantic_HW == VOID, -1),
            "parts": parts_HW if parts_HW.any() else parts_HW - 1,
            "normals": planes(normals_HW3),
            "saliency": planes((stored["saliency"] / 255 > 0.5)[..., None]),
            "index": torch.tensor(index),
        }

    def info(self, index: int) -> SampleInfo:
        """Its name, such as ``val/2008_000002``, which the list ``val`` has, and the size of its image."""
        self._check_index(index)
        height, width, _ = self.stored.read("image", self.ids[index]).shape
        return SampleInfo(f"{_PARTS[self.split]}/{self.ids[index]}", (height, width))

    @classmethod
    def check(cls, root: str | os.PathLike | None = None, *, contents: bool = True) -> list[str]:
        """Every problem, one line each: lists, missing and stray files, damage, dtypes, sizes, values out of range."""
        return listed.check(_stored(layout.find(cls.name, root), max(pascal_parts.GROUPS)), COUNTS, contents)

    @classmethod
    def write_sample(
        cls, root: str | os.PathLike, count: int = 4, *, height: int = SIZE[0], width: int = SIZE[1]
    ) -> None:
        """Write a sample: ``count`` scenes with people, animals and things to train and half as many (at least one) to
        ``val``. Every third image is upright: its height is ``width``, and its width ``height``.

        LabelMap has the 21 classes alone. Where they meet, labels are void. Semantic labels lie in ``semseg/VOC12`` and
        ``semseg/pascal-context`` by turns.

        Args:
            root: a folder that does not exist yet, or is empty.
            count: images in train.
            height: rows of an image that is not upright.
            width: columns of an image that is not upright.

        Raises:
            KitError: for a count or size below 1, and where ``root`` holds something already or cannot be written.
        """
        counts = {"train": count, "val": max(1, count // 2)}

        def write(folder: Path, part: str, number: int, shot: scenes.Shot) -> None:
            image = f"2008_{1 + number + (counts['train'] if part == 'val' else 0):06d}"
            scene = shot.render(*((width, height) if number % 3 == 2 else (height, width)))
            _write(_stored(folder, 6), image, scene, second=number % 2 == 1)
            listed.append(folder, LISTS[part], image)

        layout.write_sample(root, cls.name, "people", counts, (height, width), write)


def _fitted(array: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """A target in the size of its image; without a pixel, it is 0 everywhere."""
    if array.shape[:2] == size:
        return array
    if not array.size:
        return np.zeros(size, array.dtype)
    if array.ndim == 3:
        return np.array(PIL.Image.fromarray(array).resize(size[::-1], PIL.Image.Resampling.BICUBIC))
    return nearest_pixels(array, size)


# --- the sample -------------------------------------------------------------------------------------------------------


def _write(stored: listed.Folder, image: str, scene: dict[str, np.ndarray], second: bool) -> None:
    """The files of one scene; ``second`` puts the semantic labels into the second of their places."""
    label_HW = scene["semantic"]
    context_HW = np.array(CONTEXT_IDS, np.uint16)[label_HW]
    values = {
        "image": np.rint(scene["image"].transpose(1, 2, 0) * 255).astype(np.uint8),
        "context": {"LabelMap": context_HW},
        "semantic": np.where(boundaries(context_HW), VOID, label_HW).astype(np.uint8),
        "parts": {"anno": pascal_parts.annotation(image, scene, CLASSES)},
        "normals": normals.to_colours(scene["normals"].transpose(1, 2, 0)),
        "saliency": (scene["saliency"][0] * 255).astype(np.uint8),
    }
    for field, source in stored.sources.items():
        path = stored.root / source.places(image)[second and field == "semantic"]
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.suffix == ".mat":
            write_mat(path, values[field])
        else:
            PIL.Image.fromarray(values[field]).save(path, quality=95, subsampling=0)
