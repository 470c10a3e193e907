"""A run as tidy pandas frames."""

import gc
from collections.abc import Container, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import cache, cached_property
from pathlib import Path
from typing import Any, Self

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from bench.results.merge import merge
from bench.schema import Fields, Manifest, Metadata
from bench.stats import Matrix, all_scores
from suites.base import PROPORTION, Score

Counts = dict[str, dict[str, tuple[Matrix, Matrix, Matrix]]]
"""For each split and cell: right, total and value."""
CELL = ["suite", "scenario", "strategy", "identity", "seed", "key"]
"""What names a cell in every frame."""
_SETTING_COLUMNS = [*CELL, "kind", "setting", "value"]
_NOTE_COLUMNS = [*CELL, "note", "row", "step", "value"]


@dataclass(frozen=True)
class Matrices:
    """R of every cell, on both splits."""

    names: list[dict[str, Any]]
    """What names each cell in every frame."""
    counts: Counts

    def only(self, keys: Container[str]) -> "Matrices":
        """Return those of some cells, without the others: parts of a report are sent to other processes."""
        counts = {
            split: {k: v for k, v in found.items() if k in keys} for split, found in self.counts.items()
        }
        return Matrices([name for name in self.names if name["key"] in keys], counts)

    def on(self, split: str) -> "Matrices":
        """Return those of one split."""
        return Matrices(self.names, {split: self.counts.get(split, {})})

    def frame(self) -> pd.DataFrame:
        """Return one row per cell, split, i and j."""
        parts = []
        for name in self.names:
            for split, found in self.counts.items():
                if name["key"] in found:
                    right, total, value = found[name["key"]]
                    i, j = _places(right.shape)
                    arrays = {"i": i, "j": j, "right": right.ravel(), "total": total.ravel()}
                    parts.append((name | {"split": split}, {**arrays, "value": value.ravel()}))
        return _joined(parts, [*CELL, "split", "i", "j", "right", "total", "value"])


@dataclass
class Frames:
    """What ``load`` returns."""

    folder: Path
    cells: pd.DataFrame
    """One row per cell: status, reason, timings, resources."""
    scores: pd.DataFrame
    """One row per cell and score: ``score``, ``value``; done cells only, NaN where it is not defined."""
    curves: pd.DataFrame
    """One row per cell, task under way, step and j: ``value`` on validation rows."""
    manifest: Manifest = field(default_factory=Manifest.empty)
    unreadable: list[str] = field(default_factory=list)
    settings: pd.DataFrame = field(default_factory=lambda: pd.DataFrame(columns=_SETTING_COLUMNS))
    """One row per cell and setting: ``kind`` (hyper, training or model), ``setting``, ``value``."""
    notes: pd.DataFrame = field(default_factory=lambda: pd.DataFrame(columns=_NOTE_COLUMNS))
    """What methods noted of their own doing, one row per cell, note, row and step: ``value``. Steps are the
    last axis of what was noted, rows the axes before it; both count from 1."""
    folders: tuple[Path, ...] = ()
    """The runs that were read, where results class by class lie; see bench.results.per_class."""
    declared: dict[str, Score | None] = field(default_factory=dict)
    """What each suite with a done cell scores; None where its records differ in that."""
    measured: Matrices = field(default_factory=lambda: Matrices([], {}))
    """What ``matrix`` is made of, when it is asked for: of a hundred thousand cells it is a gigabyte."""

    @cached_property
    def matrix(self) -> pd.DataFrame:
        """One row per cell, split, i and j: ``right``, ``total``, ``value``; i tasks learned, j from 1.

        A score that is no proportion has no ``right`` and ``total``, and its ``value`` is where it lies
        between its bounds: 0.25 for a BLEU of 25. In percent, as reports print it, that is BLEU as it is.
        """
        return self.measured.frame()

    def score_of(self, suite: str) -> Score | None:
        """Return what a suite scores, None where its records differ."""
        return self.declared.get(suite, PROPORTION)

    @property
    def described(self) -> dict[str, Metadata]:
        """What strategies say of themselves, by name; empty for a run made before manifests had it."""
        return self.manifest.strategies

    @property
    def score(self) -> Score | None:
        """Return what all suites here score, None where they differ."""
        found = {self.declared[s] for s in self.cells["suite"].unique() if s in self.declared}
        return found.pop() if len(found) == 1 else None if found else PROPORTION

    def only(self, cells: pd.DataFrame) -> Self:
        """Return these cells, which are rows of ``cells``, in every frame."""
        keys = set(cells["key"])
        frames = {name: getattr(self, name) for name in ("scores", "curves", "settings", "notes")}
        own: dict[str, Any] = {name: frame[frame["key"].isin(keys)] for name, frame in frames.items()}
        return replace(self, cells=cells, measured=self.measured.only(keys), **own)


