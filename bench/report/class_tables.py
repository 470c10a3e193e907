"""Precision, recall and F1 of every class after the last task: a table per strategy and split."""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product
from pathlib import Path

import pandas as pd
from rich.console import Console
from rich.markup import escape

from bench.report.csv_text import csv_text
from bench.report.layout import SPREADS, Layout
from bench.report.pairs import KEYS
from bench.report.parts import parts
from bench.report.row_order import by_final
from bench.report.score_names import part_title
from bench.report.summary import bca_ends, entry
from bench.report.text_tables import markdown_rows, plain, print_rows
from bench.report.write_report import writing_into
from bench.results import AVERAGES, SPLITS, Frames, by_class
from bench.stats import describe
from suites.errors import UserError

SCORES = ("precision", "recall", "f1")
HEADER = ("class", *SCORES, "support")
MOST_SHOWN, WORST = 20, 10
"""With more classes than ``MOST_SHOWN`` a terminal shows only the ``WORST`` by F1."""


@dataclass(frozen=True)
class ClassTable:
    """The classes of one strategy and split, as text."""

    title: str
    classes: tuple[tuple[str, ...], ...]
    worst: tuple[tuple[str, ...], ...]
    """The classes with the lowest F1, the lowest first."""
    averages: tuple[tuple[str, ...], ...]


@dataclass(frozen=True)
class ClassTables:
    """The tables of classes of a run, as text."""

    numbers: pd.DataFrame
    """See ``bench.results.per_class.by_class``."""
    shown: tuple[ClassTable, ...]
    caption: str


def class_tables(frames: Frames, layout: Layout | None = None) -> ClassTables:
    """Return a table for each suite, scenario, strategy (the most accurate first) and split.

    Raises:
        UserError: No cell has results by class.
    """
    layout, numbers = layout or Layout(), by_class(frames)
    if numbers.empty:
        raise UserError("no cell of this run has results by class; earlier versions did not record them")
    shown = []
    last = numbers[numbers["i"] == numbers.groupby(["key", "split"])["i"].transform("max")]
    found = dict(list(last.groupby([*KEYS, "split"])))
    for (suite, scenario, identity), split in product(_order(frames, last), SPLITS):
        part = found.get((suite, scenario, identity, split))
        if part is None:
            continue
        seeds = part["seed"].nunique()
        title = f"{part_title(suite, scenario)}, {identity}, {split} rows, n = {seeds}"
        rows = _rows(part, seeds, layout)
        classes = [r for r in rows if r[0] not in AVERAGES]
        worst = sorted(classes, key=lambda r: (r[1], r[0]))[:WORST]
        averages = [text for name, _, text in rows if name in AVERAGES]
        all_texts, worst_texts = (tuple(text for *_, text in rows) for rows in (classes, worst))
        shown.append(ClassTable(title, all_texts, worst_texts, tuple(averages)))
    caption = (
        "After the last task, in percent, as scikit-learn's classification_report defines them; "
        f"{SPREADS[layout.spread]} over n seeds."
    )
    return ClassTables(numbers, tuple(shown), caption)


def _order(frames: Frames, last: pd.DataFrame) -> Iterator[tuple[str, str, str]]:
    """Yield suite, scenario and strategy in the order of the other tables."""
    for suite, scenario, part in parts(frames):
        there = last[(last["suite"] == suite) & (last["scenario"] == scenario)]
        yield from ((suite, scenario, identity) for identity in by_final(part, there["identity"]))


def _rows(part: pd.DataFrame, seeds: int, layout: Layout) -> list[tuple[str, float, tuple[str, ...]]]:
    """Return name, mean F1 and text of every class, then of the averages, over the seeds of one strategy."""
    # If the seed decides which classes share a unit, seeds only share the number of the unit.
    alike = part.groupby("unit")["class"].transform("nunique") <= 1
    shared = alike | part["unit"].isna()
    part = part.assign(name=part["class"].where(shared, "unit " + part["unit"].astype(str)))
    order = [*part.sort_values("unit", kind="stable")["name"].drop_duplicates()]
    values = part.melt(["name", "seed", "support"], list(SCORES), "column")
    by = ["name", "column"]
    found = describe(values, by).reset_index()
    if layout.spread == "bca":
        found = found.merge(bca_ends(values, by), how="left", on=by)
    entries = {(r["name"], r["column"]): r for r in found.to_dict("records")}
    support = part.groupby("name")["support"].mean()
    rows = []
    for name in order:
        texts = [entry(entries[name, s], layout, seeds).text for s in SCORES]
        text = (str(name), *texts, f"{support[name]:.1f}".removesuffix(".0"))
        rows.append((str(name), float(entries[name, "f1"]["mean"]), text))
    return rows


def print_classes(made: ClassTables, console: Console) -> None:
    """Print the tables to a terminal; if there are many classes, only the worst."""
    for table in made.shown:
        few = len(table.classes) <= MOST_SHOWN
        remark = "" if few else f"; the {len(table.worst)} worst of {len(table.classes)} classes by F1"
        console.print(escape(table.title + remark))
        print_rows(HEADER, [*(table.classes if few else table.worst), *table.averages], console)
    console.print(escape(made.caption))


def write_classes(made: ClassTables, folder: Path) -> None:
    """Write classes.csv, every seed and number of tasks learned, and classes.md, the tables with all classes.

    Raises UserError for a folder that cannot be written.
    """
    parts = []
    for table in made.shown:
        rows = markdown_rows(HEADER, [*table.classes, *table.averages])
        parts.append(f"**{plain(table.title)}**\n\n{rows}\n")
    with writing_into(folder):
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "classes.md").write_text("\n".join([*parts, plain(made.caption), ""]), encoding="utf-8")
        (folder / "classes.csv").write_text(csv_text(made.numbers), encoding="utf-8")
