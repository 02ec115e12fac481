"""What every accumulator is, and what the protocols of one task share.

Shapes: B batch, C channels, H/W size, K classes.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
import torchmetrics
from torch import Tensor

from ..errors import KitError
from ..losses import unit, widen
from .functional import WIDE
from .specs import MetricSpec, specs_of


class TaskMetric(torchmetrics.Metric):
    """Accumulates one task's metrics over a split: ``update`` batch by batch, then ``compute()`` gives a dict.

    The dict has a scalar tensor for each of ``specs``, in that order. The prediction is what ``Task.predict`` gives.
    One of another size than the target is resized to it: class ids to the nearest pixel, everything else bilinearly.
    A subclass says which task it measures, adds a batch, and computes.
    """

    full_state_update = False
    task: str

    @property
    def specs(self) -> tuple[MetricSpec, ...]:
        """What ``compute`` gives: all that is measured of the task, unless a subclass says other."""
        return specs_of(self.task)

    def update(self, prediction: Tensor, target: Tensor) -> None:
        """Add one batch.

        Args:
            prediction: class ids (B, h, w), depth (B, 1, h, w) in metres, disparity (B, 1, h, w) in its recorded unit,
                normals or albedo (B, 3, h, w), or probabilities (B, 1, h, w).
            target: the same with the size (H, W); invalid pixels as in ``Task``.

        Raises:
            KitError: a prediction whose shape differs from the target's in more than h and w.
        """
        if prediction.ndim != target.ndim or prediction.shape[:-2] != target.shape[:-2]:
            expected, found = (*target.shape[:-2], "h", "w"), tuple(prediction.shape)
            raise KitError(
                f"{self.task}: expected a prediction of shape {expected}, found {found}; give task.predict(raw)"
            )
        self._add(self._resize(prediction, target.shape[-2:]), widen(target))

    def _resize(self, prediction: Tensor, size: torch.Size) -> Tensor:
        prediction = widen(prediction)
        if prediction.shape[-2:] == size:
            return prediction
        return F.interpolate(prediction, size=tuple(size), mode="bilinear", align_corners=False)

    def _add(self, prediction: Tensor, target: Tensor) -> None:
        raise NotImplementedError  # abstract

    def _add_sums(self, *names: str, shape: tuple[int, ...] = (), dtype: torch.dtype = WIDE) -> None:
        """Declare states that start at zero and are summed over processes."""
        for name in names:
            self.add_state(name, torch.zeros(shape, dtype=dtype), dist_reduce_fx="sum")


class Semantic(TaskMetric):
    """What the protocols for class ids share: the number of classes, and that ids are resized to the nearest pixel."""

    task = "semantic"

    def __init__(self, classes: int) -> None:
        super().__init__()
        if classes < 1:
            raise KitError(f"{self.task}: expected classes >= 1, found {classes}; give the dataset's number of classes")
        self.classes = classes

    def _resize(self, prediction: Tensor, size: torch.Size) -> Tensor:
        if prediction.shape[-2:] == size or prediction.is_floating_point():  # floats are refused where ids are counted
            return prediction
        # interpolation wants floats, and float32 holds every class id exactly
        return F.interpolate(prediction[:, None].float(), size=tuple(size), mode="nearest-exact")[:, 0].long()


class Normals(TaskMetric):
    """What the protocols for normals share: predictions are stretched to length one after they are resized."""

    task = "normals"

    def _resize(self, prediction: Tensor, size: torch.Size) -> Tensor:
        # also where the size fits: a unit vector in half precision may be 0.4 % too long, which acos turns into
        # several degrees
        return unit(super()._resize(prediction, size))


class Labels(TaskMetric):
    """What is measured of one label for an image: class ids (B,); a target of -1 is unknown."""

    task = "label"

    def update(self, prediction: Tensor, target: Tensor) -> None:
        """Add one batch.

        Args:
            prediction: class ids (B,).
            target: class ids (B,), -1 is unknown.

        Raises:
            KitError: another shape than (B,), different ones, or a prediction that is not of an integer type.
        """
        if prediction.shape != target.shape or target.ndim != 1 or prediction.is_floating_point():
            raise KitError(
                f"{self.task}: expected integer class ids (B,) = {tuple(target.shape)}, "
                f"found {prediction.dtype} {tuple(prediction.shape)}; give task.predict(raw)"
            )
        self._add(prediction, target)
