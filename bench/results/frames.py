"""A run as tidy pandas frames."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache, cached_property
from pathlib import Path
from typing import Any, Self

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from bench.plan import Value, text_of
from bench.results.merge import LeftOut, merge, setting
from bench.results.outcome import RESOURCES, SPLITS, TIMINGS, Outcome
from bench.schema import Manifest, Metadata
from bench.stats import SCORES, all_scores
from suites.base import PROPORTION, Score

CELL = ["suite", "scenario", "strategy", "identity", "seed", "key"]
"""What names a cell in every frame."""
_LEFT_OUT_COLUMNS = [*CELL, "folder", "why"]
_NOTE_COLUMNS = [*CELL, "note", "row", "step", "value"]


@dataclass
class Frames:
    """What ``load`` returns."""

    folder: Path
    cells: pd.DataFrame
    """One row per cell: status, reason, timings, resources; ``stale`` is the commit of a record that is
    not of today's code or data, ``?`` where that is not known, and empty for today's."""
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
    left_out: pd.DataFrame = field(default_factory=lambda: pd.DataFrame(columns=_LEFT_OUT_COLUMNS))
    """One row per record of the runs that is not in the other frames: ``folder`` and ``why``."""
    undefined: dict[str, str] = field(default_factory=dict)
    """Why ``intransigence`` of a done cell is not defined, by key."""
    places: dict[str, tuple[Path, str]] = field(default_factory=dict)
    """The run and the key there of cells that several runs have, or that are labelled."""
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
            found = outcome.settings + ((("run", "label", outcome.label),) if outcome.label else ())
            values = np.array([value for *_, value in found], dtype=object)
            kinds, settings = ([s[i] for s in found] for i in range(2))
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
        own["left_out"] = self.left_out.merge(cells[["suite", "scenario"]].drop_duplicates())
        return replace(self, cells=cells, outcomes=outcomes, **own)


def load(
    folder: str | Path | Sequence[str | Path],
    *more: str | Path,
    prefer: str | Path | None = None,
    labels: Mapping[str, str] | None = None,
) -> Frames:
    """Read the records of one or several runs, in any order.

    A cell that is in several counts once. No mean is over two codes, data sets, suite versions or pretrained
    weights: what is not of those shown is listed in ``left_out``.

    Args:
        folder: A run, or a list of runs.
        more: Further runs.
        prefer: The run whose side is taken where runs contradict each other.
        labels: What runs are called, by folder, whose cells are to stand beside those of the others: a cell's
            identity ends in its run's label.

    Raises:
        UserError: for a folder that is no run, and for runs that contradict each other: other results of one
            cell, or one suite over other data or of another version.
    """
    first = [folder] if isinstance(folder, str | Path) else folder
    named = {Path(f): label for f, label in (labels or {}).items()}
    merged = merge([Path(f) for f in (*first, *more)], None if prefer is None else Path(prefer), named)
    frames = tidy(merged.cells, merged.manifest, merged.unreadable, merged.stale)
    left_out = pd.DataFrame(map(_left_out, merged.left_out), columns=_LEFT_OUT_COLUMNS)
    folders = merged.folders
    return replace(frames, folder=folders[0], folders=folders, places=merged.places, left_out=left_out)


def _left_out(one: LeftOut) -> dict[str, Any]:
    return {**_name(one.cell), "folder": str(one.folder), "why": one.why}


def tidy(
    cells: Sequence[Outcome],
    manifest: Manifest | None = None,
    unreadable: Sequence[str] = (),
    stale: Mapping[str, str] | None = None,
) -> Frames:
    """Return outcomes as frames; ``stale`` are the commits of stale records, by key."""
    columns = ["status", "why", "stale", *TIMINGS, *RESOURCES]
    old = stale or {}
    rows = ((*_name(o).values(), o.status, o.why, old.get(o.key, ""), *o.numbers) for o in cells)
    undefined: dict[str, str] = {}
    done = [o for o in cells if o.status == "done"]
    scores: dict[str, set[Score]] = {}
    for outcome in done:
        scores.setdefault(outcome.spec["suite"], set()).add(outcome.score)
    return Frames(
        folder=Path(),
        cells=pd.DataFrame(rows, columns=[*CELL, *columns]),
        scores=_scores(done, References(done), undefined),
        undefined=undefined,
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


def _scores(done: Sequence[Outcome], references: "References", undefined: dict[str, str]) -> pd.DataFrame:
    """Return all scores; write to ``undefined`` why a cell has no ``intransigence``."""
    parts, names = [], np.array([*SCORES], dtype=object)
    for outcome in done:
        curves = [(task, values) for task, _, values in outcome.curves]
        reference = references.of(outcome)
        R_reference = None
        if isinstance(reference, str):
            undefined[outcome.key] = reference
        else:
            R_reference = reference.measured["test"].value
        R, R_validation = (outcome.measured[split].value for split in SPLITS)
        total = outcome.measured["test"].total
        values = all_scores(R, R_reference, curves, R_validation, outcome.outside, outcome.chrf, total)
        parts.append((_name(outcome), {"score": names, "value": np.array([*values.values()])}))
    return _joined(parts, [*CELL, "score", "value"])


class References:
    """The ``cumulative`` that a cell's intransigence is measured against: of the same setting alone."""

    def __init__(self, done: Sequence[Outcome]) -> None:
        self._found: dict[tuple[Any, ...], list[Outcome]] = {}
        for cell in done:
            if cell.spec["strategy"] == "cumulative":
                self._found.setdefault(self._stream(cell), []).append(cell)

    @staticmethod
    def _stream(cell: Outcome) -> tuple[Any, ...]:
        return cell.label, cell.spec["suite"], cell.spec["scenario"], cell.spec["seed"]

    @staticmethod
    def _setting(cell: Outcome) -> dict[str, Any]:
        return {**setting(cell, hyper=False), "data": cell.origin.data, "weights": cell.origin.weights}

    def of(self, cell: Outcome) -> Outcome | str:
        """Return the reference of a cell, or why it has none."""
        found = self._found.get(self._stream(cell), ())
        if not found:
            return "there is no cumulative of the same suite, scenario and seed"
        own, gaps = self._setting(cell), []
        for reference in found:
            theirs = self._setting(reference)
            both = {k: (theirs.get(k, ""), own.get(k, "")) for k in {**own, **theirs}}
            gaps.append({k: pair for k, pair in both.items() if pair[0] != pair[1]})
            if not gaps[-1]:
                return reference
        nearest = sorted(min(gaps, key=len).items())
        words = (f"{k}={_short(theirs)}, not {_short(ours)}" for k, (theirs, ours) in nearest)
        return f"cumulative has {'; '.join(words)}"


def _short(value: Value) -> str:
    return text_of(value)[:10] or "none"


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
