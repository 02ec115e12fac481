"""The command line: ``mtlkit doctor | data | models | weightings | recipes | run | sweep | runs | report | evaluate |
predict | export | latency | shared | weights``.

Bad input ends with one line and status 2, a run that failed with status 1; Ctrl-C with 130.
"""

from __future__ import annotations

import contextlib
import enum
import json
import shlex
import sys
import textwrap
from pathlib import Path
from typing import Annotated

import typer

from .errors import KitError
from .version import __version__

app = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False, rich_markup_mode=None)
data_app = typer.Typer(
    no_args_is_help=True, help="Datasets: list, check, sample, prepare, pack, show.", rich_markup_mode=None
)
runs_app = typer.Typer(no_args_is_help=True, help="Runs: list, rm.", rich_markup_mode=None)
app.add_typer(data_app, name="data")
app.add_typer(runs_app, name="runs")

Overrides = Annotated[list[str], typer.Option("-p", "--param", help="Override a recipe key: -p optimiser.lr=0.001")]


LEVELS = ("loss", "layer", "gramian", "gradient")  # what a weighting looks at, cheapest first


class Accelerator(enum.StrEnum):
    """Fabric's accelerators that the kit runs on."""

    auto = "auto"
    cpu = "cpu"
    cuda = "cuda"
    mps = "mps"


Device = Annotated[Accelerator, typer.Option(help="Where to compute; no part of a run's id.")]
Root = Annotated[Path | None, typer.Option(help="Where the files lie.")]
Which = Annotated[str, typer.Option(help="checkpoint (last epoch), best, or a snapshot: epoch-0003.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON for a program.")]
Side = Annotated[int | None, typer.Option(min=1, help="Pixels of an input; default: the images of the run.")]
Force = Annotated[bool, typer.Option("--force", help="Replace a file that is there.")]


def main() -> None:
    """Entry point: a KitError is one line on standard error and status 2."""
    try:
        app()
    except KitError as error:
        print(f"mtlkit: {error}", file=sys.stderr)
        sys.exit(2)


@app.callback(invoke_without_command=True)
def _root(version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False) -> None:
    """A teaching and reproduction kit for multi-task learning."""
    if version:
        print(f"mtlkit {__version__}")
        raise typer.Exit()


@app.command()
def doctor() -> None:
    """Examine this machine: Python, packages, accelerator, disk, data. Status 1 where something needs mending."""
    from .doctor import examine

    marks = {"ok": "ok     ", "note": "note   ", "problem": "PROBLEM"}
    problems = 0
    for finding in examine():
        problems += finding.state == "problem"
        print(f"{marks[finding.state]}  {finding.topic:<20} {finding.detail}")
    print(f"{problems} problem(s)" if problems else "all is well")
    raise typer.Exit(1 if problems else 0)


# --- what there is ---


@app.command()
def models(as_json: AsJson = False) -> None:
    """Every model row: parameters and MACs, ours beside the reference."""
    from .architectures.catalogue import rows

    found = rows()
    if as_json:
        print(json.dumps(found, indent=2))
        return
    longest = max(len(row["name"]) for row in found)
    notes = list(dict.fromkeys(row["note"] for row in found if row["note"]))
    for row in found:
        counts = f"{row['parameters']:>11,} {_agrees(row, 'parameters')} {row['macs']:>15,} {_agrees(row, 'macs')}"
        note = f"  [{notes.index(row['note']) + 1}]" if row["note"] else ""
        print(f"{row['name']:<{longest}} {counts}{note}")
    print("parameters, MACs (batch 1); = equal to the reference, ! differs, - no reference")
    for number, note in enumerate(notes, 1):
        print(f"[{number}] {note}")


def _agrees(row: dict, key: str) -> str:
    """``=``, ``!`` or ``-``; of operations sometimes four decimals are known."""
    reference, ours = row[f"reference_{key}"], row[key]
    if key == "macs" and row["reference_gmacs"] is not None:
        reference, ours = row["reference_gmacs"], round(row["macs"] / 1e9, 4)
    return "-" if reference is None else "=" if reference == ours else "!"


@app.command()
def weightings() -> None:
    """Every weighting: level, paper, options with their defaults."""
    from .weighting import WEIGHTINGS

    for name in sorted(WEIGHTINGS, key=lambda name: (LEVELS.index(WEIGHTINGS[name].level), name)):
        method = WEIGHTINGS[name]
        own = {o: p.default for o, p in WEIGHTINGS.options(name).items() if o != "generator"}
        options = ", ".join(f"{option}={default!r}" for option, default in own.items())
        print(f"{name:<17} {method.level:<9} {method.paper}\n{'':<27} {options or 'no options'}")


