"""Wide residual networks, and residual adapters that make one of them fit many domains.

Zagoruyko and Komodakis, "Wide Residual Networks", BMVC 2016 (arXiv 1605.07146), in the form of the Visual Decathlon
code of MTAN (lorenmt/mtan, MIT): every convolution has a bias, each of the three layers halves the size, and the stride
of a block is in its *second* 3x3 convolution.

    g_0 = 3x3 convolution of the image (no normalisation, no activation)                   H      16 channels
    g_l = layer l: (depth - 4) / 6 blocks, the first of stride 2        l = 1..3       H / 2^l    16 widen 2^(l-1)
          block: y = conv_2(relu(norm_2(conv_1(relu(norm_1(x)))))) + shortcut(x)
    g_3 is behind one more normalisation and ReLU; as released that one has momentum 0.9: it goes by the last batches.

A residual adapter is a 1x1 convolution of a domain's own at each 3x3 convolution of a block, which all domains share;
every batch normalisation is a domain's own too.

    series    z + a(norm(z)),  z = conv(x)     Rebuffi, Bilen and Vedaldi, NeurIPS 2017 (arXiv 1705.08045)
    parallel  conv(x) + a(x)                   the same, "Efficient parametrization of multi-domain deep neural
                                               networks", CVPR 2018 (arXiv 1803.10082)

Adapters are written from what is publicly known of the papers, whose networks are other ResNets; no count of theirs was
measured (unconfirmed). NeurIPS 2017 counts C^2 + 5 C parameters of a domain at one convolution: those of a with a bias,
of its normalisation and of the one behind it, as here. That the normalisation stands before a follows CVPR 2018 (the
released code has it behind), and that a parallel adapter needs a domain's own normalisation too is what the authors say
(srebuffi/residual_adapters, issue 2). Ours: a starts at zero, so that training starts from the plain network; the stem
and the shortcuts have no adapters; the last normalisation has torch's momentum.

Shapes: B batch, C channels, H/W size.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence

import torch.nn.functional as F
from torch import Tensor, nn

from ..errors import KitError, nearest
from .segnet import keep, scaled

STRIDE = 8  # H and W are halved three times
STEM = 16  # channels of g_0; those of the layers are multiples


class Shortcut(nn.Conv2d):
    """A 1x1 convolution with a stride, computed without one on the pixels that it reads: the same numbers.

    oneDNN as in torch 2.15 writes beyond its memory in the backward pass of the plain form, on a CPU, channels last,
    with a number of input channels that is no multiple of 16, and kills the process.
    """

    def forward(self, x_BCHW: Tensor) -> Tensor:
        down, right = self.stride
        return F.conv2d(x_BCHW[..., ::down, ::right], self.weight, self.bias)


class Block(nn.Module):
    """A pre-activation block: (B, C_in, H, W) -> (B, C_out, H / stride, W / stride)."""

    def __init__(self, channels_in: int, channels_out: int, stride: int = 1):
        super().__init__()
        self.norm1 = nn.BatchNorm2d(channels_in)
        self.conv1 = nn.Conv2d(channels_in, channels_out, 3, padding=1)
        self.norm2 = nn.BatchNorm2d(channels_out)
        self.conv2 = nn.Conv2d(channels_out, channels_out, 3, stride, padding=1)
        fits = stride == 1 and channels_in == channels_out
        self.shortcut = nn.Identity() if fits else Shortcut(channels_in, channels_out, 1, stride)

    def forward(self, x_BCHW: Tensor) -> Tensor:
        y = self.conv1(F.relu(self.norm1(x_BCHW)))
        return self.conv2(F.relu(self.norm2(y))) + self.shortcut(x_BCHW)


def _forgetful(channels: int) -> nn.BatchNorm2d:
    return nn.BatchNorm2d(channels, momentum=0.9)


class WideResNet(nn.Module):
    """The trunk: image (B, 3, H, W), H and W multiples of 8 -> g_3 (B, 64 widen width, H / 8, W / 8).

    Args:
        depth: 3x3 convolutions and the linear layer behind, as the name counts them: 4 + 6 n.
        widen: channels of the first layer are 16 times this.
        width: scales every channel count; see ``segnet.scaled``.
        block: makes a block from its channels and stride.
        norm: makes the last batch normalisation from its channels.

    Attributes:
        channels: of g_0, g_1, g_2 and g_3.

    Raises:
        KitError: a depth, ``widen`` or width that does not exist.
    """

    def __init__(
        self,
        depth: int = 28,
        widen: int = 4,
        width: float = 1.0,
        block: Callable[[int, int, int], nn.Module] = Block,
        norm: Callable[[int], nn.Module] = _forgetful,
    ):
        super().__init__()
        blocks, left = divmod(depth - 4, 6)
        if left or blocks < 1:
            raise KitError(f"a wide ResNet has a depth of 4 + 6 n: 10, 16, 22, 28, ..., found {depth}")
        if widen < 1:
            raise KitError(f"widen multiplies channel counts and is 1 or more, found {widen}")
        self.channels = scaled(width, (STEM, *(STEM * widen * 2**layer for layer in range(3))))
        self.stem = nn.Conv2d(3, self.channels[0], 3, padding=1)
        self.layers = nn.ModuleList(
            nn.ModuleList([block(a, b, 2), *(block(b, b, 1) for _ in range(blocks - 1))])
            for a, b in zip(self.channels, self.channels[1:], strict=False)
        )
        self.norm = norm(self.channels[-1])

    @property
    def last_conv(self) -> nn.Conv2d:
        """The convolution nearest to the output."""
        return self.layers[-1][-1].conv2

    def forward(self, image_BCHW: Tensor, features: dict[str, Tensor] | None = None, *domain: str) -> Tensor:
        """g_3; a dict is filled with g0..g3. An adapted network needs the name of the domain."""
        x = keep(features, "g0", self.stem(image_BCHW))
        for number, layer in enumerate(self.layers, 1):
            for block in layer:
                x = block(x, *domain)
            if number < len(self.layers):
                keep(features, f"g{number}", x)
        return keep(features, f"g{len(self.layers)}", F.relu(self.norm(x, *domain)))


# --- residual adapters --------------------------------------------------------------------------------------------


class Series(nn.Module):
    """z + a(norm(z)) behind a convolution; ``channels_in`` and ``stride`` are those of the convolution."""

    def __init__(self, channels_in: int, channels_out: int, stride: int = 1):
        super().__init__()
        self.norm = nn.BatchNorm2d(channels_out)
        self.project = _zero(nn.Conv2d(channels_out, channels_out, 1))

    def forward(self, conv: nn.Module, x_BCHW: Tensor) -> Tensor:
        z = conv(x_BCHW)
        return z + self.project(self.norm(z))


class Parallel(nn.Module):
    """conv(x) + a(x) beside a convolution of these channels and this stride."""

    def __init__(self, channels_in: int, channels_out: int, stride: int = 1):
        super().__init__()
        self.project = _zero(Shortcut(channels_in, channels_out, 1, stride))

    def forward(self, conv: nn.Module, x_BCHW: Tensor) -> Tensor:
        return conv(x_BCHW) + self.project(x_BCHW)


FORMS = {"series": Series, "parallel": Parallel}


class ByDomain(nn.ModuleDict):
    """One module for each domain, chosen by name: ``by_domain(x, domain)``."""

    def forward(self, x: Tensor, domain: str) -> Tensor:
        return self[domain](x)


class AdaptedBlock(Block):
    """A block whose convolutions all domains share, and whose normalisations and adapters are each domain's own."""

    def __init__(self, domains: Sequence[str], form: str, channels_in: int, channels_out: int, stride: int = 1):
        super().__init__(channels_in, channels_out, stride)
        self.norm1, self.norm2 = norms(domains, channels_in), norms(domains, channels_out)
        adapter = FORMS[form]
        self.adapter1 = ByDomain({name: adapter(channels_in, channels_out) for name in domains})
        self.adapter2 = ByDomain({name: adapter(channels_out, channels_out, stride) for name in domains})

    def forward(self, x_BCHW: Tensor, domain: str) -> Tensor:
        y = self.adapter1[domain](self.conv1, F.relu(self.norm1(x_BCHW, domain)))
        return self.adapter2[domain](self.conv2, F.relu(self.norm2(y, domain))) + self.shortcut(x_BCHW)


