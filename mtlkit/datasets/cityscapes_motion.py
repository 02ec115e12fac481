"""Cityscapes with the frame before: what the two-stream network of edgeai (Texas Instruments) learns from.

    <root>/leftImg8bit/<part>/<city>/<image>_leftImg8bit.png                        RGB
    <root>/leftImg8bit_flow_confidence_768x384/<part>/<city>/<image>_leftImg8bit.png      flow image, see ``flow``
    <root>/disparity/<part>/<city>/<image>_disparity.png                            16 bits
    <root>/camera/<part>/<city>/<image>_camera.json                                 baseline, focal length
    <root>/gtFine/<part>/<city>/<image>_gtFine_labelIds.png                         ids of 19 classes and others
                               /<image>_gtFine_labelTrainIds.png                    5 classes: 0 ... 4, 255 ignored
                               /<image>_gtFine_labelTrainIds_motion.png             0 static, 255 moving

``<part>`` is train (2975 images) or val (500), which is ``test`` here; ``<image>`` is ``<city>_<6 digits>_<6 digits>``.
This is what the code needs (edgeai-torchvision, r8.0; its README says otherwise of depth and camera). Another name that
its README has for the flow folder is leftImg8bit_flow_farneback_confidence; the reader takes the one folder whose name
begins with ``leftImg8bit_flow``. Everything is brought to the size of the flow image, as in the code: frames by the
means of areas, targets by the nearest pixel. Frames, labels, disparity and camera are the official ones of Cityscapes
(see ``cityscapes_official``).

The flow images, the 5 classes and the motion masks of Texas Instruments were never given out. ``prepare`` makes flow by
a definition of mtlkit (see ``flow``) and the 5 classes by a table of mtlkit (``TAXONOMIES[5]``), but no masks: where
there are none, the set has no task ``motion``.

Traps: Cityscapes' own script writes 19 classes into files with the very name ``_gtFine_labelTrainIds.png``. The motion
mask has no value for "unknown".

Unconfirmed: names of the files in the flow folder; which labels the 5 classes hold; all that ``flow`` says is.
"""

from __future__ import annotations

import dataclasses
import functools
import itertools
import math
import os
import shutil
import tempfile
from pathlib import Path

import numpy as np
import PIL.Image
import torch
from torch import Tensor

from .. import files, scenes, tasks
from ..errors import KitError
from . import cityscapes_official as official
from . import flow, layout, ranges
from .base import DATASETS, MultiTaskDataset, SampleInfo, check_split, nearest_pixels, planes
from .cityscapes import write_official
from .cityscapes_official import TAXONOMIES, Calibration, Tree
from .listed import Source
from .numbered import Field

FLOWS = "leftImg8bit_flow"  # how the name of the flow folder begins
FLOW_SIZE = (384, 768)
MOVING = 255
_PARTS = {"train": "train", "validation": "train", "test": "val"}  # split -> folder
_IDS = official.IDS  # 8 bits, read from PNG

FIVE = Source(
    "gtFine/{}_gtFine_labelTrainIds.png",
    _IDS.read,
    Field((), functools.partial(ranges.class_ids, classes=5, first=0, void=255), whole=True),
)
MOTION = Source(
    "gtFine/{}_gtFine_labelTrainIds_motion.png",
    _IDS.read,
    Field((), functools.partial(ranges.one_of, values=(0, MOVING)), whole=True),
)
PREVIOUS = Source("leftImg8bit_sequence/{}_leftImg8bit.png", official.IMAGE.read, official.IMAGE.form)
_GIVEN = {"image": official.IMAGE, "ids": _IDS, "disparity": official.DISPARITY, "camera": official.CAMERA}
_FIVE_TABLE = np.append(np.arange(255), -1)  # byte -> class


def _flows(folder: str) -> Source:
    return Source(f"{folder}/{{}}_leftImg8bit.png", official.IMAGE.read, official.IMAGE.form, group="flow")


def stored(root: Path) -> Tree:
    """The files at ``root``; ``motion`` is a field where there is at least one mask.

    Raises:
        KitError: where there is no flow folder, or more than one.
    """
    found = [name for name in layout.entries(root) if name.startswith(FLOWS) and (root / name).is_dir()]
    if len(found) != 1:
        raise KitError(
            f"{', '.join(found) or 'no folder of flow images'} at {root}; expected one whose name begins with {FLOWS}; "
            "data/README.md says how to make it"
        )
    sources = _GIVEN | {"flow": _flows(found[0]), "five": FIVE}
    return Tree(CityscapesMotion.name, root, sources | ({"motion": MOTION} if _has(root, MOTION) else {}))


