"""Things found by name: architectures, weightings and datasets. The command line lists them, tests loop over them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TypeVar

from .errors import KitError, nearest

Entry = TypeVar("Entry")


class Registry(dict[str, Entry]):
    """A dict from name to class or function that says what a wrong name might have meant."""

    def __init__(self, kind: str):
        super().__init__()
        self.kind = kind

    def register(self, name: str):
        """Class or function decorator: ``@ARCHITECTURES.register("split")``."""

        def add(entry: Entry) -> Entry:
            if name in self:
                raise KitError(f"{self.kind} {name!r} is registered twice")
            self[name] = entry
            return entry

        return add

    def __missing__(self, name: str) -> Entry:
        raise KitError(f"unknown {self.kind} {name!r}: {nearest(name, self)}")

    def names(self) -> list[str]:
        return sorted(self)

    def __iter__(self) -> Iterator[str]:
        return iter(sorted(super().keys()))
