"""The numbers of a run's tables, and what is best among them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
import pandas as pd

from bench.report.families import bounds
from bench.results import Frames
from bench.stats import SCORES, against, bca, describe
from suites.errors import UserError, unknown

DEFAULT = ("acc", "forgetting", "bwt", "fwt", "aia", "learning_acc")
SPEED = ("samples_per_second", "seconds_per_seed")
Spread = Literal["ci", "bca", "sd", "sem"]
KEYS = ["suite", "scenario", "identity"]


@dataclass(frozen=True)
class Layout:
    """What of a run's tables is shown, and how; as it stands, the plain table that documents hold."""

    spread: Spread = "ci"
    by_family: bool = False
    """Rows under the families of their methods."""
    per_task: bool = False
    """The last row of R, a column a task, instead of the scores asked for."""
    wide: bool = False
    """Suites as columns, a table per scenario and score."""
    marks: bool = False
    """The best in bold, and what is not significantly worse marked."""
    origin: bool = False
    """Command, version, seeds and hardware in the caption."""

    def __post_init__(self) -> None:
        if self.spread not in get_args(Spread):
            raise unknown("spread", self.spread, list(get_args(Spread)))
        if self.per_task and self.wide:
            raise UserError("tables are either per task or wide: tasks and suites cannot both be columns")


def chosen_scores(names: Sequence[str] | None, layout: Layout | None = None) -> tuple[str, ...]:
    """Return the scores asked for, the default ones for None; raises UserError for an unknown score."""
    for name in names or ():
        if name not in SCORES:
            raise unknown("score", name, list(SCORES))
    return tuple(dict.fromkeys(names or (("acc",) if layout is not None and layout.wide else DEFAULT)))


def summary(frames: Frames, names: Sequence[str] | None = None, layout: Layout | None = None) -> pd.DataFrame:
    """Return one row per suite, scenario, identity and column, as numbers.

    Columns are the scores, as proportions, or the tasks (``layout.per_task``, with ``acc``), then samples per
    second and seconds per seed. Rows are in the order of the final accuracy, highest first. ``n`` is the
    number of values, ``cells`` and ``done`` that of the cells. With ``layout.spread`` bca the ends of that
    interval are there too, with ``layout.marks`` the mark: best, close (not significantly worse than the
    best), worse, or nothing where no verdict was possible.
    """
    return summary_and_pairs(frames, names, layout)[0]