@app.command(name="recipes")
def list_recipes() -> None:
    """Every recipe that comes with the kit."""
    from . import recipes

    for name in recipes.names():
        runs = recipes.expand(name)
        print(f"{name:<24} {len(runs):>3} run{'s' if runs[1:] else ' '}  {runs[0].about}")


@data_app.command("list")
def data_list(as_json: AsJson = False) -> None:
    """Every dataset: what it is, where it is looked for and whether it is there, licence, how to get it."""
    from .datasets import DATASETS

    known = [DATASETS[name] for name in DATASETS]
    if as_json:
        rows = [
            {"name": data.name, "about": data.about, "present": data.present(), "folder": str(data.folder())}
            | {"licence": data.licence, "source": data.source}
            for data in known
        ]
        print(json.dumps(rows, indent=2))
        return
    longest = max(len(data.name) for data in known)
    # an address or a command stays in one piece
    wrapper = textwrap.TextWrapper(
        100, initial_indent="    ", subsequent_indent="      ", break_long_words=False, break_on_hyphens=False
    )
    for data in known:
        print(f"{data.name:<{longest}}  {'present' if data.present() else 'absent':<8} {data.folder()}")
        lines = {"": data.about, "licence: ": data.licence, "get it: ": data.source}
        for label, text in lines.items():
            print("\n".join(wrapper.wrap(label + text)))


@data_app.command("check")
def data_check(name: str, root: Root = None) -> None:
    """Check a dataset whole: every problem in one report, status 2 where there is one."""
    from .datasets import DATASETS

    problems = DATASETS[name].check(root)
    for problem in problems:
        print(problem)
    _print_variant(name, root)
    if problems:
        raise KitError(f"{len(problems)} problem(s) in dataset {name!r}; mend the files named above and check again")
    print(f"{name}: present and sound")


def _print_variant(name: str, root: Path | None) -> None:
    """Which form of the dataset lies there, where it has several and this is one of them."""
    from .datasets import DATASETS

    with contextlib.suppress(KitError):  # what is no known form is a problem that ``check`` tells
        if variant := DATASETS[name].variant(root):
            print(f"{name}: {variant}")


@data_app.command("sample")
def data_sample(
    name: str,
    dest: Annotated[Path, typer.Argument(help="A folder that does not exist yet, or is empty.")],
    count: Annotated[int, typer.Option(min=1, help="Training images; half as many to test.")] = 4,
) -> None:
    """Write a small generated set in the layout of a real one."""
    from .datasets import DATASETS

    DATASETS[name].write_sample(dest, count)
    print(f"{dest}: a sample of {name}; look at it: mtlkit data show {name} --root {dest}")


@data_app.command("prepare")
def data_prepare(
    name: str,
    source: Annotated[Path, typer.Argument(help="The owner's release, as unpacked.")],
    dest: Annotated[Path, typer.Argument(help="A folder that does not exist yet, or is empty.")],
    params: Annotated[list[str], typer.Option("-p", "--param", help="An option: -p filled=true")] = [],  # noqa: B006
) -> None:
    """Make the files that a dataset reads from the owner's release, which stays as it is."""
    from . import recipes
    from .datasets import DATASETS
    from .registry import check_options

    options = recipes.parse_overrides(params)
    check_options(f"preparing {name!r}", DATASETS[name].prepare, options)
    DATASETS[name].prepare(source, dest, **options)
    _print_variant(name, dest)
    print(f"{dest}: {name} is ready; now check it: mtlkit data check {name} --root {dest}")


@data_app.command("pack")
def data_pack(
    name: str,
    root: Root = None,
    splits: Annotated[list[str], typer.Option("--split", help="May be repeated; default: every one.")] = [],  # noqa: B006
    params: Annotated[list[str], typer.Option("-p", "--param", help="An option of the dataset: -p holdout=true")] = [],  # noqa: B006
    workers: Annotated[int | None, typer.Option(min=0, help="Processes; 0 works in this one.")] = None,
) -> None:
    """Write every sample into memory-mapped arrays, which packed=true reads many times faster. Goes on where it was
    stopped.
    """
    from . import recipes
    from .datasets import packed

    options = recipes.parse_overrides(params) | ({"root": root} if root else {})
    for split in splits or packed.splits(name, **options):
        made = packed.make(name, split, workers=workers, **options)
        print(f"{name}/{split}: {len(made)} samples, {made.pack.bytes / 2**20:.1f} MiB in {made.pack.directory}")
    print(f"read them in a recipe: -p dataset.packed=true; in Python: datasets.build({name!r}, ..., packed=True)")


