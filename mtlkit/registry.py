"""Things found by name: architectures, weightings and datasets. The command line lists them, tests loop over them."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from typing import Any, TypeVar

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

    def options(self, name: str) -> dict[str, inspect.Parameter]:
        """The options an entry takes by keyword: its constructor's parameters that have a default."""
        parameters = inspect.signature(self[name]).parameters.values()
        return {p.name: p for p in parameters if p.default is not p.empty}

    def build(self, name: str, *args: Any, **options: Any) -> Any:
        """Call the entry. Raises KitError for an unknown name or option, with the nearest valid one."""
        known = self.options(name)
        for option in options:
            if option not in known:
                hint = nearest(option, known) if known else "it takes no options"
                raise KitError(f"unknown option {option!r} for {self.kind} {name!r}: {hint}")
        return self[name](*args, **options)

    def names(self) -> list[str]:
        return sorted(self)

    def __iter__(self) -> Iterator[str]:
        return iter(sorted(super().keys()))
