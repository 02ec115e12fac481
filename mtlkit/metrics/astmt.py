"""Protocol ``astmt``: how the released code of ASTMT measures (Maninis, Radosavovic and Kokkinos, "Attentive
Single-Tasking of Multiple Tasks", CVPR 2019), from files that it wrote, at the size of the images.

* *Classes, parts*: one confusion matrix for the split, the mean over all classes; one that occurs nowhere counts as 0,
  as under ``edgeai``. Of parts, images that show no person do not count.
* *Normals*: all valid pixels of the split count alike. The prediction went through a picture of 8 bits, and both it and
  the target are made unit vectors.
* *Saliency*: the prediction went through a picture of 8 bits. The IoU (1 where nothing is salient and nothing is
  predicted), precision and recall of each image at 15 thresholds, averaged over images; then the largest over the
  thresholds of the IoU, and of F of the mean precision and recall. Beta is 1, not the 0.3 squared of others.
* *Albedo*: the RMSE of each image, averaged.
* *Depth, disparity*: the RMSE of each image, averaged, and the median over images of that of the logarithms.
  Predictions and targets of 0 or below become 1e-9 first, so that pixels without a target are *not* left out: they
  count as 1e-9 metres away, which log RMSE is made of. ``pooled`` leaves them out.

An image without any valid pixel does not count.

Unconfirmed: that bytes are cut, not rounded; that a prediction is resized before it becomes bytes; how class ids are
resized to the nearest pixel.

Shapes: B batch, C channels, H/W size, K classes, T thresholds.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torchmetrics.utilities import dim_zero_cat

from ..losses import unit
from .base import TaskMetric
from .edgeai import EdgeaiSemantic
from .functional import WIDE, eight_bits, threshold_counts
from .pooled import PooledNormals
from .specs import LOG_RMSE, NORMALS_WITH_RMSE, RMSE, SALIENT, SPECS

TINY = 1e-9  # metres: what a depth of 0 or below becomes
EPSILON = 1e-12  # of ratios
# The bytes from which on a pixel is salient. 0.2 is 51/255 exactly: the released code compares with >=.
SALIENT_BYTES = tuple(math.ceil(round(255 * threshold, 6)) for threshold in SALIENT)


class AstmtSemantic(EdgeaiSemantic):
    """mIoU over all classes; a fraction."""


class AstmtParts(EdgeaiSemantic):
    """mIoU over all parts and what is none, of the images that show a part; a fraction."""

    task = "parts"
    specs = SPECS["parts"]

    def _add(self, prediction: Tensor, target: Tensor) -> None:
        shown_B11 = (target > 0).flatten(1).any(dim=1).view(-1, 1, 1)
        super()._add(prediction, torch.where(shown_B11, target, -1))


class AstmtNormals(PooledNormals):
    """As pooled, and the root of the mean squared angle, in degrees."""

    specs = NORMALS_WITH_RMSE
    square_sum: Tensor

    def __init__(self) -> None:
        super().__init__()
        self._add_sums("square_sum")

    def _resize(self, prediction: Tensor, size: torch.Size) -> Tensor:
        return unit(eight_bits((super()._resize(prediction, size) + 1) / 2) * (2 / 255) - 1)

    def _add(self, prediction: Tensor, target: Tensor) -> None:
        super()._add(prediction, unit(target))

    def _add_angles(self, angle_BHW: Tensor, valid_BHW: Tensor) -> None:
        super()._add_angles(angle_BHW, valid_BHW)
        self.square_sum += torch.where(valid_BHW, angle_BHW.square(), 0.0).sum(dtype=WIDE)

    def compute(self) -> dict[str, Tensor]:
        return super().compute() | {"rmse": (self.square_sum / self.histogram.sum()).sqrt()}


class _ByImage(TaskMetric):
    """What is measured image by image, and averaged over those that have a valid pixel."""

    images: Tensor

    def __init__(self) -> None:
        super().__init__()
        self._add_sums("images", dtype=torch.int64)

    def _seen(self, valid: Tensor) -> Tensor:
        """(B,) which images have a valid pixel; they are counted."""
        seen_B = valid.flatten(1).any(dim=1)
        self.images += seen_B.sum()
        return seen_B


class AstmtSaliency(_ByImage):
    """The largest mean IoU and the largest F over the thresholds; fractions."""

    task = "saliency"
    sums_T3: Tensor

    def __init__(self) -> None:
        super().__init__()
        self._add_sums("sums_T3", shape=(len(SALIENT), 3))

    def _add(self, prediction: Tensor, target: Tensor) -> None:
        counts_BT3 = threshold_counts(eight_bits(prediction), target, SALIENT_BYTES)
        hits_BT, predicted_BT, true_BT = counts_BT3.to(WIDE).unbind(dim=2)
        union_BT = predicted_BT + true_BT - hits_BT
        iou_BT = torch.where(union_BT == 0, 1.0, hits_BT / union_BT.clamp(min=1))
        ratios_BT3 = torch.stack([iou_BT, hits_BT / (predicted_BT + EPSILON), hits_BT / (true_BT + EPSILON)], dim=2)
        self.sums_T3 += (ratios_BT3 * self._seen(target >= 0).view(-1, 1, 1)).sum(dim=0)

    def compute(self) -> dict[str, Tensor]:
        iou_T, precision_T, recall_T = (self.sums_T3 / self.images).unbind(dim=1)
        f_T = 2 * precision_T * recall_T / (precision_T + recall_T + EPSILON)
        return {"miou": iou_T.max(), "max_f": f_T.max()}


class AstmtAlbedo(_ByImage):
    """The mean over images of the RMSE."""

    task = "albedo"
    rmse_sum: Tensor

    def __init__(self) -> None:
        super().__init__()
        self._add_sums("rmse_sum")

    def _add(self, prediction: Tensor, target: Tensor) -> None:
        self.images += len(target)
        self.rmse_sum += _rmse(prediction, target).sum()

    def compute(self) -> dict[str, Tensor]:
        return {"rmse": self.rmse_sum / self.images}


class AstmtDepth(_ByImage):
    """The mean over images of the RMSE in metres, and the median over images of that of the logarithms."""

    task = "depth"
    specs = (RMSE, LOG_RMSE)
    rmse_sum: Tensor
    logs: list[Tensor]

    def __init__(self) -> None:
        super().__init__()
        self._add_sums("rmse_sum")
        self.add_state("logs", [], dist_reduce_fx="cat")

    def _add(self, prediction: Tensor, target: Tensor) -> None:
        seen_B = self._seen(target != 0)
        p_B1HW, g_B1HW = (torch.where(depth <= 0, TINY, depth) for depth in (prediction, target))
        self.rmse_sum += torch.where(seen_B, _rmse(p_B1HW, g_B1HW), 0.0).sum()
        self.logs.append(torch.where(seen_B, _rmse(p_B1HW.log(), g_B1HW.log()), math.nan))

    def compute(self) -> dict[str, Tensor]:
        logs = dim_zero_cat(self.logs) if len(self.logs) else self.rmse_sum.new_full((1,), math.nan)
        return {"rmse": self.rmse_sum / self.images, "log_rmse": logs.nanquantile(0.5)}


class AstmtDisparity(AstmtDepth):
    """As depth, in the dataset's recorded unit."""

    task = "disparity"


def _rmse(prediction: Tensor, target: Tensor) -> Tensor:
    """The root of the mean squared difference of each image, (B,)."""
    return (prediction - target).square().flatten(1).mean(dim=1, dtype=WIDE).sqrt()
