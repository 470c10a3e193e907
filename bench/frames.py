"""A run as tidy pandas frames."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from bench.metrics import Matrix, all_scores
from bench.store import Run
from suites.errors import UserError

CELL = ["suite", "scenario", "strategy", "identity", "seed", "key"]
"""What names a cell in every frame."""


@dataclass
class Frames:
    """What ``load`` returns."""

    folder: Path
    cells: pd.DataFrame
    """One row per cell: status, reason, timings, resources."""
    scores: pd.DataFrame
    """One row per cell and score: ``score``, ``value``; done cells only, NaN where it is not defined."""
    matrix: pd.DataFrame
    """One row per cell, split, i and j: ``right``, ``total``, ``value``; i tasks learned, j from 1."""
    curves: pd.DataFrame
    """One row per cell, task under way, step and j: ``value`` on validation rows."""
    manifest: dict[str, Any] = field(default_factory=dict)
    set_aside: list[str] = field(default_factory=list)


def load(folder: str | Path) -> Frames:
    """Read a run's records; raises UserError for a folder that is no run."""
    run = Run(Path(folder))
    manifest = run.manifest()
    if not manifest and not run.cells.is_dir():
        raise UserError(f"{folder} is not a run's folder: it has no run.json")
    records = run.records()
    return Frames(
        folder=Path(folder),
        cells=pd.DataFrame([_cell(r) for r in records], columns=_CELL_COLUMNS),
        scores=_scores(records),
        matrix=_matrix(records),
        curves=_curves(records),
        manifest=manifest,
        set_aside=run.set_aside,
    )


_TIMINGS = [
    "train_seconds",
    "evaluation_seconds",
    "samples_per_second",
    "seconds_per_seed",
    "steps",
    "lanes",
    "device",
    "peak_bytes",
]
_RESOURCES = ["parameters", "memory_samples", "memory_bytes"]
_CELL_COLUMNS = [*CELL, "status", "why", *_TIMINGS, *_RESOURCES]


def _name(record: dict[str, Any]) -> dict[str, Any]:
    spec = record["spec"]
    return {
        **{k: spec[k] for k in CELL[:3]},
        "identity": record["identity"],
        "seed": spec["seed"],
        "key": record["key"],
    }


def _cell(record: dict[str, Any]) -> dict[str, Any]:
    error = record["error"]
    why = record["reason"] or (f"{error['kind']}: {error['message']}" if error else "")
    timings, resources = record.get("timings", {}), record.get("resources", {})
    return {
        **_name(record),
        "status": record["status"],
        "why": why,
        **{k: timings.get(k) for k in _TIMINGS},
        **{k: resources.get(k) for k in _RESOURCES},
    }


def score_matrix(record: dict[str, Any], split: str = "test") -> Matrix:
    """Return R of a record, NaN where it was not measured."""
    right, total = (np.array(record[split][k], dtype=float) for k in ("right", "total"))
    # A task without rows on this split (validation=0) has no score.
    return np.divide(right, total, out=np.full_like(right, np.nan), where=total > 0)


def _scores(records: list[dict[str, Any]]) -> pd.DataFrame:
    done = [r for r in records if r["status"] == "done"]
    matrices = {r["key"]: score_matrix(r) for r in done}
    references = {_stream(r): matrices[r["key"]] for r in done if r["identity"] == "cumulative"}
    rows: dict[str, list[Any]] = {name: [] for name in [*CELL, "score", "value"]}
    for record in done:
        curves = [
            (c["task"], np.array(c["right"]) / np.maximum(c["total"], 1)) for c in record.get("curves", [])
        ]
        values = all_scores(
            matrices[record["key"]],
            references.get(_stream(record)),
            curves,
            score_matrix(record, "validation"),
        )
        for key, value in _name(record).items():
            rows[key] += [value] * len(values)
        rows["score"] += values
        rows["value"] += values.values()
    return pd.DataFrame(rows)


def _stream(record: dict[str, Any]) -> tuple[Any, ...]:
    """Return what a cell must share with the ``cumulative`` that it is compared with."""
    spec = record["spec"]
    return spec["suite"], spec["scenario"], spec["model"], spec["seed"]


def _matrix(records: list[dict[str, Any]]) -> pd.DataFrame:
    parts = []
    for record in records:
        for split in ("test", "validation"):
            if split in record:
                right, total = (np.array(record[split][k], dtype=float) for k in ("right", "total"))
                i, j = np.indices(right.shape)
                value = score_matrix(record, split).ravel()
                arrays = {"i": i.ravel(), "j": j.ravel() + 1, "right": right.ravel(), "total": total.ravel()}
                parts.append((_name(record) | {"split": split}, {**arrays, "value": value}))
    return _joined(parts, [*CELL, "split", "i", "j", "right", "total", "value"])


def _curves(records: list[dict[str, Any]]) -> pd.DataFrame:
    parts = []
    for record in records:
        for point in record.get("curves", []):
            total = np.array(point["total"], dtype=float)
            value = np.divide(point["right"], total, out=np.full_like(total, np.nan), where=total > 0)
            name = _name(record) | {"task": point["task"], "step": point["step"]}
            parts.append((name, {"j": np.arange(1, len(total) + 1), "value": value}))
    return _joined(parts, [*CELL, "task", "step", "j", "value"])


def _joined(parts: list[tuple[dict[str, Any], dict[str, Any]]], columns: list[str]) -> pd.DataFrame:
    """Join parts that each have one name and arrays of the same length; far faster than frame by frame."""
    if not parts:
        return pd.DataFrame(columns=columns)
    lengths = [len(arrays["value"]) for _, arrays in parts]
    names = pd.DataFrame([name for name, _ in parts])
    frame = names.loc[names.index.repeat(lengths)].reset_index(drop=True)
    for key in parts[0][1]:
        frame[key] = np.concatenate([arrays[key] for _, arrays in parts])
    return frame[columns]
