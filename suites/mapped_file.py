"""Data sets larger than memory: their rows stay in a file, of which the system reads what is used.

Axes: N rows.
"""

import math
import mmap
import os
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from suites.cache import cache_folder
from suites.errors import UserError

Array = np.ndarray[Any, Any]
VARIABLE = "LETHE_IN_MEMORY"
_BLOCK_BYTES = 2**24
_MAPPED_BYTES = 2**29
"""More of mapped files than this does not stay in the memory of the process."""


def is_large(n_bytes: int) -> bool:
    """Return whether the rows of a data set stay in a file: more than LETHE_IN_MEMORY bytes, or a quarter of
    the machine's memory.

    Raises:
        UserError: The environment variable is not a number of bytes.
    """
    named = os.environ.get(VARIABLE)
    if named is not None:
        if not (named.isascii() and named.isdecimal()):
            raise UserError(
                f"{VARIABLE}={named} is not a number of bytes: write it like {VARIABLE}=2000000000"
            )
        return n_bytes > int(named)
    if "SC_PHYS_PAGES" not in os.sysconf_names:
        return False
    return n_bytes > os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // 4


class MappedFile:
    """A file whose bytes are mapped into memory; arrays are views of it, and nothing writes into them."""

    def __init__(self, path: Path) -> None:
        with path.open("rb") as file:
            # Copy on write: torch needs writable arrays.
            self._mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY)

    @property
    def content(self) -> memoryview:
        """The bytes of the file."""
        return memoryview(self._mapped)

    def release(self) -> None:
        """Give the memory of what was read back, if mapped files have much of it.

        What is used again comes from the system's cache of the file, or from the file.
        """
        if hasattr(mmap, "MADV_DONTNEED") and mapped_bytes() > _MAPPED_BYTES:
            self._mapped.madvise(mmap.MADV_DONTNEED)


def mapped_bytes() -> int:
    """Return how much of this process's memory are parts of files; 0 where the system does not say."""
    if not sys.platform.startswith("linux"):
        return 0
    return int(Path("/proc/self/statm").read_bytes().split()[2]) * mmap.PAGESIZE


def empty(shape: tuple[int, ...], dtype: Any) -> Array:
    """Return an array to be filled: in memory, or, if it is large, in a file that ends with it."""
    dtype = np.dtype(dtype)
    if not is_large(math.prod(shape) * dtype.itemsize) or 0 in shape:
        return np.empty(shape, dtype)
    folder = cache_folder()
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryFile(dir=folder) as file:
        return np.memmap(file, dtype, "w+", shape=shape)


def blocks(rows: Array | Tensor) -> Iterator[slice]:
    """Yield slices of rows, of a few megabytes each."""
    size = max(1, _BLOCK_BYTES // max(1, rows[:1].nbytes))
    for start in range(0, len(rows), size):
        yield slice(start, start + size)


def gathered(rows: Array, order_N: Array) -> Array:
    """Return rows in another order, a block at a time."""
    found = empty((len(order_N), *rows.shape[1:]), rows.dtype)
    for part in blocks(found):
        found[part] = rows[order_N[part]]
    return found
