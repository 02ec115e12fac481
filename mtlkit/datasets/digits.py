"""Handwritten digits that come with scikit-learn: pairs of them for two tasks, and six looks of them as six domains.

    <root>/digits.csv.gz        a digit on every line, 1797 in all: 8 x 8 whole numbers 0 ... 16, row by row, and which
                                digit it is, separated by commas

This is the test set of E. Alpaydin and C. Kaynak, "Optical Recognition of Handwritten Digits" (UCI Machine Learning
Repository, 1998): bitmaps of 32 x 32, of which every 4 x 4 pixels were counted. The file lies in scikit-learn's own
folder; nothing is fetched.

Splits take lines in order, 1157 to train, 258 to validation and 382 to test, so that no digit is in two of them. The
order matters. Thirteen people wrote these digits, and the file holds form after form: the same digits in the same order
begin anew at lines 1, 131, 257, ... Both cuts are such places. A shuffled split would have every writer on both sides:
the nearest neighbour in training is then of the right class for 98 of 100 test digits, and for 95 with the cuts made
here. That no one filled in a form on both sides of a cut is unconfirmed (14 forms, 13 people).

Pairs are made in the manner of MultiMNIST (S. Sabour, N. Frosst and G. Hinton, "Dynamic Routing Between Capsules",
NeurIPS 2017; as two tasks: O. Sener and V. Koltun, "Multi-Task Learning as Multi-Objective Optimization", NeurIPS
2018): two digits side by side, overlapping, the brighter pixel in front.

Everything drawn at random is a pure function of (split, index, seed).
"""

from __future__ import annotations

import dataclasses
import gzip
import hashlib
import importlib.util
import itertools
import os
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from .. import files, tasks
from ..errors import KitError, nearest
from ..scenes import looks
from ..version import __version__
from . import layout
from .base import DATASETS, MultiTaskDataset, SampleInfo, check_split

FILE = "digits.csv.gz"
COUNTS = {"train": 1157, "validation": 258, "test": 382}
CLASSES = tuple("0123456789")
SIZE = (32, 32)
VERSION = 1  # raise it when any picture changes
MOMENTS = {  # by look: mean and standard deviation of red, green and blue over the train split, seed 0
    "plain": ((0.1961,) * 3, (0.2889,) * 3),
    "negative": ((0.8039,) * 3, (0.2889,) * 3),
    "mirror": ((0.1961,) * 3, (0.2889,) * 3),
    "outline": ((0.2258,) * 3, (0.2714,) * 3),
    "stripes": ((0.5,) * 3, (0.3536,) * 3),
    "colours": ((0.5,) * 3, (0.266,) * 3),  # the same for all three, drawn alike
}
_MOST_BYTES = 2**24  # of the file unpacked, which has 2 ** 18

Array = np.ndarray


# --- the file ---------------------------------------------------------------------------------------------------------


def _read_table(folder: Path) -> tuple[Array, dict[str, int]]:
    """The lines of the file, int64 (N, 65), and how many belong to each split.

    Raises:
        KitError: names the file that cannot be read, or the first problem of what it holds.
    """
    try:
        counts, table = _counts(folder), _unpack(folder)
        for problem in _problems(table, counts):
            raise KitError(f"{FILE}: {problem}")
    except KitError as error:
        raise KitError(f"{error}; {layout.advice(Digits.name, folder)}") from error
    return table, counts


def _counts(folder: Path) -> dict[str, int]:
    """Lines by split: those of a sample, or the real ones."""
    note = layout.read_note(folder, Digits.name)
    return COUNTS if note is None else {split: note.counts.get(split, 0) for split in COUNTS}


def _lines(counts: dict[str, int]) -> dict[str, tuple[int, int]]:
    """The first line of each split, from 0 on, and the one after its last."""
    ends = itertools.accumulate(counts.values())
    return {split: (end - count, end) for (split, count), end in zip(counts.items(), ends, strict=True)}


def _unpack(folder: Path) -> Array:
    """The numbers of the file, int64 (lines, numbers a line). Raises KitError where it holds something else."""
    try:
        with gzip.open(folder / FILE) as file:
            content = file.read(_MOST_BYTES + 1)
        if len(content) > _MOST_BYTES:
            raise KitError(f"{FILE}: unpacks to more than {_MOST_BYTES} bytes; is this the right file?")
        return np.array([line.split(b",") for line in content.splitlines()]).astype(np.int64)
    except KitError:
        raise
    except FileNotFoundError as error:
        raise KitError(f"{FILE}: is missing") from error
    except (OSError, EOFError, zlib.error, ValueError) as error:
        reason = " ".join(str(getattr(error, "strerror", None) or error).split())
        raise KitError(f"{FILE}: cannot be read; expected lines of whole numbers, packed; found: {reason}") from error


