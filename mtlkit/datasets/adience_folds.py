"""Adience's five fold files, and everything that can be wrong with them and with the images that they name. The layout
is told in ``adience``.

Files are named in messages by their place under the root, such as ``fold_0_data.txt`` or
``faces/<user_id>/coarse_tilt_aligned_face.<face_id>.<original_image>``. Nothing outside the root is read: users and
images are plain names, and a link that leads out is refused.
"""

from __future__ import annotations

import collections
import dataclasses
import functools
import math
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np

from ..errors import KitError, nearest
from . import layout
from .adience_labels import AGES, GENDER_STRINGS

FOLDS = range(5)
COLUMNS = (
    "user_id", "original_image", "face_id", "age", "gender", "x", "y", "dx", "dy", "tilt_ang", "fiducial_yaw_angle",
    "fiducial_score",
)  # fmt: skip
# folder -> its files, by subject and photo
IMAGES = {"faces": "coarse_tilt_aligned_face.{}.{}", "aligned": "landmark_aligned_face.{}.{}"}
_LANDMARKS = "landmarks.{}.{}.txt"
COUNTS = {0: (4496, 4484), 1: (3745, 3730), 2: (3953, 3894), 3: (3459, 3446), 4: (3834, 3816)}  # lines, faces
_NAME = re.compile(r"[\w-][\w.@-]*")  # a plain name: no folder, nothing hidden, no way up


def place_of(fold: int, frontal: bool = False) -> str:
    """The place of a fold file; ``frontal`` is that of the faces seen from the front."""
    return f"fold_{'frontal_' * frontal}{fold}_data.txt"


@dataclasses.dataclass(frozen=True, slots=True)
class Row:
    """One line of a fold file: a face in a photo.

    Attributes:
        user: whose photo it is.
        photo: file name of the whole photo; several faces may share it.
        subject: whose face it is, the column ``face_id``.
        age: as written, one of ``adience_labels.AGES``.
        gender: as written, one of ``adience_labels.GENDER_STRINGS``.
        numbers: the other columns: the face's box in the photo (x, y, dx, dy), tilt, yaw, score.
    """

    user: str
    photo: str
    subject: int
    age: str
    gender: str
    numbers: tuple[float, ...]

    @property
    def face(self) -> tuple[str, str, int]:
        """Which face in which photo: two lines with the same one are the same image."""
        return self.user, self.photo, self.subject

    def file(self, images: str) -> str:
        """The name of its file in its user's folder."""
        return IMAGES[images].format(self.subject, self.photo)

    def place(self, images: str) -> str:
        """The place of its file in ``"faces"`` or ``"aligned"``."""
        return f"{images}/{self.user}/{self.file(images)}"


# --- fold files -------------------------------------------------------------------------------------------------------


def parse(text: str) -> tuple[list[Row], list[str]]:
    """The rows of a fold file, lines that say the same again included, and what is wrong with it, in words.

    Lines are split at tabs, never at spaces: an age such as ``(25, 32)`` has one.
    """
    header, *lines = text.split("\n")
    if tuple(header.rstrip("\r").split("\t")) != COLUMNS:
        return [], [f"line 1: {header[:80]!r}; expected the columns {' '.join(COLUMNS)}, separated by tabs"]
    rows, problems, first = [], [], {}
    for number, line in enumerate(lines, 2):
        if not line.strip():
            continue
        try:
            row = _row(line.rstrip("\r").split("\t"))
            earlier, before = first.setdefault(row.face, (number, row))
            if row != before:
                raise KitError(f"the face of line {earlier} again, but not as there; expected every face once")
            rows.append(row)
        except KitError as error:
            problems.append(f"line {number}: {error}")
    if not rows and not problems:
        problems.append("no faces; expected one on every line after the first")
    return rows, problems


def _row(cells: Sequence[str]) -> Row:
    """One line. Raises KitError where it is none."""
    if len(cells) != len(COLUMNS):
        raise KitError(f"{len(cells)} columns; expected {len(COLUMNS)}, separated by tabs")
    user, photo, subject, age, gender, *others = cells
    for column, value in (("user_id", user), ("original_image", photo)):
        if not _NAME.fullmatch(value):
            raise KitError(f"{column} {value[:80]!r}; expected a plain name")
    if not re.fullmatch(r"[0-9]{1,9}", subject):
        raise KitError(f"face_id {subject[:80]!r}; expected a whole number")
    for column, value, known in (("age", age, AGES), ("gender", gender, GENDER_STRINGS)):
        if value not in known:
            raise KitError(f"unknown {column} {value[:80]!r}: {nearest(value[:80], known)}")
    return Row(user, photo, int(subject), age, gender, tuple(map(_number, COLUMNS[5:], others)))


def _number(column: str, value: str) -> float:
    try:
        number = float(value)
    except ValueError:
        number = math.nan
    if not math.isfinite(number):
        raise KitError(f"{column} {value[:80]!r}; expected a number")
    return number


def read(root: Path, fold: int) -> tuple[list[Row], list[str]]:
    """``parse`` of a fold file; that it cannot be read is a problem too."""
    try:
        layout.check_inside(root, place_of(fold))
        text = (root / place_of(fold)).read_bytes().decode("utf-8")
    except FileNotFoundError:
        return [], ["is missing; expected a face on every line"]
    except KitError as error:
        return [], [str(error)]
    except (OSError, UnicodeDecodeError) as error:
        return [], [f"cannot be read ({getattr(error, 'strerror', None) or 'no text in UTF-8'})"]
    return parse(text)


