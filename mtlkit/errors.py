"""The one exception of the kit, and the one way to say "did you mean"."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class KitError(ValueError):
    """Bad input. The message is one line: what was expected, what was found, what to type next.

    The command line prints it without a traceback and ends with status 2.
    """


def nearest(name: str, known: Iterable[str]) -> str:
    """A hint for an unknown ``name``: the nearest valid one, else all of them.

    >>> nearest("uncertanty", ["equal", "uncertainty", "dwa"])
    "did you mean 'uncertainty'?"
    >>> nearest("zzz", ["equal", "dwa"])
    'valid: dwa, equal'
    """
    known = sorted(known)
    close = difflib.get_close_matches(name, known, n=1, cutoff=0.6)
    return f"did you mean {close[0]!r}?" if close else "valid: " + ", ".join(known)
