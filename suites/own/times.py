"""Dates and other times: bins of tasks, and test rows that are later than training rows.

Axes: N rows.
"""

import math
import re
from datetime import UTC, date, datetime
from typing import Any

import numpy as np

from suites.errors import UserError
from suites.own.columns import Column, Table, recoded
from suites.own.declaration import BINS, Declaration


def times_of(d: Declaration, table: Table) -> np.ndarray[Any, Any]:
    """Return the time of each row as a number: seconds of a date, or the number itself."""
    column = table.columns[d.time_column]
    table.refuse(d, column.of_N < 0, f"{d.time_column} is missing")
    found = [_date(word) for word in column.words]
    if None in found:
        numbers = [_number(word) for word in column.words]
        if None in numbers:
            unread = [n for n, both in enumerate(zip(found, numbers, strict=True)) if both == (None, None)]
            unread = unread or [n for n, value in enumerate(found) if value is None]
            what = f"{d.time_column} is {column.words[unread[0]]!r}, not a date like 2024-05-31"
            table.refuse(d, np.isin(column.of_N, unread), what)
        if d.bins in BINS:
            what = f"{d.time_column} is {column.words[0]}, and a {d.bins} needs dates like 2024-05-31"
            table.refuse(d, column.of_N == 0, what)
        found = numbers
    times: np.ndarray[Any, Any] = np.array(found, dtype=np.float64)[column.of_N]
    return times


def _date(word: str) -> float | None:
    """Return a date or time as seconds since 1970 in UTC; None for anything else."""
    if re.fullmatch(r"\d{4}(-\d{2})?", word):
        word += "-01-01"[len(word) - 4 :]
    try:
        if re.fullmatch(r"(?!19|20)\d+", word):
            return None
        at = datetime.fromisoformat(word)
        return (at if at.tzinfo else at.replace(tzinfo=UTC)).timestamp()
    except ValueError:
        return None


def _number(word: str) -> float | None:
    try:
        value = float(word)
        return value if math.isfinite(value) else None
    except ValueError:
        return None


def binned(d: Declaration, column: Column, times: np.ndarray[Any, Any]) -> Column:
    """Return the bin of each row, in order of time; bins without rows are left out."""
    instants, of_N, counts = np.unique(times, return_inverse=True, return_counts=True)
    if d.bins.isdigit():
        # Equal numbers of rows, except that rows of one instant stay together.
        part = np.minimum((np.cumsum(counts) - counts) * int(d.bins) // len(times), int(d.bins) - 1)
        shown = {t: column.words[n] for t, n in zip(times.tolist(), column.of_N.tolist(), strict=True)}
        parts, part = np.unique(part, return_inverse=True)
        ends = [instants[part == p][[0, -1]].tolist() for p in range(len(parts))]
        names = [shown[a] if a == b else f"{shown[a]} to {shown[b]}" for a, b in ends]
        return Column(part[of_N], names)
    return recoded(of_N, [_bin(datetime.fromtimestamp(t, UTC).date(), d.bins) for t in instants.tolist()])


def _bin(day: date, kind: str) -> str:
    if kind == "week":
        year, week, _ = day.isocalendar()
        return f"{year}-W{week:02}"
    quarter = f"{day.year}-Q{(day.month + 2) // 3}"
    return {"year": f"{day.year}", "quarter": quarter, "month": f"{day:%Y-%m}", "day": f"{day}"}[kind]


def tested_by_time(d: Declaration, times: np.ndarray[Any, Any], task: Column | None) -> np.ndarray[Any, Any]:
    """Return which rows are for testing by their time: from an instant on, or the last of each task."""
    if d.test_from:
        start = _date(d.test_from)
        start = _number(d.test_from) if start is None else start
        if start is None:
            raise UserError(f"{d.place}: test_from is {d.test_from!r}, not a date like 2024-05-31")
        return times >= start
    is_test = np.zeros(len(times), dtype=bool)
    of_N = np.zeros(len(times), dtype=np.int64) if task is None else task.of_N
    for t in np.unique(of_N):
        rows = np.flatnonzero(of_N == t)
        n = max(1, round(len(rows) * d.test_last))
        # Rows of one instant stay together, so that all training rows are earlier than all test rows.
        is_test[rows] = times[rows] >= np.sort(times[rows])[-n]
    return is_test
