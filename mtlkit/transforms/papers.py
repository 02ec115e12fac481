"""Augmentations of the papers beside MTAN's: corrected under a paper's name, and as released.

Released means what the released code does to the fields that it has; the fields that it does not have are moved as in
the corrected form, unless a docstring says otherwise. AFANet releases no augmentation.

Shapes: C channels, H/W size.
"""

from __future__ import annotations

import dataclasses
from typing import ClassVar

import torch
from torch import Tensor

from .base import AUGMENTATIONS, Sample, column, uniform
from .geometric import Resize, ScaleCrop, ScaleRotate, Zoom, sized
from .mtan import SCALES
from .plain import Flip, horizontal_flip
from .warp import Warp, Warping


@AUGMENTATIONS.register("astmt")
@dataclasses.dataclass(frozen=True)
class Astmt(Warping):
    """ASTMT's augmentation, corrected: a flip, a turn by up to 20 degrees, a scale of 0.75 to 1.25, one size.

    Source: K.-K. Maninis, I. Radosavovic and I. Kokkinos, "Attentive Single-Tasking of Multiple Tasks", CVPR 2019.
    ``astmt-released`` draws the same flips, turns and scales, and differs in this:

    * *Borders.* Here what was turned or shrunk into view is ignored. Released: class 0, no edge, not salient: the
      network is taught that black corners are background. Depth and normals are 0 there, which it then ignores.
    * *Normals.* Released: bicubic, all-zero vectors included, then every vector that is not exactly zero is made a unit
      vector. Bicubic weights overshoot below zero, so that pixels beside a region without normals get vectors that
      point the *opposite* way: a halo. (The turn itself is right.)
    * *Depth.* Released: bilinear, zeros included: beside invalid pixels and outlines, depths that nothing has.
    * *Persons.* Released: a picture in which no part of a person is left is ignored by ``parts`` as a whole.
    * *Resampling.* Here once; released: turned at the original size, then stretched.

    Both leave depth alone when they scale, which is right for a longer lens (see ``Warping``). The image is bilinear
    here and bicubic there.

    Args:
        height: of the result; 0 is the image's. The paper's is 512, for every dataset.
        width: likewise.
    """

    height: int = 0
    width: int = 0

    def draw(self, whole: tuple[int, int], generator: torch.Generator) -> Warp:
        turned, size = ScaleRotate().draw(whole, generator), sized(self.height, self.width, whole)
        scale = turned.zoom[0]
        return Warp(whole, size, turned.angle, (scale * (size[0] / whole[0]), scale * (size[1] / whole[1])))

    def __call__(self, sample: Sample, generator: torch.Generator) -> Sample:
        return super().__call__(Flip()(sample, generator), generator)


@AUGMENTATIONS.register("astmt-released")
@dataclasses.dataclass(frozen=True)
class AstmtReleased(Astmt):
    """ASTMT's augmentation as released; the differences are told at ``Astmt``."""

    def carry(self, sample: Sample, warp: Warp) -> Sample:
        stretched = Resize(*warp.size).draw(warp.whole)
        scales = tuple(zoom / stretch for zoom, stretch in zip(warp.zoom, stretched.zoom, strict=True))
        made = super().carry(sample, Warp(warp.whole, warp.whole, warp.angle, scales, warp.offset))
        made = super().carry(made, stretched)
        if "normals" in made:
            length_HW = made["normals"].norm(dim=0)
            made["normals"] = made["normals"] / (length_HW + torch.finfo(torch.float32).eps)
        if "parts" in made and not made["parts"].any():
            made["parts"] = torch.full_like(made["parts"], -1)
        return made

    def colours(self, value_CHW: Tensor, warp: Warp) -> Tensor:
        return warp.blend(value_CHW, "bicubic", "zeros").clamp(0, 1)

    def labels(self, value: Tensor, warp: Warp) -> Tensor:
        return warp.pick(value)

    def depth(self, value_1HW: Tensor, warp: Warp) -> Tensor:
        return warp.blend(value_1HW, beyond="zeros")

    def normals(self, value_3HW: Tensor, warp: Warp) -> Tensor:
        return warp.turn(warp.blend(value_3HW, "bicubic", "zeros"))


