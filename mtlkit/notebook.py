"""What a notebook needs: ``setup``, train-or-load by ``demo_run``, write-or-find by ``sample``; and the command that
re-executes and normalises the series.

python -m mtlkit.notebook [NAME …]       (make notebooks)
"""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
import threading
import time
import warnings
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from . import files, plots, recipes
from .errors import KitError, nearest
from .runs import Run
from .version import __version__

# Output that only says when and where a notebook ran; nbval compares the rest.
_VOLATILE = (
    "cell.metadata.execution cell.metadata.papermill metadata.papermill metadata.widgets metadata.language_info.version"
)
WIDGET = "application/vnd.jupyter.widget-view+json"
_parent_watched = False


def setup(seed: int = 0) -> None:
    """Make a notebook repeatable and its figures alike: seed, style, quiet warnings; prints one line of versions."""
    import matplotlib
    import torch
    import torchvision
    from IPython import get_ipython

    if (shell := get_ipython()) is not None:
        shell.run_line_magic("matplotlib", "inline")  # also where MPLBACKEND says otherwise, as batch systems do
    torch.manual_seed(seed)
    warnings.filterwarnings("ignore", category=UserWarning)
    warnings.filterwarnings("ignore", category=FutureWarning)
    matplotlib.rcParams["figure.max_open_warning"] = 0
    plots.style()
    end_with_parent()
    device = "cuda" if torch.cuda.is_available() else "cpu"
    print(f"mtlkit {__version__}, torch {torch.__version__}, torchvision {torchvision.__version__}, {device}")


def demo_run(recipe: str, **overrides: Any) -> Run:
    """Train a recipe once into the user's cache, after the single-task nets that it starts from, and load it ever
    after, under a lock.

    Args:
        recipe: the name of a recipe, or a path ending in .toml.
        **overrides: recipe keys, with ``__`` for the dot: ``weighting__name="dwa"``.
    """
    from . import training

    chosen = recipes.load(recipe, {key.replace("__", "."): value for key, value in overrides.items()})
    data = training.fingerprint(*training.load_data(chosen))
    for each in [*chosen.singles(), chosen]:
        run = Run.create(each, data, root=files.cache_dir() / "demo-runs")
        with files.lock(run.folder / ".demo.lock", wait=-1):  # another notebook may be training the same run: wait
            training.fit(each, run, device="cpu", progress=not run.finished)
    return run


def sample(dataset: str, count: int = 4, **options: Any) -> Path:
    """The folder of a dataset's sample in the user's cache, written on first use, under a lock.

    Args:
        dataset: a registered name.
        count: of images, as its ``write_sample`` counts them.
        **options: of its ``write_sample``.
    """
    from . import datasets, scenes

    versions = [__version__, *(f"{name}{family.version}" for name, family in scenes.FAMILIES.items())]
    content = json.dumps([versions, count, options], sort_keys=True)
    place = files.cache_dir() / "samples" / f"{dataset}-{hashlib.sha256(content.encode()).hexdigest()[:12]}"
    place.parent.mkdir(parents=True, exist_ok=True)
    with files.lock(place.with_name(f"{place.name}.lock"), wait=-1):  # another notebook may be writing it
        if not place.exists():
            datasets.DATASETS[dataset].write_sample(place, count, **options)
    return place


def record(output: str, name: str, content: dict[str, Any]) -> Path:
    """Write what a notebook found to ``result.json`` in ``output``, or in the user's cache where that is empty."""
    folder = Path(output) if output else files.cache_dir() / "notebooks" / name
    folder.mkdir(parents=True, exist_ok=True)
    files.write_json(folder / "result.json", content)
    return folder / "result.json"


def end_with_parent() -> None:
    """End this kernel when the process that started it for a batch (``$MTLKIT_PARENT``) is gone, however it went."""
    global _parent_watched
    parent = os.environ.get("MTLKIT_PARENT")
    if parent is None or _parent_watched:
        return
    _parent_watched = True

    def watch() -> None:
        while _alive(int(parent)):
            time.sleep(0.25)
        os._exit(1)

    threading.Thread(target=watch, daemon=True, name="end-with-parent").start()


def _alive(pid: int) -> bool:
    """True while a process exists; a zombie, killed and not yet collected, does not count."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return True
    return stat.rpartition(")")[2].split()[0] not in ("Z", "X")


# --- the series ---


def series(names: Iterable[str] = ()) -> list[Path]:
    """The notebooks, in order, the solutions after them. ``names`` picks some: a number, a stem, or a path."""
    folder = files.checkout() / "notebooks"
    everything = [*sorted(folder.glob("*.ipynb")), *sorted((folder / "solutions").glob("*.ipynb"))]
    chosen = []
    for name in names:
        found = [p for p in everything if p.stem == Path(name).stem or p.stem.split("_")[0] == name]
        if not found:
            raise KitError(f"no notebook {name!r}: {nearest(name, [p.stem for p in everything])}")
        chosen += found
    return chosen or everything


def refresh(path: Path) -> float:
    """Execute a notebook in a fresh kernel in its own folder and store it normalised. Returns the seconds it took."""
    import nbclient
    import nbformat

    notebook = nbformat.read(path, as_version=4)
    started = time.monotonic()
    client = nbclient.NotebookClient(
        notebook,
        timeout=600,
        kernel_name="python3",
        kernel_manager_class="mtlkit.kernels.AsyncPrivateKernelManager",
        resources={"metadata": {"path": str(path.parent)}},
    )
    client.execute()
    seconds = time.monotonic() - started
    with files.replacing(path) as temporary:
        nbformat.write(normalised(notebook), temporary)
    command = ["nbstripout", "--keep-output", "--keep-count", "--keep-id", "--extra-keys", _VOLATILE, str(path)]
    subprocess.run([str(Path(sys.executable).parent / command[0]), *command[1:]], check=True)
    return seconds


def normalised(notebook):
    """The notebook without standard error, widget views (their static twin stands before them) and cell ids that
    change.
    """
    for number, cell in enumerate(notebook.cells):
        cell["id"] = f"cell-{number:03d}"
        if cell.cell_type != "code":
            continue
        kept = [o for o in cell.outputs if o.get("name") != "stderr" and WIDGET not in o.get("data", {})]
        cell.outputs = []
        for output in kept:  # a stream may arrive in pieces
            last = cell.outputs[-1] if cell.outputs else {}
            if output.output_type == "stream" and last.get("output_type") == "stream":
                last["text"] += output.text
            else:
                cell.outputs.append(output)
    notebook.metadata["kernelspec"] = {"display_name": "Python 3", "language": "python", "name": "python3"}
    return notebook


def main(arguments: list[str] | None = None) -> int:
    """``python -m mtlkit.notebook [NAME …]``."""
    try:
        for path in series(sys.argv[1:] if arguments is None else arguments):
            print(f"{path.relative_to(files.checkout())} … ", end="", flush=True)
            print(f"{refresh(path):.0f} s")
    except KitError as error:
        print(f"mtlkit: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
