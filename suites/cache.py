"""The cache folder, for results that are expensive to compute. It can be deleted at any time."""

import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO


def cache_folder() -> Path:
    """Return the cache folder: LETHE_CACHE, or without it ``lethe`` in the user's cache folder."""
    named = os.environ.get("LETHE_CACHE")
    return (
        Path(named) if named else Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "lethe"
    )


def write_cached(path: Path, write: Callable[[BinaryIO], object]) -> None:
    """Write a cache file atomically: to a temporary file, flushed, then renamed.

    Errors are ignored: Lethe works without a cache.
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
