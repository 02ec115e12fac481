"""What a network is fed: the last transform, of the image alone.

Shapes: image (3, H, W), RGB in [0, 1].
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

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
