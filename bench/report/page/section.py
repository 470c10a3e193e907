"""A section of the page: the table of one suite and scenario, and the detail of each strategy.

Numbers, order and marks are those of ``bench.report.summary``; the script only shows them.
"""

import math
import re
from collections.abc import Container, Iterator, Sequence
from typing import Any

import pandas as pd

from bench.report.captions import caption, remarks_on_rows
from bench.report.families import families
from bench.report.figures import FIGURES, Drawn
from bench.report.figures.matrices import matrix_digits
from bench.report.figures.stream import stream_data
from bench.report.formats import MISSING, points
from bench.report.grid_texts import chosen_words, grid_caption, grid_header, grid_rows
from bench.report.latex import in_latex
from bench.report.layout import Layout, all_scores
from bench.report.page.comparisons import comparisons
from bench.report.parts import stem
from bench.report.score_names import (
    SPEED,
    axis,
    called,
    column_help,
    column_title,
    head,
    higher_is_better,
    in_words,
    part_title,
    top,
)
from bench.report.summary import Entry, rows
from bench.report.tables import by_part
from bench.results import Frames, Grid
from suites.base import Score

_DIGITS = re.compile(r"\d+\.\d{3,}")
_MOST_TASKS = 100
"""Number of tasks above which R, which grows with its square, is not on the page."""


def section(
    place: tuple[str, str],
    part: Frames,
    whole: Frames,
    numbers: pd.DataFrame,
    shown: Sequence[str],
    layout: Layout,
    compared: pd.DataFrame,
) -> dict[str, Any]:
    """Return the content of one suite and scenario on the page, without its figures.

    Args:
        place: The suite and scenario.
        part: The done cells of the suite and scenario.
        whole: All of its cells.
        numbers: Their ``summary``; empty if no setting of any grid is chosen.
        shown: The scores whose columns are visible at first.
        layout: How numbers are shown.
        compared: Its comparisons from ``every_comparison``; others are computed here.
    """
    suite, scenario = place
    score = whole.score_of(suite)
    there = set(numbers[numbers["n"] > 0]["column"]) if len(numbers) else ()
    columns = _columns(there, shown, score)
    found, of = rows(numbers, layout), families(whole)
    seeds = _seeds(whole)
    means, curves = _matrices(part.matrix), _streams(part)
    highest = [mean.max(axis=None) for mean in means.values()] + [c["mean"].max() for c in curves.values()]
    end = top(score, max(highest, default=0.0))
    pairs = comparisons(part, list(found), compared)
    given = numbers[numbers["column"].isin([c["key"] for c in columns])] if len(numbers) else numbers
    lines = remarks_on_rows(whole, shown, Layout(marks=True, origin=True))
    about = " ".join([*(f"{line}." for line in lines), caption(whole, given, layout)])
    title = part_title(suite, scenario)
    tables = by_part(whole, numbers[numbers["column"].isin((*shown, *SPEED))], layout) if len(numbers) else []
    return {
        "title": title,
        "columns": columns,
        "rows": [
            {
                "identity": name,
                "chosen": chosen_words(part, suite, scenario, name),
                "family": of[name],
                "done": row.done,
                "missing": row.missing,
                "cells": {c["key"]: _cell(row.entries[c["key"]]) for c in columns},
                "matrix": _matrix_texts(means.get(name), matrix_digits(end)),
                "stream": _curve(curves.get(name)),
                "seeds": seeds[name],
            }
            for name, row in found.items()
        ],
        "caption": f"{title}. {about}",
        "sorted": not whole.names,
        "grids": [_grid(grid, part) for grid in part.grids],
        "latex": "".join(in_latex(table, layout.columns) for table in tables),
        "score": {
            "on": axis(score, "Mean {}{unit} on task j (columns) after i tasks (rows)"),
            "so_far": axis(score, "{} on the tasks so far", share="Accuracy"),
            "label": f"{called(score, 'Accuracy')} on the tasks so far",
            "unit": f" {score.unit}" if score is not None and score.unit else "",
            "top": end,
        },
        "compared": {name: head(name, score) for name in pairs},
        "pairs": pairs,
    }


def _grid(grid: Grid, part: Frames) -> dict[str, Any]:
    """Return the table of all settings of a grid."""
    return {
        "name": grid.name,
        "about": grid_caption(grid, part),
        "header": grid_header(grid, part),
        "rows": [[entry.text for entry in row] for row in grid_rows(grid)],
        "open": not grid.chosen,
    }


