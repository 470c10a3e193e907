"""Tables in LaTeX, by pandas' Styler with booktabs."""

import re
from typing import Any

import pandas as pd

from bench.report.formats import CLOSE, MISSING
from bench.report.summary import Entry
from bench.report.tables import Tables, TextTable

PREAMBLE = (
    "% Needs \\usepackage{booktabs} and, for names in other than plain letters, \\usepackage[T1]{fontenc}.\n"
)
_LETTERS = {
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    "'": r"\textquotesingle{}",
    "`": r"\textasciigrave{}",
    "±": r"$\pm$",
    "−": "$-$",
    MISSING: r"\textendash{}",
    CLOSE: r"$^{\dagger}$",
    **{c: rf"\{c}" for c in "&%$#_{}"},
    "-": "-{}",  # where another follows: two would be drawn as a dash
    **{c: f"{{{c}}}" for c in "[]*"},  # after the \\ that ends a row they would be read as its options
}
_SPECIAL = re.compile("|".join("-(?=-)" if c == "-" else re.escape(c) for c in _LETTERS))


def escaped(text: str) -> str:
    """Return text that LaTeX prints literally."""
    return _SPECIAL.sub(lambda match: _LETTERS[match[0]], " ".join(text.split()))


def latex(made: Tables) -> str:
    """Return tables in LaTeX, one ``table`` each, with its title as the first words of its caption."""
    legend = " ".join([*(f"{line}." for line in made.remarks), made.caption])
    return "\n".join([PREAMBLE, *(_latex(shown, f"{shown.title}. {legend}") for shown in made.shown)])


def _latex(shown: TextTable, legend: str) -> str:
    width = len(shown.header)
    rows = [[*row, *[Entry("")] * (width - len(row))] for row in shown.rows]
    # Columns are numbers: a suite may be called like another column.
    frame = pd.DataFrame([[entry_in_latex(entry) for entry in row] for row in rows], columns=range(width))
    heading = [["textit:--rwrap" if len(row) == 1 else "", *[""] * (width - 1)] for row in shown.rows]
    styler = frame.style.hide(axis="index").relabel_index([escaped(n) for n in shown.header], axis="columns")
    styler = styler.apply(lambda _: pd.DataFrame(heading, columns=frame.columns), axis=None)
    place: dict[str, Any] = {"position": "t", "position_float": "centering"}
    columns = "l" + "r" * (width - 1)
    return str(styler.to_latex(hrules=True, column_format=columns, caption=escaped(legend), **place))


def entry_in_latex(entry: Entry) -> str:
    """Return a place of a table with its mark."""
    text = entry.text if entry.number is None else re.sub(r"(?<![\w-])-(?=\d)", "−", entry.text)
    text = escaped(text) + (escaped(CLOSE) if entry.mark == "close" else "")
    return rf"\textbf{{{text}}}" if entry.mark == "best" else text
