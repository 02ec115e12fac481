"""What tests of damaged files share."""

import os
from pathlib import Path

import numpy as np


def contents(folder: Path) -> dict[Path, bytes]:
    """Every file of a folder, by its place in it."""
    return {path.relative_to(folder): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def finds(check, root: Path, expected: str, count: int = 1) -> None:
    """What ``check`` says of a damaged folder: so many lines, the first as expected (its beginning, where that ends in
    dots). Nothing is written.
    """
    before = contents(root)
    lines = check(root)
    assert len(lines) == count, lines
    assert lines[0].startswith(expected[:-3]) if expected.endswith("...") else lines[0] == expected
    assert "\n" not in lines[0] and contents(root) == before, "nothing is written"


def change(path: Path, edit) -> None:
    """Put what ``edit`` gives, or makes of it in place, where an array was."""
    array = np.load(path)
    np.save(path, result if (result := edit(array)) is not None else array)


class Trap:
    """Whoever unpickles it makes a folder."""

    def __init__(self, place):
        self.place = place

    def __reduce__(self):
        return os.mkdir, (str(self.place),)