def _columns(there: Container[str], shown: Sequence[str], score: Score | None) -> list[dict[str, Any]]:
    """Return the scores that some strategy has, the chosen ones first, then the speeds."""
    names = [name for name in all_scores(shown) if name in there or name == shown[0]]
    return [
        {
            "key": name,
            "title": column_title(name, score),
            "help": column_help(name, score),
            "shown": name in shown or name in SPEED,
            "best_end": "descending" if higher_is_better(name) else "ascending",
        }
        for name in [*names, *SPEED]
    ]


def _cell(entry: Entry) -> dict[str, Any]:
    """Return a cell of the table: its text, its mark, and the numbers behind it."""
    value, sd = ("" if x is None else f"{x:.7g}" for x in (entry.number, entry.sd))
    return {
        "mean": entry.mean,
        "spread": entry.spread,
        "mark": entry.mark,
        "value": value,
        "sd": sd,
        "n": entry.n,
    }


def _seeds(whole: Frames) -> dict[str, list[list[str]]]:
    """Return seed, status, final accuracy, seconds and reason of each of a strategy's cells, as text."""
    accuracy = whole.scores[whole.scores["score"] == "acc"].set_index("key")["value"].to_dict()
    found: dict[str, list[list[str]]] = {}
    for cell in whole.cells.sort_values("seed").to_dict("records"):
        seconds = cell["seconds_per_seed"]
        row = [str(cell["seed"]), cell["status"], points(accuracy.get(cell["key"], math.nan))]
        row += [MISSING if pd.isna(seconds) else f"{seconds:.1f}", cell["why"]]
        found.setdefault(str(cell["identity"]), []).append(row)
    return found


def _matrices(matrix: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """Return the mean R of every strategy that has one; an entry that some seeds lack is left out."""
    n_tasks = int(matrix["j"].max()) if len(matrix) else 0
    if n_tasks > _MOST_TASKS:
        return {}
    of_entries = matrix.groupby(["identity", "i", "j"])["value"]
    seeds = matrix.groupby("identity")["key"].nunique()
    means = of_entries.mean().where(of_entries.count().eq(seeds, level="identity"))
    found = {
        str(name): entries.droplevel("identity").unstack("j").reindex(range(n_tasks + 1))
        for name, entries in means.groupby("identity")
    }
    return {name: mean for name, mean in found.items() if mean.iloc[-1].notna().any()}


def _streams(part: Frames) -> dict[str, pd.DataFrame]:
    """Return mean and half-interval of the score on the tasks so far, by tasks learned, of every strategy
    that was measured after each of them."""
    n_tasks = part.matrix.groupby("identity")["j"].nunique()
    curves = {str(name): curve[["mean", "half"]] for name, curve in stream_data(part).groupby("identity")}
    return {name: curve for name, curve in curves.items() if len(curve) >= n_tasks[name]}


def _matrix_texts(mean: pd.DataFrame | None, digits: int) -> list[list[str]] | None:
    return None if mean is None else [[points(v, digits) for v in row] for row in mean.to_numpy()]


def _curve(curve: pd.DataFrame | None) -> list[list[Any]] | None:
    """Return mean, half-interval and text of every point."""
    if curve is None:
        return None
    return [[_number(mean), _number(half), points(mean, 1)] for mean, half in curve.to_numpy()]


def _number(value: float) -> float | None:
    """Return a number for JSON with seven digits, None for NaN."""
    return None if math.isnan(value) else float(f"{value:.7g}")


def figures_of(
    suite: str, scenario: str, score: Score | None, drawn: Sequence[Drawn]
) -> Iterator[dict[str, Any]]:
    """Yield the figures of a suite and scenario as the page holds them."""
    for figure in drawn:
        about = (FIGURES[figure.name].__doc__ or figure.name).splitlines()[0].removeprefix("Draw ")
        caption = in_words(score, about[0].upper() + about[1:].rstrip(".") + ".")
        name = re.sub(r"[^\w.-]+", "-", f"{stem(suite, scenario)}-{figure.name}")
        yield {
            "svg": inline(figure.svg, name),
            "caption": caption,
            "alternative": f"{caption} {part_title(suite, scenario)}. Its data can be downloaded below.",
            "file": name,
            "csv": figure.csv,
            "map": figure.name == "confusion",
            "tips": {part: [tip.series, tip.texts] for part, tip in figure.tips.items()},
        }


def inline(svg: str, name: str) -> str:
    """Return an SVG without its prologue, its identifiers made unique in the page."""
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    svg = re.sub(r'\bid="', f'id="{name}-', svg)
    svg = re.sub(r'(url\(#|href="#)', rf"\g<1>{name}-", svg)
    # Less than a hundredth of a point is not seen in coordinates; numbers in texts stay.
    return re.sub(r"<[^>]+>", lambda tag: _DIGITS.sub(lambda m: f"{float(m[0]):.2f}", tag[0]), svg)
