"""The record of a cell: its specification, how it ended, and everything that was measured."""

import hashlib
import json
from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import Field, model_validator
from typing_extensions import TypeAliasType

from bench.schema.fields import CheckedFile, Count, Described, Fields, Key, Name, Unreadable, Value
from bench.schema.recorded_scores import (
    Counts,
    CountsPoint,
    GeneratedScores,
    Point,
    ScoreKind,
    Scores,
    TestedFirst,
)

Status = Literal["done", "failed", "diverged", "skipped"]
Numbers = TypeAliasType("Numbers", "float | list[Numbers] | None")
"""A number, none, or nested lists of them."""


def cell_key(spec: Mapping[str, Any]) -> str:
    """Return the key of a cell: a hash of the fields of its spec that change its result.

    The identity follows from the other fields. An exported model is identified by its fingerprint, not its
    folder.
    """
    passed_over = ("identity", "model" if spec.get("continues") else "continues")
    return digest({name: value for name, value in spec.items() if name not in passed_over})


def digest(content: Fields) -> str:
    """Return a hash of JSON content, 20 hexadecimal digits; the order of names does not matter."""
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:20]


NOT_CONTENT = ("schema", "written", "timings", "made_by", "has_classes", "own_term")
"""Fields that are not compared when a cell is run again: they differ, or, as ``own_term``, a later version
added them beside the results, so that records of earlier versions have none. All others are deterministic."""


def differing_fields(a: Fields, b: Fields) -> list[str]:
    """Return the names of the fields in which two records differ, sorted, without timings and provenance.

    An absent field and an empty one are equal.
    """
    names = sorted((a.keys() | b.keys()).difference(NOT_CONTENT))
    return [name for name in names if (a.get(name) or None) != (b.get(name) or None)]


class Spec(Described):
    """The specification of a cell: everything that changes its result."""

    suite: Name
    """Name of the suite."""
    suite_version: int
    """Version of the suite."""
    scenario: Name
    """task, domain, class or online."""
    strategy: Name
    """Name of the strategy; the parts of a sum are joined by ``+``."""
    hyper: dict[str, Value]
    """Hyper-parameters of the strategy, defaults included. Here and below, settings that newer versions added
    are omitted at their defaults."""
    model: Name
    """Name of the model, or folder of an exported one."""
    model_options: dict[str, Value]
    """Options of the model."""
    training: dict[str, Value]
    """Training settings."""
    seed: Count
    """The seed of every random draw."""
    identity: Name
    """The canonical selector: strategy and hyper-parameters that differ from the defaults."""
    continues: str | None = None
    """SHA-256 of the exported model that learning continues from; absent for none."""


class Failure(Described):
    """Why a cell failed."""

    kind: str
    """Name of the exception."""
    message: str
    """Its first line."""
    traceback: str = ""
    """The calls that led to it."""
    where: str = ""
    """File and line that raised it, of the user if possible; empty in older records, and if the message names
    them."""


def failure_in_words(error: Mapping[str, Any]) -> str:
    """Return why a cell failed, in one line with file and line; ``error`` is a ``Failure`` of a record."""
    where = error.get("where") or ""
    return ": ".join(filter(None, [error["kind"], error["message"]])) + (f" ({where})" if where else "")


