"""Folders of files that split lists name, as ASTMT's packages come: a line ``17`` in ``gt_sets/train.txt`` stands for
``images/17.jpg``, ``depth/17.mat``, ... Here is what reads such a folder, takes its fingerprint and finds everything
that is wrong with it; which lists and fields there are, a dataset says itself.

Files are named in messages by their place under the root, such as ``depth/17.mat``. Nothing outside the root is read:
an id is a plain name, and a link that leads out is refused.
"""

from __future__ import annotations

import collections
import dataclasses
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path, PurePosixPath

import numpy as np

from ..errors import KitError
from . import layout
from .numbered import Field

_ID = re.compile(r"[\w-][\w.-]*")  # a plain name: no folder, nothing hidden, no way up
_SHOWN = 20  # of the strays in a folder: a larger package has thousands of files more


@dataclasses.dataclass(frozen=True)
class Source:
    """One field as it is stored.

    Attributes:
        place: of its files under the root, with ``{}`` for the id.
        read: a file -> its array; raises KitError with the reason alone.
        form: dtype, shape and values of this array.
        group: files of one group have one size (height, width), in an image and in all images.
        otherwise: another place, for files that are not in the first.
    """

    place: str
    read: Callable[[Path], np.ndarray]
    form: Field
    group: str = "image"
    otherwise: str = ""

    def places(self, image: str) -> list[str]:
        """Where the file of an image may lie, the best place first."""
        return [place.format(image) for place in (self.place, self.otherwise) if place]


@dataclasses.dataclass(frozen=True)
class Folder:
    """The files of a dataset.

    Attributes:
        name: of the dataset.
        root: the folder that holds everything.
        sources: by field; the first is the image, whose size the others of its group share.
        lists: part -> the place of its split list.
        under: part -> the folder of its files, where every part has one of its own; then an image is called
            ``<folder>/<id>``, and a place is ``{}`` with a suffix.
        one_size: whether the files of a group have one size in all images.
    """

    name: str
    root: Path
    sources: Mapping[str, Source]
    lists: Mapping[str, str]
    under: Mapping[str, str] = dataclasses.field(default_factory=dict)
    one_size: bool = True

    def ids(self, part: str) -> list[str]:
        """The images of a part, in the order of its list.

        Raises:
            KitError: where the list cannot be read, is empty, or names what is no image.
        """
        found, problems = self.listed(part)
        if problems:
            raise KitError(f"{problems[0]}; {layout.advice(self.name, self.root)}")
        return found

    def listed(self, part: str) -> tuple[list[str], list[str]]:
        """The images that a list names, each once, and what is wrong with the list."""
        place, found, problems = self.lists[part], {}, []
        try:
            lines = self._lines(place)
        except KitError as error:
            return [], [f"{place}: {error}"]
        for number, line in lines:
            if not _ID.fullmatch(line):
                problems.append(f"{place}: line {number}: {line!r}; expected the name of an image, without its suffix")
            elif (image := str(PurePosixPath(self.under.get(part, ""), line))) in found:
                problems.append(f"{place}: line {number}: {line} for the second time; expected every image once")
            else:
                found[image] = None
        if not lines:
            problems.append(f"{place}: is empty; expected an image on every line")
        return list(found), problems

    def _lines(self, place: str) -> list[tuple[int, str]]:
        """The lines of a text file with their numbers, from 1 on, without the empty ones."""
        layout.check_inside(self.root, place)
        try:
            text = (self.root / place).read_text(encoding="utf-8")
        except FileNotFoundError as error:
            raise KitError("is missing; expected the names of images, one on every line") from error
        except (OSError, UnicodeDecodeError) as error:
            reason = getattr(error, "strerror", None) or "no text in UTF-8"
            raise KitError(f"cannot be read ({reason}); expected the names of images, one on every line") from error
        return [(number, line.strip()) for number, line in enumerate(text.splitlines(), 1) if line.strip()]

    def read(self, field: str, image: str, size: tuple[int, int] | None = None) -> np.ndarray:
        """One file as it is stored; ``size`` is the (height, width) that it must have, None is any.

        Raises:
            KitError: names the file that cannot be read, leads out of the root, or has another dtype or shape.
        """
        source = self.sources[field]
        place = self.place(source, image)
        try:
            array = self._open(source, place)
            source.form.check_form(array, size)
        except KitError as error:
            raise KitError(f"{place}: {error}; {layout.advice(self.name, self.root)}") from error
        return array

    def place(self, source: Source, image: str) -> str:
        """Where the file of an image lies, or should."""
        places = source.places(image)
        return next((place for place in places if (self.root / place).exists()), places[0])

    def _open(self, source: Source, place: str) -> np.ndarray:
        layout.check_inside(self.root, place)
        return source.read(self.root / place)

    def problems(self, image: str, size: tuple[int, int] | None) -> tuple[list[str], dict[str, tuple[int, int]]]:
        """What is wrong with the files of one image, and its (height, width) by group; those that are missing do not
        count. ``size`` is that of the group ``image``, None is any.
        """
        found: list[str] = []
        measured = {} if size is None else {"image": size}
        for source in self.sources.values():
            place = self.place(source, image)
            if not (self.root / place).exists():
                continue
            try:
                array = self._open(source, place)
                source.form.check_form(array, measured.get(source.group))
            except KitError as error:
                found.append(f"{place}: {error}")
                continue
            if array.size:
                measured.setdefault(source.group, array.shape[:2])
            with np.errstate(all="ignore"):  # what overflows is found as not finite
                found += [f"{place}: {problem}" for problem in source.form.values(array.astype(np.float64))]
        return found, measured

    def folders(self) -> set[str]:
        """What lies directly under the root."""
        places = self.under.values() or [place for source in self.sources.values() for place in source.places("{}")]
        return {PurePosixPath(place).parts[0] for place in [*self.lists.values(), *places]}

    def fingerprint(self, images: Sequence[str]) -> str:
        """``layout.fingerprint`` of the files of these images. Raises KitError as it does."""
        places = (self.place(source, image) for source in self.sources.values() for image in images)
        return layout.fingerprint(self.name, self.root, places)


