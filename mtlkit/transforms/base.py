"""What every augmentation knows: the kinds of fields, the random stream, and how blended normals become normals again.

Shapes: C channels, H/W size.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from ..errors import KitError, nearest
from ..losses import EPSILON
from ..registry import Registry

Sample = dict[str, Tensor]
Transform = Callable[[Sample, torch.Generator], Sample]

AUGMENTATIONS: Registry[Callable[..., Transform]] = Registry("augmentation")

# how a field of a sample is moved: the method of this name of ``Mtan`` and ``Warping``
KINDS = {
    "image": "colours", "albedo": "colours",
    "semantic": "labels", "parts": "labels", "motion": "labels", "edges": "labels", "saliency": "labels",
    "depth": "depth", "disparity": "disparity", "normals": "normals", "flow": "flow",
}  # fmt: skip


def generator(*keys: int | str) -> torch.Generator:
    """A random stream that is a pure function of its keys, the same on every machine and in every process.

    >>> first = torch.rand(1, generator=generator(0, "epoch", 3))
    >>> bool(first == torch.rand(1, generator=generator(0, "epoch", 3)))
    True
    """
    digest = hashlib.sha256(repr(keys).encode()).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest[:8], "little") >> 1)


def told(augment: Transform, domains: Sequence[str]) -> Transform:
    """An augmentation that knows the domains of its dataset, where it asks for them (``decathlon``)."""
    return augment.told(domains) if hasattr(augment, "told") else augment


def unaugmented(augment: Transform, sample: Sample) -> Sample:
    """What an augmentation leaves of a sample where nothing is drawn: all of it, but for one that cuts images of many
    sizes to one size (``decathlon``).
    """
    return augment.middle(sample) if hasattr(augment, "middle") else sample


def uniform(low: float, high: float, generator: torch.Generator) -> float:
    """A number between two, every one as likely as another."""
    return low + (high - low) * float(torch.rand((), generator=generator, dtype=torch.float64))


def column(*values: float) -> Tensor:
    """One number for each channel of (C, H, W)."""
    return torch.tensor(values, dtype=torch.float32).view(-1, 1, 1)


def kind(name: str, value: Tensor, whole: tuple[int, int]) -> str | None:
    """The kind of a field; None for one without height and width, which nothing moves.

    Raises:
        KitError: for a field of unknown kind, or of another size than the image's, ``whole``.
    """
    if value.ndim < 2:
        return None
    if name not in KINDS:
        raise KitError(f"cannot move field {name!r}: {nearest(name, KINDS)}; add its kind to transforms.KINDS")
    if tuple(value.shape[-2:]) != whole:
        raise KitError(f"cannot move {name}: its size is {tuple(value.shape[-2:])}, the image's {whole}")
    return KINDS[name]


def join_normals(blended_3HW: Tensor, valid_HW: Tensor, pick: Callable[[], Tensor], squeeze: float) -> Tensor:
    """Unit normals from interpolated ones: valid where the nearest pixel is; zeros add nothing to a direction.

    Args:
        blended_3HW: interpolated; this may be written over.
        valid_HW: whether the nearest pixel has a normal.
        pick: makes the normals of the nearest pixels (3, H, W), which count where opposite neighbours cancel out.
        squeeze: depth was divided by this; 1 where it stayed. A plane n . (X, Y, Z) = k squeezed to Z' = Z / s is
            n_x X + n_y Y + s n_z Z' = k, so its normal is (n_x, n_y, s n_z), made a unit vector.
    """
    squared_HW = blended_3HW.square().sum(0)
    cancelled_HW = (squared_HW < 1e-6) & valid_HW
    if cancelled_HW.any():
        blended_3HW = torch.where(cancelled_HW, pick(), blended_3HW)
        squared_HW = blended_3HW.square().sum(0)
    if squeeze != 1:
        squared_HW += (squeeze**2 - 1) * blended_3HW[2].square()
        blended_3HW[2] *= squeeze
    squared_HW[~valid_HW] = torch.inf
    return blended_3HW * squared_HW.clamp_min_(EPSILON**2).rsqrt_()