def summary_and_pairs(
    frames: Frames, names: Sequence[str] | None = None, layout: Layout | None = None
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return ``summary`` and, with ``layout.marks``, the comparisons that its marks are read from.

    Those have a row per suite, scenario, column and strategy but the best, with the fields of
    ``bench.stats.paired.against``; ``rival`` is the best.
    """
    layout = layout or Layout()
    scores = chosen_scores(names, layout)
    if frames.cells.empty:
        return pd.DataFrame(), pd.DataFrame()
    values, columns = _values(frames, scores, layout)
    by = [*KEYS, "column"]
    done = frames.cells.assign(done=frames.cells["status"] == "done").groupby(KEYS)["done"]
    cells = pd.DataFrame({"cells": done.size(), "done": done.sum()}).reset_index()
    frame = _every(cells[KEYS], columns, values).merge(describe(values, by).reset_index(), how="left", on=by)
    frame["n"] = frame["n"].fillna(0).astype(int)
    if layout.spread == "bca":
        scored = values[~values["column"].isin(SPEED)]
        frame = frame.merge(bca_ends(scored, by), how="left", on=by)
    frame = frame.merge(cells, on=KEYS)
    pairs = _pairs(values[~values["identity"].isin(bounds(frames))]) if layout.marks else pd.DataFrame()
    if layout.marks:
        frame = frame.merge(_marks(pairs), how="left", on=by)
        frame["mark"] = frame["mark"].fillna("")
    final = describe(_of(frames, ["acc"]), KEYS)["mean"].rename("order").reset_index()
    frame = frame.merge(final, how="left", on=KEYS)
    order = ["suite", "scenario", "order", "identity"]
    frame = frame.sort_values(order, ascending=[True, True, False, True], na_position="last", kind="stable")
    return frame.drop(columns="order").reset_index(drop=True), pairs


def _of(frames: Frames, scores: Sequence[str]) -> pd.DataFrame:
    """Return the values of scores."""
    found = frames.scores[frames.scores["score"].isin(scores)]
    return found[[*KEYS, "strategy", "seed", "score", "value"]].rename(columns={"score": "column"})


def _values(frames: Frames, names: Sequence[str] | None, layout: Layout) -> tuple[pd.DataFrame, list[str]]:
    """Return all values of the table, a row per cell and column, and the columns in order."""
    scores = list(chosen_scores(names, layout))
    shown = [*KEYS, "strategy", "seed", "column", "value"]
    parts = [_of(frames, ["acc"] if layout.per_task else scores)]
    if layout.per_task:
        test = frames.matrix[
            (frames.matrix["split"] == "test") & frames.matrix["key"].isin(frames.scores["key"])
        ]
        last = test[test["i"] == test.groupby("key")["i"].transform("max")]
        parts.insert(0, last.assign(column="task " + last["j"].astype(str))[shown])
        tasks = range(1, int(last["j"].max()) + 1) if len(last) else range(0)
        scores = [*(f"task {j}" for j in tasks), "acc"]
    done = frames.cells[frames.cells["status"] == "done"]
    for name in SPEED:
        parts.append(done.assign(column=name, value=done[name].astype(float))[shown])
    return pd.concat([p for p in parts if len(p)] or parts[:1], ignore_index=True), [*scores, *SPEED]


def _every(rows: pd.DataFrame, columns: list[str], values: pd.DataFrame) -> pd.DataFrame:
    """Return every row with every column of its suite and scenario, whether there is a value or not."""
    frame = rows.merge(pd.DataFrame({"column": columns}), how="cross")
    tasks = frame["column"].str.startswith("task ")
    there = values[["suite", "scenario", "column"]].drop_duplicates().assign(there=True)
    frame = frame.merge(there, how="left", on=["suite", "scenario", "column"])
    return frame[~tasks | frame["there"].notna()].drop(columns="there")  # suites differ in their tasks


def bca_ends(values: pd.DataFrame, by: Sequence[str]) -> pd.DataFrame:
    """Return the BCa interval of every group, those with as many values side by side."""
    found = values.dropna(subset=["value"])
    groups = found.sort_values("seed", kind="stable").groupby(list(by))["value"].agg(list)
    rows = []
    for n, alike in groups.groupby(groups.map(len)):
        low, high = bca(np.array(alike.tolist()).reshape(-1, int(n)))
        rows.append(pd.DataFrame({"bca_low": low, "bca_high": high}, index=alike.index))
    empty = pd.DataFrame(columns=[*by, "bca_low", "bca_high"])
    return pd.concat(rows).reset_index() if rows else empty


def higher_is_better(column: str) -> bool:
    """Return whether more is better in a column: a score, a task's score or a speed."""
    return SCORES[column].higher_is_better if column in SCORES else column != "seconds_per_seed"


def _pairs(values: pd.DataFrame) -> pd.DataFrame:
    """Compare, in every column that is a score or a task, every strategy with the one of the best mean."""
    found = values[~values["column"].isin(SPEED)]
    rows = []
    for (suite, scenario, column), part in found.dropna(subset=["value"]).groupby(
        ["suite", "scenario", "column"], sort=False
    ):
        table = part.pivot(index="seed", columns="identity", values="value")
        if table.shape[1] < 2:
            continue
        up = higher_is_better(str(column))
        means = table.mean() * (1 if up else -1)
        best = str(means.idxmax())
        compared = against(table, best, higher_is_better=up)
        compared["ties"] = np.isclose(means[compared.index], means[best], rtol=0, atol=1e-12)
        compared = compared.rename_axis("identity").reset_index()
        rows.append(compared.assign(suite=str(suite), scenario=str(scenario), column=str(column), rival=best))
    first = ["suite", "scenario", "column", "identity", "rival"]
    if not rows:
        return pd.DataFrame(columns=[*first, "verdict", "ties"])
    frame = pd.concat(rows, ignore_index=True)
    return frame[[*first, *frame.columns.difference(first, sort=False)]]


def _marks(pairs: pd.DataFrame) -> pd.DataFrame:
    """Return the mark of every strategy that took part; equal means are all the best."""
    words = {"worse": "worse", "not told apart": "close", "better": "close", "too few seeds": ""}
    others = pairs.assign(
        mark=pairs["verdict"].map(words).astype(object).where(~pairs["ties"].astype(bool), "best")
    )
    best = pairs.drop_duplicates(["suite", "scenario", "column"]).assign(mark="best")
    best = best.drop(columns="identity").rename(columns={"rival": "identity"})
    return pd.concat([others, best])[[*KEYS, "column", "mark"]]
