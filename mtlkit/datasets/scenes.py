"""Rendered scenes as a dataset: no download, exact ground truth, cached on first use.

The images of a split are pure functions of (family, split, index, size, seed), see ``mtlkit.scenes``; this file stores
and serves them.

What is stored, and what it costs: ``image`` and ``albedo`` as uint8, rounded once, so that what is trained on *is* the
cached picture; labels as int8; ``depth`` and ``flow`` as float32, because half precision would be 2 mm off beyond 4 m;
``normals`` as float16 and made unit vectors again when they are read: a component is then at most 2^-12 off, 0.03
degrees, where the strictest threshold of the metrics is 11.25.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from pathlib import Path

from torch import Tensor

from .. import scenes, tasks
from ..errors import KitError, nearest
from . import pack
from .base import DATASETS, DrawnDataset, SampleInfo, check_split
from .packed import Reader

SPLITS = ("train", "validation", "test")

# field -> its shape before H, W; types are in scenes.COMPACT, how they are read in packed.FORMS
_SHAPES: dict[str, tuple[int, ...]] = {
    "image": (3,), "semantic": (), "depth": (1,), "normals": (3,), "edges": (1,), "saliency": (1,), "albedo": (3,),
    "parts": (), "flow": (3,), "motion": (),
}  # fmt: skip
_WITH_FLOW = ("flow", "motion")


def _check_options(height: int, width: int, counts: dict[str, int], split: str, seed: int) -> None:
    if min(height, width) < 32 or height % 32 or width % 32:
        raise KitError(
            f"height and width of scenes are multiples of 32 from 32 up, found {height} x {width}; try 96 x 128"
        )
    if counts[split] < 1:
        raise KitError(f"the {split} split has {counts[split]} images; give {split}=N with N above 0")
    if seed < 0:
        raise KitError(f"the seed of scenes is a whole number from 0, found {seed}")


@DATASETS.register("scenes")
class Scenes(DrawnDataset):
    """One split of rendered scenes.

    Args:
        split: ``"train"``, ``"validation"`` or ``"test"``; no two share a scene.
        root: folder for the cache; None is ``$MTLKIT_CACHE/scenes``, else the user's cache directory.
        family: a name in ``mtlkit.scenes.FAMILIES``.
        height: rows, a multiple of 32.
        width: columns, a multiple of 32.
        train: images in the train split.
        validation: images in the validation split.
        test: images in the test split.
        seed: another seed, other scenes.
        fields: which of image and targets a sample holds; None is all. Edges, saliency, albedo and parts are tasks
            where they are named here.
        flow: adds ``flow`` and the task ``motion`` from a previous frame (another cache).
        workers: processes that render; None is one for each core.

    Raises:
        KitError: for an unknown split, family or field, a size that is no multiple of 32, an empty split, a negative
            seed, or a cache that is damaged or cannot be written.
    """

    name = "scenes"
    about = "rendered rooms, streets and people with exact targets; any size (96 x 128) and number (400 + 100)"
    licence = "MIT, as the kit"
    source = "nothing to fetch: rendered on first use into the cache"

    def __init__(
        self,
        split: str,
        *,
        root: str | Path | None = None,
        family: str = "rooms",
        height: int = 96,
        width: int = 128,
        train: int = 400,
        validation: int = 0,
        test: int = 100,
        seed: int = 0,
        fields: Sequence[str] | None = None,
        flow: bool = False,
        workers: int | None = None,
    ):
        self.split = check_split(split, SPLITS)
        counts = {"train": train, "validation": validation, "test": test}
        _check_options(height, width, counts, split, seed)
        made = scenes.FAMILIES[family]
        self.family, self.size, self.count = family, (height, width), counts[split]
        absent = (() if flow else _WITH_FLOW) + (() if made.parts else ("parts",))
        stored = [name for name in _SHAPES if name not in absent]
        self.fields = self._chosen(stored, fields, flow)
        known = {
            "semantic": tasks.semantic(made.classes),
            "depth": tasks.depth(streets=family == "streets"),
            "normals": tasks.normals(),
            "motion": tasks.motion(),
        }
        if fields is not None:  # asked for by name: seven tasks are more than most runs want
            known |= {"edges": tasks.edges(), "saliency": tasks.saliency(), "albedo": tasks.albedo()}
            known |= {"parts": tasks.parts(made.parts)} if made.parts else {}
        self.tasks = {name: task for name, task in known.items() if name in self.fields}
        kind = "-flow" if flow else ""
        self.fingerprint = f"{family}{made.version}{kind}-{split}{self.count}-{height}x{width}-seed{seed}"
        self.pack = pack.build(
            self.folder(root) / self.fingerprint,
            self.count,
            {name: pack.Field(scenes.COMPACT[name], (*_SHAPES[name], height, width)) for name in stored},
            functools.partial(scenes.compact_sample, family, split, height, width, seed, flow),
            self.fingerprint,
            workers=workers,
            description=f"rendering {family}/{split}",
        )
        self._read = Reader(self.pack, self.fields)

    @staticmethod
    def _chosen(stored: list[str], fields: Sequence[str] | None, flow: bool) -> list[str]:
        for name in fields or ():
            if name in _WITH_FLOW and not flow:
                raise KitError(f"{name!r} needs the previous frame; give flow=True")
            if name not in stored:
                raise KitError(f"unknown field {name!r}: {nearest(name, stored)}")
        return stored if fields is None else [name for name in stored if name in fields]

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        self._check_index(index)
        return self._read[index]

    def info(self, index: int) -> SampleInfo:
        """Its name, such as ``rooms/train/00012``, and its size."""
        self._check_index(index)
        return SampleInfo(f"{self.family}/{self.split}/{index:05d}", self.size)
