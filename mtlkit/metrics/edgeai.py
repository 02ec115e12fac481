"""Protocol ``edgeai``: how the training code of edgeai's two-stream network measures (Texas Instruments,
edgeai-torchvision, r8.0), with its quirks.

* *ARD* (3 to 80 m). Prediction p and truth g are cut to -80 ... 80 m, so that everything farther counts as 80; the
  error is |p - g| / g, and 0 where g <= 3, which is still counted in the mean over the valid pixels of a batch. Fewer
  than two valid pixels, or a prediction that is NaN, give NaN, which becomes 0: a perfect batch. The result is the mean
  of the batches, each times its number of images.
* *mIoU* of classes and of motion. One confusion matrix for the split, over pixels whose truth is a class; a class that
  occurs neither in truth nor in prediction counts as 0. (The tool that evaluates offline divides by the classes that
  occur, which is ``pooled`` but for classes that are only predicted. Which of the two made the published numbers is
  unconfirmed.)

Nothing else is measured, so Δ_MTL is the mean over three numbers. Labels are enlarged to the nearest pixel and depth
bilinearly where a target is larger, as in the code.

Shapes: B batch, H/W size, K classes.
"""

from __future__ import annotations

import torch
from torch import Tensor

from .base import TaskMetric
from .functional import WIDE, iou_from_confusion
from .pooled import PooledMotion, PooledSemantic
from .specs import ARD_RANGE, SPECS, STREET_DEPTH


class EdgeaiDepth(TaskMetric):
    """ARD, a fraction; the code prints percent."""

    task = "depth"
    specs = STREET_DEPTH[-1:]
    ard_sum: Tensor
    images: Tensor

    def __init__(self) -> None:
        super().__init__()
        self._add_sums("ard_sum")
        self._add_sums("images", dtype=torch.int64)

    def _add(self, prediction: Tensor, target: Tensor) -> None:
        nearest, farthest = ARD_RANGE
        valid_B1HW = target != 0
        p_B1HW, g_B1HW = (depth.clamp(-farthest, farthest) for depth in (prediction, target))
        counts_B1HW = valid_B1HW & (g_B1HW > nearest)
        error_B1HW = torch.where(counts_B1HW, (p_B1HW - g_B1HW).abs() / torch.where(counts_B1HW, g_B1HW, 1.0), 0.0)
        count = valid_B1HW.sum()
        mean = error_B1HW.sum(dtype=WIDE) / count
        self.ard_sum += torch.where((count < 2) | mean.isnan(), 0.0, mean) * len(target)
        self.images += len(target)

    def compute(self) -> dict[str, Tensor]:
        return {"ard": self.ard_sum / self.images}


class EdgeaiSemantic(PooledSemantic):
    """mIoU over all classes; a fraction."""

    specs = SPECS["semantic"][:1]

    def compute(self) -> dict[str, Tensor]:
        return {"miou": _iou(self.confusion_KK).mean()}


class EdgeaiMotion(PooledMotion):
    """mIoU of what stands and what moves, and the IoU of each; fractions."""

    def compute(self) -> dict[str, Tensor]:
        iou_2 = _iou(self.confusion_KK)
        return {"miou": iou_2.mean(), "static_iou": iou_2[0], "moving_iou": iou_2[1]}


def _iou(confusion_KK: Tensor) -> Tensor:
    """IoU of each class, 0 of one that occurs nowhere. (The code gets that by adding 1e-7 to the union.)"""
    return iou_from_confusion(confusion_KK).nan_to_num(0.0)
