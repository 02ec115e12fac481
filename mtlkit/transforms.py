"""Joint transforms: one change applied to the image and to every target it touches, consistently.

A transform takes a sample (see ``datasets.base``) and a ``torch.Generator`` and returns a sample. The generator is made
from (seed, epoch, index) alone, so that a resumed or reordered epoch augments every sample as an unbroken one does.
``normalise`` is the last transform.

Shapes: C channels, H/W size.
"""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Callable

import torch
from torch import Tensor

from .registry import Registry

Sample = dict[str, Tensor]
Transform = Callable[[Sample, torch.Generator], Sample]

AUGMENTATIONS: Registry[Callable[..., Transform]] = Registry("augmentation")

# Channel means and standard deviations of ImageNet, as torchvision's pretrained networks expect them.
_IMAGENET_MEAN = torch.tensor([0.485, 0.456, 0.406]).view(3, 1, 1)
_IMAGENET_STD = torch.tensor([0.229, 0.224, 0.225]).view(3, 1, 1)


def unchanged(image: Tensor) -> Tensor:
    """[0, 1], as MTAN feeds its networks."""
    return image


def imagenet(image: Tensor) -> Tensor:
    """Zero mean and unit variance per channel over ImageNet."""
    return (image - _IMAGENET_MEAN) / _IMAGENET_STD


def raw255(image: Tensor) -> Tensor:
    """[0, 255], as ASTMT feeds its networks."""
    return image * 255.0


def ti(image: Tensor) -> Tensor:
    """About [-2, 2], as edgeai feeds its networks: (x - 128) / 64 of bytes."""
    return (image * 255.0 - 128.0) / 64.0


# functions and classes, not lambdas: loading processes are sent them by name
NORMALISATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "none": unchanged,
    "imagenet": imagenet,
    "raw255": raw255,
    "ti": ti,
}


def generator(*keys: int | str) -> torch.Generator:
    """A random stream that is a pure function of its keys, the same on every machine and in every process.

    >>> first = torch.rand(1, generator=generator(0, "epoch", 3))
    >>> bool(first == torch.rand(1, generator=generator(0, "epoch", 3)))
    True
    """
    digest = hashlib.sha256(repr(keys).encode()).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest[:8], "little") >> 1)


def horizontal_flip(sample: Sample) -> Sample:
    """Mirror left and right: every field is reversed, the x of normals and the u of flow change sign."""
    flipped = {name: value.flip(-1) if value.ndim >= 2 else value for name, value in sample.items()}
    for name in ("normals", "flow"):
        if name in flipped:
            flipped[name] = flipped[name] * torch.tensor([-1.0, 1.0, 1.0]).view(3, 1, 1)
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
