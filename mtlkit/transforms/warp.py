"""Turning, zooming and moving a picture, and what that means for every kind of target.

A place is where a point lies in a picture, (x right, y down) in pixels; pixel (i, j) has its centre at (j + 0.5,
i + 0.5), as in the ray caster. A turn is counter-clockwise on the screen.

Shapes: C channels, H/W size.
"""

from __future__ import annotations

import dataclasses
import functools
import math
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from .base import Sample, column, join_normals, kind


@dataclasses.dataclass(frozen=True)
class Warp:
    """The picture is turned about its middle, then enlarged; the result shows the surroundings of one place of it.

    A camera does the same when it rolls, takes a longer lens, and a part of its picture is kept.

    Attributes:
        whole: (height, width) of the picture.
        size: (height, width) of the result.
        angle: degrees, counter-clockwise.
        zoom: (down, right): how far apart neighbouring pixels of the picture lie in the result.
        offset: (down, right), in pixels of the turned picture: from its middle to what the result has in its middle.
    """

    whole: tuple[int, int]
    size: tuple[int, int]
    angle: float = 0.0
    zoom: tuple[float, float] = (1.0, 1.0)
    offset: tuple[float, float] = (0.0, 0.0)

    @property
    def still(self) -> bool:
        """Whether it changes nothing."""
        return self == Warp(self.whole, self.whole)

    @property
    def cosine_sine(self) -> tuple[float, float]:
        return math.cos(math.radians(self.angle)), math.sin(math.radians(self.angle))

    @functools.cached_property
    def places(self) -> tuple[Tensor, Tensor]:
        """(y, x): the places (H, W) in the picture, float64, that the pixels of the result show."""
        across = [
            (torch.arange(n, dtype=torch.float64) + 0.5 - n / 2) / zoom + offset
            for n, zoom, offset in zip(self.size, self.zoom, self.offset, strict=True)
        ]
        y, x = torch.meshgrid(*across, indexing="ij")
        cosine, sine = self.cosine_sine
        return sine * x + cosine * y + self.whole[0] / 2, cosine * x - sine * y + self.whole[1] / 2

    @functools.cached_property
    def nearest(self) -> tuple[Tensor, Tensor]:
        """The number (H * W,) of the nearest pixel, row by row, and whether (H, W) the place lies in the picture."""
        rows, columns = (place.floor().long() for place in self.places)
        height, width = self.whole
        inside = (rows >= 0) & (rows < height) & (columns >= 0) & (columns < width)
        return (rows.clamp(0, height - 1) * width + columns.clamp(0, width - 1)).flatten(), inside

    @property
    def inside(self) -> Tensor:
        """bool (H, W): the result shows the picture here, and not what is beyond its border."""
        return self.nearest[1]

    def pick(self, value: Tensor, beyond: float = 0) -> Tensor:
        """A field (..., H, W), every pixel from the nearest one; ``beyond`` outside the picture."""
        number, inside = self.nearest
        picked = value.flatten(-2).index_select(-1, number).unflatten(-1, self.size)
        return torch.where(inside, picked, beyond)

    def blend(self, value_CHW: Tensor, mode: str = "bilinear", beyond: str = "border") -> Tensor:
        """A field, smoothly; ``mode`` and ``beyond`` are those of ``torch.nn.functional.grid_sample``."""
        y, x = self.places
        if max(float((place.frac() - 0.5).abs().max()) for place in (y, x)) < 1e-6:  # pixels upon pixels
            return self.pick(value_CHW)
        grid = torch.stack([2 * x / self.whole[1] - 1, 2 * y / self.whole[0] - 1], dim=-1).float()
        return F.grid_sample(value_CHW[None], grid[None], mode, beyond, align_corners=False)[0]

    def turn(self, vectors_CHW: Tensor) -> Tensor:
        """Vectors of each pixel, turned with the picture: x and y are the first two channels."""
        cosine, sine = self.cosine_sine
        x, y = vectors_CHW[0], vectors_CHW[1]
        return torch.stack([cosine * x + sine * y, cosine * y - sine * x, *vectors_CHW[2:]])


class Warping:
    """A geometric augmentation: ``draw`` chooses a ``Warp``, one method for each kind of field carries it out.

    Beyond the border of the picture nothing counts: the image is black, labels (also edges and saliency) are -1, depth,
    disparity and normals 0, the confidence of flow 0. ``albedo`` has no value that is ignored and is black there, as
    the image is. Labels, depth, disparity and flow come from the nearest pixel and are never blended; image and albedo
    are bilinear; normals are bilinear, unit, and valid where the nearest pixel is.

    A zoom by s is a longer lens (``zoom = "focal"``): the scene and the axes of the camera stay, and with them depth
    and normals, exactly; disparity and flow, lengths in the picture, are multiplied by s. Or the lens stays and
    everything has come nearer (``zoom = "depth"``): depth is divided by s, disparity and flow are multiplied as
    before, and normals turn towards the camera (see ``join_normals``). One picture cannot tell one from the other.

    Raises (when called):
        KitError: for a field of unknown kind, or of another size than the image.
    """

    zoom: ClassVar[str] = "focal"

    def draw(self, whole: tuple[int, int], generator: torch.Generator) -> Warp:
        """A warp for a picture of this size."""
        raise NotImplementedError  # abstract

    def __call__(self, sample: Sample, generator: torch.Generator) -> Sample:
        return self.carry(sample, self.draw(tuple(sample["image"].shape[-2:]), generator))

    def carry(self, sample: Sample, warp: Warp) -> Sample:
        """Every field, moved as its kind demands."""
        return {name: self.move(name, value, warp) for name, value in sample.items()}

    def move(self, name: str, value: Tensor, warp: Warp) -> Tensor:
        """One field."""
        method = kind(name, value, warp.whole)
        return value if method is None or warp.still else getattr(self, method)(value, warp)

    def colours(self, value_CHW: Tensor, warp: Warp) -> Tensor:
        return warp.blend(value_CHW).clamp(0, 1) * warp.inside

    def labels(self, value: Tensor, warp: Warp) -> Tensor:
        return warp.pick(value, beyond=-1)

    def depth(self, value_1HW: Tensor, warp: Warp) -> Tensor:
        return warp.pick(value_1HW) / self.squeeze(warp)

    def disparity(self, value_1HW: Tensor, warp: Warp) -> Tensor:
        return warp.pick(value_1HW) * warp.zoom[1]

    def normals(self, value_3HW: Tensor, warp: Warp) -> Tensor:
        picked_3HW, blended_3HW = warp.turn(warp.pick(value_3HW)), warp.turn(warp.blend(value_3HW))
        return join_normals(blended_3HW, (picked_3HW != 0).any(0), lambda: picked_3HW, self.squeeze(warp))

    def flow(self, value_3HW: Tensor, warp: Warp) -> Tensor:
        down, right = warp.zoom
        return warp.turn(warp.pick(value_3HW)) * column(right, down, 1)

    def squeeze(self, warp: Warp) -> float:
        """What depth is divided by."""
        return warp.zoom[1] if self.zoom == "depth" else 1.0
