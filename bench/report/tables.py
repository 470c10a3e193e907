"""Tables of a run: strategies as rows, scores, tasks or suites as columns.

``summary`` decides numbers and marks, ``tables`` arranges them as text; a terminal, Markdown and LaTeX
(``bench.report.latex``) differ only in how they write that text.
"""

import html
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import pandas as pd
from rich.console import Console
from rich.markup import escape

from bench.report.captions import caption, remarks
from bench.report.families import bounds, families, place
from bench.report.formats import CLOSE, MISSING
from bench.report.grid_texts import chosen_words, grid_caption, grid_header, grid_rows
from bench.report.layout import Layout, chosen_scores
from bench.report.origin import origin
from bench.report.pairs import significance
from bench.report.row_order import order_over_suites
from bench.report.score_names import SPEED, column_title, head, in_column, part_title, scenario_words
from bench.report.summary import (
    Entry,
    entry,
    every_number,
    numbers_in_tables,
    rows,
    scores_in_tables,
)
from bench.report.text_tables import empty_table, line, plain, print_table
from bench.report.tuned_rows import NOT_TUNED, TUNING_CAPTION, TUNING_HEADER, not_tuned, tuning_rows
from bench.results import Frames, Grid
from bench.stats import SCORES


@dataclass(frozen=True)
class TextTable:
    """A table as text; a row of one entry is the heading of those below it."""

    title: str
    header: tuple[str, ...]
    rows: tuple[tuple[Entry, ...], ...]
    caption: str
    """What a reader of this table alone needs: units, spread, marks; not the origin of the numbers."""


@dataclass(frozen=True)
class Tables:
    """A run's tables, as text."""

    numbers: pd.DataFrame
    """See ``summary``."""
    pairs: pd.DataFrame
    """See ``every_number``."""
    shown: tuple[TextTable, ...]
    remarks: tuple[str, ...]
    """Lines below the tables on cells that are not done, not shown, not defined, or stale."""
    caption: str
    """Units, spread, marks and, with ``layout.origin``, the origin of all tables."""
    origin: tuple[str, ...]
    """Where the numbers are from, in sentences; empty without ``layout.origin``."""
    significance: tuple[str, ...] = ()
    """Lines for the terminal on significant differences, with ``layout.marks``."""


def tables(
    frames: Frames,
    names: Sequence[str] | None = None,
    layout: Layout | None = None,
    every: tuple[pd.DataFrame, pd.DataFrame] | None = None,
) -> Tables:
    """Return the tables of a run, strategies as rows; raises UserError for an unknown score.

    ``every`` has the numbers of all scores, if they are known; see ``every_number``.
    """
    layout = layout or Layout()
    scores = chosen_scores(names, layout)
    every = every or every_number(frames, scores_in_tables(scores, layout), layout)
    numbers, pairs = numbers_in_tables(every, scores, layout)
    shown: list[TextTable] = []
    if len(numbers):
        shown = _wide(frames, numbers, scores, layout) if layout.wide else by_part(frames, numbers, layout)
        shown = shown if layout.wide else _with_tuning(frames, numbers, shown)
    shown += [_of_grid(grid, frames) for grid in frames.grids if not grid.chosen]
    lines = tuple(remarks(frames, scores, layout))
    first = scores if names and not layout.wide else scores[:1]
    differences = tuple(significance(pairs, frames, first)) if len(pairs) else ()
    sources = tuple(origin(frames)) if layout.origin else ()
    words = caption(frames, numbers, layout)
    return Tables(numbers, pairs, tuple(shown), lines, words, sources, differences)


def by_part(frames: Frames, numbers: pd.DataFrame, layout: Layout) -> list[TextTable]:
    """Return a table for each suite and scenario in ``numbers``, of ``summary``, with their columns."""
    out, apart = [], bounds(frames)
    for (suite, scenario), part in numbers.groupby(["suite", "scenario"]):
        columns = [c for c in part["column"].unique() if not (layout.per_task and c in SPEED)]
        shown, untuned = {}, not_tuned(frames, str(suite), str(scenario))
        for identity, row in rows(part, layout).items():
            more = f" {NOT_TUNED}" if identity in untuned else ""
            more += chosen_words(frames, str(suite), str(scenario), identity)
            shown[identity] = (Entry(identity, more), Entry(row.n), *(row.entries[c] for c in columns))
        score = frames.score_of(str(suite))
        header = ("strategy", "n", *(column_title(c, score) for c in columns))
        title = part_title(str(suite), str(scenario))
        words = caption(frames, part, replace(layout, origin=False), apart)
        out.append(TextTable(title, header, _grouped(shown, layout, frames), words))
    return out


def _with_tuning(frames: Frames, numbers: pd.DataFrame, shown: list[TextTable]) -> list[TextTable]:
    """Return the tables of ``by_part``, each followed by how its rows were tuned, if any was."""
    out = []
    for ((suite, scenario), _), table in zip(numbers.groupby(["suite", "scenario"]), shown, strict=True):
        names = [row[0].mean for row in table.rows if len(row) > 1]
        found = tuning_rows(frames, str(suite), str(scenario), names)
        entries = tuple(tuple(map(Entry, row)) for row in found)
        out.append(table)
        if found:
            out.append(TextTable(f"{table.title}: tuning", TUNING_HEADER, entries, TUNING_CAPTION))
    return out


