"""The Visual Decathlon: ten sets of labelled images from as many domains, all with a shorter side of 72 pixels.

    <root>/decathlon-1.0-data/<set>/{train,val}/<class>/*.jpg       the class folders, sorted, are the classes 0, 1, ...
    <root>/decathlon-1.0-data/<set>/test/<any one folder>/*.jpg     000001.jpg ...; also right in test/
    <root>/annotations/<set>_{train,val}.json, <set>_test_stripped.json      ids for the evaluation server (COCO style)

The sets are imagenet12, aircraft, cifar100, daimlerpedcls, dtd, gtsrb, omniglot, svhn, ucf101 and vgg-flowers (see
``SETS``), collected and resized by S.-A. Rebuffi, H. Bilen and A. Vedaldi, "Learning multiple visual domains with
residual adapters", NeurIPS 2017. The root is the folder ``visual_decathlon`` of MTAN's code (S. Liu, E. Johns and
A. J. Davison, CVPR 2019), which needs the one folder in test for torchvision's ImageFolder; the reader does not. Labels
of the test images are kept by the evaluation server. The annotations are read by ``check`` alone.

Category ids are ``block`` + 1 ... classes, image ids ``block`` + 200000 + 1, 2, ... over train, val and test, and
``file_name`` is ``data/<set>/test/000001.jpg``. All this was seen in the released files of test; that train and val
follow it (``data/<set>/train/<class>/...``, in the order of the names), and what the class folders are called, is
unconfirmed. The reader does not depend on it.

``decathlon_mean_std.pickle``, which lies beside the sets, is never opened: unpickling runs what the file says. Its
values are in ``SETS``.
"""

from __future__ import annotations

import bisect
import dataclasses
import functools
import hashlib
import itertools
import math
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import pydantic
import torch
from torch import Tensor
from tqdm.auto import tqdm

from .. import files, tasks
from ..errors import KitError, nearest
from ..metrics.decathlon import BASELINE_ERRORS
from ..scenes import domains as drawn
from . import decathlon_check, layout
from .base import DATASETS, MultiTaskDataset, SampleInfo, check_split
from .decathlon_check import DATA, Expected

SIDE = 72  # pixels: the shorter side of every file, and both sides of a sample
_PARTS = {"train": "train", "validation": "val", "test": "test"}  # split -> folder
_MOST_FILES = 5000  # of one set, whose contents are in the fingerprint


@dataclasses.dataclass(frozen=True)
class Facts:
    """What is known of one set.

    Attributes:
        block: what its ids begin with.
        classes: how many.
        images: in train, val and test.
        mean: of red, green and blue in [0, 1].
        std: their standard deviations.
    """

    block: int
    classes: int
    images: tuple[int, int, int]
    mean: tuple[float, float, float]
    std: tuple[float, float, float]

    @property
    def counts(self) -> dict[str, int]:
        """Images by folder."""
        return dict(zip(_PARTS.values(), self.images, strict=True))


