"""What a network is fed: the last transform, of the image and, by ``ti`` alone, of the flow.

``domain`` makes mean 0 and deviation 1 of every domain by its own constants, those of the dataset (``moments``).

Shapes: image (3, H, W), RGB in [0, 1]; flow (3, H, W): u, v in pixels, confidence in [0, 1].
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType

import torch
from torch import Tensor

from ..errors import KitError
from .base import Sample, column

DOMAIN = "domain"  # the normalisation that goes by the domain of a sample, and the field that says which it is

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


def ti_flow(flow: Tensor) -> Tensor:
    """u/64, v/64 and (255 c - 128)/64: ``ti`` of the bytes that flow is stored as (``datasets.flow``), without their
    rounding.
    """
    return (flow * column(1, 1, 255) - column(0, 0, 128)) / 64.0


# functions and classes, not lambdas: loading processes are sent them by name
NORMALISATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "none": unchanged,
    "imagenet": imagenet,
    "raw255": raw255,
    "ti": ti,
}
# of flow; under the other names it is fed in pixels, as it is
_FLOWS: dict[str, Callable[[Tensor], Tensor]] = {"ti": ti_flow}


def normalised(sample: Sample, name: str, moments: Mapping[str, tuple] = MappingProxyType({})) -> Sample:
    """A sample with its image normalised, and its flow where it has one.

    Args:
        sample: with ``image``, ``flow`` or both; what else it has stays as it is.
        name: a key of ``NORMALISATIONS``, or ``"domain"``, for a sample that knows its ``domain``.
        moments: of the dataset, in the order of its domains: mean and standard deviation of red, green and blue.

    Raises:
        KitError: where a sample without a domain is to be normalised by it.
    """
    if name == DOMAIN:
        return sample | {"image": _by_domain(sample, list(moments.values()))}
    change = {"image": NORMALISATIONS[name], "flow": _FLOWS.get(name, unchanged)}
    return sample | {field: change[field](sample[field]) for field in change if field in sample}


def _by_domain(sample: Sample, moments: list[tuple]) -> Tensor:
    if DOMAIN not in sample or not moments:
        raise KitError(
            'normalise = "domain" goes by the domain of a sample, which this one does not have; take a dataset of '
            "domains, such as visual-decathlon, or another normalisation"
        )
    mean, deviation = moments[int(sample[DOMAIN])]
    return (sample["image"] - column(*mean)) / column(*deviation)
