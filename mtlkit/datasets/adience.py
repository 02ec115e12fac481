"""Adience: faces cut out of photos, with the age group and the gender of whom they show, in five folds.

    <root>/fold_{0..4}_data.txt                 a face on every line after the first, columns separated by tabs:
                                                user_id original_image face_id age gender x y dx dy tilt_ang
                                                fiducial_yaw_angle fiducial_score
    <root>/fold_frontal_{0..4}_data.txt         those seen almost from the front; not read
    <root>/faces/<user_id>/coarse_tilt_aligned_face.<face_id>.<original_image>      turned upright, cut out
                           landmarks.<face_id>.<stem of original_image>.txt         not read
    <root>/aligned/<user_id>/landmark_aligned_face.<face_id>.<original_image>       aligned by landmarks

E. Eidinger, R. Enbar and T. Hassner, "Age and Gender Estimation of Unfiltered Faces", 2014; protocol and networks of
G. Levi and T. Hassner, "Age and Gender Classification Using Convolutional Neural Networks", CVPR Workshops 2015. AFANet
(T. Shen et al. and C. Cui et al., CIKM 2020 and TCSVT 2021) trains gender and age together. One of the two folders of
images is enough.

19,487 lines name 19,370 faces in 13,082 photos: 117 lines say the same again. ``face_id`` is a *subject*, of whom there
are 2,284; each has one age string, one gender string and one fold, as has each of the 168 users. How strings become
classes is told in ``adience_labels``.

Protocol: five times, each fold is the test split once, the other four are for training; mean and standard deviation of
the accuracy over the five. Levi and Hassner choose on a random tenth of the *training images*, whose subjects are in
training too (``holdout="images"``); ``"subjects"`` holds out whole subjects. They resize to 256 x 256 and cut out
227 x 227; ResNets such as AFANet's take 224 x 224.

Unconfirmed: which images, policy and rows AFANet uses; that aligned images have 816 x 816 pixels; the size of the
others; titles and authors as named here.
"""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import os
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import PIL.Image
import torch
from torch import Tensor
from tqdm.auto import tqdm

from .. import files, tasks
from ..errors import KitError, nearest
from ..scenes import faces
from . import adience_folds, layout
from .adience_folds import COUNTS, FOLDS, IMAGES, Row, place_of
from .adience_labels import CLASSES, GENDERS, NO_AGE, POLICIES, gender_class
from .base import DATASETS, MultiTaskDataset, SampleInfo, check_split, planes

SPLITS = ("train", "validation", "test")
HOLDOUTS = ("none", "subjects", "images")
_TENTH = 10
# which faces are kept -> (age, gender) -> whether this one is
LABELLED = {
    "any": lambda age, gender: age >= 0 or gender >= 0,
    "both": lambda age, gender: age >= 0 and gender >= 0,
    "age": lambda age, gender: age >= 0,
    "gender": lambda age, gender: gender >= 0,
}