def load(folder: str | Path, *more: str | Path) -> Frames:
    """Read the records of one or several runs.

    A cell that is in several counts once. Raises UserError for a folder that is no run, and for runs that saw
    different data under one name.
    """
    folders = [Path(f) for f in (folder, *more)]
    with _without_collection():
        records, manifest, unreadable = merge(folders)
        return replace(tidy(records, folders[0], manifest, unreadable), folders=tuple(folders))


@contextmanager
def _without_collection() -> Iterator[None]:
    """Keep the garbage collector from walking again and again through millions of lists, all in use."""
    was = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was:
            gc.enable()


def tidy(
    records: list[Fields],
    folder: Path = Path(),
    manifest: Manifest | None = None,
    unreadable: Sequence[str] = (),
) -> Frames:
    """Return records as frames."""
    counts = {split: _counts(records, split) for split in ("test", "validation")}
    return Frames(
        folder=folder,
        cells=pd.DataFrame([_cell(r) for r in records], columns=_CELL_COLUMNS),
        scores=_scores(records, counts),
        measured=Matrices([_name(r) for r in records], counts),
        curves=_curves(records),
        manifest=manifest or Manifest.empty(),
        unreadable=list(unreadable),
        settings=_settings(records),
        notes=_notes(records),
        declared=_declared(records),
    )


def _declared(records: list[Fields]) -> dict[str, Score | None]:
    """Return each suite's score: a record names one that is no proportion."""
    found: dict[str, set[Score]] = {}
    for record in records:
        if record["status"] == "done":
            own = record.get("score")
            score = PROPORTION if own is None else Score(own["name"], own["low"], own["high"])
            found.setdefault(record["spec"]["suite"], set()).add(score)
    return {suite: scores.pop() if len(scores) == 1 else None for suite, scores in found.items()}


_TIMINGS = [
    "train_seconds", "evaluation_seconds", "samples_per_second", "seconds_per_seed", "steps", "lanes",
    "device", "peak_bytes",
]  # fmt: skip
_RESOURCES = ["parameters", "memory_samples", "memory_bytes"]
_CELL_COLUMNS = [*CELL, "status", "why", *_TIMINGS, *_RESOURCES]


def _name(record: Fields) -> dict[str, Any]:
    # An identity can be more than its spec's: see bench.results.merge.
    named = {**record["spec"], "identity": record["identity"], "key": record["key"]}
    return {name: named[name] for name in CELL}


def _cell(record: Fields) -> dict[str, Any]:
    error = record["error"]
    why = record["reason"] or (f"{error['kind']}: {error['message']}" if error else "")
    timings, resources = record.get("timings", {}), record.get("resources", {})
    numbers = {k: timings.get(k) for k in _TIMINGS} | {k: resources.get(k) for k in _RESOURCES}
    return {**_name(record), "status": record["status"], "why": why, **numbers}


def score_matrix(record: Fields, split: str = "test") -> Matrix:
    """Return R of a record, NaN where it was not measured; in [0, 1] whatever the score."""
    if "value" in record[split]:
        return _between_bounds(record, record[split]["value"])
    return _value(*(np.array(record[split][k], dtype=float) for k in ("right", "total")))


def _between_bounds(record: Fields, values: Any) -> Matrix:
    """Return where values of a record's score lie between its bounds."""
    low, high = record["score"]["low"], record["score"]["high"]
    return np.asarray((np.array(values, dtype=float) - low) / (high - low))


def _value(right: Matrix, total: Matrix) -> Matrix:
    # A task without rows on this split (validation=0) has no score.
    return np.divide(right, total, out=np.full_like(right, np.nan), where=total > 0)


def _counts(records: list[Fields], split: str) -> dict[str, tuple[Matrix, Matrix, Matrix]]:
    """Return right, total and value of every record that has them, converted many at a time."""
    by_tasks: dict[int, list[Fields]] = {}
    found: dict[str, tuple[Matrix, Matrix, Matrix]] = {}
    for record in records:
        if "value" in record.get(split, {}):
            value = score_matrix(record, split)
            found[record["key"]] = np.full_like(value, np.nan), np.full_like(value, np.nan), value
        elif split in record:
            by_tasks.setdefault(len(record[split]["right"]), []).append(record)
    for alike in by_tasks.values():
        right, total = (np.array([r[split][k] for r in alike], dtype=float) for k in ("right", "total"))
        value = _value(right, total)
        found |= {r["key"]: (right[n], total[n], value[n]) for n, r in enumerate(alike)}
    return found