@data_app.command("show")
def data_show(
    name: str,
    output: Annotated[Path, typer.Option("-o", "--output", help="PNG to write.")] = Path("contact-sheet.png"),
    split: str = "train",
    count: Annotated[int, typer.Option(min=1, max=64)] = 6,
    root: Root = None,
    params: Annotated[list[str], typer.Option("-p", "--param", help="An option of the dataset: -p holdout=true")] = [],  # noqa: B006
) -> None:
    """Write a contact sheet: some samples (most datasets: the first ones) with every target."""
    import matplotlib

    matplotlib.use("Agg")
    from . import datasets, files, plots, recipes

    options = datasets.DATASETS[name].preview(count) | recipes.parse_overrides(params)
    dataset = datasets.build(name, split, **options, **({"root": root} if root else {}))
    plots.style()
    figure = plots.samples(dataset, dataset.glance(count))
    with files.replacing(output.resolve()) as temporary:
        figure.savefig(temporary, format="png", bbox_inches="tight")
    _print_variant(name, root)
    print(output)


# --- running ---


@app.command()
def run(recipe: str, params: Overrides = [], device: Device = Accelerator.auto) -> None:  # noqa: B006
    """Train one recipe: notebooks/40_train.ipynb, executed by papermill into its run folder. Goes on where it was
    stopped.
    """
    from . import recipes

    sweep = shlex.join(["mtlkit", "sweep", recipe, *(word for pair in params for word in ("-p", pair))])
    _execute([recipes.load(recipe, recipes.parse_overrides(params))], 1, device.value, alone=sweep)


@app.command()
def sweep(
    recipe: str,
    params: Overrides = [],  # noqa: B006
    jobs: Annotated[
        int, typer.Option("-j", "--jobs", min=1, help="Runs at once; from two on each uses one thread.")
    ] = 1,
    device: Device = Accelerator.auto,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print the plan alone.")] = False,
) -> None:
    """Train every run of a sweep; finished ones are skipped, a failure does not stop the others. Single-task nets that
    a run starts from are trained first, also those that are not in the sweep.
    """
    from . import recipes

    _execute(recipes.expand(recipe, recipes.parse_overrides(params)), jobs, device.value, dry_run)


def _execute(recipes: list, jobs: int, device: str, dry_run: bool = False, alone: str = "") -> None:
    from . import batch

    runs = batch.plan(recipes, alone)
    waiting = [run for run in runs if not run.finished]
    print(
        f"{len(runs)} run(s): {len(runs) - len(waiting)} finished, {len(waiting)} to do, {min(jobs, len(runs))} at once"
    )
    if len(runs) > len(recipes):
        print(f"{len(runs) - len(recipes)} single-task net(s) among them are not in the sweep, which starts from them")
    for number, planned in enumerate(runs, 1):
        print(f"  {number:>3}  {planned.state:<12} {planned.recipe.label}  {batch.shown(planned.folder)}")
    if dry_run:
        return
    try:
        outcomes = batch.run_all(runs, jobs, device)
    except KeyboardInterrupt:
        print("\nmtlkit: stopped; the same command goes on from the last checkpoints", file=sys.stderr)
        raise typer.Exit(130) from None
    failed = [outcome for outcome in outcomes if outcome.state == "failed"]
    for outcome in failed:
        print(f"failed: {outcome.run.recipe.label}: {outcome.reason}", file=sys.stderr)
        print(f"        see {batch.shown(outcome.run.folder / 'output.ipynb')}", file=sys.stderr)
    if failed:
        print(f"{len(failed)} of {len(outcomes)} runs failed; the same command tries them again", file=sys.stderr)
        raise typer.Exit(1)


# --- looking ---


