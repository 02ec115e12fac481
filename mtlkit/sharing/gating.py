"""AFA's gates: how much of a feature each branch keeps, for every image, channel and pixel; 1 is all its own, 0 all the
others'. One gate serves all tasks.

Shapes: B batch, C channels, H/W size of images, h/w of gates, N images.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Iterable, Mapping, Sequence

import matplotlib.pyplot as plt
import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor
from tqdm.auto import tqdm

from .. import datasets, plots, viewers
from ..architectures import MultiTaskModel
from ..attention.masks import as_fed
from ..errors import KitError
from ..recording import record
from ..runs import Run

HALF = 0.5  # where a branch keeps as much as it takes
LEAST_RANGE = 0.05  # of the axis to either side of it
IMAGES = 8  # held-out images that are looked at ...
DRAWN = 4  # ... and how many of them are drawn


@dataclasses.dataclass(frozen=True)
class Gates:
    """w_self of one unit on some images, in [0, 1].

    Attributes:
        channel_NC: of the channel gate (CAM).
        spatial_Nhw: of the spatial gate (SAM).
    """

    channel_NC: Tensor
    spatial_Nhw: Tensor


@dataclasses.dataclass(frozen=True)
class Seen:
    """What a network did with some images.

    Attributes:
        names: of the images, N of them.
        images: (3, H, W) in [0, 1], as they are.
        gates: place -> its gates.
    """

    names: Sequence[str]
    images: Sequence[Tensor]
    gates: Mapping[str, Gates]


@torch.no_grad()
def gates(model: MultiTaskModel, inputs: Tensor | Mapping[str, Tensor]) -> dict[str, Gates]:
    """Place -> the gates there, on a batch as the network is fed it.

    Raises:
        KitError: a network without gates; with one task there is nobody to exchange with.
    """
    places = [name.removeprefix("channel/") for name in model.taps() if name.startswith("channel/")]
    if not places:
        names = [task.name for task in model.tasks]
        found = f"{type(model).__name__} for the tasks {names} has no gates"
        raise KitError(f"{found}; take 'afa' with two tasks or more")
    with record(model, "channel/*", "spatial/*") as seen:
        model(inputs)
    return {p: Gates(seen[f"channel/{p}"].flatten(1), seen[f"spatial/{p}"].squeeze(1)) for p in places}


def look(run: Run, index: int = 0, which: str = "checkpoint", count: int = IMAGES) -> Seen:
    """The gates of a trained run on its held-out split, normalised as in training.

    Args:
        run: with its parameters.
        index: of the first sample.
        which: ``"checkpoint"`` (the last epoch), ``"best"`` or a snapshot such as ``"epoch-0003"``.
        count: of samples from there on, or as many as there are.

    Raises:
        KitError: an architecture without gates, or a sample or parameters that are not there.
    """
    recipe, model = run.recipe, run.model(which)
    dataset = datasets.build(recipe.dataset.name, recipe.evaluate_on, **recipe.dataset.options)
    indices = [index, *range(index + 1, min(index + count, len(dataset)))]
    each = [gates(model, as_fed(dataset, i, model.inputs, recipe)) for i in indices]

    def joined(place: str) -> Gates:
        found = [of_one[place] for of_one in each]
        return Gates(torch.cat([g.channel_NC for g in found]), torch.cat([g.spatial_Nhw for g in found]))

    names, images = [dataset.info(i).name for i in indices], [dataset[i]["image"] for i in indices]
    return Seen(names, images, {place: joined(place) for place in each[0]})


# --- figures ---


def channel_gates(seen: Seen, name: str) -> Figure:
    """A panel for each place: the gates of all channels, sorted by their mean over images, and how images differ."""
    reach = _reach([seen])
    figure, axes = plt.subplots(1, len(seen.gates), figsize=(3.4 * len(seen.gates), 3.0), squeeze=False, sharey=True)
    for axis, (place, found) in zip(axes[0], seen.gates.items(), strict=True):
        values_NC = found.channel_NC[:, _order(found)]
        low_C, high_C = values_NC.amin(0), values_NC.amax(0)
        axis.fill_between(range(len(low_C)), low_C, high_C, color="black", alpha=0.2, lw=0)
        _curve(axis, values_NC.mean(0), reach)
        axis.set_title(f"{place}: mean {values_NC.mean():.3f}")
    axes[0, 0].set_ylabel("kept of the own feature")
    figure.suptitle(f"{name}: channel gates (line: mean, band: range over {len(seen.names)} images)")
    return figure


def spatial_gates(seen: Seen, name: str, count: int = DRAWN) -> Figure:
    """A row for each of the first images: the image, and over it the gate of every place, all on one scale."""
    scale = _scale([seen])
    rows = [
        [plots.picture("image", image), *(plots.overlay(image, g.spatial_Nhw[i], scale) for g in seen.gates.values())]
        for i, image in enumerate(seen.images[:count])
    ]
    heading = f"{name}: kept of the own feature, pixel by pixel"
    names = [image.split("/")[-1] for image in seen.names[:count]]
    figure = plots.picture_grid(rows, ["image", *seen.gates], names, heading, cell=1.5)
    plots.overlay_bar(np.array(figure.axes), scale)
    return figure


def gate_viewer(history: Mapping[str, Seen], name: str, count: int = DRAWN) -> viewers.Viewer:
    """One image, the spatial gate of one place over it, and the channel gates there beside their mean over all images.

    Args:
        history: epoch -> the gates after it, on the same images. Of several the control "epoch" plays, of one "image".
        name: of what is looked at.
        count: of the images, the first ones.
    """
    last = list(history.values())[-1]
    scale, reach = _scale(history.values()), _reach(history.values())
    frames, title = [], f"{name}: how much the branches keep"
    places = list(itertools.product(last.gates, range(len(last.names[:count]))))
    for place, i in tqdm(places, desc="gates of every place", leave=False):
        for epoch, seen in history.items():
            heading = f"{place}, {epoch}" if len(history) > 1 else place
            frames.append(viewers.small_png(_frame(seen.images[i], seen.gates[place], i, heading, scale, reach)))
    controls = {"place": list(last.gates), "image": list(last.names[:count])}
    if len(history) == 1:
        return viewers.Viewer(controls, frames, title, play="image")
    return viewers.Viewer(controls | {"epoch": list(history)}, frames, title, play="epoch")


# --- small parts ---


def _frame(image: Tensor, found: Gates, i: int, heading: str, scale: tuple[float, float], reach: float) -> Figure:
    figure, axes = plt.subplots(1, 3, figsize=(9.5, 2.4))
    axes[0].imshow(plots.picture("image", image))
    axes[1].imshow(plots.overlay(image, found.spatial_Nhw[i], scale))
    plots.overlay_bar(axes[1:2], scale)
    for axis, name in zip(axes, (heading, f"pixels: mean {found.spatial_Nhw[i].mean():.3f}"), strict=False):
        axis.set_title(name)
        axis.set_axis_off()
    order = _order(found)
    _curve(axes[2], found.channel_NC.mean(0)[order], reach, "grey", label="mean over images")
    _curve(axes[2], found.channel_NC[i][order], reach, label="this image")
    axes[2].set_title(f"channels: mean {found.channel_NC[i].mean():.3f}")
    axes[2].legend(loc="upper right")
    return figure


def _curve(axis: Axes, values_C: Tensor, reach: float, colour: str = "black", **more) -> None:
    axis.axhline(HALF, color="grey", ls=":")
    axis.plot(values_C, color=colour, **more)
    axis.set(ylim=(HALF - reach, HALF + reach), xlabel="channels, sorted by their mean")


def _order(found: Gates) -> Tensor:
    return found.channel_NC.mean(0).argsort(descending=True, stable=True)


def _reach(history: Iterable[Seen]) -> float:
    """How far the axis of channel gates goes to either side of one half: one scale for all that is compared."""
    furthest = max(float((g.channel_NC - HALF).abs().max()) for seen in history for g in seen.gates.values())
    return min(1.05 * max(furthest, LEAST_RANGE), 1.05 * HALF)


def _scale(history: Iterable[Seen]) -> tuple[float, float]:
    """Limits of the colours of spatial gates, at least a little apart, so that equal gates have one colour."""
    low, high = plots.value_limits(
        torch.cat([g.spatial_Nhw.flatten() for seen in history for g in seen.gates.values()])
    )
    middle, half = (low + high) / 2, max((high - low) / 2, LEAST_RANGE / 10)
    return middle - half, middle + half