def write(path: Path, rows: Iterable[Row]) -> None:
    """Write a fold file."""
    cells = ((r.user, r.photo, str(r.subject), r.age, r.gender, *(f"{n:g}" for n in r.numbers)) for r in rows)
    lines = ("\t".join(line) for line in (COLUMNS, *cells))
    path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8", newline="\n")


def distinct(rows: Iterable[Row]) -> list[Row]:
    """Every face once, in the order of the rows."""
    return list({row.face: row for row in rows}.values())


def read_face(root: Path, place: str) -> np.ndarray:
    """An image as RGB, uint8 (H, W, 3). Raises KitError that says why it is none, without its name."""
    layout.check_inside(root, place)
    return layout.read_image(root / place, "RGB")


# --- checking ---------------------------------------------------------------------------------------------------------


def check(
    root: Path, counts: Mapping[int, tuple[int, int]], size: tuple[int, int] | None, contents: bool = True
) -> list[str]:
    """Everything that is wrong, one line each: the file or folder, what was found, what is expected.

    Args:
        root: the folder, which exists.
        counts: by fold: lines with a face, and faces.
        size: (height, width) of every image; None is any.
        contents: read every image through; False looks at the fold files and at names alone.
    """
    read_folds = {fold: read(root, fold) for fold in FOLDS}
    rows = {fold: found for fold, (found, _) in read_folds.items()}
    problems = [f"{place_of(fold)}: {problem}" for fold, (_, wrong) in read_folds.items() for problem in wrong]
    whole = not problems  # else every face that could not be read is missing from counts, and its file a stray
    problems += _counts(rows, counts) if whole else []
    problems += _exclusive(rows)
    every = {place_of(fold, frontal) for fold in FOLDS for frontal in (False, True)}
    problems += layout.strays(root, "", {*every, *IMAGES, layout.NOTE})
    present = [images for images in IMAGES if (root / images).is_dir()]
    if not present:
        problems.append(f"{', '.join(IMAGES)}: missing folders; expected at least one of them")
    faces = distinct(row for found in rows.values() for row in found)
    for images in present:
        problems += _files(root, images, faces, whole)
    if contents:
        places = [row.place(images) for images in present for row in faces if (root / row.place(images)).exists()]
        problems += layout.examine(places, functools.partial(_image, root, size), "checking adience")
    return problems


def _counts(rows: Mapping[int, list[Row]], counts: Mapping[int, tuple[int, int]]) -> Iterator[str]:
    for fold, found in rows.items():
        measured, expected = (len(found), len(distinct(found))), counts[fold]
        if measured != expected:
            yield "{}: {} lines with {} faces; expected {} with {}".format(place_of(fold), *measured, *expected)


def _exclusive(rows: Mapping[int, list[Row]]) -> Iterator[str]:
    """Subjects and users in two folds, subjects with two users, ages or genders; each is told once."""
    first: dict[tuple[str, str], int | str] = {}
    told: set[tuple[str, str]] = set()
    for fold, found in rows.items():
        for row in found:
            subject = f"subject {row.subject}"
            for who, what, value in (
                (subject, "fold", fold),
                (subject, "user", row.user),
                (subject, "age", row.age),
                (subject, "gender", row.gender),
                (f"user {row.user}", "fold", fold),
            ):
                before = first.setdefault((who, what), value)
                if value != before and (who, what) not in told:
                    told.add((who, what))
                    yield f"{place_of(fold)}: {who} has {what} {value!r} here and {before!r} elsewhere; expected one"


def _files(root: Path, images: str, faces: Sequence[Row], strays: bool) -> Iterator[str]:
    """Files that are missing from ``faces`` or ``aligned``, and those that no fold file names."""
    of_user: dict[str, list[Row]] = collections.defaultdict(list)
    for row in faces:
        of_user[row.user].append(row)
    users, problem = _listed(root, images)
    if problem:
        yield f"{images}: {problem}"
        return
    if strays:
        yield from (f"{images}/{entry}: stray; no fold file names it" for entry in sorted(users - set(of_user)))
    for user, found in of_user.items():
        folder = f"{images}/{user}"
        entries, problem = _listed(root, folder)
        if problem:
            yield f"{folder}: {problem}; expected {len(found)} faces in it"
            continue
        expected = {row.file(images) for row in found}
        yield from (f"{folder}/{name}: missing; a fold file names it" for name in sorted(expected - entries))
        beside = {_LANDMARKS.format(row.subject, Path(row.photo).stem) for row in found if images == "faces"}
        if strays:
            names = sorted(entries - expected - beside)
            yield from (f"{folder}/{name}: stray; no fold file names it" for name in names)


def _listed(root: Path, folder: str) -> tuple[set[str], str]:
    """The names in a folder; or why it cannot be listed, in words."""
    try:
        layout.check_inside(root, folder)
        return set(layout.entries(root / folder)), ""
    except FileNotFoundError:
        return set(), "missing folder"
    except OSError as error:
        return set(), f"cannot be listed ({error.strerror})"
    except KitError:
        return set(), "is a link that leads out of the dataset's folder"


def _image(root: Path, size: tuple[int, int] | None, place: str) -> list[str]:
    """What is wrong with one image."""
    try:
        height, width, _ = read_face(root, place).shape
    except KitError as error:
        return [f"{place}: {error}"]
    if size and (height, width) != size:
        return [f"{place}: {height} x {width} pixels; expected {size[0]} x {size[1]}"]
    return []