@runs_app.command("list")
def runs_list(paths: Annotated[list[Path] | None, typer.Argument()] = None) -> None:
    """Every run: state, epoch, label, folder."""
    from . import batch
    from .runs import find

    found = find(paths or [])
    for entry in found:
        status = entry.status
        epochs = f"{status.get('epoch', 0)}/{status.get('epochs', entry.recipe.epochs)}"
        print(f"{entry.state:<12} {epochs:>8}  {entry.recipe.label:<58} {batch.shown(entry.folder)}")
    if not found:
        print("no runs; type: mtlkit run rooms-tiny")


@runs_app.command("rm")
def runs_rm(folders: list[Path], yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False) -> None:
    """Delete run folders."""
    from .runs import load_run

    chosen = [load_run(folder) for folder in folders]
    for entry in chosen:
        print(f"{entry.state:<12} {entry.recipe.label}  {entry.folder}")
    if yes or typer.confirm(f"delete {len(chosen)} run(s)?"):
        for entry in chosen:
            entry.remove()


@app.command()
def report(
    paths: Annotated[list[Path], typer.Argument(help="Run folders, or folders above them.")],
    protocol: Annotated[str, typer.Option(help="Whose way of averaging: pooled, mtan, mtan-legacy …")] = "pooled",
    beside: Annotated[str, typer.Option(help="Also a paper's table: a name in data/published.")] = "",
    by: Annotated[str, typer.Option(help="Δ_MTL averages over: metric or task.")] = "metric",
    summary: Annotated[
        str, typer.Option(help="Epochs: last-10 (any number), best-validation, best-test; default: the recipe's.")
    ] = "",
    as_json: AsJson = False,
    csv: Annotated[Path | None, typer.Option(help="Also write the values with their provenance here.")] = None,
) -> None:
    """Print the comparison table and write report.html beside the runs."""
    import matplotlib

    matplotlib.use("Agg")
    from . import batch, files, plots
    from . import report as reports
    from .runs import find

    rows = reports.entries(find(paths), protocol, by, summary or None) + (reports.published(beside) if beside else [])
    if csv:
        files.write_text(csv.resolve(), reports.tidy(rows, protocol).to_csv(index=False))
    if as_json:
        print(json.dumps(reports.records(rows), indent=2))
        return
    plots.style()
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
    as_json: AsJson = False,
) -> None:
    """Measure a trained run by several protocols side by side, from one set of predictions."""
    from .evaluation import side_by_side
    from .runs import load_run

    table = side_by_side(load_run(run), protocols, which, split)
    print(table.to_json(indent=2) if as_json else table.round(4).to_string())


@app.command()
def predict(
    run: Path,
    images: Annotated[list[Path], typer.Argument(help="Images, or one folder of consecutive frames.")],
    output: Annotated[Path, typer.Option("-o", "--output", help="Folder; or a video: out.mp4")] = Path("predictions"),
    which: Which = "checkpoint",
    fps: Annotated[float | None, typer.Option(help="Of the video; default: as Cityscapes' sequences.")] = None,
    force: Force = False,
) -> None:
    """Write what a trained run sees in your own images: one PNG for every image and task; of a folder of frames a
    video, with optical flow from each frame to the one before where the run reads flow.
    """
    import matplotlib

    matplotlib.use("Agg")
    from .predict import FPS, predict_images, predict_video
    from .runs import load_run

    if len(images) == 1 and images[0].is_dir():
        count = predict_video(load_run(run), images[0], _free(output, force), which, FPS if fps is None else fps)
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
    from . import deployment
    from .runs import load_run

    print(deployment.export(load_run(run), _free(output, force), _size(height, width), which).map("{:.1e}".format))
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
    from . import deployment, recipes

    size, overrides = _size(height, width), recipes.parse_overrides(params)
    for line in deployment.compare([network, *against], size, overrides, rounds):
        print(line)


def _free(path: Path, force: bool) -> Path:
    """The path, if a file may be written there."""
    if not path.absolute().parent.is_dir() or path.is_dir():
        raise KitError(f"{path} cannot be written: expected a new file in a folder that exists; name such a one")
    if path.exists() and not force:
        raise KitError(f"{path} is there already; name another file, or add --force to replace it")
    return path


def _size(height: int | None, width: int | None) -> tuple[int, int] | None:
    if (height is None) != (width is None):
        raise KitError("a size is height and width, found one of them; give --height and --width")
    return None if height is None else (height, width)


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
    from . import plots
    from .runs import load_run
    from .sharing import save

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
    from . import gradient_plots, plots
    from .runs import load_run

    plots.style()
    for path in gradient_plots.save(load_run(run), output):
        print(path)


if __name__ == "__main__":
    main()
