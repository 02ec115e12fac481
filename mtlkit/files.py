"""Where things are, and how they are written: the checkout, the cache, the data folders; whole files by rename; one
writer at a time.
"""

from __future__ import annotations

import contextlib
import json
import math
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import filelock
import platformdirs

from .errors import KitError


def checkout() -> Path:
    """The folder with ``notebooks/`` and ``data/``. Raises KitError where mtlkit is installed without one."""
    root = Path(__file__).resolve().parent.parent
    if not (root / "notebooks").is_dir():
        raise KitError(f"mtlkit is used from a checkout, and {root} has no notebooks/; type: git clone … && make setup")
    return root


def cache_dir() -> Path:
    """What can be made again: ``$MTLKIT_CACHE``, else the user's cache directory."""
    return Path(os.environ.get("MTLKIT_CACHE") or platformdirs.user_cache_dir("mtlkit")).expanduser().absolute()


def runs_dir() -> Path:
    """What was trained: ``$MTLKIT_RUNS``, else ``runs/`` of the checkout."""
    named = os.environ.get("MTLKIT_RUNS")
    return Path(named).expanduser().absolute() if named else checkout() / "runs"


def data_dir(name: str, root: str | os.PathLike | None = None) -> Path:
    """Where dataset ``name`` is looked for: ``root``, then ``$MTLKIT_DATA/NAME``, then ``data/NAME`` of the
    checkout.
    """
    if root is not None:
        return Path(root)
    named = os.environ.get("MTLKIT_DATA")
    return Path(named).expanduser().absolute() / name if named else checkout() / "data" / name


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A temporary path beside ``path`` that takes its name when the block ends, and vanishes when it fails.

    A reader sees the old file or the new one, never a part of it, also when this process is killed.
    """
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".tmp")
    os.close(handle)
    temporary = Path(name)
    try:
        yield temporary
        with open(temporary, "rb") as written:
            os.fsync(written.fileno())
        umask = os.umask(0)
        os.umask(umask)
        temporary.chmod(0o666 & ~umask)  # mkstemp is private; the file should be as readable as any other
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """Write a whole text file by rename."""
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_json(path: Path, content: Any) -> None:
    """Write JSON by rename, indented, keys as given; NaN and infinity, which JSON does not have, become null."""
    write_text(path, json.dumps(_plain(content), indent=2, allow_nan=False) + "\n")


def _plain(content: Any) -> Any:
    if isinstance(content, dict):
        return {key: _plain(value) for key, value in content.items()}
    if isinstance(content, list | tuple):
        return [_plain(value) for value in content]
    return None if isinstance(content, float) and not math.isfinite(content) else content


def read_json(path: Path) -> Any:
    """JSON from a file, or None where there is none. Raises KitError where it does not parse."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise KitError(f"{path} is not JSON ({error}); remove it and run again") from error


@contextlib.contextmanager
def lock(path: Path, wait: float = 0.0, busy: str = "") -> Iterator[None]:
    """Hold the lock file ``path``; the system frees it when this process dies, however it dies.

    Raises KitError with ``busy`` when another process still holds it after ``wait`` seconds (-1: wait for ever).
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    held = filelock.FileLock(path)
    try:
        held.acquire(timeout=wait)
    except filelock.Timeout as error:
        raise KitError(busy or f"{path} is held by another process; wait for it, or stop it") from error
    try:
        yield
    finally:
        held.release()


def locked(path: Path) -> bool:
    """True while some process holds the lock file ``path``."""
    if not path.exists():
        return False
    try:
        with filelock.FileLock(path).acquire(timeout=0):
            return False
    except filelock.Timeout:
        return True
