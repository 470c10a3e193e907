"""Budgets of memory and compute, and their notation: ``memory=2MB``, ``compute=1.5``."""

import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Self

from bench.schema import Value
from suites.errors import UserError, unknown
from suites.values import text_of

KINDS = ("memory", "compute")
_UNITS = {
    "B": 1,
    "kB": 10**3,
    "KB": 10**3,
    "MB": 10**6,
    "GB": 10**9,
    "KiB": 2**10,
    "MiB": 2**20,
    "GiB": 2**30,
}
_SIZE = re.compile(r"(\d+(?:\.\d+)?)\s*([A-Za-z]+)")


@dataclass(frozen=True)
class Budget:
    """What every method of a run may use; None for no limit."""

    memory: int | None = None
    """Bytes that a lane stores besides its model, as the record's ``memory_bytes``."""
    compute: float | None = None
    """Forward and backward passes over rows, as multiples of those of ``finetune``."""

    @classmethod
    def read(cls, given: Iterable[str] | Mapping[str, Value]) -> Self | None:
        """Return the budget of ``["memory=2MB", "compute=1.5"]`` or of a dictionary; None if it is empty.

        Raises:
            UserError: A kind is unknown or given twice, or a value is not a size or a number above 0.
        """
        pairs = [*given.items()] if isinstance(given, Mapping) else [_pair(text) for text in given]
        found: dict[str, int | float] = {}
        for kind, value in pairs:
            if kind not in KINDS:
                raise unknown("kind of budget", str(kind), list(KINDS))
            if kind in found:
                raise UserError(f"the budget of {kind} is given twice")
            found[kind] = _bytes(value) if kind == "memory" else _multiple(value)
        return cls(**found) if found else None  # type: ignore[arg-type]

    def __str__(self) -> str:
        parts = [] if self.memory is None else [f"memory={size_in_words(self.memory)}"]
        return ", ".join(parts + ([] if self.compute is None else [f"compute={text_of(self.compute)}"]))


def size_in_words(size: int) -> str:
    """Return a number of bytes with the largest unit in which it is exact to three digits: 2MB, 1.5kB."""
    for unit in ("GB", "MB", "kB"):
        if size >= _UNITS[unit]:
            number = size / _UNITS[unit]
            return f"{number:.3f}".rstrip("0").rstrip(".") + unit
    return f"{size}B"


def _pair(text: str) -> tuple[str, str]:
    kind, equals, value = text.partition("=")
    if not equals or not value.strip():
        raise UserError(f"cannot read the budget {text!r}; write memory=2MB or compute=1.5")
    return kind.strip(), value.strip()


def _bytes(given: Value) -> int:
    match = _SIZE.fullmatch(str(given).strip())
    if match is None or match[2] not in _UNITS:
        raise UserError(f"memory={given} is not a size; write it like 500kB, 2MB or 1GiB")
    return int(float(match[1]) * _UNITS[match[2]])


def _multiple(given: Value) -> float:
    try:
        found = math.nan if isinstance(given, bool) else float(given)
    except ValueError:
        found = math.nan
    if not 0 < found < math.inf:
        raise UserError(f"compute={given} is not a number above 0; write multiples of finetune, like 1.5")
    return found