# --- checking ---------------------------------------------------------------------------------------------------------


def check(data: Folder, counts: Mapping[str, int | None], contents: bool = True) -> list[str]:
    """Everything that is wrong with a folder, one line each: the file or folder, what was found, what is expected.

    Args:
        data: the folder, which exists.
        counts: images by part, where there is no ``mtlkit-sample.json``, which says it of a sample; None is not known.
        contents: read every file through; False looks at lists and names alone.
    """
    note, problems = layout.note_and_problems(data.root, data.name)
    if note is not None:
        counts = {part: note.counts.get(part, 0) for part in counts}
    lists = {part: data.listed(part) for part in counts}
    problems += _lists(data, counts, lists)
    images = list(dict.fromkeys(image for found, _ in lists.values() for image in found))
    problems += _missing(data, images)
    problems += layout.strays(data.root, "", {*data.folders(), layout.NOTE})
    if all(found for found, _ in lists.values()):  # a list that cannot be read would make every file a stray
        problems += _strays(data, images)
    if contents:
        problems += look_inside(data, images, note.size if note and data.one_size else None)
    return problems


def _lists(
    data: Folder, counts: Mapping[str, int | None], lists: Mapping[str, tuple[list[str], list[str]]]
) -> Iterator[str]:
    """What is wrong with the split lists."""
    first: dict[str, str] = {}  # image -> the list that names it first
    for part, (found, problems) in lists.items():
        place = data.lists[part]
        yield from problems
        if found and counts[part] not in (None, len(found)):
            yield f"{place}: {len(found)} images; expected {counts[part]}"
        for image in found:
            if first.setdefault(image, place) != place:
                yield f"{place}: {image} is in {first[image]} too; expected it in one part alone"


def _missing(data: Folder, images: list[str]) -> Iterator[str]:
    """Files that a list names and that are not there."""
    absent: set[PurePosixPath] = set()
    for source in data.sources.values():
        for place in (data.place(source, image) for image in images):
            folder = PurePosixPath(place).parent
            if folder in absent or (data.root / place).exists():
                continue
            if (data.root / folder).is_dir():
                yield f"{place}: missing; a list names it"
            else:
                absent.add(folder)
                yield f"{folder}: missing folder; expected {source.place} in it"


def _strays(data: Folder, images: list[str]) -> Iterator[str]:
    """Files beside the others that no list names."""
    expected: dict[PurePosixPath, set[str]] = collections.defaultdict(set)  # folder -> names in it
    every = (place for source in data.sources.values() for image in images for place in source.places(image))
    for place in map(PurePosixPath, (*data.lists.values(), *every)):
        if place.parent.name:  # what lies beside the folders has been looked at
            expected[place.parent].add(place.name)
    for folder, names in expected.items():
        if (data.root / folder).is_dir():
            strays = [entry for entry in layout.entries(data.root / folder) if entry not in names]
            yield from (f"{folder}/{entry}: stray; no list names it" for entry in strays[:_SHOWN])
            if strays[_SHOWN:]:
                yield f"{folder}: {len(strays) - _SHOWN} more stray files; no list names them"


def look_inside(data: Folder, images: list[str], size: tuple[int, int] | None) -> Iterable[str]:
    """What is wrong inside the files; without a ``size``, images whose size is not that of most."""
    sizes: dict[str, dict[str, tuple[int, int]]] = collections.defaultdict(dict)  # group -> image -> size

    def problems(image: str) -> list[str]:
        found, measured = data.problems(image, size)
        for group, one in measured.items():
            sizes[group][image] = one
        return found

    yield from layout.examine(images, problems, f"checking {data.name}")
    if not data.one_size:
        return
    places = {source.group: source.place for source in reversed(data.sources.values())}  # of the first of each group
    for group, measured in sizes.items():
        ((usual, _),) = collections.Counter(measured.values()).most_common(1)
        for image in images:
            if measured.get(image, usual) != usual:
                height, width = measured[image]
                yield (
                    f"{places[group].format(image)}: {height} x {width} pixels; expected {usual[0]} x {usual[1]}, "
                    "as most images"
                )


# --- samples ----------------------------------------------------------------------------------------------------------


def append(folder: Path, place: str, image: str) -> None:
    """Add an image to the split list of a sample that is being written."""
    path = folder / place
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a", encoding="utf-8") as names:
        names.write(f"{image}\n")
