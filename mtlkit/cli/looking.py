"""Commands that look at what was trained: ``report | evaluate | predict | export | latency | shared | weights``."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from .options import Accelerator, AsJson, Device, Force, Overrides, Side, Which, free, size_of

app = typer.Typer()


@app.command()
def report(
    paths: Annotated[list[Path], typer.Argument(help="Run folders, or folders above them.")],
    protocol: Annotated[str, typer.Option(help="Whose way of averaging: pooled, mtan, mtan-legacy …")] = "pooled",
    beside: Annotated[str, typer.Option(help="Also a paper's table: a name in data/published.")] = "",
    by: Annotated[str, typer.Option(help="Δ_MTL averages over: metric, task or main; default: as the protocol.")] = "",
    summary: Annotated[
        str, typer.Option(help="Epochs: last-10 (any number), best-validation, best-test; default: the recipe's.")
    ] = "",
    as_json: AsJson = False,
    csv: Annotated[Path | None, typer.Option(help="Also write the values with their provenance here.")] = None,
    tradeoff: Annotated[
        Path | None, typer.Option(help="Also draw the average drop over parameters and GMACs here, a PNG.")
    ] = None,
) -> None:
    """Print the comparison table and write report.html beside the runs."""
    import matplotlib

    matplotlib.use("Agg")
    from .. import batch, files, plots, viewers
    from .. import report as reports
    from ..runs import find

    rows = reports.entries(find(paths), protocol, by or None, summary or None) + (
        reports.published(beside) if beside else []
    )
    if csv:
        files.write_text(csv.resolve(), reports.tidy(rows, protocol).to_csv(index=False))
    plots.style()
    if tradeoff:
        figure = reports.tradeoff.draw(reports.tradeoff.points(rows))
        viewers.save_png(figure, free(tradeoff, force=True).resolve())
    if as_json:
        print(json.dumps(reports.records(rows), indent=2))
        return
    print(reports.table(rows).T.to_string())
    for note in reports.footnotes(rows):
        print(note)
    folder = paths[0] if len(paths) == 1 else Path.cwd()
    page = reports.write_html(rows, folder / "report.html", protocol, title=f"mtlkit: {folder.resolve().name}")
    print(f"\nreport: {batch.shown(page)}")


@app.command()
def evaluate(
    run: Path,
    protocols: Annotated[list[str], typer.Option("--protocol", help="May be repeated; default: all that fit.")] = [],  # noqa: B006
    which: Which = "checkpoint",
    split: Annotated[str, typer.Option(help="Of the run's dataset.")] = "test",
    jobs: Annotated[int, typer.Option("-j", "--jobs", min=1, help="Processes that count edges.")] = 1,
    as_json: AsJson = False,
) -> None:
    """Measure a trained run by several protocols side by side, from one set of predictions."""
    from ..evaluation import side_by_side
    from ..runs import load_run

    table = side_by_side(load_run(run), protocols, which, split, jobs=jobs)
    print(table.to_json(indent=2) if as_json else table.round(4).to_string())


@app.command()
def predict(
    run: Path,
    images: Annotated[
        list[Path] | None, typer.Argument(help="Images, or one folder of consecutive frames; none: results.json.")
    ] = None,
    output: Annotated[
        Path | None, typer.Option("-o", "--output", help="Folder (predictions); a video: out.mp4; or results.json.")
    ] = None,
    which: Which = "checkpoint",
    fps: Annotated[float | None, typer.Option(help="Of the video; default: as Cityscapes' sequences.")] = None,
    device: Device = Accelerator.auto,
    force: Force = False,
) -> None:
    """Write what a trained run sees in your own images: one PNG for every image and task; of a folder of frames a
    video, with optical flow from each frame to the one before where the run reads flow. Without images, of a run on
    visual-decathlon, write the classes of its test images for the evaluation server: results.json.
    """
    import matplotlib

    matplotlib.use("Agg")
    from ..predict import FPS, predict_images, predict_results, predict_video
    from ..runs import load_run

    if not images:
        path = free(output or Path("results.json"), force)
        print(f"{path}: {predict_results(load_run(run), path, which, device.value)} predictions")
        return
    output = output or Path("predictions")
    if len(images) == 1 and images[0].is_dir():
        count = predict_video(load_run(run), images[0], free(output, force), which, FPS if fps is None else fps)
        print(f"{output}: {count} frames")
        return
    for path in predict_images(load_run(run), images, output, which):
        print(path)


@app.command()
def export(
    run: Path,
    output: Annotated[Path, typer.Argument(help="The file: model.onnx")],
    height: Side = None,
    width: Side = None,
    which: Which = "checkpoint",
    force: Force = False,
) -> None:
    """Write a trained network as ONNX, once onnxruntime agrees with PyTorch on random inputs and on real ones."""
    from .. import deployment
    from ..runs import load_run

    print(deployment.export(load_run(run), free(output, force), size_of(height, width), which).map("{:.1e}".format))
    print(f"{output}: raw outputs of PyTorch and onnxruntime agree (relative: over the largest output of the task)")


@app.command()
def latency(
    network: Annotated[str, typer.Argument(help="A run folder or a recipe; of a sweep, its single tasks too.")],
    against: Annotated[list[str], typer.Option(help="A single-task run or recipe; may be repeated.")] = [],  # noqa: B006
    params: Overrides = [],  # noqa: B006
    height: Side = None,
    width: Side = None,
    rounds: Annotated[int, typer.Option(min=1, help="Measured of every network, taking turns.")] = 50,
) -> None:
    """Measure a forward pass on one image (CPU): one multi-task network, and single-task ones one after the other."""
    from .. import deployment, recipes

    size, overrides = size_of(height, width), recipes.parse_overrides(params)
    for line in deployment.compare([network, *against], size, overrides, rounds):
        print(line)


@app.command()
@app.command("attention", hidden=True)  # another name, from when there were masks alone
def shared(
    run: Path,
    output: Annotated[Path, typer.Option("-o", "--output", help="Folder for what is drawn.")] = Path("shared"),
    index: Annotated[int, typer.Option(help="Of the first sample in the held-out split.")] = 0,
    which: Which = "checkpoint",
    level: Annotated[str, typer.Option(help="Of the masks, such as encoder0; default: the first.")] = "",
) -> None:
    """Write what a trained run has learned to share: masks over an image (mtan), matrices of what each task takes from
    which (cross_stitch, nddr), gates over channels and pixels (afa). Figures, a viewer, with snapshots an animation.
    """
    import matplotlib

    matplotlib.use("Agg")
    from .. import plots
    from ..runs import load_run
    from ..sharing import save

    plots.style()
    for path in save(load_run(run), output, index, which, level or None):
        print(path)


@app.command()
def weights(
    run: Path,
    output: Annotated[Path, typer.Option("-o", "--output", help="Folder for what is drawn.")] = Path("weights"),
) -> None:
    """Write how the task weights of a run went; where its weighting looks at the Gramian, also the cosines and the
    lengths of the task gradients over training.
    """
    import matplotlib

    matplotlib.use("Agg")
    from .. import gradient_plots, plots
    from ..runs import load_run

    plots.style()
    for path in gradient_plots.save(load_run(run), output):
        print(path)
