"""All figures of a run, into a folder."""

import io
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib as mpl
import pandas as pd
from joblib import Parallel, delayed
from joblib.externals.loky.process_executor import BrokenProcessPool
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.backends.backend_pdf import FigureCanvasPdf
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure

from bench.lifeline import follow
from bench.report.csv_text import csv_text
from bench.report.figures.bars import bars
from bench.report.figures.boundaries import boundaries
from bench.report.figures.confusion import confusion
from bench.report.figures.looks import TWO_COLUMNS, Looks, looks_of, style
from bench.report.figures.matrices import matrices, matrix
from bench.report.figures.pareto import pareto
from bench.report.figures.ranks import ranks
from bench.report.figures.response import response
from bench.report.figures.schedules import schedules
from bench.report.figures.stability import stability
from bench.report.figures.stream import stream
from bench.report.figures.tasks import tasks
from bench.report.parts import by_scenario, part_names, parts, stem
from bench.results import Frames
from suites.errors import EnvironmentFault

Draw = Callable[[Frames, Looks], tuple[Figure, pd.DataFrame] | None]
"""Returns a figure and its data, None if it has nothing to show."""

_OF_PART: tuple[Draw, ...] = (
    stream, tasks, bars, matrices, matrix, confusion, stability, pareto, boundaries, response, schedules,
)  # fmt: skip
FIGURES = {draw.__name__: draw for draw in _OF_PART}
"""Figures of one suite and scenario."""
ACROSS: dict[str, Draw] = {"ranks": ranks}
"""Figures of one scenario, over its suites."""
NOT_ON_PAGE = ("matrix", "matrices", *ACROSS)
"""The page shows each strategy's matrix in its detail: all of them would be half of it; it shows no suites
together."""

_MANY = 4
"""Number of suites and scenarios from which processes save more time than they cost."""


@dataclass(frozen=True)
class Drawn:
    """A figure as the page embeds it."""

    name: str
    svg: str
    csv: str
    """Its data."""


def begin_figures(
    frames: Frames, folder: Path | None = None, width: float = TWO_COLUMNS
) -> Iterator[tuple[str, list[Drawn]]]:
    """Draw all figures, each once, and write them into a folder if one is given.

    Yields the ``stem`` of each suite and scenario with the figures that the page shows. Many suites and
    scenarios are drawn in parallel processes, which get one at a time; few are drawn one by one, as the
    caller iterates.
    """
    if folder is not None:
        folder.mkdir(parents=True, exist_ok=True)
    looks = looks_of(frames).at(width)
    if folder is not None:
        for scenario, part in by_scenario(frames):
            _make_part(stem("suites", scenario), part, ACROSS, looks, folder)
    n_parts = len(part_names(frames))
    jobs = min(n_parts, os.cpu_count() or 1) if n_parts >= _MANY else 1
    begun = ((stem(suite, scenario), part, FIGURES) for suite, scenario, part in parts(frames))
    made = Parallel(jobs, return_as="generator")
    return _unless_killed(made(delayed(_part_of)(os.getpid(), *part, looks, folder) for part in begun))


def _unless_killed(made: Iterator[tuple[str, list[Drawn]]]) -> Iterator[tuple[str, list[Drawn]]]:
    try:
        yield from made
    except BrokenProcessPool as error:
        why = "a process that draws figures was killed, by the system or by somebody"
        raise EnvironmentFault(f"{why}: if memory is short, close other programs") from error


def _part_of(parent: int, *part: Any) -> tuple[str, list[Drawn]]:
    """Draw the figures of a part, in a process that ends with its parent."""
    if os.getpid() != parent:
        follow(parent)
    return _make_part(*part)


def _make_part(
    place: str, part: Frames, registry: dict[str, Draw], looks: Looks, folder: Path | None
) -> tuple[str, list[Drawn]]:
    """Draw the figures of one part of a report; return its stem and those that a page shows."""
    drawn = []
    for name, draw in registry.items():
        on_page = name not in NOT_ON_PAGE
        made = draw(part, looks) if on_page or folder is not None else None
        if made is None:
            continue
        if on_page:
            csv = csv_text(made[1], "%.6g")
            drawn.append(Drawn(name, _with_letters(made[0]), csv))
        if folder is not None:
            save(*made, folder / f"{place}-{name}")
    return place, drawn


def _with_letters(figure: Figure) -> str:
    """Return a figure as SVG with text as text: a third of the size of outlines, and it can be searched."""
    buffer = io.StringIO()
    with style(), mpl.rc_context({"svg.fonttype": "none"}):
        FigureCanvasSVG(figure).print_svg(buffer, metadata={"Date": None})
    return buffer.getvalue()


def save(figure: Figure, data: pd.DataFrame, stem: Path) -> Path:
    """Write a figure in three formats and its data; return the PNG's path."""
    # The name of a suite may contain a dot, which with_suffix would treat as a suffix.
    files = {kind: stem.with_name(f"{stem.name}.{kind}") for kind in ("csv", "pdf", "svg", "png")}
    files["csv"].write_text(csv_text(data), encoding="utf-8")
    for kind in ("pdf", "svg", "png"):
        write(figure, files[kind])
    return files["png"]


def write(figure: Figure, path: Path) -> None:
    """Write a figure in the format its name ends with, the same bytes every time."""
    with style():
        # Figure.savefig draws twice, once for the layout. looks.finish has done that: half of the time.
        if path.suffix == ".pdf":
            FigureCanvasPdf(figure).print_pdf(path, metadata={"CreationDate": None})
        elif path.suffix == ".svg":
            FigureCanvasSVG(figure).print_svg(path, metadata={"Date": None})
        else:
            figure.dpi = mpl.rcParams["savefig.dpi"]
            FigureCanvasAgg(figure).print_png(path, metadata={"Software": None})