def _held_out(images: list[str], validation: bool) -> list[str]:
    """The last tenth of the training images, rounded up, or the others. Raises KitError where one of them is empty."""
    if len(images) < 2:
        raise KitError(f"holdout needs two training images or more, found {len(images)}; leave it out")
    kept = len(images) - math.ceil(len(images) / 10)
    return images[kept:] if validation else images[:kept]


def _has(root: Path, source: Source) -> bool:
    """Whether there is a file of this source in any part."""
    tree = Tree(CityscapesMotion.name, root, {"any": source})
    return any(tree.there(part)["any"] for part in official.COUNTS)


# --- the reader -------------------------------------------------------------------------------------------------------


@DATASETS.register("cityscapes-motion")
class CityscapesMotion(MultiTaskDataset):
    """One split of Cityscapes with flow.

    Args:
        split: ``"train"`` or ``"test"`` (the folder ``val``); ``"validation"`` with ``holdout``.
        root: folder with ``leftImg8bit``, ...; None is ``$MTLKIT_DATA/cityscapes-motion``, else
            ``data/cityscapes-motion``.
        classes: 5 (road, sky, pedestrian, vehicle, background; as the published results) or 19 (as the released script
            by default).
        released_depth: True gives 1 m, as the released code does, where the disparity says "infinitely far" (p = 1);
            False gives 255 m, which is as far as depth goes.
        holdout: keep the last tenth of the training images, in order of their names, as the split ``"validation"``: of
            neighbouring frames hardly any are in both. The code knows no such split, and selects an epoch on ``val``.

    Raises:
        KitError: for an unknown split or number of classes, ``"validation"`` without ``holdout``, a missing folder, no
            or several flow folders, a part without images, or a first flow image that cannot be read.
    """

    name = "cityscapes-motion"
    about = (
        "Cityscapes with the frame before, for two streams: flow image, 5 (or 19) classes, motion, depth; "
        "384 x 768; 2975 + 500 images"
    )
    licence = "terms of Cityscapes, not redistributable; flow, 5 classes and motion of Texas Instruments: not public"
    source = "the packages of Cityscapes (after registration), then mtlkit data prepare cityscapes-motion SOURCE DEST"

    def __init__(
        self,
        split: str,
        *,
        root: str | Path | None = None,
        classes: int = 5,
        released_depth: bool = False,
        holdout: bool = False,
    ):
        self.split = check_split(split, tuple(_PARTS))
        if split == "validation" and not holdout:
            raise KitError(
                f"{self.name} has no validation split of its own; set holdout=true to hold out some of train"
            )
        if classes not in (5, 19):
            raise KitError(f"cityscapes-motion has 5 or 19 classes, found {classes}")
        self.classes, self.released_depth = classes, released_depth
        self.stored = stored(layout.find(self.name, root))
        self.images = self.stored.ids(_PARTS[split])
        if holdout and split != "test":
            self.images = _held_out(self.images, split == "validation")
        self.tasks = {"depth": tasks.depth(streets=True), "semantic": tasks.semantic(TAXONOMIES[classes].names)}
        if "motion" in self.stored.sources:
            self.tasks["motion"] = tasks.motion()
        height, width, _ = self.stored.read("flow", self.images[0]).shape
        self.size = (height, width)

    @functools.cached_property
    def fingerprint(self) -> str:
        """Changes with the files of this split (what it misses: ``layout.fingerprint``); made on first use."""
        form = f"{self.classes}{'-released' if self.released_depth else ''}"
        digest = self.stored.fingerprint(self.images)
        return f"{self.name}-{form}-{self.split}{len(self)}-{self.size[0]}x{self.size[1]}-{digest}"

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        """One sample. Raises KitError where a file cannot be read; it names the file."""
        self._check_index(index)
        found = self._read(self.images[index])
        p_HW = found["disparity"]
        depth_HW = official.metres(p_HW, Calibration(*found["camera"].tolist()))
        if self.released_depth:
            depth_HW = np.where(p_HW == 1, np.float32(1), depth_HW)
        ids_HW = _FIVE_TABLE[found["five"]] if self.classes == 5 else TAXONOMIES[19].table[found["ids"]]
        sample = {
            "image": planes(found["image"]) / 255,
            "flow": torch.from_numpy(flow.decode(found["flow"])),
            "depth": torch.from_numpy(depth_HW[None]),
            "semantic": torch.from_numpy(ids_HW),
        }
        if "motion" in found:
            sample["motion"] = torch.from_numpy((found["motion"] == MOVING).astype(np.int64))
        return sample | {"index": torch.tensor(index)}

    def _read(self, image: str) -> dict[str, np.ndarray]:
        """The files of one image, all of the size of the flow image. Raises KitError as ``__getitem__``."""
        found: dict[str, np.ndarray] = {}
        sizes = {"flow": self.size}  # by group
        for field, source in self.stored.sources.items():
            found[field] = self.stored.read(field, image, sizes.get(source.group))
            sizes.setdefault(source.group, found[field].shape[:2])
            if field in ("ids", "five", "motion"):
                for problem in itertools.islice(source.form.values(found[field]), 1):
                    place = source.place.format(image)
                    raise KitError(f"{place}: {problem}; {layout.advice(self.name, self.stored.root)}")
        if sizes["image"] != self.size:
            found["image"] = official.resized(found["image"], self.size)
            pixelwise = [field for field in ("ids", "five", "motion", "disparity") if field in found]
            found |= {field: nearest_pixels(found[field], self.size) for field in pixelwise}
        return found

    def info(self, index: int) -> SampleInfo:
        """Its name, such as ``val/lindau/lindau_000000_000019``, and the size of its sample."""
        self._check_index(index)
        return SampleInfo(self.images[index], self.size)

    @classmethod
    def variant(cls, root: str | os.PathLike | None = None) -> str:
        """How it was prepared, or where its flow images lie; and whether there are motion masks."""
        folder = layout.find(cls.name, root)
        sources = stored(folder).sources
        masks = "with motion masks" if "motion" in sources else "without motion masks, so without the task motion"
        return layout.prepared(folder) or f"flow in {sources['flow'].place.split('/')[0]}; {masks}"

    @classmethod
    def check(cls, root: str | os.PathLike | None = None, *, contents: bool = True) -> list[str]:
        """Every problem, one line each: missing and stray files, damage, dtypes, sizes, values out of range."""
        folder = layout.find(cls.name, root)
        try:
            data = stored(folder)
        except KitError as error:
            return [str(error)]
        return official.check(data, contents=contents)

    @classmethod
    def write_sample(cls, root: str | os.PathLike, count: int = 4, *, height: int = 192, width: int = 384) -> None:
        """Write a sample: ``count`` streets to train and half as many (at least one) to ``val``.

        Two frames of each are rendered, and what ``prepare`` makes of them is the sample: flow is estimated, not exact.
        Motion masks are exact. Streets have less texture than photographs, which is harder for the estimate.

        Args:
            root: a folder that does not exist yet, or is empty.
            count: images in train.
            height: rows of every image.
            width: columns of every image.

        Raises:
            KitError: for a count or size below 1, and where ``root`` holds something already or cannot be written.
        """
        with layout.new_folder(root) as folder, tempfile.TemporaryDirectory() as source:
            write_source(source, count, height=height, width=width)
            cls.prepare(source, folder, height=height, width=width)

    @classmethod
    def prepare(
        cls,
        source: str | os.PathLike,
        root: str | os.PathLike,
        *,
        height: int = FLOW_SIZE[0],
        width: int = FLOW_SIZE[1],
    ) -> None:
        """Make this dataset from the packages of Cityscapes: leftImg8bit, gtFine, disparity, camera and
        leftImg8bit_sequence, where the frame before ``aachen_000000_000019`` is ``aachen_000000_000018``.

        Flow is computed between frames of ``height`` x ``width``. Motion masks, which nobody gives out, are taken from
        ``gtFine`` of the source where they lie beside the labels. Files of the source are linked where the file system
        allows it (they take no room then), else copied.

        Raises:
            KitError: where ``source`` is not that, a file of it is missing or damaged, a size is below 1, or ``root``
                holds something already or cannot be written.
        """
        if min(height, width) < 1:
            raise KitError(f"flow images have at least one pixel, found {height} x {width}")
        given, previous = _release(Path(source))
        if Path(root).resolve().is_relative_to(given.root.resolve()):
            raise KitError(f"{root} lies in {source}, which is left as it is; name a folder elsewhere")
        flows = f"{FLOWS}_confidence_{width}x{height}"
        with layout.new_folder(root) as folder:
            make = functools.partial(_make, given, previous, folder, flows, (height, width))
            images = [image for part in official.COUNTS for image in given.ids(part)]
            problems = layout.examine(images, make, f"preparing {cls.name}")
            if problems:
                more = f" (and {len(problems) - 1} more such files)" if problems[1:] else ""
                raise KitError(f"{problems[0]}{more}; nothing was written")
            masks = "those of the source" if "motion" in given.sources else "none"
            how = f"flow by {flow.METHOD} at {height} x {width}; 5 classes by mtlkit's table; motion masks: {masks}"
            layout.write_prepared(folder, cls.name, how)
            if note := layout.read_note(given.root, official.NAME):
                files.write_json(folder / layout.NOTE, dataclasses.asdict(dataclasses.replace(note, dataset=cls.name)))


