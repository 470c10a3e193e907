"""How far a trial has come: its validation scores after each task, from records or checkpoints."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import median

import numpy as np

import suites
from bench.plan import CellSpec
from bench.results import TIMINGS, Outcome
from bench.store import RunReader
from suites.base import Training

FIRST = 2
"""The number of tasks after which trials are first compared: after one task nothing can be forgotten."""


@dataclass(frozen=True)
class SoFar:
    """Validation scores of a trial, mean over its seeds."""

    after_tasks: list[float]
    """Average accuracy on the tasks so far, after each task that all seeds have learned."""
    steps: int
    """Training steps of all seeds."""


def so_far(cells: Sequence[CellSpec], found: Mapping[str, Outcome], run: RunReader) -> SoFar | None:
    """Return the scores of a trial; None if a seed failed or has nothing yet."""
    parts = [_of_cell(cell, found.get(cell.key), run) for cell in cells]
    known = [part for part in parts if part is not None]
    if len(known) < len(parts):
        return None
    rows = [list(row) for row in zip(*(values for values, _ in known), strict=False)]
    return SoFar([float(np.mean(row)) for row in rows], sum(steps for _, steps in known))


def _of_cell(cell: CellSpec, outcome: Outcome | None, run: RunReader) -> tuple[list[float], int] | None:
    """Return the average score after each task, and the steps, of a cell."""
    if outcome is not None:
        if outcome.status != "done":
            return None
        return _averages(outcome.measured["validation"].value), steps_of(outcome)
    header, rows = run.checkpoints.header(cell.key), run.checkpoints.rows(cell.key)
    if header is None or header.diverged or not rows:
        return None
    values = [np.array(row, dtype=float) for of in rows for row in _validation(of["scores"])]
    suite = suites.get(cell.suite)
    if suite.generates:
        scaled = [(row - suite.score.low) / (suite.score.high - suite.score.low) for row in values]
    else:
        stream = suite.stream(suite.load(), cell.scenario, cell.seed, Training(**cell.training))  # type: ignore[arg-type]
        scaled = [row / [len(task.validation_rows) for task in stream.tasks] for row in values]
    return _averages(np.array(scaled)), int(str(header.clock.get("steps", 0)))


def steps_of(outcome: Outcome) -> int:
    """Return the training steps of a cell."""
    return int(dict(zip(TIMINGS, outcome.numbers, strict=False))["steps"] or 0)


def _validation(scores: Mapping[str, Mapping[str, object]]) -> list[list[float]]:
    """Return the rows of R on validation rows in a checkpoint: counts, or scores of generated text."""
    found: object = scores["right"]["validation"] if "right" in scores else scores["values"]["validation"]
    rows: list[list[float]] = found["value"] if isinstance(found, dict) else found  # type: ignore[assignment]
    return rows


def _averages(R: np.ndarray) -> list[float]:
    """Return the averages that were measured; of a method that learns all tasks at once, the final one."""
    averages = [float(R[i, :i].mean()) for i in range(1, len(R))]
    known = [value for value in averages if np.isfinite(value)]
    return known if averages and np.isfinite(averages[-1]) else []


def worse_than_median(scores: Mapping[int, float]) -> set[int]:
    """Return the trials with less than the median of all; never the defaults, trial 0."""
    middle = median(scores.values()) if scores else 0.0
    return {number for number, score in scores.items() if number and score < middle}
