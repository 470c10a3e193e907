"""The cache folder, for results that are expensive to compute. It can be deleted at any time.

Each file ends in a line with the CRC-32 of what is before it, which is verified at reading. A damaged file is
renamed to ``NAME.damaged`` and made again.
"""

import os
import sys
import zlib
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import BinaryIO, cast

from suites.whole_files import new_file

_END = b"\nlethe-crc32 %08x\n"
LENGTH_OF_END = len(_END % 0)


def cache_folder() -> Path:
    """Return the cache folder: LETHE_CACHE, or without it ``lethe`` in the user's cache folder."""
    named = os.environ.get("LETHE_CACHE")
    return (
        Path(named) if named else Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "lethe"
    )


def write_cached(path: Path, write: Callable[[BinaryIO], object]) -> None:
    """Write a cache file with its checksum atomically; see ``new_file``.

    Errors are ignored: Lethe works without a cache.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with new_file(path, "w+b", permissions=0o600) as stream:
            file = cast(BinaryIO, stream)
            write(file)
            file.seek(0)
            file.write(_END % file_crc32(file))
    except OSError:
        return


def read_cached(path: Path) -> bytes | None:
    """Return the content of a cache file, None if there is none; a damaged one is renamed."""
    return path.read_bytes()[:-LENGTH_OF_END] if is_cached(path) else None


def is_cached(path: Path) -> bool:
    """Return whether there is a cache file with the right checksum at its end; a damaged one is renamed.

    A library that reads the file itself must pass over the last line.
    """
    try:
        stat = path.stat()
        if _is_intact(path, stat.st_size, stat.st_mtime_ns):
            return True
        aside = set_aside(path)
    except OSError:  # there is none, or another process renamed it
        return False
    words = f"{path} is damaged, or from an earlier version: it is {aside.name} now, and is made again"
    print(words, file=sys.stderr)
    return False


@cache
def _is_intact(path: Path, size: int, _modified: int) -> bool:
    """Return whether a file has the right checksum; once for each state of it, because features are large."""
    with path.open("rb") as file:
        found = file_crc32(file, size - LENGTH_OF_END)
        return size >= LENGTH_OF_END and file.read() == _END % found


def set_aside(path: Path) -> Path:
    """Rename a damaged file or folder to ``NAME.damaged``, or ``NAME.damaged-2``; return the new path."""
    names = (f"{path.name}.damaged{f'-{n}' * (n > 1)}" for n in range(1, 10_000))
    aside = next(found for name in names if not (found := path.with_name(name)).exists())
    path.replace(aside)
    return aside


def file_crc32(file: BinaryIO, size: int = sys.maxsize) -> int:
    """Return the CRC-32 of an open file from where it is, of ``size`` bytes at most."""
    found = 0
    while size > 0 and (part := file.read(min(size, 1 << 20))):
        found, size = zlib.crc32(part, found), size - len(part)
    return found
