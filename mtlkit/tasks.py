"""What a task is: the central noun of the kit.

A task knows how many channels its network output has, how a raw output becomes a prediction, how it is trained and
measured, which target values do not count, and how it is drawn. Architectures, weightings, datasets and reports only
ever speak of tasks through this class.

Shapes: B batch, C channels, H/W size, K classes.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Iterable, Mapping

import torch
import torch.nn.functional as F
from torch import Tensor

from . import losses, metrics
from .errors import KitError, nearest

Loss = Callable[[Tensor, Tensor], Tensor]

# Okabe-Ito: told apart with every common kind of colour blindness. The same task has the same colour in every figure.
COLOURS = {
    "semantic": "#0072B2",
    "depth": "#D55E00",
    "normals": "#009E73",
    "disparity": "#E69F00",
    "edges": "#56B4E9",
    "saliency": "#CC79A7",
    "albedo": "#882255",
    "motion": "#999933",
    "parts": "#332288",
    "age": "#0072B2",  # of a face, which has no other task beside these two
    "gender": "#D55E00",
    "left": "#0072B2",  # the two digits of a pair, which have no other task beside them
    "right": "#D55E00",
}


def colour_of(name: str) -> str:
    """The colour of the task with this name; black where it has none of its own."""
    return COLOURS.get(name, "#000000")


@dataclasses.dataclass(frozen=True, eq=False)
class Task:
    """One task.

    Attributes:
        name: the key of its target in a sample and of its output in a model's outputs.
        kind: ``"classification"`` or ``"regression"``; Kendall's uncertainty weighting treats the two differently.
        channels: channels of the raw network output.
        loss: (raw (B, C, H, W), or (B, C) where an image has one label; target) -> scalar mean over what is valid.
        predict: raw output -> prediction in the form of the target (class ids, metres, unit vectors).
        valid: target -> bool mask of the pixels that count, (B, H, W), or of the labels, (B,).
        metrics: protocol name -> a fresh ``torchmetrics.Metric`` whose ``compute()`` returns a dict of scalars.
        constant: list of training targets -> the raw-like prediction of one pixel, (C,), of the best constant predictor
            (the floor).
        class_names: names of the classes, empty for regression.
        specs: what is measured of it; None is ``metrics.SPECS`` by its name.
        unit: what one step of the prediction means (for figures).
    """

    name: str
    kind: str
    channels: int
    loss: Loss
    predict: Callable[[Tensor], Tensor]
    valid: Callable[[Tensor], Tensor]
    metrics: Callable[[str], metrics.TaskMetric]
    constant: Callable[[list[Tensor]], Tensor]
    class_names: tuple[str, ...] = ()
    unit: str = ""
    specs: tuple[metrics.MetricSpec, ...] | None = None

    @property
    def colour(self) -> str:
        """The colour of this task in every figure."""
        return colour_of(self.name)

    @property
    def directions(self) -> dict[str, bool]:
        """Metric name -> True where higher is better; empty for a task that no protocol measures."""
        specs = metrics.SPECS.get(self.name, ()) if self.specs is None else self.specs
        return {spec.name: spec.higher_is_better for spec in specs}


# --- the catalogue ---


def classification(name: str, class_names: Iterable[str], ordered: bool = False) -> Task:
    """One label for each image: int64 (B,) class ids, -1 is unknown; raw output: logits (B, K).

    Args:
        name: any but that of a dense task.
        class_names: one for each class.
        ordered: the classes have an order, as age groups have: what is at most one class off is counted too.
    """
    names = tuple(class_names)
    k = len(names)

    def majority(targets: list[Tensor]) -> Tensor:
        counts = sum(torch.bincount(t[t >= 0].flatten(), minlength=k) for t in targets)
        return F.one_hot(counts.argmax(), k).float()

    return Task(
        name=name,
        kind="classification",
        channels=k,
        loss=losses.cross_entropy,
        predict=lambda raw: raw.argmax(dim=1),
        valid=lambda target: target >= 0,
        metrics=lambda protocol: metrics.build(name, protocol, like="label", ordered=ordered),
        constant=majority,
        class_names=names,
        unit="class",
        specs=metrics.LABELS if ordered else metrics.LABELS[:1],
    )


def _class_map(name: str, class_names: Iterable[str], **options: int) -> Task:
    """A class for every pixel: int64 (B, H, W) class ids, -1 is ignored; raw output: logits (B, K, H, W)."""
    return dataclasses.replace(
        classification(name, class_names),
        metrics=lambda protocol: metrics.build(name, protocol, **options),
        specs=None,
    )


def semantic(class_names: Iterable[str]) -> Task:
    """Semantic segmentation: int64 (B, H, W) class ids, -1 is ignored; raw output: logits (B, K, H, W)."""
    names = tuple(class_names)
    return _class_map("semantic", names, classes=len(names))


def parts(class_names: Iterable[str]) -> Task:
    """Parts of persons: int64 (B, H, W) class ids, -1 is ignored; raw output: logits (B, K, H, W)."""
    names = tuple(class_names)
    return _class_map("parts", names, classes=len(names))


def motion() -> Task:
    """What moves by itself: int64 (B, H, W), 1 moving, 0 static, -1 ignored; raw output: logits (B, 2, H, W)."""
    return _class_map("motion", ("static", "moving"))


def depth(streets: bool = False, rmse: bool = False) -> Task:
    """Depth: float (B, 1, H, W) in metres, 0 is invalid; the raw output is the prediction and may be negative, as
    released.

    Args:
        streets: it is measured by ARD (3 to 80 m) too, which is how edgeai measures it on Cityscapes; a room is nearer.
        rmse: ``pooled`` has the RMSE too, by which papers on NYUD compare; not with ``streets``.
    """
    like = "street-depth" if streets else "rmse-depth" if rmse else None

    def median(targets: list[Tensor]) -> Tensor:
        # the median minimises the mean absolute error; every fourth row and column is plenty for one number
        sample = torch.cat([t[..., ::4, ::4].flatten() for t in targets])
        return sample[sample > 0].median().reshape(1)

    return Task(
        name="depth",
        kind="regression",
        channels=1,
        loss=losses.masked_l1,
        predict=lambda raw: raw,
        valid=lambda target: target.squeeze(1) > 0,
        metrics=lambda protocol: metrics.build("depth", protocol, like=like),
        constant=median,
        unit="m",
        specs=metrics.STREET_DEPTH if streets else metrics.DEPTH_WITH_RMSE if rmse else None,
    )


def disparity() -> Task:
    """Disparity (inverse depth): float (B, 1, H, W) in the dataset's own recorded unit, 0 is invalid; else as depth."""
    return dataclasses.replace(
        depth(), name="disparity", metrics=lambda protocol: metrics.build("disparity", protocol), unit="recorded unit"
    )


