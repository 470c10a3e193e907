"""The cache folder: what was expensive to make and can be made again. Safe to delete at any time."""

import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO


def cache_folder() -> Path:
    """Return the folder: LETHE_CACHE, else ``lethe`` in the user's cache folder."""
    named = os.environ.get("LETHE_CACHE")
    return (
        Path(named) if named else Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "lethe"
    )


def write_cached(path: Path, write: Callable[[BinaryIO], object]) -> None:
    """Write a file of the cache whole: to a temporary name, flushed, then renamed.

    A cache that cannot be written is done without.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, temporary = tempfile.mkstemp(dir=path.parent, suffix=".part")
        with os.fdopen(handle, "wb") as file:
            write(file)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except OSError:
        return
