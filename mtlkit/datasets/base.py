"""What every dataset promises: the sample contract, a name for every index, a fingerprint.

A sample is a ``dict[str, Tensor]``: ``image`` float32 (3, H, W) RGB in [0, 1], one entry per task, ``index`` int64 ().
Targets: ``semantic``, ``parts`` int64 (H, W), -1 ignored; ``depth`` float32 (1, H, W) metres, 0 invalid; ``disparity``
float32 (1, H, W) in the dataset's own recorded unit, 0 invalid; ``normals`` float32 (3, H, W) unit vectors in the
camera frame x right, y down, z forward, all-zero invalid; ``edges``, ``saliency`` float32 (1, H, W) in {0, 1}, -1
ignored; ``albedo`` float32 (3, H, W) in [0, 1]; ``flow`` float32 (3, H, W): u, v in pixels from the current to the
previous frame, confidence in [0, 1]; ``motion`` int64 (H, W), -1 ignored; one label for an image int64 (), -1 unknown.
Where a dataset has domains, ``domain`` int64 () besides: the number of the sample's own in ``domains``. A dataset
converts its files' conventions at the door.
"""

from __future__ import annotations

import abc
import dataclasses
import inspect
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from .. import files
from ..errors import KitError, nearest
from ..registry import Registry, check_type
from ..tasks import Task
from . import pack

Moments = tuple[tuple[float, float, float], tuple[float, float, float]]


@dataclasses.dataclass(frozen=True)
class SampleInfo:
    """Which sample an index is: a name a person can find again, and its size on disk (height, width)."""

    name: str
    size: tuple[int, int]


class MultiTaskDataset(Dataset, abc.ABC):
    """One split of one dataset.

    Attributes:
        name: the registered name.
        about: one line: what it is.
        licence: one line: under which terms its files come, as far as that is known.
        source: one line: how to get the files.
        split: ``"train"``, ``"validation"`` or ``"test"``.
        tasks: every task the dataset has targets for, by name.
        size: (height, width) of its samples.
        one_size: False where images differ in size; then ``size`` is that of the first.
        fingerprint: changes when the data do; a part of every run's id.
        domains: names of what it is made of, where each is a task of its own; none of most datasets.
        indices: the indices of each domain.
        moments: of each domain, mean and standard deviation of red, green and blue in [0, 1].
        baseline_errors: of every domain there is, the error that the decathlon score is measured from, a fraction.
        labelled: whether there are targets in this split.
    """

    name: str
    about: str = ""
    licence: str = ""
    source: str = ""
    split: str
    tasks: dict[str, Task]
    size: tuple[int, int]
    one_size: bool = True
    fingerprint: str
    domains: tuple[str, ...] = ()
    indices: Mapping[str, range] = {}
    moments: Mapping[str, Moments] = {}
    baseline_errors: Mapping[str, float] = {}
    labelled: bool = True
    cached: bool = False  # True where samples are read from a cache of its own, which is made on first use

    def __getstate__(self) -> dict[str, Any]:
        """What a loading process is sent: everything but the tasks, which hold functions and are not needed there."""
        return {name: value for name, value in self.__dict__.items() if name != "tasks"}

    @abc.abstractmethod
    def __len__(self) -> int: ...

    @abc.abstractmethod
    def __getitem__(self, index: int) -> dict[str, Tensor]: ...

    @abc.abstractmethod
    def info(self, index: int) -> SampleInfo: ...

    @classmethod
    def folder(cls, root: str | os.PathLike | None = None) -> Path:
        """Where the files are looked for: ``root``, then ``$MTLKIT_DATA/NAME``, then ``data/NAME``."""
        return files.data_dir(cls.name, root)

    @classmethod
    def present(cls, root: str | os.PathLike | None = None) -> bool:
        """Whether there is a folder of it, or nothing to fetch."""
        return cls.folder(root).is_dir()

    @classmethod
    @abc.abstractmethod
    def check(cls, root: str | os.PathLike | None = None, *, contents: bool = True) -> list[str]:
        """Every problem of the files on disk, one line each, with the file's name; nothing is written.

        Args:
            root: where the files lie; None is as in ``folder``.
            contents: read every file through; False looks at names and numbers of files alone, in no time.

        Raises:
            KitError: where there are no files.
        """

    @classmethod
    def write_sample(cls, root: str | os.PathLike, count: int = 4) -> None:
        """Write a small set in the layout of the real one, made from rendered scenes.

        Args:
            root: a folder that does not exist yet, or is empty.
            count: images in its train split.

        Raises:
            KitError: where the dataset has no sample, ``root`` holds something already or cannot be written.
        """
        raise KitError(f"there is no sample of {cls.name!r}: {cls.about}")

    @classmethod
    def prepare(cls, source: str | os.PathLike, root: str | os.PathLike) -> None:
        """Make the files that this dataset reads, in the new folder ``root``, from the owner's release at ``source``.

        Raises:
            KitError: where there is nothing to prepare, ``source`` is not that release, or ``root`` holds something
                already or cannot be written.
        """
        raise KitError(f"there is nothing to prepare for {cls.name!r}: its files are read as they come; {cls.source}")

    @classmethod
    def variant(cls, root: str | os.PathLike | None = None) -> str:
        """One line: which of several forms of the dataset lies at ``root``; empty where it has but one.

        Raises:
            KitError: where there are no files, or none of a known form.
        """
        return ""

    @classmethod
    def preview(cls, count: int) -> dict[str, Any]:
        """Options with which looking at the first ``count`` samples of a split costs no more than these samples."""
        return {}

    def glance(self, count: int) -> list[int]:
        """Up to ``count`` indices of samples that show what the split is: its first ones, or a better choice."""
        return list(range(min(count, len(self))))

    def _check_index(self, index: int) -> None:
        if not 0 <= index < len(self):
            raise IndexError(f"index {index} of {len(self)} images")


