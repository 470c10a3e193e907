"""The parts of a record that reports need, in a tenth of the memory of its dictionary."""

import hashlib
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from pydantic_core import to_json

from bench.plan import Value
from bench.schema import NOT_CONTENT, Fields, dense_rows, failure_in_words
from bench.stats import Matrix
from suites.base import PROPORTION, Score

Setting = tuple[str, str, Value]
"""Kind (hyper, training or model), name and value."""
SPLITS = ("test", "validation")
TIMINGS = (
    "train_seconds", "evaluation_seconds", "samples_per_second", "seconds_per_seed", "steps", "lanes",
    "device", "peak_bytes",
)  # fmt: skip
RESOURCES = ("parameters", "memory_samples", "memory_bytes")
OWN_TERM = "own_term"
"""The largest own term of a task: see ``own_term`` in bench.schema.record."""


class Measured(NamedTuple):
    """R of one cell on one split; matrices are NaN where it was not measured.

    Axes: E entries that the record has, in the order of rows.
    """

    shape: tuple[int, int]
    """That of R, (T+1, T)."""
    right_E: Matrix
    total_E: Matrix
    generated_E: Matrix | None = None
    """The score of generated text, which has no counts; else None."""
    place_E: NDArray[np.intp] | None = None
    """Place of each entry in the flattened matrix; None if the record has them all."""

    @property
    def value_E(self) -> Matrix:
        """The score of each entry, scaled to [0, 1]."""
        if self.generated_E is not None:
            return self.generated_E
        return _ratio(self.right_E, self.total_E)

    @property
    def total(self) -> Matrix:
        """Number of rows."""
        return self._matrix(self.total_E)

    @property
    def value(self) -> Matrix:
        """The score, scaled to [0, 1]."""
        return self._matrix(self.value_E)

    def _matrix(self, values_E: Matrix) -> Matrix:
        if self.place_E is None:
            return values_E.reshape(self.shape)
        found = np.full(self.shape, np.nan)
        found.flat[self.place_E] = values_E
        return found


def _ratio(right: Matrix, total: Matrix) -> Matrix:
    """Return right / total; a task without rows on this split (validation=0) has no score."""
    return np.divide(right, total, out=np.full_like(right, np.nan), where=total > 0)


class Origin(NamedTuple):
    """The provenance of a record."""

    written: str = ""
    code: str = ""
    """Fingerprint of its code; empty in records of earlier versions."""
    commit: str = ""
    """The short revision that made it; empty if it is not recorded."""
    data: str = ""
    weights: str = ""
    """Fingerprints of its data set and of the pretrained model; empty for none."""
    torch: str = ""
    numpy: str = ""
    """Versions of these packages; empty in records of earlier versions."""
    content: bytes = b""
    """Hash of everything except timings and provenance; empty unless requested."""


_NO_ORIGIN = Origin()


@dataclass(slots=True)
class Outcome:
    """One cell."""

    key: str
    identity: str
    """The identity in the spec, with additions of bench.results.merge."""
    status: str
    why: str
    """The reason of a cell that is not done."""
    spec: Fields
    settings: tuple[Setting, ...]
    numbers: tuple[Any, ...]
    """The numbers of TIMINGS, RESOURCES and OWN_TERM, None for those that the record does not have."""
    score: Score
    measured: dict[str, Measured]
    """By split; of done and diverged cells."""
    chrf: Sequence[Sequence[float | None]] = ()
    outside: Sequence[float | None] = ()
    curves: list[tuple[int, int, Any]] = field(default_factory=list)
    """Current task, step, and the score on each task."""
    tested: list[tuple[int, int]] = field(default_factory=list)
    """Correct predictions and rows of each batch before it was learned."""
    notes: dict[str, NDArray[np.float64]] = field(default_factory=dict)
    origin: Origin = _NO_ORIGIN
    label: str = ""
    """Label of its run."""

    @property
    def row(self) -> tuple[str, str, str]:
        """The row of a table to which it belongs: suite, scenario and strategy."""
        return self.spec["suite"], self.spec["scenario"], self.identity

    @property
    def title(self) -> str:
        """The cell in words."""
        return f"{' '.join(self.row)} seed {self.spec['seed']}"

    @property
    def has_result(self) -> bool:
        """Whether it is done or diverged."""
        return self.status in ("done", "diverged")


