"""One figure of a run, for Python, and the figure of a data set."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bench.report.layout import TWO_COLUMNS
from bench.report.parts import by_scenario, part_names, parts
from suites.errors import UserError, unknown

if TYPE_CHECKING:  # matplotlib takes a second to import
    from pathlib import Path

    import pandas as pd
    from matplotlib.figure import Figure

    from bench.results import Frames
    from suites.own.portrait import Portrait


def plot(
    frames: Frames, name: str, suite: str = "", scenario: str = "", width: float = TWO_COLUMNS
) -> tuple[Figure, pd.DataFrame]:
    """Return a figure of a report, and its data.

    Args:
        frames: The runs.
        name: The figure: ``stream``, ``tasks``, ``bars``, ``matrices``, ``matrix``, ``confusion``,
            ``stability``, ``pareto``, ``boundaries``, ``response``, ``grid``, ``schedules``,
            ``trials`` or ``ranks``.
        suite: The suite to show; needed where the runs have several (``ranks`` shows all).
        scenario: The scenario to show; needed where the runs have several.
        width: In inches.

    Raises:
        UserError: The figure is unknown, the choice names no or several parts of the runs, or they have
            nothing that the figure could show.
    """
    from bench.report.figures import ACROSS, FIGURES, looks_of

    if name not in FIGURES | ACROSS:
        raise unknown("figure", name, [*FIGURES, *ACROSS])
    found = [("", *of) for of in by_scenario(frames)] if name in ACROSS else parts(frames)
    chosen = [part for s, c, part in found if s in ("", suite or s) and c == (scenario or c)]
    if len(chosen) != 1:
        there = ", ".join(f"{s} {c}" for s, c in part_names(frames)) or "none"
        raise UserError(f"choose one suite and one scenario for the figure {name}; these runs have: {there}")
    made = (FIGURES | ACROSS)[name](chosen[0], looks_of(frames).at(width))
    if made is None:
        raise UserError(f"these runs have nothing that the figure {name} could show")
    return made


def draw_data(found: Portrait, path: Path) -> None:
    """Write the figure of a data set into a file, in the format that its suffix says."""
    from bench.report.figures.described_data import described_data
    from bench.report.figures.looks import style

    figure = described_data(found)
    with style():
        figure.savefig(path)