# --- from the official files ------------------------------------------------------------------------------------------


def _release(root: Path) -> tuple[Tree, Tree]:
    """What lies in the packages of Cityscapes, and the frames before. Raises KitError where a file is missing."""
    if not root.is_dir():
        raise KitError(f"no folder {root}; expected the packages of Cityscapes there, unpacked; see data/README.md")
    given = Tree(official.NAME, root, _GIVEN | ({"motion": MOTION} if _has(root, MOTION) else {}))
    previous = Tree(official.NAME, root, {"previous": PREVIOUS})
    images = [image for part in official.COUNTS for image in given.ids(part)]
    places = [source.place.format(image) for source in given.sources.values() for image in images]
    places += [PREVIOUS.place.format(_before(image)) for image in images]
    if missing := [place for place in places if not (root / place).exists()]:
        more = f" (and {len(missing) - 1} more files)" if missing[1:] else ""
        raise KitError(
            f"{missing[0]}: missing{more}; expected every frame with the frame before it, see data/README.md"
        )
    return given, previous


def _before(image: str) -> str:
    """The name of the frame before: ``aachen_000000_000018`` for ``aachen_000000_000019``. Raises KitError for the
    first one of a recording.
    """
    recording, number = image.rsplit("_", 1)
    if int(number) == 0:
        raise KitError(f"{image}: is the first frame of its recording; expected one with a frame before it")
    return f"{recording}_{int(number) - 1:06d}"


