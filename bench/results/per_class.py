"""Confusion counts, and precision, recall and F1 of every class, which are computed from them.

A run stores, beside each record, how often each true unit of the head was predicted as which unit: a row
[i, j, true unit, predicted unit, count] for every count that is not zero, i tasks learned, j from 1. Readers
only use the tasks learned so far, j <= i.

Axes: K counts, I rows of R, U units.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from bench.results.frames import CELL, Frames, load
from bench.store import RunReader

SPLITS = ("test", "validation")
AVERAGES = ("accuracy", "macro avg", "weighted avg")
COLUMNS = [*CELL, "split", "i", "unit", "class", "precision", "recall", "f1", "support"]


@dataclass(frozen=True)
class Confusions:
    """The confusion counts of one cell."""

    cell: dict[str, Any]
    """The columns that identify the cell in every frame."""
    units: tuple[str, ...]
    """Name of each unit of the head."""
    counts: dict[str, NDArray[np.int64]]
    """For each split: i, j, true unit, predicted unit, count, shape (K, 5)."""


def confusions(frames: Frames, identities: Sequence[str] | None = None) -> Iterator[Confusions]:
    """Yield the confusion counts of every done cell that has them.

    Args:
        frames: The results; counts that cannot be read are added to ``frames.unreadable``.
        identities: Only these strategies, one after the other; all without it.
    """
    runs = {folder: RunReader(folder) for folder in frames.folders}
    done = frames.cells[frames.cells["status"] == "done"]
    if identities is not None:
        done = pd.concat([done[done["identity"] == name] for name in identities] or [done[:0]])
    try:
        for cell in done[CELL].to_dict("records"):
            folder, key = frames.places.get(cell["key"], (None, cell["key"]))
            among = runs.values() if folder is None else [runs[folder]]
            written = frames.outcomes[cell["key"]].origin.written
            found = next(filter(None, (run.classes(key, written) for run in among)), None)
            if found is not None:
                counts = {s: np.array(found[s], dtype=np.int64).reshape(-1, 5) for s in SPLITS}
                yield Confusions({str(k): v for k, v in cell.items()}, tuple(found["units"]), counts)
    finally:  # also if the caller stops early
        frames.unreadable += [words for run in runs.values() for words in run.unreadable]


def classes(folder: str | Path | Sequence[str | Path], *more: str | Path, **how: Any) -> pd.DataFrame:
    """Return precision, recall, F1 and support of every class after every task.

    Args:
        folder: A run, or a list of runs.
        more: More runs.
        how: ``prefer`` and ``labels``, see ``load``.

    Returns:
        One row per cell, split (``test`` or ``validation``), number of tasks learned (``i``) and class, and
        three rows for averages, see ``by_class``.

    Raises:
        UserError: As ``load``.

    Example:
        ```python
        frame = lethe.classes("runs/first")
        frame[(frame["split"] == "test") & (frame["i"] == 5)]
        ```
    """
    return by_class(load(folder, *more, **how))


def by_class(frames: Frames) -> pd.DataFrame:
    """Return precision, recall, F1 and support from frames that are already loaded; see ``classes``.

    After i tasks, only the data of the first i tasks is used, and nothing is computed if one of them was not
    measured. Numbers, classes (all that occur as true or predicted class) and averages are those of
    scikit-learn's ``classification_report`` with ``zero_division=0``. The averages ``accuracy`` (in column
    ``f1``), ``macro avg`` and ``weighted avg`` have no ``unit``.
    """
    parts = []
    for found in confusions(frames):
        for split, counts in found.counts.items():
            part = _report(counts, found.units)
            parts.append(part.assign(**found.cell, split=split))
    return pd.concat(parts, ignore_index=True)[COLUMNS] if parts else pd.DataFrame(columns=COLUMNS)


def so_far(counts_K5: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return the counts on the tasks so far, after each number of tasks if all of these were measured.

    Rows of R that ``eval`` measures in part are left out.
    """
    found_K5 = counts_K5[counts_K5[:, 1] <= counts_K5[:, 0]]
    measured, n_tasks = np.unique(np.unique(found_K5[:, :2], axis=0)[:, 0], return_counts=True)
    there = np.unique(counts_K5[:, 1])  # a task without rows of this split has no counts
    whole = measured[n_tasks == np.searchsorted(there, measured, side="right")]
    return found_K5[np.isin(found_K5[:, 0], whole)]


def _report(counts_K5: NDArray[np.int64], units: tuple[str, ...]) -> pd.DataFrame:
    """Return the rows of one cell and split."""
    i, _, true, answer, count = so_far(counts_K5).T
    shape = (int(i.max(initial=0)) + 1, len(units))

    def total(at: NDArray[np.int64], of: NDArray[np.int64]) -> NDArray[np.float64]:
        return np.bincount(at, of, shape[0] * shape[1]).astype(float).reshape(shape)

    support_IU, given_IU = total(i * shape[1] + true, count), total(i * shape[1] + answer, count)
    right_IU = total(i * shape[1] + true, count * (true == answer))
    scores = {"precision": _share(right_IU, given_IU), "recall": _share(right_IU, support_IU)}
    scores["f1"] = _share(2 * right_IU, support_IU + given_IU)
    there_IU = support_IU + given_IU > 0
    row, unit = np.nonzero(there_IU)
    of_classes = pd.DataFrame(
        {
            "i": row,
            "unit": pd.array(unit, dtype="Int64"),
            "class": np.array(units, dtype=object)[unit],
            **{name: values_IU[there_IU] for name, values_IU in scores.items()},
            "support": support_IU[there_IU].astype(int),
        }
    )
    means = {
        "accuracy": {"f1": _share(right_IU.sum(1), support_IU.sum(1))},
        "macro avg": {n: _share((v * there_IU).sum(1), there_IU.sum(1)) for n, v in scores.items()},
        "weighted avg": {n: _share((v * support_IU).sum(1), support_IU.sum(1)) for n, v in scores.items()},
    }
    measured = np.flatnonzero(support_IU.sum(1))
    of_all = [
        pd.DataFrame(
            {
                "i": measured,
                "unit": pd.array([None] * len(measured), dtype="Int64"),
                "class": name,
                **{score: means[name].get(score, np.full(shape[0], np.nan))[measured] for score in scores},
                "support": support_IU.sum(1)[measured].astype(int),
            }
        )
        for name in AVERAGES
    ]
    return pd.concat([of_classes, *of_all]).sort_values("i", kind="stable")


def _share(part: NDArray[Any], whole: NDArray[Any]) -> NDArray[np.float64]:
    """Return part / whole, 0 where whole is 0."""
    return np.asarray(np.divide(part, whole, out=np.zeros(np.shape(whole)), where=whole > 0))
