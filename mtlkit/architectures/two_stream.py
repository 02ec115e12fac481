"""Two streams, one for optical flow and one for the frame, fused early; one light decoder for each task.

The "pixel2pixel" multi-task network of TI's edgeai (Cityscapes: depth, semantics, motion): MobileNetV2, four blocks for
each stream down to stride 4, concatenation and a depthwise-separable convolution, thirteen shared blocks, DeepLab-lite
for each task. Written from measurements of the released code; counts are declared below.

    flow  -> blocks 0-3 -+
                         concat -> fuse (stride 4) -> blocks 4-17 (stride 16) -> one decoder for each task
    frame -> blocks 0-3 -+            |                                             ^
                                      +---------------------------------------------+

Known differences from the released code: raw outputs instead of class ids in evaluation mode; FPN-lite and UNet-lite
work with several tasks (released: with one alone), and UNet-lite with two streams reads the frame's stride-2 feature
(released: none fits). The published script names a backbone that is not public; ``expand_first`` is what explains its
count of operations.

Shapes: B batch, H/W size, K channels of a task's raw output.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from ..errors import KitError, nearest
from ..layers import mobilenet
from ..layers.lite import DECODERS, up
from ..layers.mobilenet import ConvBN
from ..layers.segnet import keep, scaled
from ..tasks import Task, depth, motion
from .base import ARCHITECTURES, Features, MultiTaskModel, _without
from .catalogue import Entry, declare, semantic_of

PRIVATE = 3  # the last block of its own that a stream has
TAPS = {2: 1, 8: 6, 16: 13}  # stride -> the block whose output stands for it; stride 4 is where the streams meet
STREAMS = ("flow", "image")


@ARCHITECTURES.register("two_stream")
class TwoStream(MultiTaskModel):
    """Frame and flow to any dense tasks.

    Args:
        tasks: one decoder is made for each.
        inputs: ``["flow", "image"]`` in this order (default), or ``["image"]``: one stream, and nothing to fuse, as
            edgeai's single-task networks for depth and semantics.
        decoder: ``"deeplab"`` (default), ``"fpn"`` or ``"unet"``, see ``layers.lite``; the latter two with an encoder
            of stride 32.
        dilations: of the three dilated branches of each decoder's pyramid.
        expand_first: the first block keeps its expansion (see ``layers.mobilenet``): the published 5.71 GMAC.
        width: scales every channel count.

    Raises:
        KitError: tasks, inputs, decoder or width that do not exist; dilations that are not three.
    """

    alone = True

    def __init__(
        self,
        tasks: Sequence[Task],
        inputs: list[str] | None = None,
        decoder: str = "deeplab",
        dilations: list[int] | None = None,
        expand_first: bool = False,
        width: float = 1.0,
    ):
        super().__init__(tasks)
        inputs = list(STREAMS if inputs is None else inputs)
        if inputs not in (list(STREAMS), ["image"]):
            raise KitError(f"inputs of 'two_stream' are ['flow', 'image'] or ['image'], found {inputs}")
        if decoder not in DECODERS:
            raise KitError(f"unknown decoder {decoder!r} of 'two_stream': {nearest(decoder, DECODERS)}")
        dilations = [2, 4, 6] if dilations is None else dilations
        if len(dilations) != 3 or min(dilations) < 1:
            raise KitError(f"dilations of 'two_stream' are three numbers from 1 on, found {dilations}")
        make = DECODERS[decoder]
        self.inputs, self.stride = tuple(inputs), make.encoder_stride
        deep = make.encoder_stride
        own = {"width": width, "expand_first": expand_first, "stride": deep}
        self.streams = nn.ModuleDict({name: mobilenet.blocks(0, PRIVATE, **own) for name in inputs})
        half, quarter, eighth, sixteenth, last = scaled(width, (16, 24, 32, 96, 320))
        both = quarter * len(inputs)
        self.fuse = (
            nn.Sequential(ConvBN(both, both, 3, groups=both), ConvBN(both, quarter, 1)) if len(inputs) > 1 else None
        )
        self.shared = mobilenet.blocks(PRIVATE + 1, 17, **own)
        channels = {2: half, 4: quarter, 8: eighth, 16: sixteenth} | {deep: last}
        self.heads = nn.ModuleDict({task.name: make(channels, task.channels, dilations, width) for task in tasks})
        self.ends = make.ends
        _initialise(self)

    def compute(self, streams: dict[str, Tensor], names: list[str], features: Features | None) -> dict[str, Tensor]:
        """Features: ``fused`` (stride 4), ``last``."""
        maps: dict[int, Tensor] = {}
        met = []
        for name, stream in self.streams.items():
            x = streams[name]
            for number, block in stream.named_children():
                x = block(x)
                if int(number) == TAPS[2] and name == "image":
                    maps[2] = x
            met.append(x)
        x = met[0] if self.fuse is None else self.fuse(torch.cat(met, dim=1))
        maps[4] = keep(features, "fused", x)
        for number, block in self.shared.named_children():
            x = block(x)
            maps |= {stride: x for stride, tap in TAPS.items() if int(number) == tap}
        maps[self.stride] = keep(features, "last", x)
        return {name: up(self.heads[name](maps), self.ends) for name in names}

    def task_modules(self, name: str) -> list[nn.Module]:
        return [self.heads[name]]

    def last_shared_feature(self) -> str | None:
        """What every pyramid reads; the gradients that go round it, over the shortcut, are not in it (as released)."""
        return "last" if len(self.tasks) > 1 else None

    def last_shared_layer(self) -> nn.Module | None:
        return self.shared[-1].conv[-2] if len(self.tasks) > 1 else None

    def mobilenets(self) -> list[dict[str, nn.Module]]:
        """The blocks by their numbers in MobileNetV2, once for each stream: what ImageNet weights are loaded into."""
        shared = dict(self.shared.named_children())
        return [dict(stream.named_children()) | shared for stream in self.streams.values()]

    def parameter_groups(self) -> dict[str, list[nn.Parameter]]:
        heads = list(self.heads.parameters())
        fuse = [] if self.fuse is None else list(self.fuse.parameters())
        return {"backbone": _without(self.parameters(), [*heads, *fuse]), "exchange": fuse, "heads": heads}


def _initialise(model: nn.Module) -> None:
    """Kaiming normal by fan-out in every convolution; the scale of batch normalisation is a little below one."""
    for module in model.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
        elif isinstance(module, nn.BatchNorm2d):
            nn.init.constant_(module.weight, 1 - 1e-5)


# --- rows of `mtlkit models` --------------------------------------------------------------------------------------
# Measured; operations were recorded in GMAC to four decimals. Published: 3.44 and 3.54 (depth, 19 classes, frame alone)
# and 3.92 (motion) by the public backbone, 5.71 (all three) by the other.

SIZE = (384, 768)
_FRAME = {"inputs": ["image"]}
_OTHER = {"expand_first": True}
_D, _S5, _S19, _M = depth(), semantic_of(5), semantic_of(19), motion()

for _tasks, _options, _parameters, _gmacs in (
    ((_D,), _FRAME, 2_419_552, 3.4445),
    ((_S5,), _FRAME, 2_420_768, 3.4669),
    ((_S19,), _FRAME, 2_425_024, 3.5454),
    ((_M,), {}, 2_437_376, 3.9249),
    ((_D, _S5, _M), {}, 3_654_272, 5.4807),
    ((_D, _S19, _M), {}, 3_658_528, 5.5592),
    ((_D, _S5, _M), _OTHER, 3_656_448, 5.6317),
    ((_D, _S19, _M), _OTHER, 3_660_704, 5.7102),
    ((_D,), _FRAME | _OTHER, 2_420_640, 3.5200),
    ((_S19,), _FRAME | _OTHER, 2_426_112, 3.6209),
    ((_M,), _OTHER, 2_439_552, 4.0759),
    ((_S19,), _FRAME | {"decoder": "fpn"}, 2_669_376, 3.7673),
    ((_S19,), _FRAME | {"decoder": "unet"}, 2_465_836, 2.2043),
):
    _names = [key if value is True else "frame" if key == "inputs" else value for key, value in _options.items()]
    _classes = next((f"-{task.channels}" for task in _tasks if task.name == "semantic"), "")
    declare(
        Entry(
            dataset=f"cityscapes{_classes}",
            architecture="two_stream",
            tasks=_tasks,
            macs={SIZE: _gmacs},
            parameters=_parameters,
            options=_options,
            rule="conv",
            called="-".join(_names),
        )
    )