def _make(given: Tree, previous: Tree, folder: Path, flows: str, size: tuple[int, int], image: str) -> list[str]:
    """The files of one image; returns what is wrong with those that they are made from."""
    try:
        frame_HW3 = given.read("image", image)
        before_HW3 = previous.read("previous", _before(image), frame_HW3.shape[:2])
        ids_HW = given.read("ids", image, frame_HW3.shape[:2])
        for problem in official.label_ids(ids_HW):
            raise KitError(f"{_IDS.place.format(image)}: {problem}")
    except KitError as error:
        return [str(error)]
    now_HW3, then_HW3 = (official.resized(frame, size) for frame in (frame_HW3, before_HW3))
    _save(folder, _flows(flows).place.format(image), flow.encode(flow.estimate(now_HW3, then_HW3)))
    _save(folder, FIVE.place.format(image), TAXONOMIES[5].table[ids_HW].astype(np.uint8))
    for source in given.sources.values():
        _link(given.root, folder, source.place.format(image))
    return []


def _save(folder: Path, place: str, array: np.ndarray) -> None:
    """Write a PNG."""
    path = folder / place
    path.parent.mkdir(parents=True, exist_ok=True)
    PIL.Image.fromarray(array).save(path)


def _link(source: Path, folder: Path, place: str) -> None:
    """The same file in another folder: a second name for it where the file system allows that, else a copy."""
    layout.check_inside(source, place)
    found, path = (source / place).resolve(), folder / place
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        os.link(found, path)
    except OSError:  # another disk, or a file system without links
        shutil.copyfile(found, path)


def write_source(root: str | os.PathLike, count: int = 4, *, height: int = 192, width: int = 384) -> None:
    """Write what ``prepare`` reads: a sample of the official files, with the frame before each and motion masks.

    Args:
        root: a folder that does not exist yet, or is empty.
        count: images in train; half as many (at least one) are in ``val``.
        height: rows of every image.
        width: columns of every image.

    Raises:
        KitError: for a count or size below 1, and where ``root`` holds something already or cannot be written.
    """

    def write(folder: Path, part: str, number: int, shot: scenes.Shot) -> None:
        image = write_official((height, width), folder, part, number, shot)
        before_HW3 = shot.before().render(height, width)["image"].transpose(1, 2, 0)
        _save(folder, PREVIOUS.place.format(_before(image)), np.rint(before_HW3 * 255).astype(np.uint8))
        moving_HW = shot.render(height, width, flow=True)["motion"]
        _save(folder, MOTION.place.format(image), (MOVING * moving_HW).astype(np.uint8))

    counts = {"train": count, "val": max(1, count // 2)}
    layout.write_sample(root, official.NAME, "streets", counts, (height, width), write)
