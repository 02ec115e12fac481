"""SegNet: VGG-16 with batch normalisation, and its mirror image behind it.

The encoder pools 2x2 and remembers where each maximum stood; the decoder puts it back there. That is the only link
between the two besides the bottleneck. Badrinarayanan, Kendall and Cipolla, "SegNet", TPAMI 2017 (arXiv 1511.00561);
in the form of the released code of MTAN (Liu, Johns and Davison, CVPR 2019, arXiv 1803.10704; lorenmt/mtan, MIT).

    stage s    e_s = entry(p_{s-1}),  x_s = extra(e_s),  p_s, where_s = pool(x_s)      s = 0..4, size H / 2^s
    step d     u_d = unpool(y_{d-1}, where_{4-d}),  y_d = extra(entry(u_d))            d = 0..4, y_{-1} = p_4

Entry and extra convolutions of a stage are kept apart, because MTAN taps the tensors between them.

Known differences from the released code: parameters have other names, and the two convolutions of a head are computed
as the one that they are equal to (``Head``).

Shapes: B batch, C channels, H/W size, K output channels of a head.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..errors import KitError, nearest
from .steps import Steps, run

WIDTHS = (64, 128, 256, 512, 512)  # channels of the encoder stages: MTAN, released code
EXTRA = (1, 1, 2, 2, 2)  # extra convolutions of each stage, in the encoder as in the decoder
STRIDE = 32  # H and W are halved five times

_XAVIER = {"normal": nn.init.xavier_normal_, "uniform": nn.init.xavier_uniform_}


class CBR(nn.Sequential):
    """3x3 convolution with bias and padding 1, batch normalisation, ReLU: (B, C_in, H, W) -> (B, C_out, H, W)."""

    def __init__(self, channels_in: int, channels_out: int):
        super().__init__()
        self.conv = nn.Conv2d(channels_in, channels_out, 3, padding=1)
        self.norm = nn.BatchNorm2d(channels_out)
        self.relu = nn.ReLU(inplace=True)


class Stage(nn.Module):
    """A chain of CBRs at one resolution: the first is ``entry``, the others are ``extra``.

    Args:
        *channels: of the input and of every CBR's output: ``Stage(3, 64, 64)`` is CBR(3, 64), then CBR(64, 64).
    """

    def __init__(self, *channels: int):
        super().__init__()
        self.entry = CBR(channels[0], channels[1])
        self.extra = nn.Sequential(*(CBR(a, b) for a, b in zip(channels[1:-1], channels[2:], strict=True)))

    @property
    def last_conv(self) -> nn.Conv2d:
        """The convolution nearest to the output."""
        return (self.extra[-1] if len(self.extra) else self.entry).conv

    def forward(self, x_BCHW: Tensor) -> Tensor:
        return self.extra(self.entry(x_BCHW))


class SegNet(nn.Module):
    """The whole network without a head: image (B, 3, H, W), H and W multiples of 32 -> y_4 (B, widths[0], H, W).

    Args:
        widths: channels of the five encoder stages.
        channels: of the input.
        repeat: 2 has a second CBR(b, b) behind every CBR(a, b): MTAN's "deep".
    """

    def __init__(self, widths: Sequence[int] = WIDTHS, channels: int = 3, repeat: int = 1):
        super().__init__()
        self.encoder, self.decoder = encoder(widths, channels, repeat), decoder(widths, repeat)
        self.widths, self.channels = tuple(widths), widths[0]

    @property
    def places(self) -> dict[str, int]:
        """Where ``steps`` pauses -> channels there."""
        ends = [stage.last_conv.out_channels for stage in self.decoder[:-1]]
        encoder = {f"encoder{s}": channels for s, channels in enumerate(self.widths)}
        return encoder | {f"decoder{d}": channels for d, channels in enumerate(ends)}

    def behind(self, place: str) -> list[nn.Module]:
        """The modules that only what leaves a place runs through; here for the last one."""
        assert place == f"decoder{len(self.decoder) - 2}", place
        return [self.decoder[-1]]

    def steps(self, image_BCHW: Tensor, features: dict[str, Tensor] | None = None) -> Steps:
        """The network as a generator: it pauses at every place, gives its name and the feature there, and goes on with
        what it is sent; its value is y_4. A dict is filled with e0..e4, x0..x4, u0..u4, y0..y4; nothing is copied.
        """
        x, where = image_BCHW, []
        for s, stage in enumerate(self.encoder):
            entered = keep(features, f"e{s}", stage.entry(x))
            pooled, indices = pool(keep(features, f"x{s}", stage.extra(entered)))
            where.append(indices)
            x = yield f"encoder{s}", pooled
        for d, stage in enumerate(self.decoder):
            unpooled = keep(features, f"u{d}", unpool(x, where.pop()))
            x = keep(features, f"y{d}", stage(unpooled))
            if where:
                x = yield f"decoder{d}", x
        return x

    def forward(self, image_BCHW: Tensor, features: dict[str, Tensor] | None = None) -> Tensor:
        """y_4, and ``features`` as in ``steps``."""
        return run(self.steps(image_BCHW, features))


class Head(nn.Module):
    """A task's last two layers, C3(C, C) then C1(C, K): (B, C, H, W) -> (B, K, H, W), unbounded.

    As released, nothing stands between the two, neither batch normalisation nor an activation. So together they are
    one 3x3 convolution with weight W2 W1 and bias W2 b1 + b2, and that is what is computed: same parameters, same
    gradients, same function up to rounding, and at C = 64 a fifth of the work for K = 13, a 65th for K = 1. (It is more
    work where 8 K > 9 C, but then a head is a small part of any network.)
    """

    def __init__(self, channels: int, outputs: int):
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, padding=1)
        self.project = nn.Conv2d(channels, outputs, 1)

    def forward(self, x_BCHW: Tensor) -> Tensor:
        return F.conv2d(x_BCHW, *self.composed(), padding=1)

    def composed(self) -> tuple[Tensor, Tensor]:
        """Weight (K, C, 3, 3) and bias (K,) of the one convolution."""
        project_KC = self.project.weight.flatten(1)
        weight = torch.einsum("km,mcij->kcij", project_KC, self.conv.weight)
        return weight, project_KC @ self.conv.bias + self.project.bias

    def macs(self, height: int, width: int) -> int:
        """Multiply-accumulates for one H x W map of the two layers one after the other, as papers count them."""
        return height * width * (self.conv.weight.numel() + self.project.weight.numel())


def encoder(widths: Sequence[int] = WIDTHS, channels: int = 3, repeat: int = 1) -> nn.ModuleList:
    """The stages s = 0..4: E_s and X_s, without the pooling between them."""
    sources = (channels, *widths[:-1])
    return nn.ModuleList(Stage(a, *[b] * repeat * (1 + n)) for a, b, n in zip(sources, widths, EXTRA, strict=True))


def decoder(widths: Sequence[int] = WIDTHS, repeat: int = 1) -> nn.ModuleList:
    """The steps d = 0..4 (stage 4 - d): D_d and Y_d, without the unpooling between them."""
    targets = (widths[0], *widths[:-1])  # a step ends as wide as the stage before its own; the last keeps its width
    steps = zip(reversed(widths), reversed(targets), reversed(EXTRA), strict=True)
    return nn.ModuleList(Stage(a, *[b] * repeat * (1 + n)) for a, b, n in steps)


def pool(x_BCHW: Tensor) -> tuple[Tensor, Tensor]:
    """2x2 maximum, (B, C, H/2, W/2), and where in its (H, W) plane each stood, int64 of the same shape."""
    return F.max_pool2d(x_BCHW, 2, return_indices=True)


def unpool(x_BCHW: Tensor, where_BCHW: Tensor) -> Tensor:
    """Every value back to where ``pool`` found the maximum, zeros elsewhere: (B, C, 2H, 2W)."""
    return F.max_unpool2d(x_BCHW, where_BCHW, 2)


def scaled(width: float, widths: Sequence[int] = WIDTHS) -> tuple[int, ...]:
    """Channel counts times ``width``, rounded to the nearest integer, at least 1.

    Raises:
        KitError: ``width`` is not a positive number.

    >>> scaled(0.25), scaled(0.001)
    ((16, 32, 64, 128, 128), (1, 1, 1, 1, 1))
    """
    if not 0 < width < float("inf"):
        raise KitError(f"width scales channel counts and is a positive number, found {width}; type width=1.0 or 0.25")
    return tuple(max(1, round(channels * width)) for channels in widths)


def initialise(module: nn.Module, weights: str = "normal") -> None:
    """As released: Xavier weights, zero biases in every convolution; ones and zeros in every batch normalisation.

    Args:
        module: changed in place.
        weights: ``"normal"`` (MTAN: single, STAN, split, MTAN) or ``"uniform"`` (dense, cross-stitch).

    Raises:
        KitError: an unknown ``weights``.
    """
    if weights not in _XAVIER:
        raise KitError(f"unknown initialisation weights={weights!r}: {nearest(weights, _XAVIER)}")
    for layer in module.modules():
        if isinstance(layer, nn.Conv2d):
            _XAVIER[weights](layer.weight)
            nn.init.zeros_(layer.bias)
        elif isinstance(layer, nn.BatchNorm2d):
            nn.init.ones_(layer.weight)
            nn.init.zeros_(layer.bias)


def keep(features: dict[str, Tensor] | None, name: str, x: Tensor) -> Tensor:
    """``x``, noted under its name where there is a dict for it."""
    if features is not None:
        features[name] = x
    return x