def _scores(records: list[Fields], counts: Counts) -> pd.DataFrame:
    done = [r for r in records if r["status"] == "done"]
    matrices, validation = ({k: c[2] for k, c in counts[s].items()} for s in ("test", "validation"))
    references: dict[tuple[Any, ...], list[Fields]] = {}
    for record in done:
        if record["spec"]["identity"] == "cumulative":
            references.setdefault(_stream(record), []).append(record)
    rows: dict[str, list[Any]] = {name: [] for name in [*CELL, "score", "value"]}
    for record in done:
        curves = [(c["task"], _point(record, c)) for c in record.get("curves", [])]
        reference = _reference(record, references.get(_stream(record), []))
        R_reference = None if reference is None else matrices[reference["key"]]
        more = validation[record["key"]], record.get("outside", ()), record["test"].get("chrf", ())
        values = all_scores(matrices[record["key"]], R_reference, curves, *more)
        for key, value in _name(record).items():
            rows[key] += [value] * len(values)
        rows["score"] += values
        rows["value"] += values.values()
    return pd.DataFrame(rows)


def _stream(record: Fields) -> tuple[Any, ...]:
    """Return what a cell must share with the ``cumulative`` that it is compared with."""
    spec = record["spec"]
    return spec["suite"], spec["scenario"], spec["model"], spec["seed"]


def _reference(record: Fields, found: list[Fields]) -> Fields | None:
    """Return the ``cumulative`` to compare with: of several, the one that was trained alike."""
    if len(found) > 1:
        found = [r for r in found if r["spec"]["training"] == record["spec"]["training"]]
    return found[0] if len(found) == 1 else None


@cache
def _places(shape: tuple[int, ...]) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Return i and j of a matrix laid out flat; j counts from 1."""
    i, j = np.indices(shape)
    return i.ravel(), j.ravel() + 1


def _point(record: Fields, point: Fields) -> Any:
    """Return the scores of all tasks inside a task, NaN for a task without rows."""
    if "value" in point:
        return _between_bounds(record, point["value"])
    return _value(np.array(point["right"], dtype=float), np.array(point["total"], dtype=float))


def _curves(records: list[Fields]) -> pd.DataFrame:
    parts = []
    for record in records:
        for point in record.get("curves", []):
            value = _point(record, point)
            name = _name(record) | {"task": point["task"], "step": point["step"]}
            parts.append((name, {"j": np.arange(1, len(value) + 1), "value": value}))
    return _joined(parts, [*CELL, "task", "step", "j", "value"])


def _settings(records: list[Fields]) -> pd.DataFrame:
    parts = []
    for record in records:
        spec = record["spec"]
        kinds = {"hyper": spec["hyper"], "training": spec["training"], "model": spec["model_options"]}
        found = [(kind, name, value) for kind, of in kinds.items() for name, value in of.items()]
        values = np.array([value for *_, value in found], dtype=object)
        arrays = {"kind": [kind for kind, *_ in found], "setting": [name for _, name, _ in found]}
        parts.append((_name(record), {**arrays, "value": values}))
    return _joined(parts, _SETTING_COLUMNS)


def _notes(records: list[Fields]) -> pd.DataFrame:
    parts = []
    for record in records:
        for note, nested in record.get("notes", {}).items():
            value = np.array(nested, dtype=float)
            flat = value.reshape(-1, value.shape[-1]) if value.size and value.ndim else value.reshape(1, -1)
            row, step = np.indices(flat.shape)
            arrays = {"row": row.ravel() + 1, "step": step.ravel() + 1, "value": flat.ravel()}
            parts.append((_name(record) | {"note": note}, arrays))
    return _joined(parts, _NOTE_COLUMNS)


def _joined(parts: list[tuple[dict[str, Any], dict[str, Any]]], columns: list[str]) -> pd.DataFrame:
    """Join parts that each have one name and arrays of the same length; far faster than frame by frame."""
    if not parts:
        return pd.DataFrame(columns=columns)
    lengths = [len(arrays["value"]) for _, arrays in parts]
    names = pd.DataFrame([name for name, _ in parts])
    place = np.repeat(np.arange(len(parts)), lengths)
    found: dict[str, Any] = {str(name): names[name].array.take(place) for name in names}
    found |= {key: np.concatenate([arrays[key] for _, arrays in parts]) for key in parts[0][1]}
    return pd.DataFrame({name: found[name] for name in columns}, copy=False)
