"""Datasets by name: one file each, all with the same contract (see ``base``)."""

from __future__ import annotations

from typing import Any

from . import digits, nyud_mt, nyuv2, scenes, visual_decathlon  # noqa: F401  (they register their datasets)
from .base import DATASETS, MultiTaskDataset, SampleInfo

__all__ = ["DATASETS", "MultiTaskDataset", "SampleInfo", "build"]


def build(name: str, split: str, **options: Any) -> MultiTaskDataset:
    """One split of the dataset called ``name``. Raises KitError for an unknown name, split or option, with the nearest
    valid one.
    """
    return DATASETS.build(name, split, **options)
