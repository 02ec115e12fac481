"""Datasets by name: one file each, all with the same contract (see ``base``)."""

from __future__ import annotations

from typing import Any

from . import (  # noqa: F401  (they register their datasets)
    adience,
    cityscapes,
    cityscapes_motion,
    digits,
    fsv,
    mini_decathlon,
    nyud_mt,
    nyuv2,
    pascal_mt,
    scenes,
    visual_decathlon,
)
from .base import DATASETS, MultiTaskDataset, SampleInfo
from .packed import find as find_packed

__all__ = ["DATASETS", "MultiTaskDataset", "SampleInfo", "build"]


def build(name: str, split: str, *, packed: bool = False, **options: Any) -> MultiTaskDataset:
    """One split of the dataset called ``name``; ``packed`` reads its packed cache, which ``mtlkit data pack`` makes.

    Raises:
        KitError: for an unknown name, split or option, with the nearest valid one; as the dataset and ``packed.find``.
    """
    DATASETS.check(name, options | {"packed": packed})
    return find_packed(name, split, **options) if packed else DATASETS[name](split, **options)
