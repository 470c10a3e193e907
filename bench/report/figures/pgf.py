"""Figures as PGF: drawn by the document's TeX, in its fonts."""

from collections.abc import Callable
from functools import partial
from pathlib import Path

import matplotlib as mpl
from matplotlib.backends.backend_pgf import FigureCanvasPgf
from matplotlib.figure import Figure
from matplotlib.text import Text
from matplotlib.ticker import FuncFormatter

from bench.report.latex import escaped
from bench.report.layout import tex_system


def write_pgf(figure: Figure, path: Path) -> None:
    """Write a figure as PGF; its texts are TeX afterwards, so that it can be written in no other format.

    Raises:
        UserError: No TeX is installed, which measures the texts.
    """
    for text in figure.findobj(Text):
        if isinstance(text, Text):
            text.set_text(_lines(text.get_text()))
    # Labels of ticks are made again from their formatter, which axes can share.
    lines = [line for axes in figure.axes for line in (axes.xaxis, axes.yaxis)]
    for formatter in {line.get_major_formatter() for line in lines}:
        if isinstance(formatter, FuncFormatter):
            formatter.func = partial(_label, formatter.func)
    with mpl.rc_context({"pgf.texsystem": tex_system(), "pgf.rcfonts": False}):
        FigureCanvasPgf(figure).print_pgf(path)


def _label(plain: Callable[[float, int | None], str], x: float, place: int | None = None) -> str:
    return _lines(plain(x, place))


def _lines(text: str) -> str:
    return "\n".join(map(escaped, text.split("\n")))
