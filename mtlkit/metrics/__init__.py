"""How a task is measured: pure functions, accumulators over a whole split, numbers that compare whole models.

A *protocol* is a paper's way of averaging; the same predictions give different numbers under different protocols, so
the name always stands beside the number:

    pooled            the default, and what to compare own runs by. All pixels of the split count alike: one confusion
                      matrix, sums of errors, the median of all angles; so do the labels of whole images. It does not
                      depend on how the split is cut into batches. Classes absent from prediction and target are left
                      out of the mean IoU.
    mtan              as the released code of MTAN (CVPR 2019) does since 2020-11-22: the confusion matrix is pooled,
                      but the mean IoU is over all classes and NaN where one of them is absent; depth and normals are
                      averaged per batch, and every batch weighs the same, the smaller last one too. So its median is a
                      mean of medians.
    mtan-legacy       as that code did before 2020-11-22: the mean IoU is taken in each image, over the classes with a
                      non-zero union in it, then averaged over images; so is the pixel accuracy. Depth and normals as
                      in mtan.
    mtan-legacy-void  as it did until 2020-07-11: as mtan-legacy, but void pixels count in the union, so that a
                      prediction on a void pixel enlarges the union of its class.
    edgeai            as the code of edgeai does (Texas Instruments) for depth on streets, classes and motion: see
                      ``edgeai``. Depth is measured by one number, ARD, which ``pooled`` has for streets without its
                      quirks.
    astmt             as the code of ASTMT does (CVPR 2019) for its tasks, from predictions kept as pictures of 8 bits:
                      see ``astmt``.

The tables of the MTAN paper use the legacy formula and are older than 2020-07-11: compare with them by
``mtan-legacy-void``. That its union is theirs follows from the dates alone (unconfirmed), and the cells of those tables
are unconfirmed one by one. They are means over the last ten epochs besides, which no protocol takes. The README of
lorenmt/mtan puts the newer mIoU about 8 points above the older. For a paper built on MTAN's code the date of its copy
decides.

The legacy mIoU and pixel accuracy do not depend on how the split is cut into batches: a mean of batch means, over
batches of one size (654 test images of NYUv2 in batches of two), is the same number.

Only a true 0/0 is NaN, and it makes the whole mean NaN: under the three protocols of MTAN a
batch without a valid pixel does so for depth and normals, and under the two legacy ones an image without a valid pixel
for the semantic metrics; there ``mtan-legacy-void`` has mIoU 0, for its unions are not empty. ``pooled`` never meets it
while the split has one valid pixel.

Every state is a sum, or a list with a number for each image, so accumulators of several processes combine exactly. The
pooled median comes from a fixed histogram of 3600 bins over 0 ... 180 degrees, right to one bin (0.05 degrees). An
accumulator that has seen nothing gives NaN. ``update`` reads nothing back from the device, but for edges, which are
matched on the CPU (``edges``).
"""

from __future__ import annotations

import inspect

from ..errors import KitError, nearest
from . import astmt, edgeai, edges, mtan, pooled
from .base import TaskMetric
from .decathlon import BASELINE_ERRORS, decathlon_points, decathlon_score
from .delta import CONVENTIONS, WAYS, delta_mtl
from .functional import (
    BINS,
    BINS_PER_DEGREE,
    angle_histogram,
    angular_error_degrees,
    confusion_by_image,
    confusion_matrix,
    depth_errors,
    eight_bits,
    iou_from_confusion,
    masked_median,
    median_from_histogram,
    threshold_counts,
)
from .ranks import TIES, mean_rank
from .specs import (
    DEPTH_WITH_RMSE,
    LABELS,
    SPECS,
    STREET_DEPTH,
    THRESHOLDS,
    MetricSpec,
    counted,
    in_order,
    mains,
    sort_tasks,
    specs_of,
)

