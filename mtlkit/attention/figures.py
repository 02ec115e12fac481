"""Figures and viewers of masks: colours over the image in grey, one scale for all that stands side by side.

Shapes: C channels of a mask, h/w its size, K panels (the mean over channels, then single channels).
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import torch
from matplotlib.figure import Figure
from torch import Tensor
from tqdm.auto import tqdm

from .. import plots, viewers
from ..errors import KitError
from ..runs import Run
from ..tasks import colour_of
from .masks import Attention, Maps, correlation, look, looks, mean_off_diagonal, telling_channels


def grid(seen: Attention, level: str | None = None, channels: Sequence[int] = ()) -> Figure:
    """A row for each task: image, target, the mean over all channels of its mask, and single channels.

    Args:
        seen: from ``look``.
        level: of the masks; None is the first.
        channels: which; none is the three where tasks differ most.

    Raises:
        KitError: a level or a channel that is not there.
    """
    level, masks = seen.at(level)
    there = min(map(len, masks.values()))
    if bad := [channel for channel in channels if not 0 <= channel < there]:
        raise KitError(f"{level} has the channels 0 to {there - 1}, found {bad[0]}")
    why = "" if channels else f"; single ones: {_where(seen)}"
    channels = list(channels) or telling_channels(masks)
    panels = _panels(masks, channels)
    scales = _scales([panels])
    rows = []
    for task, maps in panels.items():
        overlays = [plots.overlay(seen.image, *pair) for pair in zip(maps, scales, strict=True)]
        rows.append([plots.picture("image", seen.image), plots.picture(task, seen.targets[task]), *overlays])
    title = f"{seen.name}: masks at {level}, {there} channels{why}"
    figure = plots.picture_grid(rows, ["image", "target", *_names(channels)], list(masks), title, cell=1.5)
    axes = np.array(figure.axes).reshape(len(rows), -1)
    for axis, task in zip(axes[:, 0], masks, strict=True):
        axis.yaxis.label.set_color(colour_of(task))
    plots.overlay_bar(axes[:, :3], scales[0])
    plots.overlay_bar(axes[:, 3:], scales[1])
    return figure


def levels(seen: Attention, tasks: Sequence[str] = ()) -> Figure:
    """The mean over channels of every mask of some tasks (none named: all), a row for each part of the network."""
    chosen = list(tasks) or list(seen.targets)
    parts = {part: list(found) for part, found in itertools.groupby(seen.masks, lambda n: n.rstrip("0123456789"))}
    means = {(task, level): masks[task].mean(0) for level, masks in seen.masks.items() for task in chosen}
    scale = _limits(torch.cat([mean.flatten() for mean in means.values()]))
    shape = (len(chosen) * len(parts), max(map(len, parts.values())))
    figure, axes = plt.subplots(*shape, figsize=(1.9 * shape[1] + 0.8, 1.45 * shape[0] + 0.4), squeeze=False)
    for row, (task, part) in zip(axes, itertools.product(chosen, parts), strict=True):
        for axis, level in itertools.zip_longest(row, parts[part]):
            axis.set_axis_off()
            if level is not None:
                axis.imshow(plots.overlay(seen.image, means[task, level], scale))
                axis.set_title(f"{task}, {level}", color=colour_of(task), fontsize=9)
    figure.suptitle(f"{seen.name}: masks, mean over channels")
    plots.overlay_bar(axes, scale)
    return figure


def correlation_map(tables: Mapping[str, pd.DataFrame]) -> Figure:
    """What ``correlation`` found: a heatmap for each level, "-" where there is none, and the mean over pairs."""
    figure, axis = plots.heat_maps(tables, tables, 1.0, "Pearson correlation")
    axis.set_title("mean over pairs of different tasks")
    axis.plot(mean_off_diagonal(tables), color="black", marker="o")
    axis.axhline(0, color="grey", lw=0.8)
    return figure


# --- viewers ---


def viewer(seen: Attention, count: int = 4) -> viewers.Viewer:
    """Controls for the task, the level, and the mean or one of the ``count`` channels where tasks differ most."""
    count = min([count, *(len(mask) for masks in seen.masks.values() for mask in masks.values())])
    frames = []
    places = list(itertools.product(seen.targets, seen.masks.items()))
    for task, (level, masks) in tqdm(places, desc="masks of every level", leave=False):
        channels = telling_channels(masks, count)
        panels = _panels(masks, channels)
        for name, panel, scale in zip(_names(channels), panels[task], _scales([panels]), strict=True):
            frames.append(_frame(seen, {task: panel}, f"{level}, {name}", scale))
    ranks = ["mean", *(f"channel of rank {rank}" for rank in range(1, count + 1))]
    controls = {"task": list(seen.targets), "level": list(seen.masks), "mask": ranks}
    return viewers.Viewer(controls, frames, f"Masks over {seen.name} (rank 1: {_where(seen)})")


def epochs(run: Run, index: int = 0, level: str | None = None, count: int = 3) -> viewers.Viewer:
    """The masks of all tasks at one level while they form: the control "epoch" plays, and ``save_gif`` writes it.

    Args:
        run: with snapshots.
        index: of the sample.
        level: None is the first.
        count: of single channels besides the mean: those where tasks differ most at the last epoch.

    Raises:
        KitError: a run without snapshots, and what ``looks`` raises.
    """
    kept = run.snapshots()
    if not kept:
        raise KitError(f"{run.folder} has no snapshots; train with keep_every: mtlkit run RECIPE -p keep_every=1")
    seen = look(run, index, f"epoch-{kept[-1]:04d}")
    level, masks = seen.at(level)
    channels = telling_channels(masks, count)
    history = []
    for epoch in tqdm(kept, desc="masks of every epoch", unit="epoch", leave=False):
        history.append(_panels(look(run, index, f"epoch-{epoch:04d}").at(level)[1], channels))
    frames = [
        _frame(seen, {task: maps[i] for task, maps in panels.items()}, f"epoch {epoch}: {level}, {name}", scale)
        for i, (name, scale) in enumerate(zip(_names(channels), _scales(history), strict=True))
        for epoch, panels in zip(kept, history, strict=True)
    ]
    controls = {"mask": _names(channels), "epoch": kept}
    return viewers.Viewer(controls, frames, f"Masks at {level} over {seen.name}", play="epoch")


def save(run: Run, folder: Path, index: int = 0, which: str = "checkpoint", level: str | None = None) -> Iterator[Path]:
    """Write all figures and viewers that a run has into a folder, and yield their paths; see ``looks`` and ``grid``."""
    seen = look(run, index, which)
    level, _ = seen.at(level)
    folder.mkdir(parents=True, exist_ok=True)
    drawn = {"grid": grid(seen, level), "levels": levels(seen)}
    if len(seen.targets) > 1:
        compared = tqdm(looks(run, which=which), desc="comparing tasks", unit="sample", leave=False)
        drawn["correlation"] = correlation_map(correlation(compared))
    for name, figure in drawn.items():
        yield viewers.save_png(figure, folder / f"attention-{name}.png")
    yield viewer(seen).save_html(folder / "attention.html")
    if run.snapshots():
        playing = epochs(run, index, level)
        yield playing.save_html(folder / "attention-epochs.html")
        yield playing.save_gif(folder / "attention.gif")


# --- small parts ---


def _panels(masks: Maps, channels: Sequence[int]) -> dict[str, Tensor]:
    """What is drawn of each task's mask: the mean over channels, then single ones; (1 + channels, h, w)."""
    return {task: torch.cat([mask.mean(0, keepdim=True), mask[channels]]) for task, mask in masks.items()}


def _names(channels: Sequence[int]) -> list[str]:
    return ["mean over channels", *(f"channel {channel}" for channel in channels)]


def _scales(panels: Sequence[Maps]) -> list[tuple[float, float]]:
    """Limits of each panel: tasks and epochs share one scale for the means, and one for all single channels."""
    stacked = torch.stack([maps for each in panels for maps in each.values()])
    return [_limits(stacked[:, 0]), *[_limits(stacked[:, 1:])] * (stacked.shape[1] - 1)]


def _limits(values: Tensor) -> tuple[float, float]:
    """All but the outermost hundredth on both sides: a few extreme pixels, often of the border, would grey the rest."""
    return tuple(np.percentile(values, [1, 99]))


def _where(seen: Attention) -> str:
    return f"where {'tasks' if len(seen.targets) > 1 else 'pixels'} differ most"


def _frame(seen: Attention, maps: Maps, heading: str, scale: tuple[float, float]) -> bytes:
    pictures = [plots.overlay(seen.image, values, scale) for values in maps.values()]
    width = max(240, 480 // len(pictures))
    return viewers.strip(pictures, list(maps), [colour_of(task) for task in maps], heading, scale, width)
