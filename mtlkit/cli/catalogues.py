"""Commands that say what there is: ``doctor | models | weightings | recipes``."""

from __future__ import annotations

import json

import typer

from .options import AsJson

app = typer.Typer()

LEVELS = ("loss", "layer", "gramian", "gradient")  # what a weighting looks at, cheapest first


@app.command()
def doctor() -> None:
    """Examine this machine: Python, packages, accelerator, disk, data. Status 1 where something needs mending."""
    from ..doctor import examine

    marks = {"ok": "ok     ", "note": "note   ", "problem": "PROBLEM"}
    problems = 0
    for finding in examine():
        problems += finding.state == "problem"
        print(f"{marks[finding.state]}  {finding.topic:<20} {finding.detail}")
    print(f"{problems} problem(s)" if problems else "all is well")
    raise typer.Exit(1 if problems else 0)


@app.command()
def models(as_json: AsJson = False) -> None:
    """Every model row: parameters and MACs, ours beside the reference."""
    from ..architectures.catalogue import agrees, rows

    found, marks = rows(), {True: "=", False: "!", None: "-"}
    if as_json:
        print(json.dumps(found, indent=2))
        return
    longest = max(len(row["name"]) for row in found)
    notes = list(dict.fromkeys(row["note"] for row in found if row["note"]))
    for row in found:
        parameters, macs = (marks[agrees(row, key)] for key in ("parameters", "macs"))
        counts = f"{row['parameters']:>11,} {parameters} {row['macs']:>15,} {macs}"
        note = f"  [{notes.index(row['note']) + 1}]" if row["note"] else ""
        print(f"{row['name']:<{longest}} {counts}{note}")
    print("parameters, MACs (batch 1); = equal to the reference, ! differs, - no reference")
    for number, note in enumerate(notes, 1):
        print(f"[{number}] {note}")


@app.command()
def weightings() -> None:
    """Every weighting: level, paper, options with their defaults."""
    from ..weighting import WEIGHTINGS

    for name in sorted(WEIGHTINGS, key=lambda name: (LEVELS.index(WEIGHTINGS[name].level), name)):
        method = WEIGHTINGS[name]
        own = {o: p.default for o, p in WEIGHTINGS.options(name).items() if o != "generator"}
        options = ", ".join(f"{option}={default!r}" for option, default in own.items())
        print(f"{name:<17} {method.level:<9} {method.paper}\n{'':<27} {options or 'no options'}")


@app.command(name="recipes")
def list_recipes() -> None:
    """Every recipe that comes with the kit."""
    from .. import recipes

    for name in recipes.names():
        runs = recipes.expand(name)
        print(f"{name:<24} {len(runs):>3} run{'s' if runs[1:] else ' '}  {runs[0].about}")
