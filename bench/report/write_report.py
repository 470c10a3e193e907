"""Writes everything of a report into one folder."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from rich.console import Console

from bench.report.across_suites import across
from bench.report.csv_text import csv_text
from bench.report.grid_texts import grid_settings
from bench.report.history_table import write_history
from bench.report.latex import latex
from bench.report.layout import (
    FORMATS,
    TWO_COLUMNS,
    Layout,
    all_scores,
    chosen_scores,
    default_formats,
)
from bench.report.pairs import both_families, every_comparison, scores_of_pairs
from bench.report.parts import part_names
from bench.report.summary import every_number
from bench.report.tables import Tables, in_markdown, print_tables, tables
from bench.report.tuned_rows import budget_data
from bench.results import Frames, Line
from suites.errors import UserError


def make_report(
    frames: Frames,
    folder: Path,
    scores: Sequence[str] | None = None,
    layout: Layout | None = None,
    date: str = "",
    console: Console | None = None,
    width: float = TWO_COLUMNS,
    formats: Sequence[str] = (),
    history: Sequence[Line] = (),
) -> Tables:
    """Write index.html, table.md, .tex and .csv, pairs.csv, across.csv and figures/; return the tables.

    pairs.csv compares each strategy with the best of its column, and all pairs; across.csv, and a section of
    table.md, rank strategies across suites where there are several; left_out.csv lists records that are not
    shown, grid.csv all settings of grids, tuning.csv has the expected best of k trials. ``history``, scores
    over revisions, gets history.md and a section of the page. To a console the tables are printed too, first
    of all.

    Raises:
        UserError: A score is unknown, or the folder cannot be written.
    """
    # Only here: matplotlib takes a second to import, and tables alone do without.
    from bench.report.figures import begin_figures
    from bench.report.page import make_page

    layout = replace(layout or Layout(origin=True), marks=True)
    shown = chosen_scores(scores, layout)
    n_parts = len(part_names(frames))
    kinds = formats or default_formats(n_parts)
    with writing_into(folder):
        figures = begin_figures(frames, folder / "figures", width, kinds)
    numbers, best = every_number(frames, all_scores(chosen_scores(scores)), layout)
    made = tables(frames, scores, layout, (numbers, best))
    if console is not None:
        print_tables(made, console)
        if not formats and kinds != FORMATS:
            more = "--formats pdf,svg,png for more"
            console.print(f"figures of {n_parts} suites and scenarios are SVG files only: {more}")
    ranked = across(frames, shown)
    with writing_into(folder):
        (folder / "table.md").write_text("\n".join([in_markdown(made), *ranked.lines]), encoding="utf-8")
        (folder / "table.tex").write_text(latex(made, layout.columns), encoding="utf-8")
        (folder / "table.csv").write_text(
            csv_text(made.numbers.drop(columns="untested", errors="ignore")), encoding="utf-8"
        )
        every = every_comparison(frames, scores_of_pairs(frames.scores["identity"].nunique(), shown))
        pairs = both_families(made.pairs, every)
        parts = {"pairs": pairs, "across": ranked.numbers, "left_out": frames.left_out}
        parts |= {"grid": grid_settings(frames.grids), "tuning": budget_data(frames)}
        for name, frame in parts.items():
            if len(frame):
                (folder / f"{name}.csv").write_text(csv_text(frame), encoding="utf-8")
        if history:
            write_history(history, folder)
        with (folder / "index.html").open("w", encoding="utf-8") as file:
            page = make_page(
                frames,
                scores,
                date,
                layout=layout,
                figures=figures,
                history=history,
                numbers=numbers,
                compared=every,
            )
            file.writelines(page)
    return made


@contextmanager
def writing_into(folder: Path) -> Iterator[None]:
    """Turn an OSError into a UserError."""
    try:
        yield
    except OSError as error:
        raise UserError(f"cannot write into {folder}: {error.strerror}") from None
