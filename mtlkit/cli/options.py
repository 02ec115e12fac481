"""Options that several commands share, and what they make of them."""

from __future__ import annotations

import enum
from pathlib import Path
from typing import Annotated

import typer

from ..errors import KitError

Overrides = Annotated[list[str], typer.Option("-p", "--param", help="Override a recipe key: -p optimiser.lr=0.001")]


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


def free(path: Path, force: bool) -> Path:
    """The path, if a file may be written there."""
    if not path.absolute().parent.is_dir() or path.is_dir():
        raise KitError(f"{path} cannot be written: expected a new file in a folder that exists; name such a one")
    if path.exists() and not force:
        raise KitError(f"{path} is there already; name another file, or add --force to replace it")
    return path


def size_of(height: int | None, width: int | None) -> tuple[int, int] | None:
    if (height is None) != (width is None):
        raise KitError("a size is height and width, found one of them; give --height and --width")
    return None if height is None else (height, width)
