"""Things found by name: architectures, weightings and datasets. The command line lists them, tests loop over them."""

from __future__ import annotations

import functools
import inspect
import typing
from collections.abc import Iterator
from typing import Any, TypeVar

import pydantic

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
        return _options(self[name])

    def check(self, name: str, options: dict[str, Any]) -> None:
        """Raise KitError for an unknown option (with the nearest valid one) or a value of the wrong type."""
        check_options(f"{self.kind} {name!r}", self[name], options)

    def build(self, name: str, *args: Any, **options: Any) -> Any:
        """Call the entry. Raises KitError as ``check`` does."""
        self.check(name, options)
        return self[name](*args, **options)

    def names(self) -> list[str]:
        return sorted(self)

    def __iter__(self) -> Iterator[str]:
        return iter(sorted(super().keys()))


@functools.cache
def _options(entry: Any) -> dict[str, inspect.Parameter]:
    """What has a default; where a constructor passes ``**options`` on, those of the class it inherits from too."""
    found: dict[str, inspect.Parameter] = {}
    for function in _signatures(entry):
        parameters = inspect.signature(function).parameters.values()
        found = {p.name: p for p in parameters if p.default is not p.empty} | found
    return found


@functools.cache
def _hints(entry: Any) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for function in _signatures(entry):
        found = typing.get_type_hints(function) | found
    return found


def _signatures(entry: Any) -> Iterator[Any]:
    """The function, or the constructors of a class as far up as each passes ``**options`` on."""
    if not inspect.isclass(entry):
        yield entry
        return
    for owner in entry.__mro__:
        if "__init__" in vars(owner):
            yield owner.__init__
            if not any(p.kind is p.VAR_KEYWORD for p in inspect.signature(owner.__init__).parameters.values()):
                return


def check_options(what: str, entry: Any, options: dict[str, Any]) -> None:
    """Raise KitError for an option that a class or function does not take (with the nearest valid one), or a value of
    the wrong type. ``what`` names it in the message.
    """
    known = _options(entry)
    hints = _hints(entry)
    for option, value in options.items():
        if option not in known:
            hint = nearest(option, known) if known else "it takes no options"
            raise KitError(f"unknown option {option!r} for {what}: {hint}")
        check_type(f"option {option!r} of {what}", value, hints.get(option, Any))


def check_type(what: str, value: Any, hint: Any) -> None:
    """Raise KitError where ``value`` is not of the annotated type. An int is welcome where a float is; nothing else is
    converted.
    """
    config = pydantic.ConfigDict(strict=True, arbitrary_types_allowed=True)
    try:
        try:
            adapter = pydantic.TypeAdapter(hint, config=config)
        except pydantic.PydanticUserError:  # a model or dataclass brings its own configuration
            adapter = pydantic.TypeAdapter(hint)
        adapter.validate_python(value)
    except pydantic.ValidationError as error:
        wanted = getattr(hint, "__name__", str(hint)) if inspect.isclass(hint) else str(hint)
        reason = error.errors()[0]["msg"]
        raise KitError(f"{what} should be {wanted}, found {value!r} ({reason[0].lower()}{reason[1:]})") from error