def _of_grid(grid: Grid, frames: Frames) -> TextTable:
    """Return the table of all settings of a grid."""
    title = f"{part_title(*grid.place)}: {grid.name}"
    return TextTable(title, grid_header(grid, frames), grid_rows(grid), grid_caption(grid, frames))


def _wide(frames: Frames, numbers: pd.DataFrame, scores: Sequence[str], layout: Layout) -> list[TextTable]:
    """Return a table per scenario and score, suites as columns."""
    out = []
    for scenario, of_scenario in numbers.groupby("scenario"):
        suites = sorted(of_scenario["suite"].unique())
        for score in scores:
            part = of_scenario[of_scenario["column"] == score]
            by = {(r["identity"], r["suite"]): r for r in part.to_dict("records")}
            shown = {}
            for identity in order_over_suites(frames, part):
                found = [by.get((identity, suite)) for suite in suites]
                counts = [r["n"] for r in found if r is not None and r["n"]]
                # If n differs between suites, each entry shows its own.
                usual = counts[0] if len(set(counts)) == 1 else -1
                n = str(usual) if usual > 0 else f"{min(counts)}–{max(counts)}" if counts else "0"
                texts = [Entry(MISSING) if r is None else entry(r, layout, usual) for r in found]
                shown[identity] = (Entry(identity), Entry(n), *texts)
            title = f"{head(score, frames.score)}, {scenario_words(str(scenario))}"
            header = ("strategy", "n", *(in_column(suite, frames) for suite in suites))
            words = caption(frames, part, replace(layout, origin=False))
            out.append(TextTable(title, header, _grouped(shown, layout, frames), words))
    return out


def _grouped(
    shown: dict[str, tuple[Entry, ...]], layout: Layout, frames: Frames
) -> tuple[tuple[Entry, ...], ...]:
    """Return the rows, grouped by family with layout.by_family."""
    if not layout.by_family:
        return tuple(shown.values())
    of = families(frames)
    out: list[tuple[Entry, ...]] = []
    for name in sorted({of[identity] for identity in shown}, key=place):
        out += [(Entry(name),), *(row for identity, row in shown.items() if of[identity] == name)]
    return tuple(out)


def print_tables(made: Tables, console: Console) -> None:
    """Print tables to a terminal."""
    for shown in made.shown:
        table = empty_table(shown.header, shown.title)
        for row in shown.rows:
            if len(row) == 1:
                table.add_section()
                table.add_row(f"[italic]{escape(row[0].text)}[/italic]")
            else:
                table.add_row(*(_marked(entry, escape, "[bold]{}[/bold]") for entry in row))
        print_table(table, console)
    for words in [*made.significance, *made.remarks, made.caption]:
        console.print(escape(words))


def _marked(entry: Entry, escaped: Callable[[str], str], bold: str) -> str:
    """Return an entry as a form writes it: escaped, with its mark; ``bold`` has a place for the best."""
    text = escaped(entry.text)
    if entry.mark == "best":
        return bold.format(text)
    return f"{text} {CLOSE}" if entry.mark == "close" else text


def in_html(made: Tables) -> str:
    """Return tables as plain HTML; names are escaped."""
    parts = []
    for shown in made.shown:
        head = "".join(f"<th>{html.escape(name)}</th>" for name in shown.header)
        cells = ([_marked(entry, html.escape, "<b>{}</b>") for entry in row] for row in shown.rows)
        rows = "".join(f"<tr>{''.join(f'<td>{cell}</td>' for cell in row)}</tr>" for row in cells)
        title = f"<caption>{html.escape(shown.title)}</caption>"
        parts.append(f"<table>{title}<thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table>")
    return "".join([*parts, *(f"<p>{html.escape(words)}</p>" for words in [*made.remarks, made.caption])])


def markdown(frames: Frames, names: Sequence[str] | None = None, layout: Layout | None = None) -> str:
    """Return the tables in Markdown."""
    return in_markdown(tables(frames, names, layout))


def in_markdown(made: Tables) -> str:
    """Return tables in Markdown; names are escaped."""
    lines = []
    for shown in made.shown:
        blank = [""] * (len(shown.header) - 1)
        # The names of scores are ours, and need no escaping; those of suites may.
        header = [name if name in SCORES else plain(name) for name in shown.header]
        lines += [f"**{plain(shown.title)}**", "", line(header), line(["---", *("---:" for _ in blank)])]
        for row in shown.rows:
            heading = [f"*{plain(row[0].text)}*", *blank]
            cells = [_marked(entry, plain, "**{}**") for entry in row]
            lines.append(line(heading if len(row) == 1 else cells))
        lines.append("")
    return "\n".join([*lines, *map(plain, [*made.remarks, made.caption]), ""])