def norms(domains: Sequence[str], channels: int) -> ByDomain:
    """A batch normalisation of so many channels for each domain."""
    return ByDomain({name: nn.BatchNorm2d(channels) for name in domains})


def adapted(domains: Sequence[str], form: str, depth: int = 28, widen: int = 4, width: float = 1.0) -> WideResNet:
    """A trunk with residual adapters: ``forward(image, features, domain)``.

    Args:
        domains: names; each gets adapters and normalisations.
        form: a key of ``FORMS``.
        depth: as ``WideResNet``, like ``widen`` and ``width``.

    Raises:
        KitError: a form that does not exist, and as ``WideResNet``.
    """
    if form not in FORMS:
        raise KitError(f"unknown form {form!r} of residual adapters: {nearest(form, FORMS)}")
    return WideResNet(
        depth, widen, width, functools.partial(AdaptedBlock, domains, form), functools.partial(norms, domains)
    )


def own_modules(trunk: nn.Module, domain: str) -> list[nn.Module]:
    """The modules of an adapted trunk that belong to one domain."""
    return [module[domain] for module in trunk.modules() if isinstance(module, ByDomain)]


def _zero(conv: nn.Conv2d) -> nn.Conv2d:
    nn.init.zeros_(conv.weight)
    nn.init.zeros_(conv.bias)
    return conv