# In the order of MTAN's released code. Counts: catalogue of TensorFlow Datasets (visual_domain_decathlon); mean and
# standard deviation of RGB in [0, 1]: the released decathlon_mean_std.pickle.
SETS = {
    "imagenet12": Facts(60_000_000, 1000, (1_232_167, 49_000, 48_238),
                        (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
    "aircraft": Facts(10_000_000, 100, (3_334, 3_333, 3_333),
                      (0.47983041, 0.51074066, 0.53437998), (0.21070221, 0.20508901, 0.23729657)),
    "cifar100": Facts(20_000_000, 100, (40_000, 10_000, 10_000),
                      (0.50705882, 0.48666667, 0.44078431), (0.26745098, 0.25647059, 0.27607843)),
    "daimlerpedcls": Facts(30_000_000, 2, (23_520, 5_880, 19_600),
                           (0.48203529, 0.48203529, 0.48203529), (0.23612616, 0.23612616, 0.23612616)),
    "dtd": Facts(40_000_000, 47, (1_880, 1_880, 1_880),
                 (0.52696497, 0.47025164, 0.42396662), (0.25226877, 0.2409176, 0.2499409)),
    "gtsrb": Facts(50_000_000, 43, (31_367, 7_842, 12_630),
                   (0.33921263, 0.3117836, 0.32047045), (0.27560347, 0.26576119, 0.27089863)),
    "omniglot": Facts(70_000_000, 1623, (17_853, 6_492, 8_115),
                      (0.08099839, 0.08099839, 0.08099839), (0.27046935, 0.27046935, 0.27046935)),
    "svhn": Facts(80_000_000, 10, (47_217, 26_040, 26_032),
                  (0.4376821, 0.4437697, 0.47280442), (0.19803012, 0.20101562, 0.19703614)),
    "ucf101": Facts(90_000_000, 101, (7_585, 1_952, 3_783),
                    (0.49953101, 0.49880386, 0.49981996), (0.10898684, 0.10810246, 0.10679939)),
    "vgg-flowers": Facts(100_000_000, 102, (1_020, 1_020, 6_149),
                         (0.43414682, 0.38309883, 0.29714763), (0.28509808, 0.23842338, 0.2639633)),
}  # fmt: skip
GROUPS = {"all": tuple(SETS), "notimagenet": tuple(name for name in SETS if name != "imagenet12")}


@pydantic.dataclasses.dataclass(frozen=True)
class Note(layout.Note):
    """What the note of a sample says besides.

    Attributes:
        classes: of the sample, by set.
        real: of the set that it stands for: its numbers of classes and images.
    """

    classes: dict[str, pydantic.PositiveInt]
    real: dict[str, dict[str, int]]


@dataclasses.dataclass(frozen=True)
class _Group:
    """The images of one folder, all of one class."""

    domain: str
    label: int
    folder: str
    names: list[str]


@DATASETS.register("visual-decathlon")
class VisualDecathlon(MultiTaskDataset):
    """One split of some or all of the ten sets, one after the other. Each set is one domain and one task.

    A sample has ``image``, ``domain`` and one label for every task: the class id in that of its own domain, -1 in the
    others.

    Args:
        split: ``"train"``, ``"validation"`` (the folder ``val``) or ``"test"``, where every label is -1.
        root: folder with ``decathlon-1.0-data``; None is ``$MTLKIT_DATA/visual-decathlon``, else
            ``data/visual-decathlon``.
        domains: names of sets, or ``"all"``, or ``"notimagenet"``, the nine that MTAN's second phase trains.
        crop: True gives the middle square of every image, 72 x 72, as the released code tests. False leaves the images
            of train whole, whose longer sides differ, for an augmentation that crops.

    Raises:
        KitError: for an unknown split or domain, a missing folder, a set without classes or images, and class folders
            of val that are not those of train.
    """

    name = "visual-decathlon"
    about = "Visual Decathlon: ten sets of labelled images, each a domain and a task; 1.4 million to train, 72 x 72"
    licence = "every set keeps the terms of its owners, ImageNet's among them"
    baseline_errors = BASELINE_ERRORS
    source = "images and devkit: https://www.robots.ox.ac.uk/~vgg/decathlon/#download"

    def __init__(
        self,
        split: str,
        *,
        root: str | Path | None = None,
        domains: Sequence[str] | str = "all",
        crop: bool = True,
    ):
        self.split = check_split(split, tuple(_PARTS))
        self.part = _PARTS[split]
        self.domains = _chosen(domains)
        self.crop = crop or split != "train"
        self.size, self.labelled = (SIDE, SIDE), split != "test"
        self.moments = {domain: (SETS[domain].mean, SETS[domain].std) for domain in self.domains}
        self.root = layout.find(self.name, root)
        self.tasks: dict[str, tasks.Task] = {}
        self.groups: list[_Group] = []
        for domain in self.domains:
            classes = self._classes(domain)
            self.tasks[domain] = tasks.classification(domain, classes)
            self.groups += self._groups(domain, classes)
        self.ends = list(itertools.accumulate(len(group.names) for group in self.groups))
        self.indices = {domain: self._range(domain) for domain in self.domains}

    # what is on disk

    def _classes(self, domain: str) -> list[str]:
        place = f"{DATA}/{domain}/train"
        if not (folders := self._listed(place)[0]):
            raise self._error(place, "no class folders")
        return folders

    def _groups(self, domain: str, classes: list[str]) -> Iterator[_Group]:
        place = f"{DATA}/{domain}/{self.part}"
        folders, _ = self._listed(place)
        if self.part == "test":
            if len(folders) > 1:
                raise self._error(place, f"{len(folders)} folders; expected the images in one folder")
            place = "/".join([place, *folders])
            yield _Group(domain, -1, place, self._images(place))
        elif folders == classes:
            for label, name in enumerate(tqdm(classes, desc=f"listing {domain}", delay=2, leave=False)):
                yield _Group(domain, label, f"{place}/{name}", self._images(f"{place}/{name}"))
        else:
            raise self._error(place, f"its {len(folders)} class folders are not the {len(classes)} of train")

    def _images(self, place: str) -> list[str]:
        if not (names := self._listed(place)[1]):
            raise self._error(place, "no images")
        return names

    def _listed(self, place: str) -> tuple[list[str], list[str]]:
        """The folders and the images in a folder."""
        try:
            folders, names, _ = decathlon_check.listed(self.root / place)
        except OSError as error:
            hint = "; domains='notimagenet' leaves it out" if "/imagenet12/" in place else ""
            raise self._error(place, f"cannot be listed ({error.strerror}){hint}") from error
        return folders, names

    def _range(self, domain: str) -> range:
        numbers = [n for n, group in enumerate(self.groups) if group.domain == domain]
        return range(self.ends[numbers[0]] - len(self.groups[numbers[0]].names), self.ends[numbers[-1]])

    def _error(self, place: str, reason: str) -> KitError:
        return KitError(f"{place}: {reason}; {layout.advice(self.name, self.root)}")

    # samples

    def __len__(self) -> int:
        return self.ends[-1]

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        """One sample. Raises KitError where the file cannot be read; it names the file."""
        group, place = self._place(index)
        image_HW3 = _resized(self._read(place))
        if self.crop:
            image_HW3 = _middle(image_HW3)
        labels = {domain: torch.tensor(group.label if domain == group.domain else -1) for domain in self.domains}
        image_3HW = torch.from_numpy(image_HW3.transpose(2, 0, 1).astype(np.float32, order="C") / 255)
        domain = torch.tensor(self.domains.index(group.domain))
        return {"image": image_3HW, **labels, "domain": domain, "index": torch.tensor(index)}

    def info(self, index: int) -> SampleInfo:
        """Its name, such as ``svhn/train/7/000012.jpg``, and the size of its file."""
        _, place = self._place(index)
        return SampleInfo(place.removeprefix(f"{DATA}/"), self._read(place).shape[:2])

    def _place(self, index: int) -> tuple[_Group, str]:
        self._check_index(index)
        number = bisect.bisect_right(self.ends, index)
        group = self.groups[number]
        return group, f"{group.folder}/{group.names[index - self.ends[number]]}"

    def _read(self, place: str) -> np.ndarray:
        try:
            return decathlon_check.read(self.root, place)
        except KitError as error:
            raise self._error(place, str(error)) from error

    @functools.cached_property
    def fingerprint(self) -> str:
        """Changes with the names of the files, and with the contents of up to 5000 of each set, evenly spread (what it
        misses of these: ``layout.fingerprint``); made on first use.
        """
        digest = hashlib.sha256()
        for group in self.groups:
            digest.update("\n".join([group.folder, *group.names, ""]).encode())
        spread = [i for r in self.indices.values() for i in r[:: math.ceil(len(r) / _MOST_FILES)]]
        places = (self._place(i)[1] for i in tqdm(spread, desc="fingerprint", delay=2, leave=False))
        digest.update(layout.fingerprint(self.name, self.root, places).encode())
        return f"{self.name}-{self.split}{len(self)}-{digest.hexdigest()[:16]}"

    def glance(self, count: int) -> list[int]:
        """As many samples of every domain, its classes evenly spread; the first domains have one more."""
        chosen = []
        for number, found in enumerate(self.indices.values()):
            several = min(len(found), len(range(number, count, len(self.indices))))
            chosen += [found[len(found) * n // several] for n in range(several)]
        return chosen

    # the whole folder

    @classmethod
    def check(cls, root: str | os.PathLike | None = None, *, contents: bool = True) -> list[str]:
        """Every problem, one line each: missing and stray files and folders, wrong counts, class folders that differ,
        links and names that lead outside, annotations that do not fit the files, damaged images, other sizes.
        """
        folder = layout.find(cls.name, root)
        note, problems = layout.note_and_problems(folder, cls.name, Note)
        return problems + decathlon_check.check(folder, _expected(note), SIDE, contents)

    @classmethod
    def write_sample(cls, root: str | os.PathLike, count: int = 4, *, domains: Sequence[str] | str = "all") -> None:
        """Write a sample: drawn pictures of some of the classes of every set (``mtlkit.scenes.domains``).

        The labels of its test images are those of ``scenes.domains.picture(set, "test", number - 1)``.

        Args:
            root: a folder that does not exist yet, or is empty.
            count: images of each class in train; val has half as many (at least one), and test as many as val.
            domains: the sets, as of the reader.

        Raises:
            KitError: for a count below 1, an unknown domain, and where ``root`` holds something already or cannot be
                written.
        """
        if count < 1:
            raise KitError(f"a sample has at least one image of each class, found count={count}")
        chosen = _chosen(domains)
        per_class = {"train": count, "validation": max(1, count // 2), "test": max(1, count // 2)}
        with layout.new_folder(root) as folder:
            counts = {}
            for domain in tqdm(chosen, desc="drawing pictures", unit="set"):
                counts |= _write_set(folder, domain, per_class)
            classes = {domain: len(drawn.DOMAINS[domain].classes) for domain in chosen}
            real = {domain: {"classes": SETS[domain].classes} | SETS[domain].counts for domain in chosen}
            note = Note.new(cls.name, counts, (SIDE, SIDE), "domains", str(drawn.VERSION), classes=classes, real=real)
            files.write_json(folder / layout.NOTE, dataclasses.asdict(note))


def _chosen(domains: Sequence[str] | str) -> tuple[str, ...]:
    """The names of sets that an option means."""
    if isinstance(domains, str):
        if domains not in GROUPS:
            raise KitError(f"unknown group of domains {domains!r}: {nearest(domains, GROUPS)}; or give a list of names")
        return GROUPS[domains]
    for name in domains:
        if name not in SETS:
            raise KitError(f"unknown domain {name!r}: {nearest(name, SETS)}")
    if not domains or len(set(domains)) < len(domains):
        raise KitError(f"domains names each set once, found {list(domains)}; valid: {', '.join(SETS)}")
    return tuple(domains)


def _expected(note: Note | None) -> dict[str, Expected]:
    """What each set should hold: the real numbers, or those of a sample."""
    if note is None:
        return {name: Expected(facts.block, facts.classes, facts.counts) for name, facts in SETS.items()}
    return {
        name: Expected(
            SETS[name].block, classes, {part: note.counts.get(f"{name}/{part}", 0) for part in _PARTS.values()}
        )
        for name, classes in note.classes.items()
        if name in SETS
    }


def _resized(image_HW3: np.ndarray) -> np.ndarray:
    """The shorter side brought to 72 pixels, where it is not: bilinear, as the released code does."""
    height, width, _ = image_HW3.shape
    short = min(height, width)
    if short == SIDE:
        return image_HW3
    size = (SIDE * width // short, SIDE * height // short)
    return np.asarray(PIL.Image.fromarray(image_HW3).resize(size, PIL.Image.Resampling.BILINEAR))


def _middle(image_HW3: np.ndarray) -> np.ndarray:
    """The square in the middle, as torchvision's CenterCrop cuts it."""
    top, left = (round((n - SIDE) / 2) for n in image_HW3.shape[:2])
    return image_HW3[top : top + SIDE, left : left + SIDE]


# --- samples ----------------------------------------------------------------------------------------------------------


def _write_set(folder: Path, domain: str, per_class: dict[str, int]) -> dict[str, int]:
    """Write the images and annotations of one set. Returns its numbers of images, by ``set/part``."""
    classes, counts = drawn.DOMAINS[domain].classes, {}
    grey, first = drawn.DOMAINS[domain].grey, SETS[domain].block + decathlon_check.FIRST_IMAGE
    (folder / "annotations").mkdir(exist_ok=True)
    for split, part in _PARTS.items():
        written = []
        for index in range(per_class[split] * len(classes)):
            image_HW3, label = drawn.picture(domain, split, index)
            inside, number = ("unlabelled", index) if part == "test" else (classes[label], index // len(classes))
            path = folder / DATA / domain / part / inside / f"{number + 1:06d}.jpg"
            path.parent.mkdir(parents=True, exist_ok=True)
            image = PIL.Image.fromarray(image_HW3).convert("L" if grey else "RGB")
            image.save(path, quality=95, subsampling=0)
            place = path.name if part == "test" else f"{inside}/{path.name}"
            written.append((f"data/{domain}/{part}/{place}", image_HW3.shape[:2], label))
        content = _annotations(domain, sorted(written), first, labelled=part != "test")
        suffix = "test_stripped" if part == "test" else part
        files.write_json(folder / "annotations" / f"{domain}_{suffix}.json", content)
        first += len(written)
        counts[f"{domain}/{part}"] = len(written)
    return counts


def _annotations(
    domain: str, images: list[tuple[str, tuple[int, int], int]], first: int, labelled: bool
) -> dict[str, Any]:
    """An annotation file: (file name, (height, width), label) of its images, of which the first has this id."""
    block = SETS[domain].block
    content = {
        "info": {"description": f"{domain}: drawn pictures, not real data"},
        "images": [
            {"id": first + n, "width": width, "height": height, "file_name": name}
            for n, (name, (height, width), _) in enumerate(images)
        ],
        "annotations": [],
        "categories": [
            {"id": block + 1 + k, "name": name, "supercategory": domain}
            for k, name in enumerate(drawn.DOMAINS[domain].classes)
        ],
        "licenses": [],
    }
    if labelled:
        content["annotations"] = [
            {"id": first + n, "image_id": first + n, "category_id": block + 1 + label}
            | {"segmentation": [], "area": 0, "bbox": [], "iscrowd": 0}
            for n, (_, _, label) in enumerate(images)
        ]
    return content
