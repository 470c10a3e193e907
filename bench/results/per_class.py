"""What was taken for what, and precision, recall and F1 of every class that follow from it.

A run keeps, beside each record, how often each true unit of the head was taken for which: a row of numbers
[i, j, true unit, answer, count] for every count that is not zero, i tasks learned, j from 1. Readers take
the tasks learned so far alone, j <= i.

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
    """Those of one cell."""

    cell: dict[str, Any]
    """What names it in every frame."""
    units: tuple[str, ...]
    """What each unit stands for."""
    counts: dict[str, NDArray[np.int64]]
    """For each split: i, j, true unit, answer, count, shape (K, 5)."""


def confusions(frames: Frames, identities: Sequence[str] | None = None) -> Iterator[Confusions]:
    """Yield those of every done cell that has them, or strategy after strategy of those that are named.

    What cannot be read is listed in ``frames.unreadable``.
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
    finally:  # also where the caller has seen enough
        frames.unreadable += [words for run in runs.values() for words in run.unreadable]


def classes(folder: str | Path | Sequence[str | Path], *more: str | Path, **how: Any) -> pd.DataFrame:
    """Return precision, recall, F1 and support of every class after every task, from one or several runs.

    See ``by_class``, and ``load`` for the arguments and what it raises.
    """
    return by_class(load(folder, *more, **how))


def by_class(frames: Frames) -> pd.DataFrame:
    """Return one row per cell, split, number of tasks learned (``i``) and class, and three for averages.

    Rows are those of the tasks learned so far. Precision, recall, F1 and support are those of scikit-learn's
    ``classification_report`` with ``zero_division=0``, and so are the classes, those that a row has or was
    taken for, and the averages: ``accuracy`` (in ``f1``), ``macro avg`` and ``weighted avg``, which have no
    ``unit``.
    """
    parts = []
    for found in confusions(frames):
        for split, counts in found.counts.items():
            part = _report(counts, found.units)
            parts.append(part.assign(**found.cell, split=split))
    return pd.concat(parts, ignore_index=True)[COLUMNS] if parts else pd.DataFrame(columns=COLUMNS)


def _report(counts_K5: NDArray[np.int64], units: tuple[str, ...]) -> pd.DataFrame:
    """Return the rows of one cell and split."""
    i, _, true, answer, count = counts_K5[counts_K5[:, 1] <= counts_K5[:, 0]].T
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
    """Return part / whole, 0 where there is no whole."""
    return np.asarray(np.divide(part, whole, out=np.zeros(np.shape(whole)), where=whole > 0))
