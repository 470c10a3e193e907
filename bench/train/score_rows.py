"""The rows of a score matrix of one lane, of which the setting ``eval`` may leave entries out."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from bench.plan import Fields
from suites.base import Training

Row = list[Any]
"""Numbers, None where there is none."""


@dataclass
class ScoreRows:
    """The measured entries of one matrix: memory grows with them, not with the square of the tasks."""

    training: Training
    n_tasks: int
    rows: dict[int, Row] = field(default_factory=dict)
    """By the number of tasks learned, the entries of the tasks that ``eval`` scores then."""

    def written(self, first: int, end: int) -> list[Row]:
        """Return rows ``first`` to ``end`` (exclusive); one that was not measured is empty, or, with
        ``eval=all``, None for every task."""
        width = self.n_tasks if self.training.eval == "all" else 0
        return [self.rows.get(row, [None] * width) for row in range(first, end)]

    def load(self, first: int, rows: Sequence[Row]) -> None:
        """Add rows from ``first`` on, as ``written`` returned them."""
        self.rows |= {first + n: row for n, row in enumerate(rows) if row}

    def record(self, name: str, **of_tasks: Sequence[int]) -> Fields:
        """Return the matrix as in records: ``bench.schema.record.MeasuredRows``.

        Args:
            name: Name of its field.
            of_tasks: Matrices with the same entries that only depend on the task, by name.
        """
        matrix, scored = self.written(0, self.n_tasks + 1), []
        for row, values in enumerate(matrix):
            scored.append(self.training.scored_after(row, self.n_tasks) if values else range(0))
        found: Fields = {name: matrix}
        for other, numbers in of_tasks.items():
            found[other] = [
                [None if value is None else numbers[task] for value, task in zip(values, tasks, strict=True)]
                for values, tasks in zip(matrix, scored, strict=True)
            ]
        if self.training.eval != "all":
            found["measured"] = [[task + 1 for task in tasks] for tasks in scored]
        return found
