"""The numbers of a report with their text; the only place that decides them.

Terminal, Markdown, LaTeX, CSV, page, documents and figures use it. ``row_order`` decides the order of rows,
``pairs`` the marks. Strategies that train on rows of other tasks (joint, cumulative) are bounds: they are
shown, but never marked, ranked or compared with.
"""

import math
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from bench.report.families import bounds
from bench.report.formats import MISSING, interval, plus_minus, points, speed
from bench.report.layout import Layout, Spread, chosen_scores
from bench.report.pairs import KEYS, Mark, compared_with_best, marks
from bench.report.row_order import final_accuracy, name_places
from bench.report.score_names import SPEED
from bench.results import Frames
from bench.stats import SCORES, Ranking, bca, describe, rank


@dataclass(frozen=True)
class Entry:
    """A cell of a table: its text and its mark, which every output format writes in its own way."""

    mean: str
    """The number, or other text."""
    spread: str = ""
    """The rest of the text."""
    mark: Mark = ""
    number: float | None = None
    """None for text and for a number that is not defined."""
    sd: float | None = None
    """The standard deviation over seeds, None for text and where it is not defined."""
    n: int = 0
    """The number of values."""

    @property
    def text(self) -> str:
        """Mean and spread, without the mark."""
        return self.mean + self.spread


def entry(row: dict[Hashable, Any], layout: Layout, usual: int) -> Entry:
    """Return a mean with its spread as text; n is added if it is not ``usual``.

    ``row`` is one of ``summary``, or of ``bench.stats.describe`` with its ``column``.
    """
    mean, column, n = row["mean"], row["column"], row["n"]
    if math.isnan(mean):
        return Entry(MISSING)
    sd = None if math.isnan(row["sd"]) else row["sd"]
    if column in SPEED:
        return Entry(speed(mean), number=mean, sd=sd, n=n)
    if layout.spread == "bca":
        spread = interval(row["bca_low"], row["bca_high"])
    else:
        spread = plus_minus(row["half" if layout.spread == "ci" else layout.spread])
    more = f" (n = {n})" if n != usual else ""
    return Entry(points(mean), spread + more, row.get("mark", ""), mean, sd, n)


@dataclass(frozen=True)
class Row:
    """A strategy in a suite and scenario."""

    done: int
    missing: int
    """Cells that are not done."""
    entries: dict[str, Entry]
    """By column."""

    @property
    def n(self) -> str:
        """The number of done cells, and of those that are not done."""
        return f"{self.done}" + (f" (+{self.missing} not done)" if self.missing else "")


def rows(numbers: pd.DataFrame, layout: Layout) -> dict[str, Row]:
    """Return the rows of one suite and scenario by identity, in order, from their part of ``summary``."""
    found: dict[str, Row] = {}
    for row in numbers.to_dict("records"):
        done = row["done"]
        own = found.setdefault(str(row["identity"]), Row(done, row["cells"] - done, {}))
        own.entries[row["column"]] = entry(row, layout, done)
    return found


def competitors(frames: Frames, score: str) -> pd.DataFrame:
    """Return a score of all strategies except bounds, which are not ranked."""
    found = frames.scores[frames.scores["score"] == score]
    return found[~found["identity"].isin(bounds(frames))]


def rank_competitors(frames: Frames, score: str) -> Ranking | str:
    """Rank the competitors over suites and scenarios; return the reason if that is not possible."""
    return rank(competitors(frames, score), score)


def summary(frames: Frames, names: Sequence[str] | None = None, layout: Layout | None = None) -> pd.DataFrame:
    """Return one row per suite, scenario, identity and column, as numbers.

    Columns are the scores, as proportions, or the tasks (``layout.per_task``, with ``acc``), then samples per
    second and seconds per seed. Rows are in the order of the final accuracy, highest first. ``n`` is the
    number of values, ``cells`` and ``done`` that of the cells. With ``layout.spread`` bca the ends of that
    interval are included, with ``layout.marks`` the ``Mark``, and ``untested``: why there is no test; if
    there are grids, ``chosen``: the setting of a row that is one.
    """
    layout = layout or Layout()
    return every_number(frames, scores_in_tables(chosen_scores(names, layout), layout), layout)[0]


def every_number(frames: Frames, scores: Sequence[str], layout: Layout) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return ``summary`` of some scores, and of the tasks with ``layout.per_task``, and the comparisons.

    With ``layout.marks``, those behind the marks: a row per suite, scenario, column and strategy but the
    best, with the fields of ``bench.stats.paired.against``; ``rival`` is the best. A report computes all
    scores once; ``numbers_in_tables`` returns those that its tables show.
    """
    if frames.cells.empty:
        return pd.DataFrame(), pd.DataFrame()
    values, columns = _values(frames, scores, layout)
    by = [*KEYS, "column"]
    done = frames.cells.assign(done=frames.cells["status"] == "done").groupby(KEYS)["done"]
    cells = pd.DataFrame({"cells": done.size(), "done": done.sum()}).reset_index()
    frame = _with_every_column(cells[KEYS], columns, values).merge(
        describe(values, by).reset_index(), how="left", on=by
    )
    frame["n"] = frame["n"].fillna(0).astype(int)
    if layout.spread == "bca":
        scored = values[~values["column"].isin(SPEED)]
        frame = frame.merge(bca_ends(scored, by), how="left", on=by)
    frame = frame.merge(cells, on=KEYS).merge(_stale_and_left_out(frames), how="left", on=KEYS)
    pairs = pd.DataFrame()
    if layout.marks:
        pairs = compared_with_best(values[~values["identity"].isin(bounds(frames))])
        frame = frame.merge(marks(pairs), how="left", on=by)
        frame[["mark", "untested"]] = frame[["mark", "untested"]].fillna("")
    if frames.grids:
        chosen = {(*grid.place, grid.name): grid.chosen for grid in frames.grids}
        places = zip(frame["suite"], frame["scenario"], frame["identity"], strict=True)
        frame["chosen"] = [chosen.get(place, "") for place in places]
    frame = frame.merge(final_accuracy(frames, KEYS).rename("order").reset_index(), how="left", on=KEYS)
    place = name_places(frames)
    frame["place"] = [place.get(name, len(place)) for name in frame["identity"]]
    order, up = ["suite", "scenario", "place", "order", "identity"], [True, True, True, False, True]
    frame = frame.sort_values(order, ascending=up, na_position="last", kind="stable")
    return frame.drop(columns=["place", "order"]).reset_index(drop=True), pairs


def scores_in_tables(scores: Sequence[str], layout: Layout) -> Sequence[str]:
    """Return the scores that are columns of tables."""
    return ("acc",) if layout.per_task else scores


def numbers_in_tables(
    every: tuple[pd.DataFrame, pd.DataFrame], scores: Sequence[str], layout: Layout
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return the columns of tables from ``every_number``, which may have more."""
    hidden = {*SCORES} - {*scores_in_tables(scores, layout)}
    numbers, pairs = (part[~part["column"].isin(hidden)] if len(part) else part for part in every)
    return numbers.reset_index(drop=True), pairs.reset_index(drop=True)


