"""Augmentations without a camera: none, flip, colours, and several in a row.

Shapes: C channels, H/W size.
"""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Sequence
from typing import Any, Self

import torch

from ..errors import KitError
from .base import AUGMENTATIONS, Sample, column, told, unaugmented, uniform


def horizontal_flip(sample: Sample) -> Sample:
    """Mirror left and right: every field is reversed, the x of normals and the u of flow change sign."""
    flipped = {name: value.flip(-1) if value.ndim >= 2 else value for name, value in sample.items()}
    for name in ("normals", "flow"):
        if name in flipped:
            flipped[name] = flipped[name] * column(-1, 1, 1)
    return flipped


@AUGMENTATIONS.register("none")
@dataclasses.dataclass(frozen=True)
class Unchanged:
    """No augmentation."""

    def __call__(self, sample: Sample, generator: torch.Generator) -> Sample:
        return sample


@AUGMENTATIONS.register("flip")
@dataclasses.dataclass(frozen=True)
class Flip:
    """Horizontal flip with the given probability in [0, 1]."""

    probability: float = 0.5

    def __call__(self, sample: Sample, generator: torch.Generator) -> Sample:
        chosen = bool(torch.rand(1, generator=generator) < self.probability)
        return horizontal_flip(sample) if chosen else sample


@AUGMENTATIONS.register("photometric")
@dataclasses.dataclass(frozen=True)
class Photometric:
    """Brightness, contrast, saturation and hue of the image, in this order; every target stays as it is, bit for bit.

    Factors are drawn from [1 - x, 1 + x], 1 leaves the image alone; the hue is turned by up to ``hue`` of the circle.
    The mild defaults are the kit's own: none of its papers trains with changed colours. The colour of a surface
    (``albedo``) is not that of its picture: what changes here is the light and the camera.

    Raises:
        KitError: for an amount outside [0, 1], or a hue outside [0, 0.5].
    """

    brightness: float = 0.2
    contrast: float = 0.2
    saturation: float = 0.2
    hue: float = 0.05

    def __post_init__(self) -> None:
        for name, most in (("brightness", 1), ("contrast", 1), ("saturation", 1), ("hue", 0.5)):
            if not 0 <= (value := getattr(self, name)) <= most:
                raise KitError(f"photometric: {name} lies between 0 (none) and {most}, found {value}")

    def __call__(self, sample: Sample, generator: torch.Generator) -> Sample:
        from torchvision.transforms.v2 import functional  # takes a second: not for who only reads recipes

        image = sample["image"]
        for name in ("brightness", "contrast", "saturation"):
            amount = getattr(self, name)
            factor = uniform(1 - amount, 1 + amount, generator)
            image = getattr(functional, f"adjust_{name}")(image, factor)
        image = functional.adjust_hue(image, uniform(-self.hue, self.hue, generator))
        return sample | {"image": image.clamp(0, 1)}


@AUGMENTATIONS.register("compose")
class Compose:
    """Several augmentations, one after the other.

    Args:
        steps: names, or tables of a name and options: ``["flip", {"name": "photometric", "hue": 0.1}]``.

    Raises:
        KitError: for an unknown name or option, a table without a name, or no step at all.
    """

    def __init__(self, steps: list[str | dict[str, Any]] = ("scale-crop", "flip", "photometric")):
        if not steps:
            raise KitError('compose needs steps, found none; for example: steps = ["flip", "photometric"]')
        self.steps = [self._build(step) for step in steps]

    @staticmethod
    def _build(step: str | dict[str, Any]):
        options = {"name": step} if isinstance(step, str) else dict(step)
        if "name" not in options:
            raise KitError(f'a step of compose has a name, found {step!r}; for example: {{name = "flip"}}')
        return AUGMENTATIONS.build(options.pop("name"), **options)

    def told(self, domains: Sequence[str]) -> Self:
        """The same, its steps told the domains of the dataset."""
        made = copy.copy(self)
        made.steps = [told(step, domains) for step in self.steps]
        return made

    def middle(self, sample: Sample) -> Sample:
        """What its steps leave where nothing is drawn."""
        for step in self.steps:
            sample = unaugmented(step, sample)
        return sample

    def __call__(self, sample: Sample, generator: torch.Generator) -> Sample:
        for step in self.steps:
            sample = step(sample, generator)
        return sample
