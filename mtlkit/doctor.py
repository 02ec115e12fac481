"""``mtlkit doctor``: is this machine ready? Python, packages against requirements, accelerator, disk, data."""

from __future__ import annotations

import dataclasses
import importlib.metadata
import shutil
import sys
from collections.abc import Iterator

from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet

from . import files
from .errors import KitError

NEEDED_GB = 2.0  # a full NYUv2 run keeps checkpoints and logs of this order
EXTRAS = ("notebooks", "deploy", "dev")


@dataclasses.dataclass(frozen=True)
class Finding:
    """One line of the report. ``state`` is ok, note (nothing to mend) or problem (with what to type in ``detail``)."""

    topic: str
    state: str
    detail: str


def examine() -> Iterator[Finding]:
    """Every finding, in order."""
    yield python()
    yield from packages()
    yield pair()
    yield accelerator()
    yield from disk()
    yield from data()


def python() -> Finding:
    """The interpreter against ``requires-python``."""
    wanted = SpecifierSet(importlib.metadata.metadata("mtlkit")["Requires-Python"])
    found = ".".join(map(str, sys.version_info[:3]))
    if found in wanted:
        return Finding("python", "ok", f"{found} in {sys.prefix}")
    return Finding("python", "problem", f"expected {wanted}, found {found}; type: make setup PYTHON=python3.12")


def packages() -> Iterator[Finding]:
    """Installed packages against the requirements of the kit."""
    for text in importlib.metadata.requires("mtlkit") or []:
        requirement = Requirement(text)
        extra = next((e for e in EXTRAS if requirement.marker and requirement.marker.evaluate({"extra": e})), "")
        if requirement.marker and not extra and not requirement.marker.evaluate({"extra": ""}):
            continue
        try:
            found = importlib.metadata.version(requirement.name)
        except importlib.metadata.PackageNotFoundError:
            found = None
        if found is not None and requirement.specifier.contains(found, prereleases=True):
            yield Finding(requirement.name, "ok", found)
        else:
            where = f" (extra {extra!r})" if extra else ""
            detail = f"expected {requirement.specifier}{where}, found {found or 'none'}; type: make setup"
            yield Finding(requirement.name, "problem", detail)


def pair() -> Finding:
    """torch and torchvision belong together only if both import and torchvision's operators load."""
    try:
        import torch
        import torchvision

        torchvision.ops.nms(torch.zeros(1, 4), torch.ones(1), 0.5)
    except Exception as error:
        reason = str(error).strip().splitlines()[0]
        return Finding("torch + torchvision", "problem", f"do not match ({reason}); type: rm -r .venv && make setup")
    return Finding("torch + torchvision", "ok", f"{torch.__version__} and {torchvision.__version__} work together")


def accelerator() -> Finding:
    """What torch can compute on."""
    import torch

    if torch.cuda.is_available():
        card = torch.cuda.get_device_properties(0)
        return Finding(
            "accelerator", "ok", f"{torch.cuda.device_count()} × {card.name}, {card.total_memory / 2**30:.0f} GiB"
        )
    if torch.backends.mps.is_available():
        return Finding("accelerator", "ok", "Apple GPU (mps)")
    return Finding(
        "accelerator", "note", f"none: the CPU with {torch.get_num_threads()} threads; paper-size runs need a GPU"
    )


def disk() -> Iterator[Finding]:
    """Free space where runs and caches go."""
    for topic, folder in (("runs", files.runs_dir()), ("cache", files.cache_dir())):
        existing = next(parent for parent in (folder, *folder.parents) if parent.exists())
        free = shutil.disk_usage(existing).free / 2**30
        state = "ok" if free > NEEDED_GB else "problem"
        advice = "" if state == "ok" else f"; free {NEEDED_GB:.0f} GB, or set MTLKIT_{topic.upper()} to another disk"
        yield Finding(f"disk for {topic}", state, f"{free:.0f} GB free at {folder}{advice}")


def data() -> Iterator[Finding]:
    """Which datasets are present, and whole as far as the names of their files tell."""
    from .datasets import DATASETS

    for name in DATASETS:
        try:
            problems = DATASETS[name].check(contents=False)
        except KitError as error:
            yield Finding(f"data {name}", "note", str(error))
            continue
        if problems:
            more = f" (and {len(problems) - 1} more; type: mtlkit data check {name})" if problems[1:] else ""
            yield Finding(f"data {name}", "problem", problems[0] + more)
        else:
            yield Finding(f"data {name}", "ok", f"in order; to read it all: mtlkit data check {name}")
