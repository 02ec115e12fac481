"""``python -m mtlkit.cli``: the same as ``mtlkit``."""

from . import main

main()
