"""Dense: a shared SegNet, and one whole SegNet for each task that reads the shared features at every stage.

The "Dense" baseline of MTAN (Liu, Johns and Davison, CVPR 2019, arXiv 1803.10704), as in lorenmt/mtan (MIT):

    encoder s    the task's stage reads concat(its own pooled feature, the shared pooled feature); s = 0 the image alone
    decoder d    the task's step reads concat(its own unpooled feature, the shared unpooled feature)

Pooling places are each network's own. Networks start with Xavier's uniform weights.

Known difference: the released shared decoder has a last step, to as many channels as there are classes, whose output
nobody reads; its parameters are counted and never trained. It is left out here; ``dead_step=True`` has it.

Shapes: B batch, C channels, H/W size, T tasks.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from ..layers import segnet
from ..tasks import Task, depth, normals
from .base import ARCHITECTURES, Features, MultiTaskModel
from .catalogue import NYUV2_SIZE, Entry, cityscapes, declare, semantic_of


class Branch(nn.Module):
    """One task's SegNet over the shared one.

    Args:
        widths: channels of the encoder stages, the same in both.
    """

    def __init__(self, widths: Sequence[int]):
        super().__init__()
        down, ends = segnet.encoder(widths), segnet.decoder(widths)
        reads = [3, *(2 * channels for channels in widths[:-1])]
        self.encoder = nn.ModuleList(map(_stage, reads, down))
        self.decoder = nn.ModuleList(_stage(2 * stage.entry.conv.in_channels, stage) for stage in ends[:-1])
        self.decoder.append(segnet.Stage(2 * widths[0], 2 * widths[0], widths[0]))  # the last step is wide, as released

    def forward(self, image_BCHW: Tensor, shared: Features) -> Tensor:
        """y_4 of the task, from the shared features p0..p3 (pooled) and u0..u4 (unpooled)."""
        x, where = image_BCHW, []
        for s, stage in enumerate(self.encoder):
            x = x if s == 0 else torch.cat([x, shared[f"p{s - 1}"]], dim=1)
            x, indices = segnet.pool(stage(x))
            where.append(indices)
        for d, stage in enumerate(self.decoder):
            x = stage(torch.cat([segnet.unpool(x, where.pop()), shared[f"u{d}"]], dim=1))
        return x


def _stage(channels: int, like: segnet.Stage) -> segnet.Stage:
    """A stage as ``like``, for an input of so many channels."""
    convolutions = [like.entry, *like.extra]
    return segnet.Stage(channels, *(cbr.conv.out_channels for cbr in convolutions))


@ARCHITECTURES.register("dense")
class Dense(MultiTaskModel):
    """A shared SegNet, read by one SegNet for each task.

    Args:
        tasks: one branch and one head are made for each.
        width: scales every channel count; see ``layers.segnet.scaled``.
        dead_step: True as released: the shared decoder has a last step that nobody reads.

    Raises:
        KitError: tasks or width that do not exist.
    """

    def __init__(self, tasks: Sequence[Task], width: float = 1.0, dead_step: bool = False):
        super().__init__(tasks)
        widths = segnet.scaled(width)
        self.shared_encoder = segnet.encoder(widths)
        self.shared_decoder = segnet.decoder(widths)[:-1]
        self.dead = segnet.Stage(widths[0], widths[0], tasks[0].channels) if dead_step else None
        self.branches = nn.ModuleDict({task.name: Branch(widths) for task in tasks})
        self.heads = nn.ModuleDict({task.name: segnet.Head(widths[0], task.channels) for task in tasks})
        segnet.initialise(self, "uniform")

    def compute(self, streams: dict[str, Tensor], names: list[str], features: Features | None) -> dict[str, Tensor]:
        """Features: the shared p0..p4 and u0..u4."""
        shared: Features = {} if features is None else features
        x, where = streams["image"], []
        for s, stage in enumerate(self.shared_encoder):
            x, indices = segnet.pool(stage(x))
            shared[f"p{s}"] = x
            where.append(indices)
        for d in range(len(self.shared_decoder) + 1):
            shared[f"u{d}"] = segnet.unpool(x, where.pop())
            if d < len(self.shared_decoder):
                x = self.shared_decoder[d](shared[f"u{d}"])
        if self.dead is not None:
            self.dead(shared["u4"])
        return {name: self.heads[name](self.branches[name](streams["image"], shared)) for name in names}

    def task_modules(self, name: str) -> list[nn.Module]:
        return [self.branches[name], self.heads[name]]

    def last_shared_layer(self) -> nn.Module | None:
        return self.shared_decoder[-1].last_conv if len(self.tasks) > 1 else None

    def auxiliary_parameters(self) -> list[nn.Parameter]:
        """The step that nobody reads."""
        return [] if self.dead is None else list(self.dead.parameters())


# --- rows of `mtlkit models` --------------------------------------------------------------------------------------
# Measured on lorenmt/mtan at c36c30b; Cityscapes as in `hard`.

declare(
    Entry(
        dataset="nyuv2",
        architecture="dense",
        tasks=(semantic_of(13), depth(), normals()),
        macs={NYUV2_SIZE: 325_823_496_192},
        parameters=123_743_995,
        log_variances=3,
        options={"dead_step": True},
    ),
    Entry(
        dataset="nyuv2",
        architecture="dense",
        tasks=(semantic_of(13), depth(), normals()),
        macs={NYUV2_SIZE: None},
        parameters=123_743_995 - 44_583,
        log_variances=3,
        note="reference less the 44583 of the step that nobody reads",
    ),
    *cityscapes(
        "dense",
        90_796_895,
        (69_474_451_456, 277_897_805_824, 234_476_273_664),
        {"dead_step": True},
        per_class=65 + 577 + 2,  # of the head; of the step that nobody reads
    ),
)
