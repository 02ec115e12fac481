"""What tests of damaged files share."""

import os
from pathlib import Path


def contents(folder: Path) -> dict[Path, bytes]:
    """Every file of a folder, by its place in it."""
    return {path.relative_to(folder): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


class Trap:
    """Whoever unpickles it makes a folder."""

    def __init__(self, place):
        self.place = place

    def __reduce__(self):
        return os.mkdir, (str(self.place),)
