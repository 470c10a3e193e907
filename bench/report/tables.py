"""Tables of a run: strategies as rows, scores, tasks or suites as columns.

``summary`` holds the numbers, ``tables`` the same as text with what is best marked; a terminal, Markdown and
LaTeX (``bench.report.latex``) differ only in how they write that text.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from bench.report.families import bounds, families, place
from bench.report.origin import origin
from bench.report.score_names import head, heads, in_column, units
from bench.report.summary import SPEED, Layout, chosen_scores, higher_is_better, summary_and_pairs
from bench.report.text_tables import line, plain, print_table
from bench.results import Frames
from bench.stats import FEWEST, SCORES

_TITLES = {"samples_per_second": "samples/s", "seconds_per_seed": "s/seed"}
SPREADS = {
    "ci": "mean ± half-width of the 95 % t interval",
    "bca": "mean [95 % BCa bootstrap interval]",
    "sd": "mean ± standard deviation",
    "sem": "mean ± standard error of the mean",
}
CLOSE = "†"
"""Beside what is not significantly worse than the best."""


@dataclass(frozen=True)
class Entry:
    """One place of a table."""

    text: str
    best: bool = False
    close: bool = False
    """Not significantly worse than the best."""
    number: bool = False


@dataclass(frozen=True)
class TextTable:
    """A table as text; a row of one entry is the heading of those below it."""

    title: str
    header: tuple[str, ...]
    rows: tuple[tuple[Entry, ...], ...]


@dataclass(frozen=True)
class Tables:
    """A run's tables, ready to be written."""

    numbers: pd.DataFrame
    """See ``summary``."""
    pairs: pd.DataFrame
    """See ``summary_and_pairs``."""
    shown: tuple[TextTable, ...]
    not_done: tuple[str, ...]
    """A line for each kind of cell that is not done."""
    caption: str


def tables(frames: Frames, names: Sequence[str] | None = None, layout: Layout | None = None) -> Tables:
    """Return the tables of a run, strategies as rows; raises UserError for an unknown score."""
    layout = layout or Layout()
    (numbers, pairs), scores = summary_and_pairs(frames, names, layout), chosen_scores(names, layout)
    shown: list[TextTable] = []
    if len(numbers):
        shown = (_wide if layout.wide else _usual)(frames, numbers, scores, layout, families(frames))
    return Tables(numbers, pairs, tuple(shown), tuple(_not_done(frames)), _caption(frames, numbers, layout))


def _usual(
    frames: Frames,
    numbers: pd.DataFrame,
    scores: Sequence[str],
    layout: Layout,
    families: dict[str, str],
) -> list[TextTable]:
    """Return a table per suite and scenario."""
    out = []
    for (suite, scenario), part in numbers.groupby(["suite", "scenario"]):
        columns = [c for c in part["column"].unique() if not (layout.per_task and c in SPEED)]
        by_identity: dict[str, dict[str, dict[Hashable, Any]]] = {}
        for row in part.to_dict("records"):
            by_identity.setdefault(row["identity"], {})[row["column"]] = row
        rows = {}
        for identity, entries in by_identity.items():
            first = entries[columns[0]]
            missing = first["cells"] - first["done"]
            n = f"{first['done']}" + (f" (+{missing} not done)" if missing else "")
            texts = [entry(entries[c], layout, first["done"]) for c in columns]
            rows[identity] = (Entry(identity), Entry(n), *texts)
        score = frames.score_of(str(suite))
        header = ("strategy", "n", *(_TITLES.get(c) or head(c, score) for c in columns))
        title = f"{suite}, {scenario_words(str(scenario))}"
        out.append(TextTable(title, header, _grouped(rows, layout, families)))
    return out


def scenario_words(name: str) -> str:
    """Return a scenario as titles have it."""
    return name if name == "online" else f"{name}-incremental"


def _wide(
    frames: Frames,
    numbers: pd.DataFrame,
    scores: Sequence[str],
    layout: Layout,
    families: dict[str, str],
) -> list[TextTable]:
    """Return a table per scenario and score, suites as columns."""
    out = []
    for scenario, of_scenario in numbers.groupby("scenario"):
        suites = sorted(of_scenario["suite"].unique())
        for score in scores:
            part = of_scenario[of_scenario["column"] == score]
            mean = part.pivot(index="identity", columns="suite", values="mean")
            # Those that are everywhere first: a mean over fewer suites is not one over all.
            order = pd.DataFrame({"gaps": mean.isna().sum(axis=1), "mean": mean.mean(axis=1)}).reset_index()
            up = [True, not higher_is_better(score), True]
            ordered = order.sort_values(["gaps", "mean", "identity"], ascending=up, na_position="last")
            by = {(r["identity"], r["suite"]): r for r in part.to_dict("records")}
            rows = {}
            for identity in ordered["identity"]:
                found = [by.get((identity, suite)) for suite in suites]
                counts = [r["n"] for r in found if r is not None and r["n"]]
                # Where the suites differ in it, n stands in each entry.
                usual = counts[0] if len(set(counts)) == 1 else -1
                n = str(usual) if usual > 0 else f"{min(counts)}–{max(counts)}" if counts else "0"
                texts = [Entry("–") if r is None else entry(r, layout, usual) for r in found]
                rows[str(identity)] = (Entry(str(identity)), Entry(n), *texts)
            title = f"{head(score, frames.score)}, {scenario_words(str(scenario))}"
            header = ("strategy", "n", *(in_column(suite, frames) for suite in suites))
            out.append(TextTable(title, header, _grouped(rows, layout, families)))
    return out