def outcomes(compared: bool = False) -> Callable[[Fields], Outcome]:
    """Return a function that makes outcomes from records; equal parts share one object.

    With ``compared``, outcomes contain the hash of each record's content.
    """
    known: dict[Any, Any] = {}

    def one(part: Any) -> Any:
        return known.setdefault(repr(part), part)

    def outcome(record: Fields) -> Outcome:
        spec, error, score = record["spec"], record["error"], one(_score(record))
        kinds = {"hyper": spec["hyper"], "training": spec["training"], "model": spec["model_options"]}
        timings, resources = record.get("timings") or {}, record.get("resources") or {}
        measured = {split: _measured(record[split], score) for split in SPLITS if record.get(split)}
        for split, found in measured.items():
            shared = {name: getattr(found, name) for name in ("total_E", "place_E")}
            alike = {k: known.setdefault((k, v.tobytes()), v) for k, v in shared.items() if v is not None}
            measured[split] = found._replace(**alike)
        return Outcome(
            record["key"],
            record["identity"],
            record["status"],
            record["reason"] or (failure_in_words(error) if error else ""),
            {name: one(value) if isinstance(value, dict) else value for name, value in spec.items()},
            one(tuple((kind, name, value) for kind, of in kinds.items() for name, value in of.items())),
            (*map(timings.get, TIMINGS), *map(resources.get, RESOURCES), _own_term(record)),
            score,
            measured,
            dense_rows(record["test"], "chrf") if (record.get("test") or {}).get("chrf") else (),
            record.get("outside") or (),
            [(p["task"], p["step"], _point(p, score)) for p in record.get("curves", ())],
            [
                pair
                for of in record.get("prequential", ())
                for pair in zip(of["right"], of["total"], strict=True)
            ],
            {name: np.array(note, dtype=float) for name, note in record.get("notes", {}).items()},
            _origin(record)._replace(content=_content(record) if compared else b""),
        )

    return outcome


def _own_term(record: Fields) -> float | None:
    return max((share for share in record.get(OWN_TERM) or () if share is not None), default=None)


def _origin(record: Fields) -> Origin:
    made, data = record.get("made_by") or {}, record.get("data") or {}
    commit = f"{made['commit'][:10]}{'-dirty' if made['dirty'] else ''}" if made.get("commit") else ""
    code, weights = made.get("code", ""), data.get("model") or ""
    texts = code, commit, data.get("fingerprint", ""), weights, made.get("torch", ""), made.get("numpy", "")
    return Origin._make((record["written"], *map(sys.intern, texts), b""))  # thousands share these texts


def _content(record: Fields) -> bytes:
    """Return a hash of the deterministic content of a record, independent of the order of fields."""
    content = {k: v for k, v in record.items() if k not in (*NOT_CONTENT, "identity")}
    # An identity depends on other cells of the run; an exported model is identified by its hash.
    aside = ("identity", "model") if content["spec"].get("continues") else ("identity",)
    content["spec"] = {k: v for k, v in content["spec"].items() if k not in aside}
    return hashlib.blake2b(to_json(_sorted(content)), digest_size=16).digest()


def _sorted(content: Any) -> Any:
    """Return fields sorted by name, without those that are None."""
    if not isinstance(content, dict):
        return content
    return {k: _sorted(content[k]) for k in sorted(content) if content[k] is not None}


def score_matrix(record: Fields, split: str = "test") -> Matrix:
    """Return R of a record, scaled to [0, 1]; NaN where it was not measured."""
    return _measured(record[split], _score(record)).value


def _score(record: Fields) -> Score:
    """Return the score of a record, accuracy if it names none."""
    own = record.get("score")
    return PROPORTION if own is None else Score(own["name"], own["low"], own["high"])


def _measured(found: Fields, score: Score) -> Measured:
    """Return the scores of a record on one split."""
    rows = found["value" if "value" in found else "right"]
    shape, place_E = (len(rows), len(rows) - 1), None
    if (measured := found.get("measured")) is not None:
        places = [i * shape[1] + task - 1 for i, tasks in enumerate(measured) for task in tasks]
        place_E = np.array(places, dtype=np.intp)

    def entries(name: str) -> Matrix:
        return np.array([value for row in found[name] for value in row], dtype=float)

    if "value" in found:
        value_E = _scaled(entries("value"), score)
        none_E = np.full_like(value_E, np.nan)
        return Measured(shape, none_E, none_E, value_E, place_E)
    return Measured(shape, entries("right"), entries("total"), None, place_E)


def _point(found: Fields, score: Score) -> Matrix:
    """Return the scores of all tasks at a point of a curve, scaled to [0, 1]."""
    if "value" in found:
        return _scaled(np.array(found["value"], dtype=float), score)
    return _ratio(*(np.array(found[name], dtype=float) for name in ("right", "total")))


def _scaled(value: Matrix, score: Score) -> Matrix:
    return (value - score.low) / (score.high - score.low)
