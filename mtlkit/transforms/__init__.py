"""Joint transforms: one change applied to the image and to every target it touches, consistently.

A transform takes a sample (see ``datasets.base``) and a ``torch.Generator`` and returns a sample. The generator is made
from (seed, epoch, index) alone, so that a resumed or reordered epoch augments every sample as an unbroken one does.
``normalise`` is the last transform.

``base`` says what kind of thing each field is; ``plain`` has what needs no geometry, and ``compose``; ``warp`` moves
pixels, ``geometric`` draws such moves, ``mtan`` and ``papers`` are those of the papers: corrected under the paper's
name, and as released under ``NAME-released``; ``decathlon`` goes by the domain of a sample. A recipe names one:

    [augmentation]
    name = "compose"
    steps = ["scale-crop", "flip", {name = "photometric", hue = 0.1}]

``torchvision.transforms.v2`` changes colours and shrinks pictures here. Its geometry is not used: it neither turns the
vectors of normals and flow nor has an ignored value for each kind of target, and it draws from the global random state.
"""

from .base import AUGMENTATIONS, KINDS, Sample, Transform, generator, told, unaugmented
from .decathlon import Decathlon
from .geometric import Pad, Resize, ScaleCrop, ScaleRotate
from .mtan import SCALES, Mtan, MtanReleased, Window
from .normalise import DOMAIN, NORMALISATIONS, imagenet, normalised, raw255, ti, ti_flow, unchanged
from .papers import Astmt, AstmtReleased, Edgeai, EdgeaiReleased, Nddr, NddrReleased, Survey
from .plain import Compose, Flip, Photometric, Unchanged, horizontal_flip
from .warp import Warp, Warping

__all__ = [
    "AUGMENTATIONS", "DOMAIN", "KINDS", "NORMALISATIONS", "SCALES", "Astmt", "AstmtReleased", "Compose",
    "Decathlon", "Edgeai", "EdgeaiReleased", "Flip", "Mtan", "MtanReleased", "Nddr", "NddrReleased", "Pad",
    "Photometric", "Resize", "Sample", "ScaleCrop", "ScaleRotate", "Survey", "Transform", "Unchanged", "Warp",
    "Warping", "Window", "generator", "horizontal_flip", "imagenet", "normalised", "raw255", "ti", "ti_flow", "told",
    "unaugmented", "unchanged",
]  # fmt: skip
