"""The augmentation of the Visual Decathlon, which is another one for some of its domains.

Shapes: H/W size.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from typing import Self

import torch

from .base import AUGMENTATIONS, Sample, kind
from .normalise import DOMAIN
from .plain import horizontal_flip

STILL = ("gtsrb", "omniglot", "svhn", "digits")  # the last is of the kit's miniature


@AUGMENTATIONS.register("decathlon")
class Decathlon:
    """MTAN's on the Visual Decathlon: a square as wide as the shorter side, somewhere along the longer one, and a flip.

    Signs and characters, which a flip makes others of, are cut from the middle and never flipped. A sample that does
    not say its domain is flipped.

    Source: S. Liu, E. Johns and A. J. Davison, CVPR 2019, released code. There the images of validation are drawn so
    too, in every evaluation; here they are the squares in the middle, as those of test are.

    Args:
        still: domains that are never flipped; names that a dataset does not have do nothing.
    """

    def __init__(self, still: Sequence[str] = STILL):
        self.still = tuple(still)
        self.numbers: frozenset[int] = frozenset()

    def told(self, domains: Sequence[str]) -> Self:
        """The same for a dataset of these domains, by whose numbers its samples say theirs."""
        made = copy.copy(self)
        made.numbers = frozenset(number for number, name in enumerate(domains) if name in self.still)
        return made

    def __call__(self, sample: Sample, generator: torch.Generator) -> Sample:
        place, turn = torch.rand(2, generator=generator, dtype=torch.float64).tolist()
        if DOMAIN in sample and int(sample[DOMAIN]) in self.numbers:
            return self.middle(sample)
        cut = _square(sample, lambda free: int(place * (free + 1)))
        return cut if turn < 0.5 else horizontal_flip(cut)

    def middle(self, sample: Sample) -> Sample:
        """The square in the middle, as torchvision's CenterCrop cuts it."""
        return _square(sample, lambda free: round(free / 2))


def _square(sample: Sample, start: Callable[[int], int]) -> Sample:
    """A square as wide as the shorter side; ``start``: pixels that are free on a side -> those before the square."""
    whole = tuple(sample["image"].shape[-2:])
    side = min(whole)
    top, left = (start(n - side) for n in whole)
    return {
        name: value[..., top : top + side, left : left + side] if kind(name, value, whole) else value
        for name, value in sample.items()
    }
