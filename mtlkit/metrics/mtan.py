"""Protocols ``mtan``, ``mtan-legacy`` and ``mtan-legacy-void``: the three formulas of MTAN's released code.

Only the semantic metrics changed over time; depth and normals are the same in all three.

Shapes: B batch, C channels, H/W size, K classes.
"""

from __future__ import annotations

import torch
from torch import Tensor

from ..losses import valid_normals
from .base import Normals, Semantic
from .functional import (
    WIDE,
    angular_error_degrees,
    confusion_by_image,
    depth_errors,
    iou_from_confusion,
    masked_median,
)
from .pooled import PooledDepth, PooledSemantic
from .specs import SPECS, THRESHOLDS


class MtanSemantic(PooledSemantic):
    """As released: the plain mean over all classes, NaN as soon as one occurs in neither prediction nor target."""

    def _mean(self, iou_K: Tensor) -> Tensor:
        return iou_K.mean()


class LegacySemantic(Semantic):
    """As released from 2020-07-11 to 2020-11-22: mIoU and pixel accuracy of each image, averaged over images.

    The mIoU of an image is over the classes with a non-zero union in it; void pixels do not count. An image without a
    valid pixel is 0/0 in both and makes both means NaN.
    """

    union_counts_void = False
    sums_2: Tensor
    images: Tensor

    def __init__(self, classes: int) -> None:
        super().__init__(classes)
        self._add_sums("sums_2", shape=(2,))
        self._add_sums("images", dtype=torch.int64)

    def _add(self, prediction: Tensor, target: Tensor) -> None:
        with_void_BRK = confusion_by_image(prediction, target, self.classes)
        confusion_BKK = with_void_BRK[:, :-1]
        iou_BK = iou_from_confusion(with_void_BRK if self.union_counts_void else confusion_BKK)
        hits_B = confusion_BKK.diagonal(dim1=1, dim2=2).sum(dim=1)
        accuracy_B = hits_B.to(WIDE) / confusion_BKK.sum(dim=(1, 2))
        self.sums_2 += torch.stack([iou_BK.nanmean(dim=1), accuracy_B]).sum(dim=1)
        self.images += len(prediction)

    def compute(self) -> dict[str, Tensor]:
        return dict(zip((spec.name for spec in SPECS["semantic"]), self.sums_2 / self.images, strict=True))


class LegacyVoidSemantic(LegacySemantic):
    """As released until 2020-07-11, and so when the paper's tables were made: as ``LegacySemantic``, but the union of a
    class also counts the void pixels where it is predicted.

    So a class predicted on void pixels alone is a class of the image, with IoU 0. An image without a valid pixel has
    mIoU 0; its pixel accuracy is 0/0 and makes that mean NaN.
    """

    union_counts_void = True


class MtanDepth(PooledDepth):
    """As released: both means are taken in each batch, then averaged over batches (which ``count`` counts here)."""

    def _add(self, prediction: Tensor, target: Tensor) -> None:
        abs_sum, rel_sum, pixels = depth_errors(prediction, target)
        self.abs_sum += abs_sum / pixels
        self.rel_sum += rel_sum / pixels
        self.count += 1


class MtanDisparity(MtanDepth):
    """As depth, in the dataset's recorded unit."""

    task = "disparity"


class MtanNormals(Normals):
    """As released: mean, median and shares are taken in each batch, then averaged over batches.

    Valid is a target whose components do not sum to zero.
    """

    sums_5: Tensor
    batches: Tensor

    def __init__(self) -> None:
        super().__init__()
        self._add_sums("sums_5", shape=(2 + len(THRESHOLDS),))
        self._add_sums("batches", dtype=torch.int64)

    def _add(self, prediction: Tensor, target: Tensor) -> None:
        angle_BHW, valid_BHW = angular_error_degrees(prediction, target), valid_normals(target, "mtan")
        count = valid_BHW.sum()
        mean = torch.where(valid_BHW, angle_BHW, 0.0).sum(dtype=WIDE) / count
        shares = [((angle_BHW < t) & valid_BHW).sum().to(WIDE) / count for t in THRESHOLDS]
        self.sums_5 += torch.stack([mean, masked_median(angle_BHW, valid_BHW).to(WIDE), *shares])
        self.batches += 1

    def compute(self) -> dict[str, Tensor]:
        return dict(zip((spec.name for spec in SPECS["normals"]), self.sums_5 / self.batches, strict=True))
