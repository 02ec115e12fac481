"""Figures: every function returns a matplotlib figure, and the same task has the same colour in each of them.

Shapes: C channels, H/W size, K classes.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import matplotlib.colors
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns
import torch
import torch.nn.functional as F
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.image import AxesImage
from torch import Tensor

from . import metrics
from .runs import Run
from .tasks import COLOURS, Task, colour_of
from .transforms import normalised

UNKNOWN = 0.35  # grey of pixels that do not count
# Classes: Okabe and Ito's colours first, then others between them; neighbours in a legend differ in lightness too.
PALETTE = [
    "#0072B2", "#E69F00", "#F5F0D8", "#CC79A7", "#8C6D46", "#009E73", "#D55E00", "#F0E442", "#56B4E9", "#5B3A8E",
    "#20262E", "#B9C4CC", "#8DD3C7", "#A50026", "#4D9221", "#C2A5CF", "#FDAE61", "#313695", "#74ADD1", "#762A83",
    "#B8E186", "#969696",
]  # fmt: skip
DEPTH_MAP = "viridis"  # what is near is bright, whether depth or disparity says it
OVERLAY_MAP, OVERLAY_ALPHA = "inferno", 0.7  # perceptually uniform; what stays of the picture below is 1 - alpha


def style() -> None:
    """The look of every figure of the kit: PNG, readable sizes, no frame that says nothing."""
    sns.set_theme(context="notebook", style="ticks", palette="colorblind")
    plt.rcParams.update(
        {
            "figure.dpi": 90,
            "savefig.dpi": 90,
            "figure.constrained_layout.use": True,
            "axes.spines.top": False,
            "axes.spines.right": False,
            "axes.titlesize": 11,
            "axes.labelsize": 10,
            "legend.fontsize": 9,
            "legend.frameon": False,
            "xtick.labelsize": 9,
            "ytick.labelsize": 9,
            "image.interpolation": "nearest",
        }
    )


# --- fields as pictures ---


def picture(name: str, value: Tensor | np.ndarray, limits: tuple[float, float] | None = None) -> np.ndarray:
    """One field of a sample, or one prediction, as RGB uint8 (H, W, 3); pixels that do not count are grey.

    Args:
        name: ``image`` or the name of a task.
        value: without batch dimension, in the form of the target: (C, H, W) or (H, W).
        limits: for depth and disparity, the values at both ends of the colour map; default the 2nd and 98th percentile.
    """
    array = value.detach().cpu().numpy() if isinstance(value, Tensor) else np.asarray(value)
    if array.ndim == 2:
        array = array[None]
    painter = _PAINTERS.get(name, _paint_classes)
    rgb = painter(array, limits) if name in ("depth", "disparity") else painter(array)
    return (np.clip(rgb, 0, 1) * 255 + 0.5).astype(np.uint8)


def _paint_rgb(array: np.ndarray) -> np.ndarray:
    return array.transpose(1, 2, 0)


def _paint_classes(array: np.ndarray) -> np.ndarray:
    ids = array[0].astype(int)
    colours = np.array([matplotlib.colors.to_rgb(colour) for colour in PALETTE])
    return np.where((ids >= 0)[..., None], colours[ids % len(colours)], UNKNOWN)


def _paint_disparity(array: np.ndarray, limits: tuple[float, float] | None) -> np.ndarray:
    values, valid = array[0], array[0] != 0
    low, high = limits or value_limits(array)
    scaled = np.clip((values - low) / max(high - low, 1e-9), 0, 1)
    return np.where(valid[..., None], plt.get_cmap(DEPTH_MAP)(scaled)[..., :3], UNKNOWN)


def _paint_depth(array: np.ndarray, limits: tuple[float, float] | None) -> np.ndarray:
    low, high = limits or value_limits(array)
    return _paint_disparity(-array, (-high, -low))


def _paint_normals(array: np.ndarray) -> np.ndarray:
    # x right, y down, z forward: red is facing right, green facing up, blue facing the camera
    facing = array * np.array([1, -1, -1]).reshape(3, 1, 1)
    return np.where((array != 0).any(0)[..., None], 0.5 + 0.5 * facing.transpose(1, 2, 0), UNKNOWN)


def _paint_binary(array: np.ndarray) -> np.ndarray:
    return np.where(array[0][..., None] < 0, UNKNOWN, np.repeat(array[0][..., None], 3, axis=-1))


def _paint_flow(array: np.ndarray) -> np.ndarray:
    u, v = array[:2]
    length = np.hypot(u, v)
    hue = (np.arctan2(v, u) / (2 * np.pi)) % 1.0
    saturation = np.clip(length / max(np.percentile(length, 98), 1e-6), 0, 1)
    rgb = matplotlib.colors.hsv_to_rgb(np.stack([hue, saturation, np.ones_like(hue)], axis=-1))
    return rgb * (0.4 + 0.6 * array[2][..., None]) if len(array) > 2 else rgb


_PAINTERS = {
    "image": _paint_rgb,
    "albedo": _paint_rgb,
    "depth": _paint_depth,
    "disparity": _paint_disparity,
    "normals": _paint_normals,
    "edges": _paint_binary,
    "saliency": _paint_binary,
    "motion": _paint_binary,
    "flow": _paint_flow,
}


def value_limits(array: Tensor | np.ndarray) -> tuple[float, float]:
    """The 2nd and 98th percentile of the values that count (not 0)."""
    values = np.asarray(array)
    values = values[values != 0]
    return tuple(np.percentile(values, [2, 98])) if values.size else (0.0, 1.0)


def overlay(
    image: Tensor | np.ndarray, values: Tensor | np.ndarray, limits: tuple[float, float] = (0.0, 1.0)
) -> np.ndarray:
    """Values in colour over an image in grey, RGB uint8 (H, W, 3).

    Args:
        image: (3, H, W) in [0, 1].
        values: (h, w); enlarged to the image without smoothing, so that each one is seen.
        limits: the values at both ends of the colour map.
    """
    grey_HW = np.asarray(image).mean(0)
    (height, width), values = grey_HW.shape, np.asarray(values)
    rows, columns = (np.arange(n) * m // n for n, m in zip((height, width), values.shape, strict=True))
    low, high = limits
    scaled = np.clip((values[rows][:, columns] - low) / max(high - low, 1e-9), 0, 1)
    rgb = OVERLAY_ALPHA * plt.get_cmap(OVERLAY_MAP)(scaled)[..., :3] + (1 - OVERLAY_ALPHA) * grey_HW[..., None]
    return (np.clip(rgb, 0, 1) * 255 + 0.5).astype(np.uint8)


def colour_bar(height: int, width: int) -> np.ndarray:
    """The colours of ``overlay`` over middle grey, the highest on top, RGB uint8 (height, width, 3)."""
    return overlay(np.full((3, height, width), 0.5), np.linspace(1, 0, height)[:, None])


def overlay_bar(axes: np.ndarray, limits: tuple[float, float]) -> None:
    """The same as a colour bar beside some axes; values beyond its ends have the colour of the end."""
    colours = matplotlib.colors.ListedColormap(colour_bar(256, 1)[::-1, 0] / 255.0)
    scale = plt.cm.ScalarMappable(matplotlib.colors.Normalize(*limits), colours)
    axes.flat[0].figure.colorbar(scale, ax=axes, extend="both", shrink=0.8, aspect=25, pad=0.01)


def cell_of(task: Task, value: Tensor, limits: tuple[float, float] | None = None) -> np.ndarray | str:
    """A target or a prediction as a cell of ``picture_grid``: a picture, or the name of the class where it is one label
    for the image.
    """
    if value.ndim:
        return picture(task.name, value, limits)
    return task.class_names[int(value)] if value >= 0 else "unknown"


def picture_grid(
    rows: Sequence[Sequence[np.ndarray | str]],
    columns: Sequence[str],
    row_names: Sequence[str] = (),
    title: str = "",
    cell: float = 1.7,
) -> Figure:
    """A grid of RGB pictures with a name over each column and beside each row; ``cell`` is the height of one in
    inches. The first cell is a picture; a cell may also be text.
    """
    height, width = rows[0][0].shape[:2]
    size = (
        cell * width / height * len(columns) + (0.5 if row_names else 0),
        cell * len(rows) + 0.35 + 0.3 * bool(title),
    )
    figure, axes = plt.subplots(len(rows), len(columns), figsize=size, squeeze=False)
    for i, row in enumerate(rows):
        for j, content in enumerate(row):
            axis = axes[i, j]
            if isinstance(content, str):
                axis.text(0.5, 0.5, content, ha="center", va="center", transform=axis.transAxes)
            else:
                axis.imshow(content)
            axis.set(xticks=[], yticks=[])
            sns.despine(ax=axis, left=True, bottom=True)
            if i == 0:
                axis.set_title(columns[j])
            if j == 0 and row_names:
                axis.set_ylabel(row_names[i])
    if title:
        figure.suptitle(title)
    return figure


def samples(
    dataset, indices: Iterable[int], fields: Sequence[str] | None = None, title: str = "", cell: float = 1.7
) -> Figure:
    """Samples of a dataset, one a row, every field a column; ``cell`` is the height of a picture in inches. Labels are
    written beside the row; images that have no other target stand side by side, each under its labels.
    """
    indices = list(indices)
    chosen = [dataset[i] for i in indices]
    fields = [name for name in fields or chosen[0] if name not in ("index", "domain")]
    maps = [name for name in fields if chosen[0][name].ndim > 1]
    captions = [_labels(dataset, sample, fields) for sample in chosen]
    if maps == ["image"] and any(captions):
        return _gallery([picture("image", sample["image"]) for sample in chosen], captions, title, cell)
    rows = [[picture(field, _unbroken(field, sample[field], cell)) for field in maps] for sample in chosen]
    names = [dataset.info(i).name.split("/", 1)[-1] for i in indices]
    names = [name.replace("/", "/\n") if len(name) > 20 else name for name in names]  # as high as a picture, at most
    beside = [f"{name}\n{caption}".strip() for name, caption in zip(names, captions, strict=True)]
    return picture_grid(rows, maps, beside, title, cell)


def _unbroken(name: str, value: Tensor, cell: float) -> Tensor:
    """A field for a picture ``cell`` inches high: edges so thick that leaving out pixels does not break them."""
    if name != "edges":
        return value
    reach = round(value.shape[-2] / (cell * plt.rcParams["figure.dpi"]) / 2)
    return F.max_pool2d(value, 2 * reach + 1, 1, reach)


def _labels(dataset, sample: Mapping[str, Tensor], fields: Sequence[str]) -> str:
    """The known labels of a sample, one a line; empty where no field is a label."""
    labels = {name: int(sample[name]) for name in fields if sample[name].ndim == 0}
    known = [f"{name}: {dataset.tasks[name].class_names[label]}" for name, label in labels.items() if label >= 0]
    return "\n".join(known or ["unknown"] * bool(labels))


def _gallery(pictures: Sequence[np.ndarray], captions: Sequence[str], title: str, cell: float) -> Figure:
    """Pictures of any size side by side, five a row, each under its caption."""
    columns = min(5, len(pictures))
    rows = -(-len(pictures) // columns)
    lines = max(caption.count("\n") + 1 for caption in captions)
    size = (1.3 * cell * columns, (cell + 0.2 * lines) * rows + 0.3 * bool(title))
    figure, axes = plt.subplots(rows, columns, figsize=size, squeeze=False)
    for axis in axes.flat:
        axis.axis("off")
    for axis, rgb, caption in zip(axes.flat, pictures, captions, strict=False):
        axis.imshow(rgb)
        axis.set_title(caption, fontsize=9)
    if title:
        figure.suptitle(title)
    return figure


def heat_maps(
    values: Mapping[str, pd.DataFrame], shades: Mapping[str, pd.DataFrame], limit: float, label: str
) -> tuple[Figure, Axes]:
    """Tables of tasks by tasks, five a row, and an empty axis below them for curves over their names.

    Args:
        values: name -> numbers, "-" for NaN.
        shades: name -> what their colours say, from -``limit`` to ``limit``.
        limit: above 0.
        label: of the colours.
    """
    width = min(5, len(values))
    rows = -(-len(values) // width)
    figure = plt.figure(figsize=(max(4.0, 2.0 * width) + 1.6, 1.9 * rows + 2.0))
    cells = figure.add_gridspec(rows + 1, width)
    for i, (name, table) in enumerate(values.items()):
        axis = figure.add_subplot(cells[divmod(i, width)], title=name)
        image = heat_map(axis, table, shades[name], limit)
        if i % width:
            axis.set_yticklabels([])
        if i + width < len(values):
            axis.set_xticklabels([])
    figure.colorbar(image, ax=figure.axes, shrink=0.8, aspect=30, label=label)
    return figure, figure.add_subplot(cells[rows, :])


def heat_map(axis: Axes, values: pd.DataFrame, shades: pd.DataFrame, limit: float) -> AxesImage:
    """One table of ``heat_maps``, drawn on an axis; rows and columns have the colours of their tasks."""
    image = axis.imshow(shades.fillna(0.0), cmap="RdBu_r", vmin=-limit, vmax=limit)
    for (row, column), value in np.ndenumerate(values):
        text = "-" if np.isnan(value) else f"{value:.2f}"
        colour = "white" if abs(shades.iloc[row, column]) > 0.6 * limit else "black"
        axis.text(column, row, text, ha="center", va="center", color=colour, fontsize=min(9, 30 / len(values)))
    axis.set_yticks(range(len(values)), values.index)
    axis.set_xticks(range(len(values)), values.columns, rotation=30)
    for tick in (*axis.get_xticklabels(), *axis.get_yticklabels()):
        tick.set_color(colour_of(tick.get_text()))
    return image


def legend(class_names: Sequence[str]) -> Figure:
    """The colours of the classes."""
    figure, axis = plt.subplots(figsize=(9, 0.4 * -(-len(class_names) // 7) + 0.1))
    handles = [plt.Rectangle((0, 0), 1, 1, color=PALETTE[i % len(PALETTE)]) for i in range(len(class_names))]
    axis.legend(handles, class_names, ncol=7, loc="center")
    axis.axis("off")
    return figure


@torch.no_grad()
def predictions(model, dataset, indices: Sequence[int], normalise: str = "none", title: str = "") -> Figure:
    """Image, target and prediction of every task for some samples of a dataset; one sample a row. Labels are text.

    ``normalise`` is that of the recipe, as ``transforms.normalised`` takes it.
    """
    rows, columns = [], ["image"]
    columns += [f"{task.name}, {what}" for task in model.tasks for what in ("target", "ours")]
    for index in indices:
        sample = dataset[index]
        fed = normalised(sample, normalise, dataset.moments)
        outputs = model({name: fed[name][None] for name in model.inputs})
        row = [picture("image", sample["image"])]
        for task in model.tasks:
            target, predicted = sample[task.name], task.predict(outputs[task.name])[0]
            limits = value_limits(target) if task.name in ("depth", "disparity") else None
            row += [cell_of(task, target, limits), cell_of(task, predicted, limits)]
        rows.append(row)
    return picture_grid(rows, columns, [str(index) for index in indices], title, cell=1.25)


# --- histories ---


def learning_curves(runs: Mapping[str, Run | Sequence[Run]], protocol: str = "pooled") -> Figure:
    """The first metric of every task over the epochs, one panel a task, one line a label.

    Several runs under one label are single-task runs of different tasks.
    """
    history = _histories(runs)
    found = history[(history.protocol == protocol) & (history.split != "train")]
    names = metrics.sort_tasks(found.task)
    figure, axes = plt.subplots(1, len(names), figsize=(4.2 * len(names), 3.1), squeeze=False)
    colours = _run_colours(runs)
    for axis, task in zip(axes[0], names, strict=True):
        spec = next(iter(metrics.in_order(f"{task}/{name}" for name in found[found.task == task].metric).values()))
        panel = found[(found.task == task) & (found.metric == spec.name)]
        sns.lineplot(
            panel, x="epoch", y="value", hue="run", style="run", palette=colours, markers=True, dashes=False, ax=axis
        )
        arrow = "higher is better" if spec.higher_is_better else "lower is better"
        axis.set(title=f"{task}: {spec.label}", xlabel="epoch", ylabel=arrow)
        axis.title.set_color(colour_of(task))
        axis.xaxis.set_major_locator(plt.MaxNLocator(integer=True))
        if axis is not axes[0][-1]:
            axis.get_legend().remove()
        else:
            sns.move_legend(axis, "upper left", bbox_to_anchor=(1.0, 1.0), title=None)
    return figure


def loss_curves(run: Run) -> Figure:
    """Training and held-out loss of every task over the epochs of one run."""
    history = _over_epochs(run).query("metric == 'loss'")
    names = list(dict.fromkeys(history.task))
    figure, axes = plt.subplots(1, len(names), figsize=(3.6 * len(names), 2.7), squeeze=False)
    for axis, task in zip(axes[0], names, strict=True):
        for split, line in history[history.task == task].groupby("split", sort=False):
            axis.plot(line.epoch, line.value, color=colour_of(task), ls="-" if split == "train" else "--", label=split)
        axis.set(title=task, xlabel="epoch", ylabel="unweighted loss")
        axis.xaxis.set_major_locator(plt.MaxNLocator(integer=True))
        axis.legend()
    return figure


def weight_trajectories(runs: Mapping[str, Run]) -> Figure:
    """Task weights over the steps, one panel a run, five a row, the same colour for the same task.

    Pale are the weights of every step, dark their running median over a fortieth of the run. Weights that lie more than
    two orders of magnitude apart stand on a logarithmic axis, linear around zero where some are not positive.
    """
    tables = {label: run.weights for label, run in runs.items()}
    history = pd.concat(tables.values())
    colours = line_colours(list(dict.fromkeys(history.task)))
    width = min(5, len(runs))
    rows = -(-len(runs) // width)
    figure, axes = plt.subplots(rows, width, figsize=(4.0 * width, 2.9 * rows), squeeze=False, sharey=True)
    for axis in axes.flat[len(runs) :]:
        axis.axis("off")
    for axis, (label, table) in zip(axes.flat, tables.items(), strict=False):
        for task, line in table.groupby("task", sort=False):
            axis.plot(line.step, line.weight, color=colours[task], lw=0.7, alpha=0.35)
            median = line.weight.rolling(1 + len(line) // 40, center=True, min_periods=1).median()
            axis.plot(line.step, median, color=colours[task])
        if (history.weight < 0).any():
            axis.axhline(0, color="black", lw=0.8)
        axis.set(title=label if len(table) else f"{label}: no weights", xlabel="step")
    _scale(axes[0, 0], history.weight.to_numpy(float))
    for axis in axes[:, 0]:
        axis.set_ylabel("weight of the loss")
    lines = [plt.Line2D([], [], color=colour) for colour in colours.values()]
    axes[0, -1].legend(lines, list(colours), loc="upper left", bbox_to_anchor=(1.0, 1.0), ncols=1 + len(lines) // 10)
    return figure


def line_colours(names: Sequence[str]) -> dict[str, str]:
    """A colour for each task: its own, or, where it has none, one of a row from dark to light."""
    nameless = [name for name in names if name not in COLOURS]
    shades = plt.get_cmap("viridis")(np.linspace(0, 0.9, len(nameless)))
    made = dict(zip(nameless, map(matplotlib.colors.to_hex, shades), strict=True))
    return {name: made.get(name, colour_of(name)) for name in names}


def _scale(axis: Axes, weights: np.ndarray) -> None:
    """Choose the scale of an axis for all the weights that it will show."""
    sizes = np.abs(weights[weights != 0])
    if len(sizes) and sizes.max() > 100 * np.percentile(sizes, 1):
        linear = {"linthresh": float(np.median(sizes))} if (weights <= 0).any() else {}
        axis.set_yscale("symlog" if linear else "log", **linear)


def delta_bars(delta: Mapping[str, float], spread: Mapping[str, float] | None = None) -> Figure:
    """Δ_MTL of several runs against the single-task baseline; above zero is better."""
    figure, axis = plt.subplots(figsize=(1.3 * len(delta) + 2, 2.9))
    errors = [spread.get(name, 0.0) for name in delta] if spread else None
    bars = axis.bar(list(delta), list(delta.values()), yerr=errors, color="#4C5C68", width=0.6, capsize=4)
    axis.bar_label(bars, fmt="%+.1f", padding=3)
    axis.axhline(0, color="black", lw=0.8)
    axis.margins(y=0.2)
    axis.set_ylabel("Δ_MTL in %, positive = better")
    return figure


def _histories(runs: Mapping[str, Run | Sequence[Run]]) -> pd.DataFrame:
    labelled = [(label, run) for label, found in runs.items() for run in ([found] if isinstance(found, Run) else found)]
    return pd.concat([_over_epochs(run).assign(run=label) for label, run in labelled], ignore_index=True)


def _over_epochs(run: Run) -> pd.DataFrame:
    """The history without the one measurement of the test split at the end of a run that is evaluated on validation."""
    return run.metrics[run.metrics.split.isin(["train", run.recipe.evaluate_on])]


def _run_colours(runs: Mapping[str, Run | Sequence[Run]]) -> dict[str, str]:
    palette = ["#000000", "#4C5C68", "#8C6D46", "#5B3A8E", "#A50026", "#4D9221", "#B9C4CC", "#FDAE61"]
    return {label: palette[i % len(palette)] for i, label in enumerate(runs)}
