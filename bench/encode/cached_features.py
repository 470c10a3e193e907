"""Features in a memory-mapped file of the cache folder."""

from collections.abc import Callable
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from suites.cache import cache_folder, is_cached, write_cached

Said = Callable[[str], None]


def cached(key: str, compute: Callable[[], Tensor]) -> Tensor:
    """Return features, float32 (N, F), from the file of a key; compute and save them if there is none."""
    path = cache_folder() / f"features-{key}.npy"
    if not is_cached(path):
        found = compute()
        array_NF = found.numpy()
        write_cached(path, lambda file: np.save(file, array_NF))
        if not path.is_file():  # it cannot be written
            return found
    return _opened(path, path.stat().st_mtime_ns)


@lru_cache(1)
def _opened(path: Path, _modified: int) -> Tensor:
    """Return the features in a file; the same tensor for one group after the other."""
    # Copy on write: torch needs a writable array, although nothing is written.
    return torch.from_numpy(np.load(path, mmap_mode="c", allow_pickle=False))