def _stale_and_left_out(frames: Frames) -> pd.DataFrame:
    """Return the commits of stale records of each row, and the numbers and reasons of records left out."""
    stale = frames.cells.groupby(KEYS)["stale"].agg(lambda s: ", ".join(sorted({c for c in s if c})))
    why = frames.left_out.groupby(KEYS)["why"].value_counts().reset_index()
    words = (why["count"].astype(str) + " of " + why["why"]) if len(why) else why["why"]
    left_out = why.assign(left_out=words).groupby(KEYS)["left_out"].agg("; ".join)
    return pd.DataFrame({"stale": stale}).join(left_out).fillna("").reset_index()


def _values(frames: Frames, scores: Sequence[str], layout: Layout) -> tuple[pd.DataFrame, list[str]]:
    """Return all values of the table, a row per cell and column, and the columns in order."""
    shown, columns = [*KEYS, "seed", "column", "value"], [*scores, *SPEED]
    # Millions of rows in a large report: each is copied once.
    chosen = frames.scores["score"].isin(scores)
    parts = [frames.scores.loc[chosen, [*KEYS, "seed", "score", "value"]].set_axis(shown, axis=1)]
    if layout.per_task:
        test = frames.matrix[frames.matrix["split"] == frames.split]
        test = test[test["key"].isin(frames.scores["key"])]
        last = test[test["i"] == test.groupby("key")["i"].transform("max")]
        parts.insert(0, last.assign(column="task " + last["j"].astype(str))[shown])
        tasks = range(1, int(last["j"].max()) + 1) if len(last) else range(0)
        columns = [*(f"task {j}" for j in tasks), *columns]
    done = frames.cells[frames.cells["status"] == "done"]
    for name in SPEED:
        parts.append(done.assign(column=name, value=done[name].astype(float))[shown])
    return pd.concat([p for p in parts if len(p)] or parts[:1], ignore_index=True), columns


def _with_every_column(rows: pd.DataFrame, columns: list[str], values: pd.DataFrame) -> pd.DataFrame:
    """Return every row with every column of its suite and scenario, also without a value."""
    frame = rows.merge(pd.DataFrame({"column": columns}), how="cross")
    tasks = frame["column"].str.startswith("task ")
    there = values[["suite", "scenario", "column"]].drop_duplicates().assign(there=True)
    frame = frame.merge(there, how="left", on=["suite", "scenario", "column"])
    return frame[~tasks | frame["there"].notna()].drop(columns="there")  # suites differ in their tasks


def bca_ends(values: pd.DataFrame, by: Sequence[str]) -> pd.DataFrame:
    """Return the BCa interval of every group; groups of equal size are computed together."""
    found = values.dropna(subset=["value"])
    groups = found.sort_values("seed", kind="stable").groupby(list(by))["value"].agg(list)
    rows = []
    for n, alike in groups.groupby(groups.map(len)):
        low, high = bca(np.array(alike.tolist()).reshape(-1, int(n)))
        rows.append(pd.DataFrame({"bca_low": low, "bca_high": high}, index=alike.index))
    empty = pd.DataFrame(columns=[*by, "bca_low", "bca_high"])
    return pd.concat(rows).reset_index() if rows else empty


def summary_table(frames: Frames, scores: Sequence[str] | None, spread: Spread) -> pd.DataFrame:
    """Return ``summary`` with a row per strategy: n, and mean, spread and mark of each score."""
    layout = Layout(spread, marks=True)
    numbers, chosen = summary(frames, scores, layout), chosen_scores(scores, layout)
    if numbers.empty:
        return pd.DataFrame(columns=["suite", "scenario", "strategy", "n"])
    parts = {"mean": "", "mark": "_mark"}
    parts |= {"bca_low": "_low", "bca_high": "_high"} if spread == "bca" else {_SPREADS[spread]: f"_{spread}"}
    order = numbers[["suite", "scenario", "identity", "done"]].drop_duplicates().set_index(KEYS)
    columns = {"n": order["done"]}
    for score in chosen:
        own = numbers[numbers["column"] == score].set_index(KEYS)
        columns |= {score + suffix: own[name] for name, suffix in parts.items()}
    table = pd.DataFrame(columns, index=order.index).reset_index()
    return table.rename(columns={"identity": "strategy"})


_SPREADS = {"ci": "half", "sd": "sd", "sem": "sem"}