def normals() -> Task:
    """Surface normals: unit vectors (B, 3, H, W) in the camera frame (x right, y down, z forward), all-zero is
    invalid.
    """

    def mean_direction(targets: list[Tensor]) -> Tensor:
        return F.normalize(sum(t.double().sum(dim=(0, 2, 3)) for t in targets), dim=0).float()

    return Task(
        name="normals",
        kind="regression",
        channels=3,
        loss=losses.normal_cosine,
        predict=lambda raw: losses.unit(losses.widen(raw)),
        valid=losses.valid_normals,
        metrics=lambda protocol: metrics.build("normals", protocol),
        constant=mean_direction,
        unit="unit vector",
    )


def edges(weight: float = 0.95, max_distance: float = 0.0075) -> Task:
    """Boundaries: float (B, 1, H, W) in {0, 1}, -1 is ignored; raw output: logits; the prediction is a probability.

    Args:
        weight: of a boundary pixel in the loss, another has 1 - ``weight``: 0.95 on PASCAL-Context, 0.8 on NYUD, as
            ASTMT (Maninis, Radosavovic and Kokkinos, CVPR 2019) is trained.
        max_distance: how far a predicted pixel may be from the true one that it counts for, as a share of the image's
            diagonal: 0.0075 on PASCAL-Context, 0.011 on NYUD.
    """
    return _yes_or_no("edges", weight, max_distance=max_distance)


def saliency() -> Task:
    """What draws the eye: as ``edges``, but for the weight in the loss, which is the share of the other answer in the
    batch (as ASTMT).
    """
    return _yes_or_no("saliency", None)


