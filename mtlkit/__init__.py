"""mtlkit: a notebook-driven teaching and reproduction kit for multi-task learning in PyTorch.

The public names below are loaded on first use, so that ``mtlkit --help`` and the rendering workers do not pay for
torch.
"""

from __future__ import annotations

import importlib

from .errors import KitError
from .version import __version__

# public name -> the module that holds it
_HOME = {
    "build": "architectures",
    "fit": "training",
    "load_run": "runs",
    "record": "recording",
    "delta_mtl": "metrics",
    "Task": "tasks",
}
_MODULES = {
    "architectures", "attention", "batch", "datasets", "layers", "losses", "metrics", "notebook", "optimisers", "plots",
    "recipes", "recording", "report", "runs", "scenes", "tasks", "training", "transforms", "viewers", "weighting",
}  # fmt: skip

__all__ = ["KitError", "Task", "__version__", "build", "delta_mtl", "fit", "load_run", "record"]


def __getattr__(name: str):
    if name in _HOME:
        return getattr(importlib.import_module(f".{_HOME[name]}", __name__), name)
    if name in _MODULES:
        return importlib.import_module(f".{name}", __name__)
    raise AttributeError(f"module 'mtlkit' has no attribute {name!r}")


def __dir__():
    return sorted([*globals(), *_HOME, *_MODULES])
