"""What every dataset promises: the sample contract, a name for every index, a fingerprint.

A sample is a ``dict[str, Tensor]``: ``image`` float32 (3, H, W) RGB in [0, 1], one entry per task, ``index`` int64 ().
Targets: ``semantic`` int64 (H, W), -1 ignored; ``depth`` float32 (1, H, W) metres, 0 invalid; ``normals`` float32 (3,
H, W) unit vectors in the camera frame x right, y down, z forward, all-zero invalid; ``edges``, ``saliency`` float32 (1,
H, W) in {0, 1}, -1 ignored; ``albedo`` float32 (3, H, W) in [0, 1]; ``flow`` float32 (3, H, W): u, v in pixels from the
current to the previous frame, confidence in [0, 1]; ``motion`` int64 (H, W), -1 ignored. A dataset converts its files'
conventions at the door.
"""

from __future__ import annotations

import abc
import dataclasses
import os
from typing import Any

from torch import Tensor
from torch.utils.data import Dataset

from ..errors import KitError, nearest
from ..registry import Registry
from ..tasks import Task


@dataclasses.dataclass(frozen=True)
class SampleInfo:
    """Which sample an index is: a name a person can find again, and its size on disk (height, width)."""

    name: str
    size: tuple[int, int]


class MultiTaskDataset(Dataset, abc.ABC):
    """One split of one dataset.

    Attributes:
        name: the registered name.
        about: one line: what it is and how to get it.
        split: ``"train"``, ``"validation"`` or ``"test"``.
        tasks: every task the dataset has targets for, by name.
        size: (height, width) of its samples.
        fingerprint: changes when the data do; a part of every run's id.
    """

    name: str
    about: str = ""
    split: str
    tasks: dict[str, Task]
    size: tuple[int, int]
    fingerprint: str

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
    @abc.abstractmethod
    def check(cls, root: str | os.PathLike | None = None) -> list[str]:
        """Every problem of the files on disk, one line each, with the file's name. Raises KitError where there are no
        files.
        """


DATASETS: Registry[type[MultiTaskDataset]] = Registry("dataset")


def check_split(split: str, splits: tuple[str, ...] = ("train", "test")) -> str:
    """``split`` itself. Raises KitError when a dataset has no such split."""
    if split not in splits:
        raise KitError(f"unknown split {split!r}: {nearest(split, splits)}")
    return split
