"""The layout of a report: scores, spread, rows and columns of tables; width and formats of figures."""

import math
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, get_args

from bench.stats import SCORES
from suites.errors import UserError, unknown

DEFAULT = ("acc", "forgetting", "bwt", "fwt", "aia", "learning_acc")
ONE_COLUMN, TWO_COLUMNS = 3.35, 6.9
"""Widths of figures over one and two columns of a paper, in inches."""
FORMATS = ("pdf", "svg", "png")
ALL_FORMATS = (*FORMATS, "pgf")
"""Formats of figures; PGF is written only where it is asked for, because it needs TeX."""
MOST_PARTS = 20
"""Most suites and scenarios whose figures are drawn for the page at a width of their own, and are written as
PDF and PNG too if no formats are asked for. Beyond, that would take minutes."""
Spread = Literal["ci", "bca", "sd", "sem"]
SPREADS = {
    "ci": "mean ± half-width of the 95 % t interval",
    "bca": "mean [95 % BCa bootstrap interval]",
    "sd": "mean ± standard deviation",
    "sem": "mean ± standard error of the mean",
}


@dataclass(frozen=True)
class Layout:
    """The layout of tables; the defaults are the plain tables of documents."""

    spread: Spread = "ci"
    by_family: bool = False
    """Group rows by family."""
    per_task: bool = False
    """Show the last row of R, one column per task, instead of scores."""
    wide: bool = False
    """Show suites as columns, one table per scenario and score."""
    marks: bool = False
    """Mark the best strategy and those that are not significantly worse."""
    origin: bool = False
    """Add command, version, seeds and hardware to the caption."""
    columns: int = 1
    """Columns of a two-column paper that a LaTeX table may take, 1 or 2."""

    def __post_init__(self) -> None:
        if self.spread not in get_args(Spread):
            raise unknown("spread", self.spread, list(get_args(Spread)))
        if self.columns not in (1, 2):
            raise UserError(f"a table is over 1 or 2 columns of a paper, not {self.columns}")
        if self.per_task and self.wide:
            raise UserError("tables are either per task or wide: tasks and suites cannot both be columns")


def chosen_scores(names: Sequence[str] | None, layout: Layout | None = None) -> tuple[str, ...]:
    """Return the chosen scores, by default the usual ones; raises UserError for an unknown score."""
    for name in names or ():
        if name not in SCORES:
            raise unknown("score", name, list(SCORES))
    return tuple(dict.fromkeys(names or (("acc",) if layout is not None and layout.wide else DEFAULT)))


def all_scores(chosen: Sequence[str]) -> tuple[str, ...]:
    """Return every score, the chosen ones first: the columns of the page, whose reader can show others."""
    return (*chosen, *(name for name in SCORES if name not in chosen))


def chosen_width(text: str) -> float:
    """Return the inches of a width: ``column``, ``text`` or a number; raises UserError for another one."""
    if text in ("column", "text"):
        return ONE_COLUMN if text == "column" else TWO_COLUMNS
    try:
        width = float(text)
    except ValueError:
        width = math.nan
    if not 2 <= width <= 30:
        raise UserError(f"a figure is as wide as a column, as text, or 2 to 30 inches, not {text!r}")
    return width


def chosen_formats(names: Sequence[str]) -> tuple[str, ...]:
    """Return the formats of figures; none for ``default_formats``.

    Raises:
        UserError: A format is unknown, or PGF is asked for and no TeX is installed.
    """
    for name in names:
        if name not in ALL_FORMATS:
            raise unknown("format of figures", name, [*ALL_FORMATS])
    if "pgf" in names:
        tex_system()
    return tuple(dict.fromkeys(names))


def default_formats(n_parts: int) -> tuple[str, ...]:
    """Return the formats of the figures of so many suites and scenarios: SVG alone if they are very many."""
    return FORMATS if n_parts <= MOST_PARTS else ("svg",)


def tex_system() -> str:
    """Return the TeX that measures the texts of PGF figures; raises UserError if none is installed."""
    for name in ("xelatex", "lualatex", "pdflatex"):
        if shutil.which(name):
            return name
    raise UserError(
        "PGF figures need xelatex, lualatex or pdflatex to measure their texts, and none is installed; "
        "install TeX Live, or choose among pdf, svg and png"
    )
