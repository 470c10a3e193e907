"""A run as tidy pandas frames."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import cache, cached_property
from pathlib import Path
from typing import Any, Self

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from bench.results.merge import merge
from bench.results.outcome import RESOURCES, SPLITS, TIMINGS, Outcome
from bench.schema import Manifest, Metadata
from bench.stats import all_scores
from suites.base import PROPORTION, Score

CELL = ["suite", "scenario", "strategy", "identity", "seed", "key"]
"""What names a cell in every frame."""
_NOTE_COLUMNS = [*CELL, "note", "row", "step", "value"]


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
    notes: pd.DataFrame = field(default_factory=lambda: pd.DataFrame(columns=_NOTE_COLUMNS))
    """What methods noted of their own doing, one row per cell, note, row and step: ``value``. Steps are the
    last axis of what was noted, rows the axes before it; both count from 1."""
    folders: tuple[Path, ...] = ()
    """The runs that were read, where results class by class lie; see bench.results.per_class."""
    declared: dict[str, Score | None] = field(default_factory=dict)
    """What each suite with a done cell scores; None where its records differ in that."""
    outcomes: dict[str, Outcome] = field(default_factory=dict)
    """What ``matrix`` and ``settings`` are made of, by key, when they are asked for: of a hundred thousand
    cells they are a gigabyte."""

    @cached_property
    def matrix(self) -> pd.DataFrame:
        """One row per cell, split, i and j: ``right``, ``total``, ``value``; i tasks learned, j from 1.

        A score that is no proportion has no ``right`` and ``total``, and its ``value`` is where it lies
        between its bounds: 0.25 for a BLEU of 25. In percent, as reports print it, that is BLEU as it is.
        """
        parts = []
        for name, outcome in self._cells():
            for split, own in outcome.measured.items():
                i, j = _places(own.right.shape)
                arrays = {"i": i, "j": j, "right": own.right.ravel(), "total": own.total.ravel()}
                parts.append((name | {"split": split}, {**arrays, "value": own.value.ravel()}))
        return _joined(parts, [*CELL, "split", "i", "j", "right", "total", "value"])

    @cached_property
    def settings(self) -> pd.DataFrame:
        """One row per cell and setting: ``kind`` (hyper, training or model), ``setting``, ``value``."""
        parts = []
        for name, outcome in self._cells():
            values = np.array([value for *_, value in outcome.settings], dtype=object)
            kinds, settings = ([s[i] for s in outcome.settings] for i in range(2))
            parts.append((name, {"kind": kinds, "setting": settings, "value": values}))
        return _joined(parts, [*CELL, "kind", "setting", "value"])

    def _cells(self) -> Iterator[tuple[dict[str, Any], Outcome]]:
        for name in self.cells[CELL].to_dict("records"):
            yield {str(k): value for k, value in name.items()}, self.outcomes[name["key"]]

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
        if len(cells) == len(self.cells):
            return replace(self, cells=cells)
        outcomes = {key: self.outcomes[key] for key in cells["key"]}
        frames = {name: getattr(self, name) for name in ("scores", "curves", "notes")}
        own: dict[str, Any] = {name: frame[frame["key"].isin(outcomes)] for name, frame in frames.items()}
        return replace(self, cells=cells, outcomes=outcomes, **own)


def load(folder: str | Path, *more: str | Path) -> Frames:
    """Read the records of one or several runs.

    A cell that is in several counts once. Raises UserError for a folder that is no run, and for runs that saw
    different data under one name.
    """
    folders = [Path(f) for f in (folder, *more)]
    return replace(tidy(*merge(folders)), folder=folders[0], folders=tuple(folders))


def tidy(
    cells: Sequence[Outcome], manifest: Manifest | None = None, unreadable: Sequence[str] = ()
) -> Frames:
    """Return outcomes as frames."""
    columns = ["status", "why", *TIMINGS, *RESOURCES]
    rows = ((*_name(o).values(), o.status, o.why, *o.numbers) for o in cells)
    done = [o for o in cells if o.status == "done"]
    scores: dict[str, set[Score]] = {}
    for outcome in done:
        scores.setdefault(outcome.spec["suite"], set()).add(outcome.score)
    return Frames(
        folder=Path(),
        cells=pd.DataFrame(rows, columns=[*CELL, *columns]),
        scores=_scores(done),
        curves=_curves(cells),
        manifest=manifest or Manifest.empty(),
        unreadable=list(unreadable),
        notes=_notes(cells),
        outcomes={o.key: o for o in cells},
        declared={suite: own.pop() if len(own) == 1 else None for suite, own in scores.items()},
    )


def _name(outcome: Outcome) -> dict[str, Any]:
    named = {**outcome.spec, "identity": outcome.identity, "key": outcome.key}
    return {name: named[name] for name in CELL}


def _scores(done: Sequence[Outcome]) -> pd.DataFrame:
    references: dict[tuple[Any, ...], list[Outcome]] = {}
    for outcome in done:
        if outcome.spec["identity"] == "cumulative":
            references.setdefault(_stream(outcome), []).append(outcome)
    parts = []
    for outcome in done:
        curves = [(task, values) for task, _, values in outcome.curves]
        reference = _reference(outcome, references.get(_stream(outcome), []))
        R_reference = None if reference is None else reference.measured["test"].value
        R, R_validation = (outcome.measured[split].value for split in SPLITS)
        total = outcome.measured["test"].total
        values = all_scores(R, R_reference, curves, R_validation, outcome.outside, outcome.chrf, total)
        parts.append((_name(outcome), {"score": list(values), "value": np.array([*values.values()])}))
    return _joined(parts, [*CELL, "score", "value"])


def _stream(outcome: Outcome) -> tuple[Any, ...]:
    """Return what a cell must share with the ``cumulative`` that it is compared with."""
    spec = outcome.spec
    return spec["suite"], spec["scenario"], spec["model"], spec["seed"]


def _reference(outcome: Outcome, found: list[Outcome]) -> Outcome | None:
    """Return the ``cumulative`` to compare with: of several, the one that was trained alike."""
    if len(found) > 1:
        found = [o for o in found if o.spec["training"] == outcome.spec["training"]]
    return found[0] if len(found) == 1 else None


@cache
def _places(shape: tuple[int, ...]) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Return i and j of a matrix laid out flat; j counts from 1."""
    i, j = np.indices(shape)
    return i.ravel(), j.ravel() + 1


def _curves(cells: Sequence[Outcome]) -> pd.DataFrame:
    parts = []
    for outcome in cells:
        for task, step, value in outcome.curves:
            name = _name(outcome) | {"task": task, "step": step}
            parts.append((name, {"j": np.arange(1, len(value) + 1), "value": value}))
    return _joined(parts, [*CELL, "task", "step", "j", "value"])


def _notes(cells: Sequence[Outcome]) -> pd.DataFrame:
    parts = []
    for outcome in cells:
        for note, value in outcome.notes.items():
            flat = value.reshape(-1, value.shape[-1]) if value.size and value.ndim else value.reshape(1, -1)
            row, step = np.indices(flat.shape)
            arrays = {"row": row.ravel() + 1, "step": step.ravel() + 1, "value": flat.ravel()}
            parts.append((_name(outcome) | {"note": note}, arrays))
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
