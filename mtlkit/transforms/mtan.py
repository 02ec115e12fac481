"""MTAN's augmentation: a random window, enlarged to the size of the whole; corrected, and as released.

Shapes: C channels, H/W size.
"""

from __future__ import annotations

import dataclasses
import functools

import torch
import torch.nn.functional as F
from torch import Tensor

from .base import AUGMENTATIONS, Sample, column, join_normals, kind
from .plain import Flip

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
        return value.flatten(-2).index_select(-1, self._nearest).unflatten(-1, self.whole)

    @functools.cached_property
    def _nearest(self) -> Tensor:
        """For every pixel of the result, row by row, the number of the pixel that it is read from."""
        # whole numbers: round(i (n - 1) / (w - 1)), the same on every machine
        rows, columns = (
            corner + (torch.arange(w) * (n - 1) + (w - 1) // 2) // max(w - 1, 1)
            for w, n, corner in zip(self.whole, self.size, self.corner, strict=True)
        )
        return (rows[:, None] * self.whole[1] + columns).flatten()

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
        method = kind(name, value, window.whole)
        return value if method is None or window.scale == 1 else getattr(self, method)(value, window)

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
        valid_HW = window.pick((value_3HW != 0).any(0))
        return join_normals(window.blend(value_3HW), valid_HW, lambda: window.pick(value_3HW), window.scale)

    def flow(self, value_3HW: Tensor, window: Window) -> Tensor:
        down, right = window.magnification
        return self.pick(value_3HW, window) * column(right, down, 1)


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