def _grouped(
    rows: dict[str, tuple[Entry, ...]], layout: Layout, families: dict[str, str]
) -> tuple[tuple[Entry, ...], ...]:
    """Return the rows, with layout.by_family under the families' names."""
    if not layout.by_family:
        return tuple(rows.values())
    out: list[tuple[Entry, ...]] = []
    for name in sorted({families[identity] for identity in rows}, key=place):
        out += [(Entry(name),), *(row for identity, row in rows.items() if families[identity] == name)]
    return tuple(out)


def entry(row: dict[Hashable, Any], layout: Layout, usual: int) -> Entry:
    """Return a mean with its spread as text; ``usual`` is how many values the reader expects behind it.

    ``row`` is one of ``bench.stats.describe``, with its ``column``.
    """
    mean, column = row["mean"], row["column"]
    if math.isnan(mean):
        return Entry("–")
    if column in SPEED:
        return Entry(f"{mean:,.0f}" if mean >= 100 else f"{mean:.2g}", number=True)
    text = f"{100 * mean:.2f}"
    if layout.spread == "bca":
        low, high = row["bca_low"], row["bca_high"]
        text += "" if math.isnan(low) else f" [{100 * low:.2f}, {100 * high:.2f}]"
    else:
        spread = row["half" if layout.spread == "ci" else layout.spread]
        text += "" if math.isnan(spread) else f" ± {100 * spread:.2f}"
    if row["n"] != usual:
        text += f" (n = {row['n']})"
    return Entry(text, best=row.get("mark") == "best", close=row.get("mark") == "close", number=True)


def _caption(frames: Frames, numbers: pd.DataFrame, layout: Layout) -> str:
    """Return what must be known to read the tables: the spread and, as asked for, marks and origin."""
    words = [f"Scores {units(frames)}: {SPREADS[layout.spread]} over n seeds; – where not defined."]
    if len(numbers):
        scores = [frames.score] if layout.wide else [*dict.fromkeys(frames.declared.values())]
        words += filter(None, [heads(numbers["column"].unique(), *scores)])
    if layout.marks and len(numbers):
        words += _about_marks(frames, numbers)
    if layout.origin:
        words += origin(frames)
    return " ".join(words)


def _about_marks(frames: Frames, numbers: pd.DataFrame) -> list[str]:
    if not (numbers["mark"] == "best").any():
        return []
    apart_from = bounds(frames)
    named = ", ".join(sorted(apart_from))
    apart = f" ({named} apart: trained on all tasks at will)" if named else ""
    words = [f"Bold: best mean{apart}."]
    if (numbers["mark"] == "close").any():
        words.append(
            f"{CLOSE}: not significantly worse than the best (two-sided paired sign-flip test over "
            "common seeds, Holm over the column, 5 %)."
        )
    # Whoever took part in a column is best, close or worse there, or had too few seeds for a verdict.
    scored = numbers[~numbers["column"].isin(SPEED) & (numbers["n"] > 0)]
    took_part = scored[~scored["identity"].isin(apart_from)]
    rivals = took_part.groupby(["suite", "scenario", "column"])["identity"].transform("size") > 1
    if (took_part[rivals]["mark"] == "").any():
        words.append(
            f"No test, and no mark, where too few seeds are common with the best: below {FEWEST} pairs no "
            "difference can reach p < 0.05, and more are needed the more strategies are compared."
        )
    return words


def _not_done(frames: Frames) -> list[str]:
    bad = frames.cells[frames.cells["status"] != "done"]
    groups = bad.groupby(["status", "suite", "scenario", "identity", "why"])
    return [
        f"{status}: {suite} {scenario} {identity}, {len(part)} seeds: {why}"
        for (status, suite, scenario, identity, why), part in groups
    ]


def print_tables(made: Tables, console: Console) -> None:
    """Print tables to a terminal."""
    for shown in made.shown:
        table = Table(title=escape(shown.title), title_justify="left")
        for i, name in enumerate(shown.header):
            table.add_column(escape(name), justify="right" if i else "left", overflow="fold")
        for row in shown.rows:
            if len(row) == 1:
                table.add_section()
            table.add_row(*(f"[italic]{escape(row[0].text)}[/italic]",) if len(row) == 1 else map(_rich, row))
        print_table(table, console)
    for words in [*made.not_done, made.caption]:
        console.print(escape(words))


def _rich(entry: Entry) -> str:
    text = escape(entry.text) + (f" {CLOSE}" if entry.close else "")
    return f"[bold]{text}[/bold]" if entry.best else text


def markdown(frames: Frames, names: Sequence[str] | None = None, layout: Layout | None = None) -> str:
    """Return the tables in Markdown."""
    return in_markdown(tables(frames, names, layout))


def in_markdown(made: Tables) -> str:
    """Return tables in Markdown; names are shown as they are, whatever is in them."""
    lines = []
    for shown in made.shown:
        blank = [""] * (len(shown.header) - 1)
        # The names of scores are ours, and read as they stand; those of suites need not.
        header = [name if name in SCORES else plain(name) for name in shown.header]
        lines += [f"**{plain(shown.title)}**", "", line(header), line(["---", *("---:" for _ in blank)])]
        for row in shown.rows:
            lines.append(line([f"*{plain(row[0].text)}*", *blank] if len(row) == 1 else map(_markdown, row)))
        lines.append("")
    return "\n".join([*lines, *map(plain, [*made.not_done, made.caption]), ""])


def _markdown(entry: Entry) -> str:
    text = plain(entry.text)
    return f"**{text}**" if entry.best else f"{text} {CLOSE}" if entry.close else text
