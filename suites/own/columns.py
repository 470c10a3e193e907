"""The columns of a declared data set as read: words, texts, pixels.

Rows are counted from 1 in messages, without the header, in the order of the file.

Axes: N rows.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from suites.errors import UserError
from suites.own.declaration import Declaration

SPLITS = {
    "train": "train", "training": "train", "validation": "validation", "valid": "validation",
    "val": "validation", "dev": "validation", "test": "test", "testing": "test",
}  # fmt: skip
"""Names of splits."""
_SHOWN = 3


@dataclass
class Column:
    """A column of words: for each row the index of its word, -1 for none."""

    of_N: np.ndarray[Any, np.dtype[np.int64]]
    words: list[str]
    """In order of first appearance."""
    own_order: list[str] | None = None
    """All words in the order that the data set itself gives them; None if it gives none."""


@dataclass
class Table:
    """The columns of a declaration, as read."""

    columns: dict[str, Column]
    """By name."""
    texts: list[str] = field(default_factory=list)
    x_N: np.ndarray[Any, Any] | None = None
    """Pixels (N, channels, height, width) or features (N, 1, 1, D)."""
    given: Column | None = None
    """The split of each row, if the files divide them."""
    where: Callable[[int], str] = lambda row: f"row {row + 1}"
    """Where a row is, counted from 0, in words."""

    def __len__(self) -> int:
        return len(self.texts) if self.x_N is None else len(self.x_N)

    def refuse(self, d: Declaration, rows: Any, what: str) -> None:
        """Raise UserError that names rows, if there are any: their numbers, or a mark of each row."""
        marked = isinstance(rows, np.ndarray) and rows.dtype == bool
        found = [int(row) for row in (np.flatnonzero(rows) if marked else rows)]
        if found:
            shown = ", ".join(self.where(row) for row in found[:_SHOWN])
            more = f" and {len(found) - _SHOWN} more" if len(found) > _SHOWN else ""
            raise UserError(f"{d.place}: {shown}{more}: {what}")


def used_columns(d: Declaration) -> list[str]:
    """Return the columns that a declaration names, without those that the files need not have."""
    named = [*d.text, d.image, d.label_column, d.task, d.split, d.time_column]
    return list(dict.fromkeys(name for name in named if name))


def recoded(of_N: np.ndarray[Any, Any], words: list[str | None]) -> Column:
    """Return a column in which each word has one index, in order of appearance, and an empty one is -1."""
    index: dict[str, int] = {}
    of_word = [-1 if not w else index.setdefault(w, len(index)) for w in words]
    return Column(np.array([*of_word, -1], dtype=np.int64)[of_N], [*index])


def in_parts(sizes: Iterable[int]) -> Callable[[int], tuple[int, int]]:
    """Return a function from a row of joined parts to the number of its part and its row there."""
    starts = np.cumsum([0, *sizes])

    def place(row: int) -> tuple[int, int]:
        part = int(np.searchsorted(starts, row, side="right")) - 1
        return part, row - int(starts[part])

    return place


def as_word(value: Any) -> str | None:
    """Return a value of a table as a word."""
    if value is None or isinstance(value, str):
        return value if value is None or value.strip() else None
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float):
        return None if np.isnan(value) else str(int(value)) if value.is_integer() else repr(value)
    return str(value.isoformat()) if hasattr(value, "isoformat") else str(value)
