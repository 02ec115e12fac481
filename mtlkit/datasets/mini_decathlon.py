"""A decathlon in miniature: ten drawn domains and handwritten digits, small enough to train on two cores in a minute.

    $MTLKIT_CACHE/mini-decathlon/<fingerprint>/     the drawn pictures of a split, cached on first use (see ``pack``)

The drawn domains are those of ``scenes.domains``, which stand in for the ten sets of the Visual Decathlon and have
their names; each picture is the square in the middle, made 32 pixels wide. The eleventh domain is ``digits``: the
plain look of ``digits-domains``, its split too. What is learned here says nothing about photographs.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from .. import tasks
from ..errors import KitError, nearest
from ..scenes import domains as drawn
from . import digits, pack
from .base import DATASETS, DrawnDataset, SampleInfo, check_split
from .visual_decathlon import SETS

SIDE = 32
DIGITS = "digits"
SPLITS = ("train", "validation", "test")
DOMAINS = (*SETS, DIGITS)

# Mean and standard deviation of red, green and blue over the train split, seed 0.
MOMENTS = {
    "imagenet12": ((0.516, 0.484, 0.426), (0.174, 0.151, 0.158)),
    "aircraft": ((0.522, 0.558, 0.559), (0.135, 0.122, 0.157)),
    "cifar100": ((0.531, 0.510, 0.488), (0.160, 0.156, 0.182)),
    "daimlerpedcls": ((0.464, 0.464, 0.464), (0.146, 0.146, 0.146)),
    "dtd": ((0.572, 0.508, 0.465), (0.173, 0.162, 0.154)),
    "gtsrb": ((0.344, 0.316, 0.319), (0.186, 0.153, 0.183)),
    "omniglot": ((0.094, 0.094, 0.094), (0.253, 0.253, 0.253)),
    "svhn": ((0.494, 0.473, 0.496), (0.213, 0.201, 0.190)),
    "ucf101": ((0.501, 0.501, 0.501), (0.067, 0.067, 0.067)),
    "vgg-flowers": ((0.364, 0.355, 0.279), (0.208, 0.177, 0.193)),
    DIGITS: digits.MOMENTS["plain"],
}

# Test errors of one narrow network for each domain: wrn_single of recipe decathlon-tiny, seed 0, on a CPU. That of
# ucf101 made no error in its hundred pictures: one stands for none.
BASELINE_ERRORS = {
    "imagenet12": 0.18, "aircraft": 0.08, "cifar100": 0.17, "daimlerpedcls": 0.02, "dtd": 0.63, "gtsrb": 0.32,
    "omniglot": 0.06, "svhn": 0.30, "ucf101": 0.01, "vgg-flowers": 0.14, "digits": 0.18,
}  # fmt: skip


@DATASETS.register("mini-decathlon")
class MiniDecathlon(DrawnDataset):
    """One split of some or all of the eleven domains, one after the other. Each domain is one task.

    A sample has ``image``, ``domain`` and one label for every task: the class id in that of its own domain, -1 in the
    others.

    Args:
        split: ``"train"``, ``"validation"`` or ``"test"``; no two share a picture.
        root: folder for the cache; None is ``$MTLKIT_CACHE/mini-decathlon``, else the user's cache directory.
        domains: names in ``DOMAINS``.
        train: pictures of each domain in the train split; of digits there are 1157 at most.
        validation: likewise; 258 at most.
        test: likewise; 382 at most.
        seed: another seed, other pictures; the digits stay.

    Raises:
        KitError: for an unknown split or domain, one that is named twice or none at all, a split without pictures, more
            digits than there are, a negative seed, or a cache that is damaged or cannot be written.
    """

    name = "mini-decathlon"
    about = "ten drawn domains and handwritten digits, each a domain and a task; 11 x 150 to train, 32 x 32"
    licence = "MIT, as the kit; the digits as scikit-learn's"
    source = "nothing to fetch: drawn on first use into the cache"
    size = (SIDE, SIDE)
    baseline_errors = BASELINE_ERRORS

    def __init__(
        self,
        split: str,
        *,
        root: str | Path | None = None,
        domains: Sequence[str] = DOMAINS,
        train: int = 150,
        validation: int = 50,
        test: int = 100,
        seed: int = 0,
    ):
        self.split, self.domains = check_split(split, SPLITS), _chosen(domains)
        self.count = {"train": train, "validation": validation, "test": test}[split]
        if self.count < 1:
            raise KitError(f"the {split} split has {self.count} pictures of a domain; give {split}=N with N above 0")
        if seed < 0:
            raise KitError(f"the seed of mini-decathlon is a whole number from 0, found {seed}")
        self.indices = {name: range(n * self.count, (n + 1) * self.count) for n, name in enumerate(self.domains)}
        self.moments = {name: MOMENTS[name] for name in self.domains}
        self.digits = digits.DigitsDomains(split, domains=("plain",))
        if DIGITS in self.domains and self.count > len(self.digits):
            raise KitError(f"digits has {len(self.digits)} pictures in {split}, found {split}={self.count}; lower it")
        self.tasks = {name: tasks.classification(name, self._classes(name)) for name in self.domains}
        made = f"drawn{drawn.VERSION}-{split}{self.count}-{SIDE}x{SIDE}-seed{seed}"
        self.fingerprint = f"{made}-{'+'.join(self.domains)}-{self.digits.fingerprint}"
        self.pack = pack.build(
            self.folder(root) / made,
            len(SETS) * self.count,
            {"image": pack.Field("uint8", (3, SIDE, SIDE))},
            functools.partial(drawn.small_item, tuple(SETS), split, self.count, SIDE, seed),
            made,
            description=f"drawing {self.name}/{split}",
        )

    def _classes(self, domain: str) -> Sequence[str]:
        return digits.CLASSES if domain == DIGITS else drawn.DOMAINS[domain].classes

    def __len__(self) -> int:
        return len(self.domains) * self.count

    def _place(self, index: int) -> tuple[str, int]:
        """Domain of an index, and the number of its picture there."""
        self._check_index(index)
        number, picture = divmod(index, self.count)
        return self.domains[number], picture

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        domain, number = self._place(index)
        if domain == DIGITS:
            digit = self.digits[number]
            image_3HW, label = digit["image"], int(digit["plain"])
        else:
            stored = self.pack.read("image", tuple(SETS).index(domain) * self.count + number)
            image_3HW = torch.from_numpy(stored).float() / 255
            label = number % len(self._classes(domain))
        labels = {name: torch.tensor(label if name == domain else -1) for name in self.domains}
        place = torch.tensor(self.domains.index(domain))
        return {"image": image_3HW, **labels, "domain": place, "index": torch.tensor(index)}

    def info(self, index: int) -> SampleInfo:
        """Its name, such as ``svhn/train/00012``, and its size."""
        domain, number = self._place(index)
        return SampleInfo(f"{domain}/{self.split}/{number:05d}", self.size)

    def glance(self, count: int) -> list[int]:
        """The domains in turn, and another picture in each."""
        several = range(min(count, len(self)))
        return [self.indices[self.domains[n % len(self.domains)]][n % self.count] for n in several]


def _chosen(domains: Sequence[str]) -> tuple[str, ...]:
    for name in domains:
        if name not in DOMAINS:
            raise KitError(f"unknown domain {name!r}: {nearest(name, DOMAINS)}")
    if not domains or len(set(domains)) < len(domains):
        raise KitError(f"domains names each domain once, found {list(domains)}; valid: {', '.join(DOMAINS)}")
    return tuple(domains)
