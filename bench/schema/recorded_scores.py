"""Score matrices of a record, and scores within tasks: as counts, or of generated text."""

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Annotated, Any, Self

from pydantic import Discriminator, Field, Tag, model_validator

from bench.schema.fields import Count, Described

CountRows = list[list[Count | None]]
FloatRows = list[list[float | None]]


class MeasuredRows(Described):
    """The rows of a score matrix R of T tasks: T + 1 rows, after i tasks learned.

    Without ``measured``, each row has an entry for each task. With it, row i only has the entries of the
    tasks in row i of ``measured``, in the same order; all others were not measured.
    """

    measured: list[list[Annotated[int, Field(ge=1)]]] | None = None
    """Tasks, from 1 and ascending, that were measured after i tasks; absent with ``eval=all`` and in earlier
    records."""

    def check_rows(self, name: str, rows: Sequence[Sequence[Any]]) -> None:
        """Raise ValueError if a matrix has other entries than it should have."""
        n_tasks = len(rows) - 1
        if self.measured is None:
            for n, row in enumerate(rows):
                if len(row) != n_tasks:
                    raise ValueError(_shape(f"{name}[{n}]", len(row), len(rows)))
            return
        if [len(row) for row in rows] != [len(tasks) for tasks in self.measured]:
            raise ValueError(f"{name} and measured differ in shape")
        for n, tasks in enumerate(self.measured):
            if any(b <= a for a, b in pairwise([0, *tasks])) or (tasks and tasks[-1] > n_tasks):
                raise ValueError(f"measured[{n}] must be ascending numbers of the {n_tasks} tasks")


def dense_rows(matrix: Mapping[str, Any], name: str) -> list[list[Any]]:
    """Return a matrix of a record with an entry for each task; see ``MeasuredRows``.

    Args:
        matrix: The scores of a record on one split.
        name: ``right``, ``total``, ``value`` or ``chrf``.
    """
    rows: list[list[Any]] = matrix[name]
    if (measured := matrix.get("measured")) is None:
        return rows
    found: list[list[Any]] = [[None] * (len(rows) - 1) for _ in rows]
    for row, tasks, values in zip(found, measured, rows, strict=True):
        for task, value in zip(tasks, values, strict=True):
            row[task - 1] = value
    return found


class Counts(MeasuredRows):
    """A score matrix of accuracies, as counts. Shape (T+1, T): i tasks learned, task j."""

    right: CountRows
    """Number of rows classified correctly; none where it was not measured."""
    total: CountRows
    """Number of rows; none where it was not measured."""

    @model_validator(mode="after")
    def _check(self) -> Self:
        self.check_rows("right", self.right)
        if [len(row) for row in self.right] != [len(row) for row in self.total]:
            raise ValueError("right and total differ in shape")
        for right, total in zip(self.right, self.total, strict=True):
            _check_counts(right, total)
        return self


class GeneratedScores(MeasuredRows):
    """A score matrix of generated text, shape (T+1, T)."""

    value: FloatRows
    """The score of the suite; none where it was not measured."""
    chrf: FloatRows | None = None
    """chrF of the same texts."""
    rows: list[Count] | None = None
    """Number of rows of each task."""

    @model_validator(mode="after")
    def _check(self) -> Self:
        for name, rows in (("value", self.value), ("chrf", self.chrf or self.value)):
            self.check_rows(name, rows)
        if self.chrf is not None and len(self.chrf) != len(self.value):
            raise ValueError("value and chrf differ in shape")
        if self.rows is not None and len(self.rows) != len(self.value) - 1:
            raise ValueError("rows must have one number for each task")
        return self


class TestedFirst(Described):
    """Predictions of the batches of one task, each before it was learned."""

    task: Annotated[int, Field(ge=1)]
    """The task, from 1."""
    right: list[Count]
    """Number of rows of each batch classified correctly."""
    total: list[Count]
    """Number of rows of each batch."""

    @model_validator(mode="after")
    def _check(self) -> Self:
        _check_counts(self.right, self.total)
        return self


class CountsPoint(Described):
    """Validation accuracies within a task, as counts."""

    task: Annotated[int, Field(ge=1)]
    """The task under way, from 1."""
    step: Annotated[int, Field(ge=1)]
    """Steps of that task taken."""
    right: list[Count | None]
    """Number of rows of each task classified correctly."""
    total: list[Count | None]
    """Number of rows of each task."""

    @model_validator(mode="after")
    def _check(self) -> Self:
        if len(self.right) != len(self.total):
            raise ValueError("right and total differ in length")
        _check_counts(self.right, self.total)
        return self


class GeneratedPoint(Described):
    """Validation scores of generated text within a task."""

    task: Annotated[int, Field(ge=1)]
    """The task under way, from 1."""
    step: Annotated[int, Field(ge=1)]
    """Steps of that task taken."""
    value: list[float | None]
    """The score of each task."""
    chrf: list[float | None] | None = None
    """chrF of each task."""


def _shape(what: str, n_columns: int, n_rows: int) -> str:
    return f"{what} has {n_columns} columns, and a matrix of {n_rows} rows has {n_rows - 1}"


def _check_counts(right: Sequence[int | None], total: Sequence[int | None]) -> None:
    for r, t in zip(right, total, strict=True):
        # A task that was not measured can still have rows to measure.
        if r is not None and (t is None or r > t):
            raise ValueError(f"right is {r} of a total of {t}")


def _kind(scores: Any) -> str:
    return "(generated)" if "value" in scores else "(counts)"


Scores = Annotated[
    Annotated[Counts, Tag("(counts)")] | Annotated[GeneratedScores, Tag("(generated)")], Discriminator(_kind)
]
Point = Annotated[
    Annotated[CountsPoint, Tag("(counts)")] | Annotated[GeneratedPoint, Tag("(generated)")],
    Discriminator(_kind),
]


class ScoreKind(Described):
    """The score of a suite that is not accuracy."""

    name: str
    """Name of the score: bleu."""
    low: float
    """Its lower bound."""
    high: float
    """Its upper bound."""
    signature: str | None = None
    """How it was computed, with the version of the package."""
