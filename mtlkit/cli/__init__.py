"""The command line: ``mtlkit doctor | data | models | weightings | recipes | run | sweep | runs | report | evaluate |
predict | export | latency | shared | weights``.

Bad input ends with one line and status 2, a run that failed with status 1; Ctrl-C with 130.
"""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from ..errors import KitError
from ..version import __version__
from . import catalogues, data, looking, running

app = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False, rich_markup_mode=None)
app.add_typer(catalogues.app)
app.add_typer(data.app, name="data")
app.add_typer(running.app)
app.add_typer(running.runs_app, name="runs")
app.add_typer(looking.app)


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