@DATASETS.register("adience")
class Adience(MultiTaskDataset):
    """One split of Adience for one test fold.

    Args:
        split: ``"train"``, ``"test"``; ``"validation"`` with ``holdout``.
        root: folder with the fold files; None is ``$MTLKIT_DATA/adience``, else ``data/adience``.
        fold: the fold to test on, 0 ... 4; the others are for training.
        policy: how age strings become classes, a name in ``adience_labels.POLICIES``.
        labelled: which faces are kept: those with ``"any"`` label, an ``"age"``, a ``"gender"``, or ``"both"``. A label
            that is not known is -1 and counts neither in loss nor metrics, so that with ``"any"`` either task has every
            image that it would have alone.
        images: ``"faces"`` or ``"aligned"``.
        holdout: what a validation split is made of: ``"none"``, a tenth of the training ``"subjects"``, or a tenth of
            the training ``"images"``, which has the faces of people that were trained on.
        duplicates: True keeps the lines that say the same again, as the published counts do.
        resize: both sides of an image are brought to this, in pixels.
        size: sides of the middle square that is cut out of it.
        crop: False leaves the images of train at ``resize``, for an augmentation that crops.

    Attributes:
        rows: the lines of the fold files, one for each sample.
        labels: (age, gender) class ids of each sample.

    Raises:
        KitError: for an unknown split or option, a missing folder, a fold file that cannot be read, a split without
            images.
    """

    name = "adience"
    about = "Adience: 19,370 faces of 2,284 people, cut out of photos, with age group and gender, in five folds"
    licence = "research data: not to be passed on, fold files included"
    source = "free registration at talhassner.github.io/home/projects/Adience/Adience-data.html"

    def __init__(
        self,
        split: str,
        *,
        root: str | Path | None = None,
        fold: int = 0,
        policy: str = "fixed",
        labelled: str = "any",
        images: str = "faces",
        holdout: str = "none",
        duplicates: bool = False,
        resize: int = 256,
        size: int = 224,
        crop: bool = True,
    ):
        self.split = check_split(split, SPLITS)
        for option, value, known in (
            ("policy", policy, POLICIES),
            ("labelled", labelled, LABELLED),
            ("images", images, IMAGES),
            ("holdout", holdout, HOLDOUTS),
        ):
            if value not in known:
                raise KitError(f"unknown {option} {value!r}: {nearest(value, known)}")
        if fold not in FOLDS:
            raise KitError(f"fold is 0 ... {FOLDS[-1]}, the one to test on, found {fold}")
        if not 1 <= size <= resize:
            raise KitError(f"size is 1 ... resize, which is {resize}, found {size}")
        if split == "validation" and holdout == "none":
            raise KitError("adience has no validation split of its own; set holdout='subjects' to hold out a tenth")
        self.fold, self.policy, self.images, self.resize, self.size = fold, policy, images, resize, (size, size)
        self.crop = crop or split != "train"
        self.root = layout.find(self.name, root)
        rows = self._rows(holdout, duplicates)
        found = [(row, (POLICIES[policy].get(row.age, -1), gender_class(row.gender))) for row in rows]
        kept = [(row, labels) for row, labels in found if LABELLED[labelled](*labels)]
        if not kept:
            raise KitError(f"no {split} images with labels {labelled!r} in {self.root}; {_HINT}")
        self.rows, self.labels = zip(*kept, strict=True)
        self.tasks = {
            "age": tasks.classification("age", CLASSES, ordered=True),
            "gender": tasks.classification("gender", GENDERS),
        }

    def _rows(self, holdout: str, duplicates: bool) -> list[Row]:
        """The rows of this split, labelled or not."""
        rows: list[Row] = []
        for fold in FOLDS:
            if (fold == self.fold) == (self.split == "test"):
                found, problems = adience_folds.read(self.root, fold)
                for problem in problems:
                    raise self._error(place_of(fold), problem)
                rows += found if duplicates else adience_folds.distinct(found)
        if holdout == "none" or self.split == "test":
            return rows
        held_out = _tenth(_unit(row, holdout) for row in rows)
        return [row for row in rows if (_unit(row, holdout) in held_out) == (self.split == "validation")]

    def _error(self, place: str, reason: str) -> KitError:
        return KitError(f"{place}: {reason}; {layout.advice(self.name, self.root)}")

    # samples

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        """One sample. Raises KitError where the file cannot be read; it names the file."""
        self._check_index(index)
        image = PIL.Image.fromarray(self._read(index))
        image_HW3 = np.asarray(image.resize((self.resize, self.resize), PIL.Image.Resampling.BILINEAR))
        if self.crop:
            start, side = round((self.resize - self.size[0]) / 2), self.size[0]
            image_HW3 = image_HW3[start : start + side, start : start + side]
        age, gender = self.labels[index]
        labels = {"age": torch.tensor(age), "gender": torch.tensor(gender)}
        return {"image": planes(image_HW3 / 255), **labels, "index": torch.tensor(index)}

    def info(self, index: int) -> SampleInfo:
        """Its name, such as ``faces/<user_id>/coarse_tilt_aligned_face.<...>.jpg``, and the size of its file."""
        self._check_index(index)
        return SampleInfo(self.rows[index].place(self.images), self._read(index).shape[:2])

    def _read(self, index: int) -> np.ndarray:
        place = self.rows[index].place(self.images)
        try:
            return adience_folds.read_face(self.root, place)
        except KitError as error:
            raise self._error(place, str(error)) from error

    @functools.cached_property
    def fingerprint(self) -> str:
        """Changes with the files of this split (what it misses: ``layout.fingerprint``), with what is made of their
        labels and with the size; made on first use.
        """
        places = [row.place(self.images) for row in self.rows]
        digest = hashlib.sha256(layout.fingerprint(self.name, self.root, tqdm(places, "fingerprint", delay=2)).encode())
        digest.update("\n".join(f"{age} {gender}" for age, gender in self.labels).encode())
        form = f"{self.policy}-{self.split}{len(self)}-{self.resize}-{self.size[0] if self.crop else self.resize}"
        return f"{self.name}-fold{self.fold}-{form}-{digest.hexdigest()[:16]}"

    def glance(self, count: int) -> list[int]:
        """Samples of all ages, evenly spread."""
        by_age, count = sorted(range(len(self)), key=self.labels.__getitem__), min(count, len(self))
        return [by_age[len(self) * n // count] for n in range(count)]

    # the whole folder

    @classmethod
    def check(cls, root: str | os.PathLike | None = None, *, contents: bool = True) -> list[str]:
        """Every problem, one line each: fold files, counts, subjects in two folds, faces named twice with different
        labels, missing and stray files, damaged images, links and names that lead outside.
        """
        folder = layout.find(cls.name, root)
        note, problems = layout.note_and_problems(folder, cls.name)
        if note is None:
            return problems + adience_folds.check(folder, COUNTS, None, contents)
        counts = {fold: tuple(note.counts.get(key, 0) for key in _keys(fold)) for fold in FOLDS}
        return problems + adience_folds.check(folder, counts, note.size, contents)

    @classmethod
    def write_sample(cls, root: str | os.PathLike, count: int = 4, *, photos: int = 2, size: int = 128) -> None:
        """Write a sample: drawn faces (``mtlkit.scenes.faces``).

        A quarter of the subjects have an age string that is none of the eight, or no labels at all; the two subjects of
        a user share a photo; each fold file says its first line again at the end. An aligned image is the middle of the
        face, enlarged.

        Args:
            root: a folder that does not exist yet, or is empty.
            count: subjects in each fold.
            photos: of each subject.
            size: rows and columns of every image.

        Raises:
            KitError: for a count below 1, no photos, a size below 16, and where ``root`` holds something already or
                cannot be written.
        """
        if count < 1 or photos < 1 or size < 16:
            found = f"found {count}, {photos}, {size}"
            raise KitError(f"a sample has at least 1 subject in a fold, 1 photo of each and 16 rows, {found}")
        subjects = range(len(FOLDS) * count)
        with layout.new_folder(root) as folder:
            rows: dict[int, list[Row]] = {fold: [] for fold in FOLDS}
            for number in tqdm(subjects, desc="drawing faces", unit="subject"):
                rows[number % len(FOLDS)] += _write_subject(folder, number, photos, size)
            counts = {}
            for fold, found in rows.items():
                adience_folds.write(folder / place_of(fold), [*found, found[0]])
                counts |= dict(zip(_keys(fold), (len(found) + 1, len(found)), strict=True))
            note = layout.Note.new(cls.name, counts, (size, size), "faces", str(faces.VERSION))
            files.write_json(folder / layout.NOTE, dataclasses.asdict(note))


_HINT = f"type: mtlkit data sample {Adience.name} DEST"


def _keys(fold: int) -> tuple[str, str]:
    """How the note of a sample calls the numbers of lines and of faces of a fold."""
    return f"fold_{fold}/lines", f"fold_{fold}/faces"


def _unit(row: Row, holdout: str) -> str:
    """What is held out as a whole: a subject, or a face in a photo."""
    return str(row.subject) if holdout == "subjects" else "/".join(map(str, row.face))


def _tenth(units: Iterable[str]) -> set[str]:
    """A tenth of them, at least one: always the same, in an order that has nothing to do with their names."""
    shuffled = sorted(set(units), key=lambda unit: hashlib.sha256(unit.encode()).digest())
    return set(shuffled[: max(1, len(shuffled) // _TENTH)])


# --- the sample -------------------------------------------------------------------------------------------------------

_STRINGS = tuple(POLICIES["strict"])
# by class: the strings that are none of the eight, as far as the drawn ages can have them
_ODD = ("3", NO_AGE, "13", "22", "(25, 23)", "(38, 42)", "55", "57")
_ODD_CLASSES = ((4, 5), (0, 1), (6, 7), (2, 3))  # whose subjects have them: of the first eight, the next eight, ...


def _write_subject(folder: Path, number: int, photos: int, size: int) -> list[Row]:
    """The images of a subject, and their rows."""
    fold, place = number % len(FOLDS), number // len(FOLDS)
    user = f"user{fold}{place // 2:04d}"
    rows = []
    for photo in range(photos):
        image_HW3, age_group, gender = faces.draw(number, photo, size)
        age, gender = _strings(number, age_group, gender)
        name = f"{user}_{f'{place % 2}-{photo}' if photo else 'both'}.jpg"  # the first photo shows two subjects
        box = (size * (place % 2), 0, size, size, 0, 0, 100)
        row = Row(user, name, number + 1, age, gender, tuple(map(float, box)))
        for images, picture_HW3 in (("faces", image_HW3), ("aligned", _enlarged(image_HW3))):
            path = folder / row.place(images)
            path.parent.mkdir(parents=True, exist_ok=True)
            PIL.Image.fromarray(picture_HW3).save(path, quality=95, subsampling=0)
        rows.append(row)
    return rows


def _strings(number: int, age_group: int, gender: str) -> tuple[str, str]:
    """What the fold file says of a subject, of whom eight in a row have all ages."""
    odd = age_group in _ODD_CLASSES[number // 8 % len(_ODD_CLASSES)]
    age = _ODD[age_group] if odd else _STRINGS[age_group]
    return age, "" if age == NO_AGE else gender


def _enlarged(image_HW3: np.ndarray) -> np.ndarray:
    size = len(image_HW3)
    margin = size // 10
    middle = PIL.Image.fromarray(image_HW3[margin : size - margin, margin : size - margin])
    return np.asarray(middle.resize((size, size), PIL.Image.Resampling.BILINEAR))