class Timings(Described):
    """Non-deterministic fields; everything else is equal when a cell is run again."""

    train_seconds: float
    """Seconds of training, of all lanes of the group together."""
    evaluation_seconds: float
    """Seconds of scoring, of all lanes together."""
    first_steps_seconds: float
    """Seconds of the first steps of each task, which are slower; part of training."""
    samples_per_second: float
    """Samples of all lanes per second, from the eleventh step of each task to its end; of all training if no
    task has more than ten steps."""
    tokens_per_second: float | None = None
    """Tokens of all lanes per second, without padding, over the same steps; for texts."""
    padding_share: float | None = None
    """Share of padding in the tokens; for texts."""
    steps: Count
    """Number of steps."""
    steady_steps: Count | None = None
    """Number of steps that the two rates are measured over; 0 if over all training. Absent in older records,
    whose rates are wrong for short tasks."""
    seconds_per_seed: float
    """Seconds of training and scoring, divided by the number of lanes."""
    lanes: Annotated[int, Field(ge=1)]
    """Number of lanes of the group."""
    device: str
    """Name of the device."""
    peak_bytes: Count
    """Largest memory use: of the group, by the GPU's allocator; on a CPU, of the process."""
    replayed_steps: Count | None = None
    """Number of steps on a GPU that were replays of a captured one; absent on a CPU and in older records."""
    not_replayed: str | None = None
    """Why the steps of the last task were taken one by one; absent if they were replayed."""


class Resources(Described):
    """Size of model and memory of a cell."""

    parameters: Count
    """Number of parameters of one lane's model."""
    memory_samples: Count
    """Number of data rows in the lane's replay memory after the last task."""
    memory_bytes: Count
    """Bytes that the method stores beside the model, rows as copies: see "memory" in docs/glossary.md."""


class DataSource(Described):
    """The data set of a cell."""

    name: str
    """Name of the data set."""
    fingerprint: str
    """SHA-256 of the data set."""
    model: str | None = None
    """Fingerprint of the pretrained model (and tokenizer); absent for random initial weights."""


class MadeBy(Described):
    """Provenance of a record. It differs when a cell is run again, as timings do."""

    code: str
    """Fingerprint of the source files that its numbers depend on; the manifest's ``code`` lists them."""
    lethe: str
    """Version of Lethe."""
    commit: str
    """Revision of the checkout that Lethe ran from; empty for none."""
    dirty: bool
    """Whether that checkout's packages had changes."""
    torch: str
    """Version of torch."""
    numpy: str
    """Version of numpy."""
    began: str
    """When its group started, or continued from a checkpoint, in UTC."""
    ended: str
    """When its group ended, in UTC."""
    command: str
    """The command, as it was typed."""
    check: str = ""
    """The check that a method of a user's file passed before it ran; empty for none."""