def _problems(table: Array, counts: dict[str, int]) -> Iterator[str]:
    """What is wrong with the lines, found and expected."""
    if table.ndim != 2 or table.shape[1] != 65:
        found = f"{table.shape[1]} numbers a line" if table.ndim == 2 else "no lines"
        yield f"{found}; expected 8 x 8 pixels and a label on every line"
        return
    if len(table) != sum(counts.values()):
        yield f"{len(table)} lines; expected {sum(counts.values())}"
    for what, columns, last in (("pixel", table[:, :64], looks.INK), ("label", table[:, 64:], 9)):
        wrong = ((columns < 0) | (columns > last)).any(axis=1)
        if wrong.any():
            first = int(wrong.argmax())
            value = next(v for v in columns[first] if not 0 <= v <= last)
            yield f"line {first + 1}: {what} {value} (the first of {wrong.sum()} lines); expected 0 ... {last}"


# --- the datasets -----------------------------------------------------------------------------------------------------


class _Digits(MultiTaskDataset):
    """What both datasets share: the file, the digits of a split, the check, the sample.

    Attributes:
        images: the digits of this split, enlarged, float32 (N, side, side) in [0, 1].
        labels: which digits they are, int64 (N,).
        first: the line of the file, from 1 on, of the first of them.
    """

    licence = "BSD-3-Clause, as scikit-learn; UCI's own terms for the digits are unconfirmed"
    source = "nothing to fetch: digits.csv.gz comes with scikit-learn"
    size = SIZE
    side: int

    def __init__(self, split: str, root: str | Path | None, seed: int):
        self.split, self.seed = check_split(split, tuple(COUNTS)), seed
        if seed < 0:
            raise KitError(f"the seed of digits is a whole number from 0, found {seed}")
        table, counts = _read_table(self._find(root))
        start, end = _lines(counts)[split]
        if start == end:
            raise KitError(f"no digits in the {split} split; type: mtlkit data sample digits DEST")
        self.first = start + 1
        self.images = looks.enlarge(table[start:end, :64].reshape(-1, 8, 8), self.side)
        self.labels = table[start:end, 64]
        self.source = hashlib.sha256(table.astype("<i8").tobytes()).hexdigest()[:16]

    @property
    def fingerprint(self) -> str:
        """Changes with the digits, with how their pictures are made, and with the options."""
        return f"{self.name}{VERSION}-{self.split}{len(self)}-{self._options()}seed{self.seed}-{self.source}"

    def _options(self) -> str:
        """What of the options the fingerprint names beside the seed."""
        return ""

    def _chance(self, *keys: int) -> np.random.Generator:
        return np.random.default_rng((self.seed, tuple(COUNTS).index(self.split), *keys))

    @classmethod
    def folder(cls, root: str | os.PathLike | None = None) -> Path:
        """``root``, else where scikit-learn keeps the file; else, without scikit-learn, as other datasets."""
        package = importlib.util.find_spec("sklearn")
        if root is None and package is not None and package.origin:
            return Path(package.origin).parent / "datasets" / "data"
        return files.data_dir(Digits.name, root)

    @classmethod
    def _find(cls, root: str | os.PathLike | None) -> Path:
        folder = cls.folder(root)
        if not folder.is_dir():
            raise KitError(f"no digits at {folder}; expected {FILE} there, as scikit-learn has it; type: make setup")
        return folder

    @classmethod
    def check(cls, root: str | os.PathLike | None = None, *, contents: bool = True) -> list[str]:
        """Every problem of the one file, one line each; what else lies beside it is scikit-learn's."""
        folder, problems, counts = cls._find(root), [], COUNTS
        try:
            counts = _counts(folder)
        except KitError as error:
            problems.append(str(error))
        if not contents:
            return problems + [f"{FILE}: is missing"] * (not (folder / FILE).is_file())
        try:
            return problems + [f"{FILE}: {problem}" for problem in _problems(_unpack(folder), counts)]
        except KitError as error:
            return [*problems, str(error)]

    @classmethod
    def write_sample(cls, root: str | os.PathLike, count: int = 4) -> None:
        """Write a sample: the first ``count`` digits of train, and of the other splits half as many (at least one).

        Args:
            root: a folder that does not exist yet, or is empty.
            count: digits to train.

        Raises:
            KitError: for a count below 1 or beyond what there is, and where ``root`` holds something already or cannot
                be written.
        """
        counts = {split: count if split == "train" else max(1, count // 2) for split in COUNTS}
        most = 2 * COUNTS["validation"] + 1
        if not 1 <= count <= most:
            raise KitError(f"a sample has 1 ... {most} digits to train, found {count}")
        table, real = _read_table(cls._find(None))
        kept = [table[start : start + counts[split]] for split, (start, _) in _lines(real).items()]
        content = "".join(",".join(map(str, line)) + "\n" for line in np.concatenate(kept))
        versions = {"mtlkit": __version__, "digits": str(VERSION)}
        note = layout.Note(Digits.name, counts, (8, 8), f"lines of scikit-learn's {FILE}", versions)
        with layout.new_folder(root) as folder:
            (folder / FILE).write_bytes(gzip.compress(content.encode(), mtime=0))  # the same sample is the same bytes
            files.write_json(folder / layout.NOTE, dataclasses.asdict(note))


@DATASETS.register("digits")
class Digits(_Digits):
    """Pairs of handwritten digits that overlap; the left one and the right one are two tasks of ten classes.

    Args:
        split: ``"train"``, ``"validation"`` or ``"test"``; no two share a digit.
        root: folder with ``digits.csv.gz``; None is scikit-learn's own.
        train: pairs in the train split.
        validation: pairs in the validation split.
        test: pairs in the test split.
        seed: another seed, other pairs.

    Raises:
        KitError: for an unknown split, a split without pairs, a negative seed, and a file that cannot be read.
    """

    name = "digits"
    about = "pairs of handwritten digits, left and right as two tasks; 4000 + 500 + 1000 pairs of 32 x 32"
    side = 20

    def __init__(
        self,
        split: str,
        *,
        root: str | Path | None = None,
        train: int = 4000,
        validation: int = 500,
        test: int = 1000,
        seed: int = 0,
    ):
        super().__init__(split, root, seed)
        self.count = {"train": train, "validation": validation, "test": test}[split]
        if self.count < 1:
            raise KitError(f"the {split} split has {self.count} pairs; give {split}=N with N above 0")
        self.tasks = {side: tasks.classification(side, CLASSES) for side in ("left", "right")}

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        self._check_index(index)
        chance = self._chance(index)
        pair = chance.integers(len(self.labels), size=2)
        rows = (SIZE[0] - self.side) // 2 + chance.integers(-4, 5, size=2)
        columns = (chance.integers(3), SIZE[1] - self.side - chance.integers(3))  # apart by 8 to 12, of the 20 of each
        image_HW = np.zeros(SIZE, dtype=np.float32)
        for digit, row, column in zip(pair, rows, columns, strict=True):
            window = image_HW[row : row + self.side, column : column + self.side]
            np.maximum(window, self.images[digit], out=window)
        left, right = torch.from_numpy(self.labels[pair])
        image_3HW = torch.from_numpy(np.repeat(image_HW[None], 3, axis=0))
        return {"image": image_3HW, "left": left, "right": right, "index": torch.tensor(index)}

    def info(self, index: int) -> SampleInfo:
        """Its name, such as ``train/00012``, and its size."""
        self._check_index(index)
        return SampleInfo(f"{self.split}/{index:05d}", self.size)


@DATASETS.register("digits-domains")
class DigitsDomains(_Digits):
    """Every handwritten digit in several looks. Each look is one domain and one task of ten classes.

    A sample has ``image``, ``domain`` and one label for every task: the digit in that of its own domain, -1 in the
    others.

    Args:
        split: ``"train"``, ``"validation"`` or ``"test"``; no two share a digit.
        root: folder with ``digits.csv.gz``; None is scikit-learn's own.
        domains: names in ``scenes.looks.LOOKS``; their digits come one domain after the other.
        seed: another seed, other colours and stripes.

    Raises:
        KitError: for an unknown split or domain, one that is named twice or none at all, a negative seed, and a file
            that cannot be read.
    """

    name = "digits-domains"
    about = f"1797 handwritten digits of 32 x 32 in {len(looks.LOOKS)} looks, each a domain and a task"
    side = 32

    def __init__(
        self,
        split: str,
        *,
        root: str | Path | None = None,
        domains: Sequence[str] = tuple(looks.LOOKS),
        seed: int = 0,
    ):
        super().__init__(split, root, seed)
        for name in domains:
            if name not in looks.LOOKS:
                raise KitError(f"unknown domain {name!r}: {nearest(name, looks.LOOKS)}")
        if not domains or len(set(domains)) < len(domains):
            raise KitError(f"domains names each domain once, found {list(domains)}; valid: {', '.join(looks.LOOKS)}")
        self.domains, count = tuple(domains), len(self.labels)
        self.indices = {name: range(n * count, (n + 1) * count) for n, name in enumerate(self.domains)}
        self.moments = {name: MOMENTS[name] for name in self.domains}
        self.tasks = {name: tasks.classification(name, CLASSES) for name in self.domains}

    def _options(self) -> str:
        return "+".join(self.domains) + "-"

    def __len__(self) -> int:
        return len(self.domains) * len(self.labels)

    def _place(self, index: int) -> tuple[str, int]:
        """Domain and digit of an index."""
        self._check_index(index)
        number, digit = divmod(index, len(self.labels))
        return self.domains[number], digit

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        domain, digit = self._place(index)
        image_3HW = looks.LOOKS[domain](self.images[digit], self._chance(digit, tuple(looks.LOOKS).index(domain)))
        labels = {name: torch.tensor(self.labels[digit] if name == domain else -1) for name in self.domains}
        image = torch.from_numpy(np.array(image_3HW, dtype=np.float32, order="C"))
        number = torch.tensor(self.domains.index(domain))
        return {"image": image, **labels, "domain": number, "index": torch.tensor(index)}

    def info(self, index: int) -> SampleInfo:
        """Its name, such as ``stripes/line-17`` for the digit on line 17 of the file, and its size."""
        domain, digit = self._place(index)
        return SampleInfo(f"{domain}/line-{self.first + digit}", self.size)

    def glance(self, count: int) -> list[int]:
        """The domains in turn, and another digit in each."""
        several = range(min(count, len(self)))
        return [self.indices[self.domains[n % len(self.domains)]][n % len(self.labels)] for n in several]
