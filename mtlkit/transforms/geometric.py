"""Geometric augmentations by their own names: scale and crop, scale and rotate; and a fixed size, by stretching or by
padding.
"""

from __future__ import annotations

import dataclasses
from typing import Literal

import torch
from torch import Tensor

from ..errors import KitError
from .base import AUGMENTATIONS, uniform
from .warp import Warp, Warping

Zoom = Literal["focal", "depth"]


def check_scales(smallest: float, largest: float) -> None:
    """Raise KitError where these do not bound a range of scales."""
    if not 0 < smallest <= largest:
        raise KitError(f"scales run from smallest to largest, both above 0, found {smallest} and {largest}")


def sized(height: int, width: int, whole: tuple[int, int]) -> tuple[int, int]:
    """(height, width), 0 being that of the picture. Raises KitError for one below 0."""
    if min(height, width) < 0:
        raise KitError(f"height and width are pixels, or 0 for those of the image, found {height} and {width}")
    return height or whole[0], width or whole[1]


@AUGMENTATIONS.register("scale-crop")
@dataclasses.dataclass(frozen=True)
class ScaleCrop(Warping):
    """A part of the picture anywhere in it, scaled to a given size.

    Below scale 1 the result may be larger than the scaled picture, which then lies anywhere in it (see ``Warping`` for
    what is around it).

    Args:
        smallest: scale, above 0; every scale up to ``largest`` is as likely as another.
        largest: as ``smallest``; the default is MTAN's largest.
        zoom: whether a scale is a longer lens (``"focal"``) or a nearer scene (``"depth"``), see ``Warping``.
        height: of the result; 0 is the image's.
        width: likewise.

    Raises:
        KitError: for scales or a size out of range.
    """

    smallest: float = 1.0
    largest: float = 1.5
    zoom: Zoom = "focal"
    height: int = 0
    width: int = 0

    def __post_init__(self) -> None:
        check_scales(self.smallest, self.largest)
        sized(self.height, self.width, (1, 1))

    def draw(self, whole: tuple[int, int], generator: torch.Generator) -> Warp:
        scale = uniform(self.smallest, self.largest, generator)
        size = sized(self.height, self.width, whole)
        down, right = (uniform(-0.5, 0.5, generator) * (w - n / scale) for w, n in zip(whole, size, strict=True))
        return Warp(whole, size, zoom=(scale, scale), offset=(down, right))


@AUGMENTATIONS.register("scale-rotate")
@dataclasses.dataclass(frozen=True)
class ScaleRotate(Warping):
    """The picture turned and scaled about its middle, at its own size.

    A turn is a roll of the camera: the x and y of normals and the u and v of flow turn with the picture, depth stays.

    Args:
        degrees: the largest turn to either side, 0 to 180; the default and the scales are ASTMT's.
        smallest: scale, above 0.
        largest: scale.
        zoom: whether a scale is a longer lens (``"focal"``) or a nearer scene (``"depth"``), see ``Warping``.

    Raises:
        KitError: for scales or degrees out of range.
    """

    degrees: float = 20.0
    smallest: float = 0.75
    largest: float = 1.25
    zoom: Zoom = "focal"

    def __post_init__(self) -> None:
        check_scales(self.smallest, self.largest)
        if not 0 <= self.degrees <= 180:
            raise KitError(f"scale-rotate turns by up to 0 to 180 degrees, found {self.degrees}")

    def draw(self, whole: tuple[int, int], generator: torch.Generator) -> Warp:
        angle = uniform(-self.degrees, self.degrees, generator)
        scale = uniform(self.smallest, self.largest, generator)
        return Warp(whole, whole, angle, (scale, scale))


@AUGMENTATIONS.register("resize")
@dataclasses.dataclass(frozen=True)
class Resize(Warping):
    """The whole picture stretched to one size, nothing drawn by chance: for images of different sizes.

    Height and width are scaled each for itself, which is a lens with two focal lengths: depth and normals stay. As an
    augmentation it acts in training alone.

    Args:
        height: of the result; the default is ASTMT's, 0 is the image's.
        width: likewise.

    Raises:
        KitError: for a size below 0.
    """

    height: int = 512
    width: int = 512

    def __post_init__(self) -> None:
        sized(self.height, self.width, (1, 1))

    def draw(self, whole: tuple[int, int], generator: torch.Generator | None = None) -> Warp:
        size = sized(self.height, self.width, whole)
        return Warp(whole, size, zoom=(size[0] / whole[0], size[1] / whole[1]))

    def colours(self, value_CHW: Tensor, warp: Warp) -> Tensor:
        from torchvision.transforms.v2 import functional  # takes a second: not for who only reads recipes

        return functional.resize(value_CHW, list(warp.size), antialias=True).clamp(0, 1)


@AUGMENTATIONS.register("pad")
@dataclasses.dataclass(frozen=True)
class Pad(Warping):
    """Columns on the right and rows below, black and ignored, until both sizes are a multiple of a number.

    For networks that halve the picture several times and want every half to be whole. As an augmentation it acts in
    training alone.

    Args:
        multiple: pixels, above 0; the default is what SegNet needs.

    Raises:
        KitError: for a multiple below 1.
    """

    multiple: int = 32

    def __post_init__(self) -> None:
        if self.multiple < 1:
            raise KitError(f"pad: a multiple is above 0, found {self.multiple}")

    def draw(self, whole: tuple[int, int], generator: torch.Generator | None = None) -> Warp:
        height, width = (-(-n // self.multiple) * self.multiple for n in whole)
        return Warp(whole, (height, width), offset=((height - whole[0]) / 2, (width - whole[1]) / 2))