class CellRecord(CheckedFile):
    """One cell: a line of ``cells/*.jsonl``.

    Version 3 has ``made_by``, version 2 ``written``; version 1 was a file ``cells/<key>.json`` for each cell.
    """

    VERSION: ClassVar[int] = 3

    key: Key
    """Name of the cell: the hash of its spec."""
    written: str
    """When it was written, in UTC, to the microsecond; of several records of a cell the latest is used. Empty
    in records of version 1."""
    spec: Spec
    """The specification of the cell."""
    identity: str
    """The canonical selector, as in the spec."""
    status: Status
    """How it ended."""
    reason: str | None
    """Why it was skipped, or diverged."""
    error: Failure | None
    """Why it failed."""
    test: Scores | None = None
    """R on test rows, for done and diverged cells."""
    validation: Scores | None = None
    """R on validation rows, for done and diverged cells."""
    outside: list[Annotated[float, Field(ge=0, le=1)] | None] | None = None
    """After i tasks, how well confidence separates rows of the classes so far from rows of no class (area
    under the ROC curve), for suites that have such rows."""
    curves: list[Point] = []
    """Validation scores within tasks, if ``score_every`` is set."""
    score: ScoreKind | None = None
    """The score of the suite; absent for accuracy."""
    prequential: list[TestedFirst] = []
    """Predictions of each batch before it was learned, if ``prequential`` is set."""
    loss: list[float | None] | None = None
    """Mean training loss of each task."""
    own_term: list[Annotated[float, Field(ge=0)] | None] | None = None
    """Norm of the gradient of the method's own term (``extra_loss``, or what ``adjust_gradients`` adds),
    divided by that of the rest of the gradient, both summed over a few steps of each task; none for a task
    where nothing was measured. Absent for methods without such a term and in earlier records."""
    timings: Timings | None = None
    """Seconds, speed and memory."""
    resources: Resources | None = None
    """Size of model and memory."""
    one_by_one: str = ""
    """Why the lanes of a user's network were computed one after the other; absent if they were stacked."""
    data: DataSource | None = None
    """The data set it was trained on."""
    notes: dict[str, Numbers] = {}
    """Numbers that the method recorded about itself."""
    made_by: MadeBy | None = None
    """Its provenance; none in records of versions 1 and 2."""
    has_classes: bool = False
    """Whether confusion counts were written with it: without them, its cell is run again. Absent in earlier
    records."""

    @classmethod
    def upgrade(cls, content: Fields) -> Fields:
        """Convert versions 1 (without ``written``) and 2 (without ``made_by``)."""
        return {"written": "", "made_by": None, **super().upgrade(content)}

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.identity != self.spec.identity:
            raise ValueError(f"identity is {self.identity}, not that of its spec, {self.spec.identity}")
        if self.status == "failed" and self.error is None:
            raise ValueError("a failed cell must have an error")
        if self.status in ("skipped", "diverged") and self.reason is None:
            raise ValueError(f"a {self.status} cell must have a reason")
        if self.status in ("done", "diverged"):
            if self.test is None or self.validation is None:
                raise ValueError(f"a {self.status} cell must have test and validation scores")
            rows = {len(s.right if isinstance(s, Counts) else s.value) for s in (self.test, self.validation)}
            if len(rows) > 1:
                raise ValueError("test and validation differ in their number of tasks")
            (n_rows,) = rows
            if self.outside is not None and len(self.outside) != n_rows:
                raise ValueError("outside must have a number for each row of R")
            if self.loss is not None and len(self.loss) != n_rows - 1:
                raise ValueError("loss must have a number for each task")
            if self.own_term is not None and len(self.own_term) != n_rows - 1:
                raise ValueError("own_term must have a number for each task")
            for point in self.curves:
                values = point.right if isinstance(point, CountsPoint) else point.value
                if len(values) != n_rows - 1 or point.task >= n_rows:
                    raise ValueError(f"curves must have the {n_rows - 1} tasks of test")
            generated = isinstance(self.test, GeneratedScores)
            if generated != isinstance(self.validation, GeneratedScores) or generated != bool(self.score):
                raise ValueError("test, validation and score must be of one kind")
        return self

    @classmethod
    def read(cls, content: Any) -> tuple[Self, Fields]:
        """Validate a record and its key; see FileModel.read."""
        model, fields = super().read(content)
        if cell_key(fields["spec"]) != model.key:
            raise Unreadable("its key does not match its spec")
        return model, fields


class ClassCounts(CheckedFile):
    """The confusion counts of one cell: a line of ``classes/*.jsonl``.

    Version 2 has ``written``; version 1 was a file ``classes/<key>.json`` for each cell.
    """

    VERSION: ClassVar[int] = 2

    key: Key
    """Name of the cell."""
    written: str
    """As in the record that it belongs to."""
    units: list[str]
    """Name of each unit of the head."""
    test: list[Annotated[list[Count], Field(min_length=5, max_length=5)]]
    """Rows of [i, j, true unit, predicted unit, count]: i tasks learned, task j from 1; counts above 0."""
    validation: list[Annotated[list[Count], Field(min_length=5, max_length=5)]]
    """The same on validation rows."""

    @classmethod
    def upgrade(cls, content: Fields) -> Fields:
        """Convert version 1 (without ``written``)."""
        return {"written": "", **super().upgrade(content)}

    @model_validator(mode="after")
    def _check(self) -> Self:
        n_units = len(self.units)
        for rows in (self.test, self.validation):
            for _, _, true, answered, _ in rows:
                if true >= n_units or answered >= n_units:
                    unit = max(true, answered)
                    raise ValueError(f"a count is of unit {unit}, and there are {n_units} units")
        return self
