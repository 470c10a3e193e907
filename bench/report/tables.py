"""Tables of a run: one per suite and scenario, strategies as rows, scores as columns."""

from __future__ import annotations

import math
import re
from collections.abc import Hashable, Iterator, Sequence
from typing import Any

import pandas as pd
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from bench.frames import Frames
from bench.metrics import SCORES
from bench.stats import Summary, summarise
from suites.errors import unknown

DEFAULT = ("acc", "forgetting", "bwt", "fwt", "aia", "learning_acc")
SPEED = ("samples_per_second", "seconds_per_seed")
_TITLES = {"samples_per_second": "samples/s", "seconds_per_seed": "s/seed"}
CAPTION = "Scores in percent: mean ± half-width of the 95 % t interval over n seeds; – where not defined."


def chosen_scores(names: Sequence[str] | None) -> tuple[str, ...]:
    """Return the columns asked for, the default ones for None; raises UserError for an unknown score."""
    for name in names or ():
        if name not in SCORES:
            raise unknown("score", name, list(SCORES))
    return tuple(names or DEFAULT)


def summary(frames: Frames, names: Sequence[str] | None = None) -> pd.DataFrame:
    """Return one row per suite, scenario, identity and column: mean, half, low, high, sd, n.

    Columns are the scores, as proportions, then samples per second and seconds per seed. Rows are in the
    order of the final accuracy, highest first.
    """
    rows = []
    wanted = chosen_scores(names)
    scores = frames.scores[frames.scores["score"].isin([*wanted, "acc"])]
    grouped = dict(list(scores.groupby(["suite", "scenario", "identity"])))
    for (suite, scenario, identity), cells in frames.cells.groupby(["suite", "scenario", "identity"]):
        part = grouped.get((suite, scenario, identity))
        values = {} if part is None else {k: g["value"].tolist() for k, g in part.groupby("score")}
        done = cells[cells["status"] == "done"]
        columns = {name: summarise(values.get(name, ())) for name in dict.fromkeys([*wanted, "acc"])}
        columns |= {name: summarise(done[name].astype(float).tolist()) for name in SPEED}
        order = columns["acc"].mean
        for name in (*wanted, *SPEED):
            rows.append(
                {"suite": suite, "scenario": scenario, "identity": identity, "column": name, "order": order}
                | _flat(columns[name])
                | {"cells": len(cells), "done": len(done)}
            )
    frame = pd.DataFrame(rows)
    if frame.empty:
        return frame
    keys = ["suite", "scenario", "order", "identity"]
    sorted_ = frame.sort_values(keys, ascending=[True, True, False, True], na_position="last", kind="stable")
    return sorted_.drop(columns="order").reset_index(drop=True)


def _flat(s: Summary) -> dict[str, float]:
    return {
        "mean": s.mean,
        "half": s.half,
        "low": s.mean - s.half,
        "high": s.mean + s.half,
        "sd": s.sd,
        "n": s.n,
    }


def _parts(frames: Frames, names: Sequence[str] | None) -> Iterator[tuple[str, list[str], list[list[str]]]]:
    """Yield title, header and rows of each table, as text."""
    frame = summary(frames, names)
    if frame.empty:
        return
    columns = [*chosen_scores(names), *SPEED]
    header = ["strategy", "n", *(_TITLES.get(c, c) for c in columns)]
    for (suite, scenario), part in frame.groupby(["suite", "scenario"]):
        rows = []
        for identity, row in part.groupby("identity", sort=False):
            cells = {r["column"]: r for r in row.to_dict("records")}
            first = cells[columns[0]]
            missing = first["cells"] - first["done"]
            n = f"{first['done']}" + (f" (+{missing} not done)" if missing else "")
            rows.append([str(identity), n, *(_cell(c, cells[c]) for c in columns)])
        yield f"{suite}, {scenario}-incremental" if scenario != "online" else f"{suite}, online", header, rows


def _cell(column: str, row: dict[Hashable, Any]) -> str:
    mean, half = row["mean"], row["half"]
    if math.isnan(mean):
        return "–"
    if column in SPEED:
        return f"{mean:,.0f}" if mean >= 100 else f"{mean:.2g}"
    return f"{100 * mean:.2f}" + ("" if math.isnan(half) else f" ± {100 * half:.2f}")


def _why(frames: Frames) -> list[str]:
    """Return a line for each kind of cell that is not done."""
    bad = frames.cells[frames.cells["status"] != "done"]
    lines = []
    for (status, suite, scenario, identity, why), part in bad.groupby(
        ["status", "suite", "scenario", "identity", "why"]
    ):
        lines.append(f"{status}: {suite} {scenario} {identity}, {len(part)} seeds: {why}")
    return lines


def print_tables(frames: Frames, console: Console, names: Sequence[str] | None = None) -> None:
    """Print the tables to a terminal."""
    for title, header, rows in _parts(frames, names):
        table = Table(title=escape(title), title_justify="left")
        for i, name in enumerate(header):
            table.add_column(name, justify="right" if i else "left", overflow="fold")
        for row in rows:
            table.add_row(*map(escape, row))
        if not console.is_terminal:  # a pipe has no width: there the table is as wide as it needs to be
            console.width = max(console.width, Console(width=10_000).measure(table).maximum)
        console.print(table)
    for line in _why(frames):
        console.print(escape(line))
    console.print(CAPTION)


def markdown(frames: Frames, names: Sequence[str] | None = None) -> str:
    """Return the tables in Markdown."""
    lines = []
    for title, header, rows in _parts(frames, names):
        lines += [f"**{_plain(title)}**", "", _row(header), _row(["---", *["---:"] * (len(header) - 1)])]
        lines += [*(_row([_plain(c) for c in row]) for row in rows), ""]
    lines += [_plain(line) for line in _why(frames)]
    return "\n".join([*lines, CAPTION, ""])


def _row(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _plain(text: str) -> str:
    """Escape what Markdown would take as markup."""
    return re.sub(r"([\\`*_\[\]<>|~])", r"\\\1", text)
