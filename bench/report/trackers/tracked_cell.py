"""What a tracker is sent of a cell: its settings, its scores after each task and its final scores.

Axes: i tasks learned, j task.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import numpy as np

from bench.results import SPLITS, Outcome, scores_of

MOST_TASKS = 100
"""Longer streams have no series of their own for each task: they would be a million points."""

Record = dict[str, Any]
"""A cell's record."""
Row = dict[str, float]
"""Numbers by name."""


@dataclass(frozen=True)
class TrackedCell:
    """A cell that has ended."""

    key: str
    place: str
    """Suite and scenario: ``digits/class``."""
    identity: str
    seed: int
    status: str
    why: str
    """The reason of a cell that is not done."""
    ended: float
    """When its record was written, in seconds since 1970."""
    settings: Mapping[str, Any]
    """Settings and provenance, by name."""
    rows: Sequence[Row]
    """After each number of tasks, from 0: scores from 0 to 1, and the mean training loss of the last task."""
    final: Row
    """Every score that is defined for the cell alone, as ``final/NAME``."""

    @property
    def title(self) -> str:
        """Its name: strategy and seed."""
        return f"{self.identity} seed {self.seed}"


def tracked_cell(record: Record, outcome: Outcome) -> TrackedCell:
    """Return what is sent of a record; ``outcome`` is its compact form."""
    spec = record["spec"]
    made, data = record.get("made_by") or {}, record.get("data") or {}
    settings = {name: spec[name] for name in ("suite", "scenario", "strategy", "model", "seed")}
    settings |= {f"{kind}.{name}": value for kind, name, value in outcome.settings}
    settings |= {f"made_by.{name}": made.get(name, "") for name in ("lethe", "commit", "torch", "command")}
    settings |= {"key": record["key"], "data": data.get("fingerprint", "")}
    sizes = {f"resources/{name}": float(n) for name, n in (record.get("resources") or {}).items()}
    scores = scores_of(outcome) if outcome.status == "done" else {}
    written = datetime.fromisoformat(record["written"]).replace(tzinfo=UTC)
    return TrackedCell(
        record["key"],
        f"{spec['suite']}/{spec['scenario']}",
        record["identity"],
        spec["seed"],
        outcome.status,
        outcome.why,
        written.timestamp(),
        settings,
        _rows(outcome, record.get("loss") or []),
        {f"final/{name}": value for name, value in scores.items() if np.isfinite(value)} | sizes,
    )


def _rows(outcome: Outcome, loss: Sequence[float | None]) -> list[Row]:
    """Return the scores after each number of tasks, without those that were not measured."""
    rows: list[Row] = [{} for _ in next(iter(outcome.measured.values())).value] if outcome.measured else []
    for split in SPLITS:
        if split not in outcome.measured:
            continue
        for i, row in enumerate(outcome.measured[split].value):
            if i and np.isfinite(row[:i]).all():
                rows[i][f"{split}/mean"] = float(row[:i].mean())
            if len(row) <= MOST_TASKS:
                found = {f"{split}/task {j:02}": float(value) for j, value in enumerate(row, 1)}
                rows[i] |= {name: value for name, value in found.items() if np.isfinite(value)}
    for i, value in enumerate(loss, 1):
        if value is not None:
            rows[i]["loss"] = value
    return rows
