"""All figures of a run, into a folder."""

import gc
import io
import os
from collections.abc import Callable, Iterator, Sequence
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

from bench.report.csv_text import csv_text
from bench.report.figures.bars import bars
from bench.report.figures.boundaries import boundaries
from bench.report.figures.confusion import confusion
from bench.report.figures.grid import grid
from bench.report.figures.looks import Looks, looks_of, style
from bench.report.figures.matrices import matrices, matrix
from bench.report.figures.pareto import pareto
from bench.report.figures.pgf import write_pgf
from bench.report.figures.ranks import ranks
from bench.report.figures.response import response
from bench.report.figures.schedules import schedules
from bench.report.figures.stability import stability
from bench.report.figures.stream import stream
from bench.report.figures.tasks import tasks
from bench.report.figures.tips import Drawing, Tip
from bench.report.figures.trials import trials
from bench.report.layout import FORMATS, MOST_PARTS, ONE_COLUMN, TWO_COLUMNS
from bench.report.parts import by_scenario, part_names, parts, stem
from bench.results import Frames
from suites.errors import EnvironmentFault
from suites.lifeline import follow

Draw = Callable[[Frames, Looks], tuple[Figure, pd.DataFrame] | None]
"""Returns a figure and its data, None if it has nothing to show."""

_OF_PART: tuple[Draw, ...] = (
    stream, tasks, bars, matrices, matrix, confusion, stability, pareto, boundaries, response, grid,
    schedules, trials,
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
    tips: dict[str, Tip]
    """What its parts show under the pointer, by their identifier in the SVG."""


def begin_figures(
    frames: Frames,
    folder: Path | None = None,
    width: float = TWO_COLUMNS,
    formats: Sequence[str] = FORMATS,
) -> Iterator[tuple[str, list[Drawn]]]:
    """Draw all figures for the page and, if a folder is given, write them into it.

    Those of the page are as wide as one column, so that several fit side by side and one fits a phone; in
    a report of very many suites and scenarios they are those of the folder. Yields the
    ``stem`` of each suite and scenario with the figures that the page shows. Many suites and scenarios are
    drawn in parallel processes, which get one at a time; few are drawn one by one, as the caller iterates.

    Args:
        frames: The runs.
        folder: Where figures are written.
        width: Of the figures in the folder, in inches.
        formats: In which they are written, beside their data.
    """
    if folder is not None:
        folder.mkdir(parents=True, exist_ok=True)
    looks, n_parts = looks_of(frames).at(width), len(part_names(frames))
    if folder is not None:
        for scenario, part in by_scenario(frames):
            _make_part(stem("suites", scenario), part, ACROSS, looks, looks, folder, formats)
    narrow = looks if folder is not None and n_parts > MOST_PARTS else looks.at(ONE_COLUMN)
    jobs = min(n_parts, os.cpu_count() or 1) if n_parts >= _MANY else 1
    begun = ((stem(suite, scenario), part, FIGURES) for suite, scenario, part in parts(frames))
    made = Parallel(jobs, return_as="generator")
    return _unless_killed(
        made(delayed(_part_of)(os.getpid(), *part, looks, narrow, folder, formats) for part in begun)
    )


def _unless_killed(made: Iterator[tuple[str, list[Drawn]]]) -> Iterator[tuple[str, list[Drawn]]]:
    try:
        yield from made
    except BrokenProcessPool as error:
        why = "a process that draws figures was killed, by the system or by a user"
        raise EnvironmentFault(f"{why}: if memory is short, close other programs") from error


def _part_of(parent: int, *part: Any) -> tuple[str, list[Drawn]]:
    """Draw the figures of a part, in a process that ends with its parent."""
    if os.getpid() != parent:
        follow(parent)
        if not gc.get_freeze_count():  # matplotlib makes cycles: each collection would visit all imports
            gc.freeze()
    return _make_part(*part)


def _make_part(
    place: str,
    part: Frames,
    registry: dict[str, Draw],
    looks: Looks,
    looks_on_page: Looks,
    folder: Path | None,
    formats: Sequence[str],
) -> tuple[str, list[Drawn]]:
    """Draw the figures of one part of a report; return its stem and those that a page shows."""
    drawn = []
    # Where no setting of any grid is chosen, there are no rows, and nothing else is to be drawn.
    for name, draw in (registry if len(part.cells) else {"grid": grid}).items():
        on_page = name not in NOT_ON_PAGE
        made = draw(part, looks_on_page) if on_page else None
        if made is not None:
            figure, data = made
            csv = csv_text(data, "%.6g")
            tips = figure.tips if isinstance(figure, Drawing) else {}
            drawn.append(Drawn(name, as_svg(figure), csv, tips))
        if folder is not None and not (on_page and made is None):
            if made is None or looks.width != looks_on_page.width:
                made = draw(part, looks)
            if made is not None:
                save(*made, folder / f"{place}-{name}", formats)
    return place, drawn


def as_svg(figure: Figure) -> str:
    """Return a figure as SVG with text as text: a third of the size of outlines, and it can be searched."""
    buffer = io.StringIO()
    with style(), mpl.rc_context({"svg.fonttype": "none"}):
        FigureCanvasSVG(figure).print_svg(buffer, metadata={"Date": None})
    return buffer.getvalue()


def save(figure: Figure, data: pd.DataFrame, stem: Path, formats: Sequence[str] = FORMATS) -> Path:
    """Write a figure in some formats, and its data as CSV; return the path of the last format."""
    # The name of a suite may contain a dot, which with_suffix would treat as a suffix.
    stem.with_name(f"{stem.name}.csv").write_text(csv_text(data), encoding="utf-8")
    # PGF comes last: its texts are TeX.
    for kind in sorted(formats, key="pgf".__eq__):
        write(figure, stem.with_name(f"{stem.name}.{kind}"))
    return stem.with_name(f"{stem.name}.{formats[-1]}")


def write(figure: Figure, path: Path) -> None:
    """Write a figure in the format its name ends with, the same bytes every time."""
    with style():
        # Figure.savefig draws twice, once for the layout. looks.finish has done that: half of the time.
        if path.suffix == ".pdf":
            FigureCanvasPdf(figure).print_pdf(path, metadata={"CreationDate": None})
        elif path.suffix == ".svg":
            FigureCanvasSVG(figure).print_svg(path, metadata={"Date": None})
        elif path.suffix == ".pgf":
            write_pgf(figure, path)
        else:
            figure.dpi = mpl.rcParams["savefig.dpi"]
            FigureCanvasAgg(figure).print_png(path, metadata={"Software": None})
