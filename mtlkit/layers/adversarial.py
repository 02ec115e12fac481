"""Adversarial task gradients: no one shall tell from a task's gradient which task it comes from.

ASTMT (Maninis, Radosavovic and Kokkinos, CVPR 2019). A discriminator reads, pixel by pixel, the direction of the
gradient of a task's loss with respect to the last features, and names the task. It learns to do so; behind a gradient
reversal (Ganin and Lempitsky, "Unsupervised Domain Adaptation by Backpropagation", ICML 2015) the network learns, over
the gradient of the gradient, to make it fail:

    total = (1 - w) * loss + w * cross_entropy(D(reverse(g / (|g| + 1e-10), alpha)), task),    g = d loss / d features

Shapes: B batch, C channels, h/w size of the features, H/W size of the image, T tasks.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..errors import KitError
from .gradients import reverse

NOBODY = -100  # the class of a pixel that does not count


class Discriminator(nn.Sequential):
    """Directions of gradients (B, C, h, w) -> logits of the tasks (B, T, h, w).

    Args:
        channels: C, kept in between.
        tasks: T.
        depth: convolutions; all but the last are followed by ReLU and have no bias.
        kernel: their size, odd: 1 on PASCAL-Context, 3 on NYUD.

    Raises:
        KitError: another depth or kernel.
    """

    def __init__(self, channels: int, tasks: int, depth: int = 2, kernel: int = 1):
        if depth < 1 or kernel < 1 or kernel % 2 == 0:
            raise KitError(
                f"a discriminator has a depth of 1 or more and an odd kernel, found depth {depth}, kernel {kernel}; "
                "ASTMT has depth 2, kernel 1 (PASCAL) or 3 (NYUD)"
            )
        hidden = [nn.Conv2d(channels, channels, kernel, padding=kernel // 2, bias=False) for _ in range(depth - 1)]
        last = nn.Conv2d(channels, tasks, kernel, padding=kernel // 2)
        super().__init__(*(layer for conv in hidden for layer in (conv, nn.ReLU())), last)


def ganin(epoch: int, epochs: int) -> float:
    """The factor alpha of the reversal in an epoch, counted from 0: from nearly 0 to nearly 1.

    >>> [round(ganin(epoch, 60), 4) for epoch in (0, 29, 59)]
    [0.0831, 0.9866, 0.9999]
    """
    return 2 / (1 + math.exp(-10 * (epoch + 1) / epochs)) - 1


def task_gradient(loss: Tensor, features: Tensor) -> Tensor:
    """The gradient of a loss with respect to features (B, C, h, w), in every pixel divided by its length over the
    channels; in float32 or finer, itself to be differentiated.
    """
    (gradient,) = torch.autograd.grad(loss, features, create_graph=True)
    gradient = gradient.to(torch.promote_types(gradient.dtype, torch.float32))
    return gradient / (torch.linalg.vector_norm(gradient, dim=1, keepdim=True) + 1e-10)


def adversarial_loss(
    discriminator: nn.Module, loss: Tensor, features: Tensor, task: int, valid_BHW: Tensor, alpha: float
) -> tuple[Tensor, Tensor]:
    """How badly the discriminator names the task whose loss this is, over the pixels that count for the task.

    Args:
        discriminator: (B, C, h, w) -> (B, T, h, w); float32, whatever autocast is on.
        loss: of the task, weighted as it is trained; a scalar.
        features: (B, C, h, w) that it was computed from; its graph is kept.
        task: its index in the order of the model's tasks.
        valid_BHW: bool, the pixels of the target that count; looked up at the nearest for every pixel of the features.
        alpha: what the gradient that reaches the network is multiplied by, negated.

    Returns:
        Cross entropy (scalar, mean over valid pixels; 0 where there is none), share of them that is named right
        (scalar, detached).
    """
    with torch.autocast(features.device.type, enabled=False):
        logits = discriminator(reverse(task_gradient(loss, features), alpha))
    valid = F.interpolate(valid_BHW[:, None].float(), size=logits.shape[-2:])[:, 0] > 0
    labels = torch.full_like(valid, task, dtype=torch.long).masked_fill(~valid, NOBODY)
    count = valid.sum().clamp(min=1)
    right = ((logits.detach().argmax(dim=1) == labels) & valid).sum() / count
    return F.cross_entropy(logits, labels, ignore_index=NOBODY, reduction="sum") / count, right
