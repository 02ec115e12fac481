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
import torch.nn.functional as F
from torch import Tensor

from .errors import KitError, nearest
from .losses import unit
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
            flipped[name] = flipped[name] * _column(-1, 1, 1)
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


# --- MTAN's augmentation ----------------------------------------------------------------------------------------------

# how a field of a sample is enlarged: the method of ``Mtan`` of this name
KINDS = {
    "image": "colours", "albedo": "colours",
    "semantic": "labels", "parts": "labels", "motion": "labels", "edges": "labels", "saliency": "labels",
    "depth": "depth", "disparity": "disparity", "normals": "normals", "flow": "flow",
}  # fmt: skip
SCALES = (1.0, 1.2, 1.5)


@dataclasses.dataclass(frozen=True)
class Window:
    """A part of a picture that is enlarged to the size of the whole.

    Attributes:
        whole: (height, width) of the picture.
        scale: what the part is enlarged by, but for the rounding of its size.
        size: (height, width) of the part.
        corner: (row, column) of its upper left pixel.
    """

    whole: tuple[int, int]
    scale: float
    size: tuple[int, int]
    corner: tuple[int, int]

    @classmethod
    def draw(cls, whole: tuple[int, int], generator: torch.Generator) -> Window:
        """A scale in ``SCALES`` and a place in the picture, every one as likely as another."""

        def upto(last: int) -> int:
            return int(torch.randint(last + 1, (), generator=generator))

        scale = SCALES[upto(len(SCALES) - 1)]
        size = (int(whole[0] / scale), int(whole[1] / scale))
        return cls(whole, scale, size, (upto(whole[0] - size[0]), upto(whole[1] - size[1])))

    @property
    def magnification(self) -> tuple[float, float]:
        """(down, right): how far apart neighbouring pixels of the part lie in the result. The first and last pixels
        of both fall on each other, so that this is the scale but for rounding.
        """
        down, right = ((w - 1) / (n - 1) if n > 1 else self.scale for w, n in zip(self.whole, self.size, strict=True))
        return down, right

    def cut(self, value: Tensor) -> Tensor:
        """The part of a field (..., H, W)."""
        (top, left), (height, width) = self.corner, self.size
        return value[..., top : top + height, left : left + width]

    def blend(self, value_CHW: Tensor) -> Tensor:
        """The part, enlarged; between pixels, their weighted mean (bilinear, corners on corners)."""
        return F.interpolate(self.cut(value_CHW)[None], size=self.whole, mode="bilinear", align_corners=True)[0]

    def pick(self, value: Tensor) -> Tensor:
        """The part, enlarged; every pixel from the one that lies nearest on the grid of ``blend``."""
        # whole numbers: round(i (n - 1) / (w - 1)), the same on every machine
        rows, columns = (
            (torch.arange(w) * (n - 1) + (w - 1) // 2) // max(w - 1, 1)
            for w, n in zip(self.whole, self.size, strict=True)
        )
        return self.cut(value).index_select(-2, rows).index_select(-1, columns)

    def pick_released(self, value: Tensor) -> Tensor:
        """The part, enlarged as PyTorch's mode ``nearest`` does: from pixel floor(i n / w)."""
        part = self.cut(value).float()
        planes = part.reshape(1, -1, *self.size)
        return F.interpolate(planes, size=self.whole).reshape(*part.shape[:-2], *self.whole).to(value.dtype)


@AUGMENTATIONS.register("mtan")
@dataclasses.dataclass(frozen=True)
class Mtan:
    """MTAN's augmentation, corrected: a random window enlarged by 1, 1.2 or 1.5, then a flip with probability 0.5.

    Source: the released code of S. Liu, E. Johns and A. J. Davison, "End-to-End Multi-Task Learning with Attention",
    CVPR 2019 (its paper trains without). ``mtan-released`` draws the same windows and flips, and differs in this:

    * *Depth and disparity.* Both forms divide metric depth by the scale s: what looks s times as large is taken to be s
      times as near. Disparity, an inverse depth, is then *multiplied* by s; the released code has none, and the
      Cityscapes loaders that others derived from it divide.
    * *Normals.* A camera of the same focal length sees at pixel s (x - c) and depth Z / s the point (X, Y, Z / s): the
      scene is squeezed along z alone. A plane n . P = k becomes n_x X + n_y Y + s n_z Z' = k, so its normal is
      (n_x, n_y, s n_z), made a unit vector: walls turn towards the camera. Released: the stored normals, as if a longer
      lens had kept the depth.
    * *Pixels without a normal.* Bilinear interpolation blends all-zero vectors into their neighbours. Here a blend is
      made a unit vector again, to which zeros add nothing, and is valid where the nearest pixel is. Released: vectors
      shorter than 1 at such borders and wherever two directions meet.
    * *Grids.* Images are enlarged with corner pixels on corner pixels. Here labels and depth are read from the nearest
      pixel on that grid; released, from pixel floor(i / s), half a pixel aside on average.

    In both forms ``image`` and ``albedo`` are bilinear, class ids, masks, depth and disparity come from one pixel and
    are never blended, flow is read from one pixel and its u, v grow with the picture. Fields without height and width
    are left alone.

    Raises (when called):
        KitError: for a field of unknown kind, or of another size than the image.
    """

    def __call__(self, sample: Sample, generator: torch.Generator) -> Sample:
        window = Window.draw(tuple(sample["image"].shape[-2:]), generator)
        return Flip()({name: self.enlarge(name, value, window) for name, value in sample.items()}, generator)

    def enlarge(self, name: str, value: Tensor, window: Window) -> Tensor:
        """One field, enlarged as its kind demands."""
        if value.ndim < 2:
            return value
        if name not in KINDS:
            raise KitError(f"cannot enlarge field {name!r}: {nearest(name, KINDS)}; add its kind to transforms.KINDS")
        if tuple(value.shape[-2:]) != window.whole:
            raise KitError(f"cannot enlarge {name}: its size is {tuple(value.shape[-2:])}, the image's {window.whole}")
        return value if window.scale == 1 else getattr(self, KINDS[name])(value, window)

    def pick(self, value: Tensor, window: Window) -> Tensor:
        """One pixel for one pixel."""
        return window.pick(value)

    def colours(self, value_CHW: Tensor, window: Window) -> Tensor:
        return window.blend(value_CHW)

    def labels(self, value: Tensor, window: Window) -> Tensor:
        return self.pick(value, window)

    def depth(self, value_1HW: Tensor, window: Window) -> Tensor:
        return self.pick(value_1HW, window) / window.scale

    def disparity(self, value_1HW: Tensor, window: Window) -> Tensor:
        return self.pick(value_1HW, window) * window.scale

    def normals(self, value_3HW: Tensor, window: Window) -> Tensor:
        picked_3HW, blended_3HW = self.pick(value_3HW, window), window.blend(value_3HW)
        # opposite neighbours cancel each other: nothing to make a unit vector of
        cancelled_HW = blended_3HW.square().sum(0) < 1e-6
        squeezed_3HW = torch.where(cancelled_HW, picked_3HW, blended_3HW) * _column(1, 1, window.scale)
        return unit(squeezed_3HW[None])[0] * (picked_3HW != 0).any(0)

    def flow(self, value_3HW: Tensor, window: Window) -> Tensor:
        down, right = window.magnification
        return self.pick(value_3HW, window) * _column(right, down, 1)


@AUGMENTATIONS.register("mtan-released")
@dataclasses.dataclass(frozen=True)
class MtanReleased(Mtan):
    """MTAN's augmentation as released (for disparity: as in the loaders derived from it); the differences are told at
    ``Mtan``.
    """

    def pick(self, value: Tensor, window: Window) -> Tensor:
        return window.pick_released(value)

    def disparity(self, value_1HW: Tensor, window: Window) -> Tensor:
        return self.depth(value_1HW, window)

    def normals(self, value_3HW: Tensor, window: Window) -> Tensor:
        return window.blend(value_3HW)


def _column(*values: float) -> Tensor:
    """One number for each channel of (C, H, W)."""
    return torch.tensor(values, dtype=torch.float32).view(-1, 1, 1)