__all__ = [
    "ACCUMULATORS", "BASELINE_ERRORS", "BINS", "BINS_PER_DEGREE", "CONVENTIONS", "DEPTH_WITH_RMSE", "LABELS",
    "PROTOCOLS", "SPECS", "STREET_DEPTH", "THRESHOLDS", "TIES", "WAYS", "MetricSpec", "TaskMetric",
    "angle_histogram", "angular_error_degrees", "build", "confusion_by_image", "confusion_matrix", "counted",
    "decathlon_points", "decathlon_score", "delta_mtl", "depth_errors", "eight_bits", "in_order",
    "iou_from_confusion", "mains", "masked_median", "mean_rank", "median_from_histogram", "sort_tasks", "specs_of",
    "threshold_counts",
]  # fmt: skip

_POOLED = {
    "semantic": pooled.PooledSemantic,
    "depth": pooled.PooledDepth,
    "street-depth": pooled.PooledStreetDepth,
    "rmse-depth": pooled.PooledRmseDepth,
    "disparity": pooled.PooledDisparity,
    "normals": pooled.PooledNormals,
    "motion": pooled.PooledMotion,
    "parts": pooled.PooledParts,
    "edges": edges.PooledEdges,
    "saliency": pooled.PooledSaliency,
    "albedo": pooled.PooledAlbedo,
    "label": pooled.PooledLabels,
}
_EDGEAI = {
    "semantic": edgeai.EdgeaiSemantic,
    "street-depth": edgeai.EdgeaiDepth,
    "motion": edgeai.EdgeaiMotion,
}
_MTAN = {
    "semantic": mtan.MtanSemantic,
    "depth": mtan.MtanDepth,
    "street-depth": mtan.MtanDepth,
    "rmse-depth": mtan.MtanDepth,
    "disparity": mtan.MtanDisparity,
    "normals": mtan.MtanNormals,
}
_ASTMT = {
    "semantic": astmt.AstmtSemantic,
    "parts": astmt.AstmtParts,
    "normals": astmt.AstmtNormals,
    "edges": edges.AstmtEdges,
    "saliency": astmt.AstmtSaliency,
    "albedo": astmt.AstmtAlbedo,
    "depth": astmt.AstmtDepth,
    "street-depth": astmt.AstmtDepth,
    "rmse-depth": astmt.AstmtDepth,
    "disparity": astmt.AstmtDisparity,
}
ACCUMULATORS: dict[str, dict[str, type[TaskMetric]]] = {
    "pooled": _POOLED,
    "mtan": _MTAN,
    "mtan-legacy": _MTAN | {"semantic": mtan.LegacySemantic},
    "mtan-legacy-void": _MTAN | {"semantic": mtan.LegacyVoidSemantic},
    "edgeai": _EDGEAI,
    "astmt": _ASTMT,
}
PROTOCOLS = tuple(ACCUMULATORS)


def build(task_name: str, protocol: str = "pooled", like: str | None = None, **options: float) -> TaskMetric:
    """A fresh accumulator.

    Args:
        task_name: a key of ``SPECS``.
        protocol: one of ``PROTOCOLS``.
        like: what it is measured as where that is not its own name: ``"label"``, one label for an image, which
            ``pooled`` alone knows; ``"street-depth"``, with ARD, the only depth that ``edgeai`` knows;
            ``"rmse-depth"``, of which ``pooled`` has the RMSE too.
        options: ``classes`` for ``semantic`` and ``parts``, ``max_distance`` for ``edges``, ``ordered`` for ``label``;
            the others take none.

    Raises:
        KitError: an unknown task or protocol, a missing or unknown option.
    """
    if protocol not in ACCUMULATORS:
        raise KitError(f"unknown protocol {protocol!r}: {nearest(protocol, PROTOCOLS)}")
    known = ACCUMULATORS[protocol]
    kind = like or task_name
    if kind not in known:
        raise KitError(f"protocol {protocol!r} does not measure task {task_name!r}: {nearest(task_name, known)}")
    expected = sorted(inspect.signature(known[kind]).parameters)
    if sorted(options) != expected:
        raise KitError(f"metrics of {task_name!r}: expected the options {expected}, found {sorted(options)}")
    return known[kind](**options)
