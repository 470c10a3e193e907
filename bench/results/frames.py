"""Runs as tidy pandas data frames."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache, cached_property
from pathlib import Path
from typing import Any, Self

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from bench.plan import Value, text_of
from bench.results.grids import Grid
from bench.results.merge import LeftOut, Merged, merge, setting
from bench.results.outcome import OWN_TERM, RESOURCES, SPLITS, TIMINGS, Outcome
from bench.schema import Manifest, Metadata
from bench.stats import SCORES, Matrix, all_scores
from suites.base import PROPORTION, Score
from suites.errors import UserError, unknown

CELL = ["suite", "scenario", "strategy", "identity", "seed", "key"]
"""The columns that identify a cell in every frame."""
_LEFT_OUT_COLUMNS = [*CELL, "folder", "why"]
_NOTE_COLUMNS = [*CELL, "note", "row", "step", "value"]


@dataclass
class Frames:
    """The results of one or several runs as data frames; ``load`` and ``run`` return it.

    In every frame the columns ``suite``, ``scenario``, ``strategy``, ``identity`` (the strategy with its
    settings), ``seed`` and ``key`` identify the cell.

    Example:
        ```python
        frames = lethe.load("runs/first")
        acc = frames.scores[frames.scores["score"] == "acc"]
        acc.groupby("identity")["value"].agg(["mean", "std"])
        ```
    """

    folder: Path
    """The first run that was read."""
    cells: pd.DataFrame
    """One row per cell: status, reason, timings, resources, and ``own_term``: how much the method's own term
    acted, in the task in which it acted most. ``stale`` is empty for records of today's code
    and data, else the commit of the record, or ``?`` if that is not known."""
    scores: pd.DataFrame
    """One row per done cell and score: ``score`` (its name) and ``value``, a proportion from 0 to 1 (some
    scores are negative); NaN where it is not defined."""
    curves: pd.DataFrame
    """One row per cell, current ``task``, ``step`` and scored task ``j``: ``value`` on validation rows."""
    manifest: Manifest = field(default_factory=Manifest.empty)
    """Commands, data and metadata of the runs."""
    unreadable: list[str] = field(default_factory=list)
    """Files and records that could not be read, one sentence each."""
    notes: pd.DataFrame = field(default_factory=lambda: pd.DataFrame(columns=_NOTE_COLUMNS))
    """Numbers that methods recorded, one row per cell, ``note``, ``row`` and ``step``:
    ``value``. ``step`` counts along the last axis of a note, ``row`` along the axes before, both from 1."""
    folders: tuple[Path, ...] = ()
    """All runs that were read."""
    declared: dict[str, Score | None] = field(default_factory=dict)
    """The score of each suite with a done cell; None if its records have different ones."""
    left_out: pd.DataFrame = field(default_factory=lambda: pd.DataFrame(columns=_LEFT_OUT_COLUMNS))
    """One row per record of the runs that is not in the other frames: ``folder`` and ``why``."""
    split: str = "test"
    """The rows of ``scores``: ``test`` or ``validation``; see ``on``."""
    undefined: dict[tuple[str, str], str] = field(default_factory=dict)
    """Why a score of a done cell is not defined, by key and score: no reference for ``intransigence``, or
    entries of R that ``eval`` left out."""
    places: dict[str, tuple[Path, str]] = field(default_factory=dict)
    """The run, and the key in it, of cells that several runs have or that have a label."""
    outcomes: dict[str, Outcome] = field(default_factory=dict)
    """Compact records by key, from which ``matrix`` and ``settings`` are made on first use."""
    names: dict[str, str] = field(default_factory=dict)
    """The strategies behind display names, in the order of rows and legends; see ``choose``."""
    hidden: tuple[str, ...] = ()
    """The strategies that ``choose`` left out."""
    trials: dict[tuple[str, str, str], float] = field(default_factory=dict)
    """Mean final score on test rows of settings that tuning tried, by suite, scenario and selector; made by
    ``declared``, which leaves those out that were not chosen."""
    n_trials_hidden: int = 0
    """Number of settings that ``declared`` left out."""
    grids: tuple[Grid, ...] = ()
    """The grids that ``folded`` made one row each."""

    @cached_property
    def matrix(self) -> pd.DataFrame:
        """The score matrix: one row per cell, ``split``, ``i`` (tasks learned) and ``j`` (task, from 1).

        ``right`` of ``total`` rows were classified correctly; ``value`` is their ratio. For BLEU ``value`` is
        BLEU / 100, and ``right`` and ``total`` are NaN.
        """
        parts = []
        for name, outcome in self._cells():
            for split, own in outcome.measured.items():
                i, j = _places(own.shape)
                if own.place_E is not None:
                    i, j = i[own.place_E], j[own.place_E]
                arrays = {"i": i, "j": j, "right": own.right_E, "total": own.total_E}
                parts.append((name | {"split": split}, {**arrays, "value": own.value_E}))
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

    @property
    def every_cell(self) -> pd.DataFrame:
        """``cells``, and those of the settings of grids that are not shown as rows."""
        shown = {*self.cells["key"]}
        others = (grid.cells[~grid.cells["key"].isin(shown)] for grid in self.grids)
        return pd.concat([self.cells, *others])

    def _cells(self) -> Iterator[tuple[dict[str, Any], Outcome]]:
        for name in self.cells[CELL].to_dict("records"):
            yield {str(k): value for k, value in name.items()}, self.outcomes[name["key"]]

    def score_of(self, suite: str) -> Score | None:
        """Return the score of a suite, None if its records have different ones."""
        return self.declared.get(suite, PROPORTION)

    @property
    def described(self) -> dict[str, Metadata]:
        """Metadata of strategies, by name; empty for runs of versions whose manifests have none."""
        return self.manifest.strategies

    @property
    def score(self) -> Score | None:
        """The score of all suites, None if they have different ones."""
        found = {self.declared[s] for s in self.cells["suite"].unique() if s in self.declared}
        return found.pop() if len(found) == 1 else None if found else PROPORTION

    def on(self, split: str) -> Self:
        """Return frames whose scores, tables and figures are those on ``test`` or on ``validation`` rows.

        Scores of rows of no class and of generated text (``oos_auroc``, ``chrf``) are measured on test rows
        only, so they are not defined on validation rows.

        Raises:
            UserError: The split is unknown, or the runs held out no validation rows.
        """
        if split == self.split:
            return self
        if split not in SPLITS:
            raise unknown("split", split, list(SPLITS))
        done = [o for key, o in self.outcomes.items() if o.status == "done"]
        if done and all(np.isnan(o.measured[split].value).all() for o in done):
            raise UserError("the runs have no validation rows: they were made with validation=0")
        names = dict(zip(self.cells["key"], self.cells["identity"], strict=True))
        undefined: dict[tuple[str, str], str] = {}
        scores = _scores(done, References(done), undefined, split)
        scores["identity"] = scores["key"].map(names)  # ``choose`` may have renamed them
        return replace(self, split=split, scores=scores, undefined=undefined)

    def only(self, cells: pd.DataFrame) -> Self:
        """Return frames with some of the cells.

        Args:
            cells: Rows of ``self.cells``.
        """
        if len(cells) == len(self.cells):
            return replace(self, cells=cells)
        outcomes = {key: self.outcomes[key] for key in cells["key"]}
        frames = {name: getattr(self, name) for name in ("scores", "curves", "notes")}
        own: dict[str, Any] = {name: frame[frame["key"].isin(outcomes)] for name, frame in frames.items()}
        places = cells[["suite", "scenario"]].drop_duplicates()
        own["left_out"] = self.left_out.merge(places)
        own["grids"] = tuple(g for g in self.grids if g.place in {*places.itertuples(index=False, name=None)})
        return replace(self, cells=cells, outcomes=outcomes, **own)


def renamed(rows: pd.DataFrame, names: Mapping[str, str], by: str = "identity") -> pd.DataFrame:
    """Return the rows of cells in which some have another identity, by the old one or another column."""
    own = rows[by].map(names)
    return rows.assign(identity=own.where(own.notna(), rows["identity"]).astype(object))


def load(
    folder: str | Path | Sequence[str | Path],
    *more: str | Path,
    prefer: str | Path | None = None,
    labels: Mapping[str, str] | None = None,
) -> Frames:
    """Read the records of one or several runs; ``bench.api.load`` explains the arguments.

    Raises:
        UserError: A folder is not a run, or runs contradict each other.
    """
    first = [folder] if isinstance(folder, str | Path) else folder
    if not [*first, *more]:
        raise UserError("choose at least one run to read")
    named = {Path(f): label for f, label in (labels or {}).items()}
    return of_merged(merge([Path(f) for f in (*first, *more)], Path(prefer) if prefer else None, named))


def of_merged(merged: Merged) -> Frames:
    """Return merged runs as data frames."""
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
    """Return frames of compact records; ``stale`` contains the commits of stale records by key."""
    columns = ["status", "why", "stale", *TIMINGS, *RESOURCES, OWN_TERM]
    old = stale or {}
    rows = ((*_name(o).values(), o.status, o.why, old.get(o.key, ""), *o.numbers) for o in cells)
    undefined: dict[tuple[str, str], str] = {}
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


def _scores(
    done: Sequence[Outcome],
    references: "References",
    undefined: dict[tuple[str, str], str],
    split: str = "test",
) -> pd.DataFrame:
    """Return all scores; add the reasons why cells have not all of them to ``undefined``."""
    parts, names = [], np.array([*SCORES], dtype=object)
    for outcome in done:
        reference = references.of(outcome)
        R_reference = None
        if isinstance(reference, str):
            undefined[outcome.key, "intransigence"] = reference
        else:
            R_reference = reference.measured[split].value
        values = scores_of(outcome, R_reference, split)
        if chosen := outcome.spec["training"].get("eval"):
            # What would be defined if every entry had been measured.
            filled = scores_of(outcome, R_reference, split, filled=True)
            why = f"needs entries of R that eval={chosen} does not measure"
            undefined |= {
                (outcome.key, name): why
                for name, value in values.items()
                if np.isnan(value) and not np.isnan(filled[name])
            }
        parts.append((_name(outcome), {"score": names, "value": np.array([*values.values()])}))
    return _joined(parts, [*CELL, "score", "value"])


def scores_of(
    outcome: Outcome, R_reference: Matrix | None = None, split: str = "test", filled: bool = False
) -> dict[str, float]:
    """Return all scores of a done cell, NaN for those that are not defined.

    Args:
        outcome: The cell.
        R_reference: The matrix of its ``cumulative`` cell, which ``intransigence`` needs.
        split: The rows of the scores.
        filled: Whether entries of R that were not measured count as 0 of at least one row.
    """
    curves = [(task, values) for task, _, values in outcome.curves]
    R, R_validation = (outcome.measured[name].value for name in (split, "validation"))
    total = outcome.measured[split].total
    if filled:
        R, R_validation, total = (np.nan_to_num(matrix) for matrix in (R, R_validation, total))
        total = total + 1
        R_reference = None if R_reference is None else np.nan_to_num(R_reference)
    of_test = (outcome.outside, outcome.chrf) if split == "test" else ((), ())
    tested = outcome.tested if split == "test" else ()
    return all_scores(R, R_reference, curves, R_validation, *of_test, total, tested)


class References:
    """The cells of ``cumulative`` that intransigence is measured against; settings must be equal."""

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
        """Return the reference of a cell, or the reason why it has none."""
        found = self._found.get(self._stream(cell), ())
        if not found:
            return "the run has no cumulative with the same suite, scenario and seed"
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
    """Return i and j of every entry of a flattened matrix; j counts from 1."""
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