class DrawnDataset(MultiTaskDataset):
    """One whose pictures are drawn, on first use into a cache of its own. Its options ``train``, ``validation`` and
    ``test`` are numbers of images.
    """

    cached = True

    @classmethod
    def folder(cls, root: str | os.PathLike | None = None) -> Path:
        """Where the caches are: ``root``, else ``$MTLKIT_CACHE/NAME``, else in the user's cache directory."""
        return files.cache_dir() / cls.name if root is None else Path(root)

    @classmethod
    def present(cls, root: str | os.PathLike | None = None) -> bool:
        """Always: what is not in the cache is drawn."""
        return True

    @classmethod
    def preview(cls, count: int) -> dict[str, Any]:
        """Splits of ``count`` images (of each domain, where there are domains)."""
        return {"train": count, "validation": count, "test": count}

    @classmethod
    def check(cls, root: str | os.PathLike | None = None, *, contents: bool = True) -> list[str]:
        """Every damaged cache. Nothing drawn yet is nothing wrong."""
        return pack.problems(cls.folder(root), contents)


class Datasets(Registry[type[MultiTaskDataset]]):
    """Datasets by name. Each has an option beside its own: ``packed``, to read its packed cache (see ``packed``)."""

    def options(self, name: str) -> dict[str, inspect.Parameter]:
        keyword = inspect.Parameter.KEYWORD_ONLY
        return super().options(name) | {"packed": inspect.Parameter("packed", keyword, default=False, annotation=bool)}

    def check(self, name: str, options: dict[str, Any]) -> None:
        super().check(name, {option: value for option, value in options.items() if option != "packed"})
        check_type(f"option 'packed' of dataset {name!r}", options.get("packed", False), bool)


DATASETS = Datasets("dataset")


def check_split(split: str, splits: tuple[str, ...] = ("train", "test")) -> str:
    """``split`` itself. Raises KitError when a dataset has no such split."""
    if split not in splits:
        raise KitError(f"unknown split {split!r}: {nearest(split, splits)}")
    return split


def planes(x_HWC: np.ndarray) -> Tensor:
    """(H, W, C) of any dtype -> float32 (C, H, W)."""
    return torch.from_numpy(np.array(x_HWC.transpose(2, 0, 1), dtype=np.float32, order="C"))


def nearest_pixels(array_HW: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Labels or disparities in another size: the value at the middle of each new pixel. None is mixed with another."""
    rows, columns = (
        ((np.arange(new) + 0.5) * old / new).astype(int) for new, old in zip(size, array_HW.shape, strict=True)
    )
    return array_HW[rows[:, None], columns]
