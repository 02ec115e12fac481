"""``mtlkit data list | check | sample | prepare | pack | show``."""

from __future__ import annotations

import contextlib
import json
import textwrap
from pathlib import Path
from typing import Annotated

import typer

from ..errors import KitError
from .options import AsJson, Root

app = typer.Typer(
    no_args_is_help=True, help="Datasets: list, check, sample, prepare, pack, show.", rich_markup_mode=None
)


@app.command("list")
def list_(as_json: AsJson = False) -> None:
    """Every dataset: what it is, where it is looked for and whether it is there, licence, how to get it."""
    from ..datasets import DATASETS

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


@app.command("check")
def check(name: str, root: Root = None) -> None:
    """Check a dataset whole: every problem in one report, status 2 where there is one."""
    from ..datasets import DATASETS

    problems = DATASETS[name].check(root)
    for problem in problems:
        print(problem)
    _print_variant(name, root)
    if problems:
        raise KitError(f"{len(problems)} problem(s) in dataset {name!r}; mend the files named above and check again")
    print(f"{name}: present and sound")


def _print_variant(name: str, root: Path | None) -> None:
    """Which form of the dataset lies there, where it has several and this is one of them."""
    from ..datasets import DATASETS

    with contextlib.suppress(KitError):  # what is no known form is a problem that ``check`` tells
        if variant := DATASETS[name].variant(root):
            print(f"{name}: {variant}")


@app.command("sample")
def sample(
    name: str,
    dest: Annotated[Path, typer.Argument(help="A folder that does not exist yet, or is empty.")],
    count: Annotated[int, typer.Option(min=1, help="Training images; half as many to test.")] = 4,
) -> None:
    """Write a small generated set in the layout of a real one."""
    from ..datasets import DATASETS

    DATASETS[name].write_sample(dest, count)
    print(f"{dest}: a sample of {name}; look at it: mtlkit data show {name} --root {dest}")


@app.command("prepare")
def prepare(
    name: str,
    source: Annotated[Path, typer.Argument(help="The owner's release, as unpacked.")],
    dest: Annotated[Path, typer.Argument(help="A folder that does not exist yet, or is empty.")],
    params: Annotated[list[str], typer.Option("-p", "--param", help="An option: -p filled=true")] = [],  # noqa: B006
) -> None:
    """Make the files that a dataset reads from the owner's release, which stays as it is."""
    from .. import recipes
    from ..datasets import DATASETS
    from ..registry import check_options

    options = recipes.parse_overrides(params)
    check_options(f"preparing {name!r}", DATASETS[name].prepare, options)
    DATASETS[name].prepare(source, dest, **options)
    _print_variant(name, dest)
    print(f"{dest}: {name} is ready; now check it: mtlkit data check {name} --root {dest}")


@app.command("pack")
def pack(
    name: str,
    root: Root = None,
    splits: Annotated[list[str], typer.Option("--split", help="May be repeated; default: every one.")] = [],  # noqa: B006
    params: Annotated[list[str], typer.Option("-p", "--param", help="An option of the dataset: -p holdout=true")] = [],  # noqa: B006
    workers: Annotated[int | None, typer.Option(min=0, help="Processes; 0 works in this one.")] = None,
) -> None:
    """Write every sample into memory-mapped arrays, which packed=true reads many times faster. Goes on where it was
    stopped.
    """
    from .. import recipes
    from ..datasets import packed

    options = recipes.parse_overrides(params) | ({"root": root} if root else {})
    for split in splits or packed.splits(name, **options):
        made = packed.make(name, split, workers=workers, **options)
        print(f"{name}/{split}: {len(made)} samples, {made.pack.bytes / 2**20:.1f} MiB in {made.pack.directory}")
    print(f"read them in a recipe: -p dataset.packed=true; in Python: datasets.build({name!r}, ..., packed=True)")


@app.command("show")
def show(
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
    from .. import datasets, files, plots, recipes

    options = datasets.DATASETS[name].preview(count) | recipes.parse_overrides(params)
    dataset = datasets.build(name, split, **options, **({"root": root} if root else {}))
    plots.style()
    figure = plots.samples(dataset, dataset.glance(count))
    with files.replacing(output.resolve()) as temporary:
        figure.savefig(temporary, format="png", bbox_inches="tight")
    _print_variant(name, root)
    print(output)
