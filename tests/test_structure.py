"""The house: imports run in one direction, files stay readable, nothing loads a pickle."""

import ast
import re
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parent.parent / "mtlkit"
MODULES = sorted(PACKAGE.rglob("*.py"))
# from the top down; a room may import from the lines below its own, and from its own line where it is one room
FLOORS = [
    ["cli"],
    ["batch", "report", "predict", "deployment", "doctor"],
    ["sharing"],
    ["attention", "gradient_plots"],
    ["notebook", "viewers"],
    ["plots"],
    ["training"],
    ["evaluation", "initialisation", "steplog"],
    ["optimisers", "statistics"],
    ["runs"],
    ["recipes"],
    ["datasets", "architectures", "weighting"],
    ["scenes", "transforms", "layers"],
    ["tasks"],
    ["metrics"],
    ["losses"],
    ["kernels", "files", "registry", "recording"],
    ["errors", "version"],
]
FLOOR = {room: number for number, rooms in enumerate(FLOORS) for room in rooms}


def room(path):
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def imported_rooms(path):
    """Rooms of the package that a file imports, wherever in the file."""
    depth = len(path.relative_to(PACKAGE).parts)
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.level == depth:
            names = [node.module.split(".")[0]] if node.module else [alias.name for alias in node.names]
            yield from (name for name in names if name in FLOOR)


@pytest.mark.parametrize("path", MODULES, ids=[str(path.relative_to(PACKAGE)) for path in MODULES])
def test_imports_run_downwards(path):
    if path == PACKAGE / "__init__.py":
        return
    here = room(path)
    assert here in FLOOR, f"{here} has no floor yet: give it one"
    for target in imported_rooms(path):
        below = target == here or FLOOR[target] > FLOOR[here]
        assert below, f"{here} imports {target}, which is not below it"


@pytest.mark.parametrize("path", MODULES, ids=[str(path.relative_to(PACKAGE)) for path in MODULES])
def test_files_can_be_read_in_one_sitting(path):
    assert path.read_text().count("\n") <= 530


def test_no_pickle_is_loaded():
    for path in MODULES:
        text = path.read_text()
        # pack.py talks to worker processes that it started itself, over their pipes
        assert path.name == "pack.py" or not re.search(r"^\s*(import pickle|from pickle)", text, re.M), path.name
        assert "allow_pickle=True" not in text and "weights_only=False" not in text
        for call in re.findall(r"torch\.load\([^\n]*", text):
            assert "weights_only=True" in call, call


def test_every_module_says_what_it_is():
    for path in MODULES:
        if path.stat().st_size:
            assert ast.get_docstring(ast.parse(path.read_text())), path.name