@AUGMENTATIONS.register("edgeai")
@dataclasses.dataclass(frozen=True)
class Edgeai(Warping):
    """The augmentation of the two-stream network of edgeai, corrected: half of the pictures are turned by up to 5
    degrees, half are cropped at a height and a width enlarged by 1 to 2 each for itself, half are flipped.

    Source: Texas Instruments, edgeai-torchvision, r8.0. ``edgeai-released`` draws the same, and differs in this:

    * *Flow.* A turn is u' = c u + s v, v' = c v - s u. Released: v' = c v - s u', with the u' that was just computed.
    * *Borders.* Here what was turned into view is ignored. Released: class 0, which is road, and not moving; the image
      middle grey, flow zero with a confidence of one half. Depth is 0, ignored, in both.
    * *Resampling.* Here once; released: turned, then enlarged.

    Both leave depth alone when they enlarge, which is right for a longer lens (see ``Warping``), here one with two
    focal lengths. Released, the picture is turned about a point half a pixel from its middle; both are turned about
    the middle here.
    """

    def draw(self, whole: tuple[int, int], generator: torch.Generator) -> Warp:
        def sometimes(low: float, high: float, chosen: bool, otherwise: float) -> float:
            drawn = uniform(low, high, generator)
            return drawn if chosen else otherwise

        turned, cropped = (torch.rand(2, generator=generator) < 0.5).tolist()
        angle = sometimes(-5, 5, turned, 0.0)
        zoom = (sometimes(1, 2, cropped, 1.0), sometimes(1, 2, cropped, 1.0))
        down, right = (uniform(-0.5, 0.5, generator) * (n - n / z) for n, z in zip(whole, zoom, strict=True))
        return Warp(whole, whole, angle, zoom, (down, right))

    def __call__(self, sample: Sample, generator: torch.Generator) -> Sample:
        return Flip()(super().__call__(sample, generator), generator)


@AUGMENTATIONS.register("edgeai-released")
@dataclasses.dataclass(frozen=True)
class EdgeaiReleased(Edgeai):
    """The augmentation of edgeai as released; the differences are told at ``Edgeai``."""

    GREY: ClassVar[float] = 128 / 255  # what is 0 after (x - 128) / 64

    def carry(self, sample: Sample, warp: Warp) -> Sample:
        turned = super().carry(sample, Warp(warp.whole, warp.whole, warp.angle))
        return super().carry(turned, dataclasses.replace(warp, angle=0.0))

    def colours(self, value_CHW: Tensor, warp: Warp) -> Tensor:
        return torch.where(warp.inside, warp.blend(value_CHW).clamp(0, 1), self.GREY)

    def labels(self, value: Tensor, warp: Warp) -> Tensor:
        return warp.pick(value)

    def flow(self, value_3HW: Tensor, warp: Warp) -> Tensor:
        cosine, sine = warp.cosine_sine
        u, v, confidence = warp.pick(value_3HW)
        u = cosine * u + sine * v
        v = cosine * v - sine * u
        confidence = torch.where(warp.inside, confidence, self.GREY)
        return torch.stack([u, v, confidence]) * column(warp.zoom[1], warp.zoom[0], 1)


@AUGMENTATIONS.register("nddr")
@dataclasses.dataclass(frozen=True)
class Nddr(ScaleCrop):
    """NDDR-CNN's augmentation, corrected: scaled by 0.5 to 1.5, cropped or padded to one size, and flipped.

    Source: Y. Gao et al., "NDDR-CNN", CVPR 2019. Its crops are 321 x 321. ``nddr-released`` draws the same, and mirrors
    normals like a picture: their x keeps its sign, and a wall on the left faces out of the room. Where a crop may lie
    and how it is interpolated is unconfirmed; both forms do as ``scale-crop`` does.
    """

    smallest: float = 0.5
    largest: float = 1.5
    zoom: Zoom = "focal"

    def __call__(self, sample: Sample, generator: torch.Generator) -> Sample:
        made = super().__call__(sample, generator)
        return self.mirror(made) if bool(torch.rand((), generator=generator) < 0.5) else made

    def mirror(self, sample: Sample) -> Sample:
        return horizontal_flip(sample)


@AUGMENTATIONS.register("nddr-released")
@dataclasses.dataclass(frozen=True)
class NddrReleased(Nddr):
    """NDDR-CNN's augmentation as released; the difference is told at ``Nddr``."""

    zoom: Zoom = "focal"

    def mirror(self, sample: Sample) -> Sample:
        flipped = horizontal_flip(sample)
        return flipped | {name: flipped[name] * column(-1, 1, 1) for name in ("normals",) if name in flipped}


@AUGMENTATIONS.register("survey")
@dataclasses.dataclass(frozen=True)
class Survey(Warping):
    """What the survey of S. Vandenhende et al., "Multi-Task Learning for Dense Prediction Tasks", trains with on NYUD:
    the middle enlarged by 1, 1.2 or 1.5, depth divided by the scale, and a flip. On PASCAL it is ASTMT's.

    The scales and the division are those of its released code, the crop in the middle is the author's answer to issue
    1 there. What becomes of normals is unconfirmed; they are squeezed with the depth here.
    """

    zoom: ClassVar[str] = "depth"

    def draw(self, whole: tuple[int, int], generator: torch.Generator) -> Warp:
        scale = SCALES[int(torch.randint(len(SCALES), (), generator=generator))]
        return Warp(whole, whole, zoom=(scale, scale))

    def __call__(self, sample: Sample, generator: torch.Generator) -> Sample:
        return Flip()(super().__call__(sample, generator), generator)
