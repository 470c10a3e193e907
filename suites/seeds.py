"""Random numbers of a seed: a generator for each axis, so that no draw changes another."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # torch takes seconds to import
    import torch


def generator(seed: int, name: str) -> torch.Generator:
    """Return a CPU generator for one random axis of one seed.

    Args:
        seed: The seed of the stream.
        name: Name of the axis: ``"classes"``, ``"validation"`` ...; equal names draw equal numbers.
    """
    import torch

    return torch.Generator().manual_seed(derive(seed, name))


def derive(seed: int, name: str) -> int:
    """Return a 63-bit seed from a seed and the name of an axis, so that axes are independent."""
    return int.from_bytes(hashlib.sha256(f"{seed}/{name}".encode()).digest()[:8], "big") >> 1