def _yes_or_no(name: str, weight: float | None, **options: float) -> Task:
    def frequency(targets: list[Tensor]) -> Tensor:
        yes, no = (sum(answer(t).sum() for t in targets) for answer in (lambda t: t > 0, lambda t: t == 0))
        factor = no / (yes + no) if weight is None else weight
        return torch.logit(factor * yes / (factor * yes + (1 - factor) * no), eps=1e-6).reshape(1)

    return Task(
        name=name,
        kind="classification",
        channels=1,
        loss=lambda raw, target: losses.balanced_cross_entropy(raw, target, weight),
        predict=torch.sigmoid,
        valid=lambda target: target.squeeze(1) >= 0,
        metrics=lambda protocol: metrics.build(name, protocol, **options),
        constant=frequency,
        unit="probability",
    )


def albedo() -> Task:
    """Colour without light: float (B, 3, H, W) in [0, 1], valid everywhere; the raw output is the prediction."""

    def mean_colour(targets: list[Tensor]) -> Tensor:
        return torch.cat([t.double().mean(dim=(2, 3)) for t in targets]).mean(dim=0).float()

    return Task(
        name="albedo",
        kind="regression",
        channels=3,
        loss=losses.l1,
        predict=lambda raw: raw,
        valid=lambda target: target.new_ones(target[:, 0].shape, dtype=torch.bool),
        metrics=lambda protocol: metrics.build("albedo", protocol),
        constant=mean_colour,
        unit="reflectance",
    )


def select(available: Mapping[str, Task], names: Iterable[str]) -> list[Task]:
    """The named tasks of a dataset, in the given order. Raises KitError for a name the dataset does not have."""
    chosen = []
    for name in names:
        if name not in available:
            raise KitError(f"unknown task {name!r}: {nearest(name, available)}")
        chosen.append(available[name])
    if len({t.name for t in chosen}) != len(chosen):
        raise KitError(f"a task is named twice in {[t.name for t in chosen]}; name each once")
    if not chosen:
        raise KitError(f"no task is named; choose from {sorted(available)}")
    return chosen


# --- losses by name ---


def _weighted(released: bool, task: Task) -> Loss:
    """Of edgeai, with the weights for so many classes."""
    weights = losses.EDGEAI_WEIGHTS.get(task.channels)
    if weights is None:
        known = ", ".join(map(str, sorted(losses.EDGEAI_WEIGHTS)))
        raise KitError(f"edgeai has weights for {known} classes, found {task.channels}; leave losses.{task.name} out")
    return functools.partial(losses.edgeai_cross_entropy, weights=weights, released=released)


_EDGEAI_CLASSES = {
    "edgeai": functools.partial(_weighted, False),
    "edgeai-released": functools.partial(_weighted, True),
}
_ASTMT_DEPTH: dict[str, Callable[[Task], Loss]] = {
    "astmt": lambda task: functools.partial(losses.astmt_depth, released=False),
    "astmt-released": lambda task: functools.partial(losses.astmt_depth, released=True),
}
# task -> name -> the loss of such a task; what a recipe may set beside a task's own
LOSSES: dict[str, dict[str, Callable[[Task], Loss]]] = {
    "depth": {"edgeai": lambda task: losses.edgeai_depth} | _ASTMT_DEPTH,
    "disparity": _ASTMT_DEPTH,
    "normals": {"astmt": lambda task: losses.normal_l1},
    "semantic": _EDGEAI_CLASSES,
    "motion": _EDGEAI_CLASSES,
}


def check_losses(named: Mapping[str, str]) -> None:
    """Raise KitError where a task has no losses by name, or none of this name."""
    for task, name in named.items():
        if task not in LOSSES:
            raise KitError(f"no other loss than its own for task {task!r}: {nearest(task, LOSSES)}")
        if name not in LOSSES[task]:
            raise KitError(f"unknown loss {name!r} of task {task!r}: {nearest(name, LOSSES[task])}")


def with_losses(chosen: Iterable[Task], named: Mapping[str, str]) -> list[Task]:
    """The same tasks; those that are named have the loss of this name, a key of ``LOSSES[task]``.

    Raises:
        KitError: as ``check_losses``; weights of the classes that edgeai does not give.
    """
    check_losses(named)
    return [
        dataclasses.replace(task, loss=LOSSES[task.name][named[task.name]](task)) if task.name in named else task
        for task in chosen
    ]
