"""Every figure and viewer of what a run has learned to share, written into a folder."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from matplotlib.figure import Figure

from .. import attention, viewers
from ..errors import KitError
from ..runs import Run
from .gating import Seen, channel_gates, gate_viewer, look, spatial_gates
from .mixing import Mixtures, channel_spread, matrices, matrix_maps, matrix_viewer


def save(run: Run, folder: Path, index: int = 0, which: str = "checkpoint", level: str | None = None) -> Iterator[Path]:
    """Write whatever a run's architecture has to show, masks, matrices or gates, and yield the paths.

    With snapshots there is a second viewer, with a control for the epoch, and the same as a GIF.

    Args:
        run: with its parameters.
        folder: made where absent.
        index: of the first sample in the held-out split; matrices need none.
        which: ``"checkpoint"`` (the last epoch), ``"best"`` or a snapshot such as ``"epoch-0003"``.
        level: of the masks, which alone have such a choice.

    Raises:
        KitError: an architecture with nothing to show, a level where there are no masks, and what reading them raises.
    """
    model, recipe = run.model(which), run.recipe
    architecture = recipe.architecture.name
    kinds = {name.split("/")[0] for name in model.taps()}
    if "mask" in kinds:
        yield from attention.save(run, folder, index, which, level)
        return
    if level:
        raise KitError(f"--level is of masks, and architecture {architecture!r} has none; leave it out")
    if "channel" in kinds:
        read, draw, view = (lambda which: look(run, index, which)), _draw_gates, gate_viewer
    elif kinds & {"stitch", "mix"}:
        read, draw, view = (lambda which: matrices(run.model(which))), _draw_matrices, matrix_viewer
    else:
        tasks = "one task" if len(model.tasks) == 1 else f"{len(model.tasks)} tasks"
        raise KitError(
            f"architecture {architecture!r} with {tasks} has no attention masks, matrices or gates to show; look at a "
            "run of 'mtan', or of 'cross_stitch', 'nddr' or 'afa' with two tasks or more"
        )
    seen = read(which)
    folder.mkdir(parents=True, exist_ok=True)
    for name, figure in draw(seen, recipe.name).items():
        yield viewers.save_png(figure, folder / f"shared-{name}.png")
    yield view({which: seen}, recipe.name).save_html(folder / "shared.html")
    if len(kept := [f"epoch-{epoch:04d}" for epoch in run.snapshots()]) > 1:
        playing = view({epoch: read(epoch) for epoch in kept}, recipe.name)
        yield playing.save_html(folder / "shared-epochs.html")
        yield playing.save_gif(folder / "shared.gif")


def _draw_matrices(mixtures: Mixtures, name: str) -> dict[str, Figure]:
    drawn = {"matrices": matrix_maps(mixtures, name)}
    if any(mixture.channels_TTC.shape[-1] > 1 for mixture in mixtures.values()):
        drawn["channels"] = channel_spread(mixtures, name)
    return drawn


def _draw_gates(seen: Seen, name: str) -> dict[str, Figure]:
    return {"channel-gates": channel_gates(seen, name), "spatial-gates": spatial_gates(seen, name)}
