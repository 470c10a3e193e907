"""Figures of a run, each as PDF, SVG and PNG with its data beside it as CSV.

Every figure is a function of frames and looks that returns the figure and its data, or None where the frames
hold nothing it could show.
"""

from bench.report.figures.looks import MOST_NAMED, STYLE, Looks, looks_of, style
from bench.report.figures.write_figures import ACROSS, FIGURES, Drawn, as_svg, begin_figures, save, write
from bench.report.layout import ONE_COLUMN, TWO_COLUMNS

__all__ = [
    "ACROSS", "FIGURES", "MOST_NAMED", "ONE_COLUMN", "STYLE", "TWO_COLUMNS", "Drawn", "Looks",
    "as_svg", "begin_figures", "looks_of", "save", "style", "write",
]  # fmt: skip
