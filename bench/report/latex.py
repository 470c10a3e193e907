"""Tables in LaTeX with booktabs, as wide as a column or a page of a two-column paper."""

import re
from collections.abc import Iterable, Sequence

from bench.report.formats import CLOSE, MISSING, broken
from bench.report.summary import Entry
from bench.report.tables import Tables, TextTable

_NEEDS = "Needs \\usepackage{booktabs} and, for names in other than plain letters, \\usepackage[T1]{fontenc}."
WIDTHS = {1: 234.0, 2: 487.0}
"""Points that a table over one or two columns may take: 3.25 and 6.75 inches."""
_GAP = 6.0
"""Points between columns, two ``tabcolsep``."""
_NAMES = 0.45
"""Part of the width that names take at most; longer ones are broken into lines."""
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


def latex(made: Tables, columns: int = 1) -> str:
    """Return tables in LaTeX, after comments on what they need and where their numbers are from.

    Args:
        made: The tables.
        columns: 1 for tables as wide as a column of a two-column paper, 2 for the width of the page.
    """
    return "\n".join(
        [comments(made.remarks, made.origin), *(in_latex(shown, columns) for shown in made.shown)]
    )


def comments(remarks: Iterable[str], origin: Iterable[str]) -> str:
    """Return the comments before tables: packages, origin, and cells that are not done or not shown."""
    return "".join(f"% {' '.join(words.split())}\n" for words in (_NEEDS, *origin, *remarks))


def in_latex(shown: TextTable, columns: int = 1) -> str:
    """Return a table in LaTeX; columns that do not fit beside the others follow below them."""
    width = WIDTHS[columns]
    letters = int(_NAMES * width / _points("a"))
    names = [broken(row[0].text, letters) for row in shown.rows]
    first = max(map(_points, [shown.header[0], *(line for lines in names for line in lines)])) + _GAP
    blocks: list[list[int]] = []
    left = 0.0
    for place in range(1, len(shown.header)):
        entries = [shown.header[place], *(_seen(row[place]) for row in shown.rows if len(row) > 1)]
        need = max(map(_points, entries)) + _GAP
        if not blocks or need > left:
            blocks.append([])
            left = width - first
        blocks[-1].append(place)
        left -= need
    environment = "table" if columns == 1 else "table*"
    return "\n".join(
        [
            rf"\begin{{{environment}}}[t]",
            r"\centering\footnotesize\setlength{\tabcolsep}{3pt}",
            rf"\caption{{{escaped(f'{shown.title}. {shown.caption}')}}}",
            "\n\\par\\medskip\n".join(_block(shown, names, places) for places in blocks),
            rf"\end{{{environment}}}",
            "",
        ]
    )


def _block(shown: TextTable, names: Sequence[Sequence[str]], places: Sequence[int]) -> str:
    """Return a ``tabular`` of the names and some of the columns."""
    rows = []
    for row, lines in zip(shown.rows, names, strict=True):
        *above, name = (("", r"\enspace ")[place > 0] + escaped(line) for place, line in enumerate(lines))
        rows += [rf"{line} \\" for line in above]
        if len(row) == 1:
            rows.append(rf"\multicolumn{{{len(places) + 1}}}{{@{{}}l}}{{\textit{{{name}}}}} \\")
        else:
            rows.append(" & ".join([name, *(entry_in_latex(row[place]) for place in places)]) + r" \\")
    return "\n".join(
        [
            rf"\begin{{tabular}}{{@{{}}l{'r' * len(places)}@{{}}}}",
            r"\toprule",
            " & ".join(escaped(shown.header[place]) for place in (0, *places)) + r" \\",
            r"\midrule",
            *rows,
            r"\bottomrule",
            r"\end{tabular}",
        ]
    )


def entry_in_latex(entry: Entry) -> str:
    """Return a place of a table with its mark."""
    text = entry.text if entry.number is None else re.sub(r"(?<![\w-])-(?=\d)", "−", entry.text)
    text = escaped(text) + (escaped(CLOSE) if entry.mark == "close" else "")
    return rf"\textbf{{{text}}}" if entry.mark == "best" else text


def _seen(entry: Entry) -> str:
    return entry.text + (CLOSE if entry.mark == "close" else "")


def _points(text: str) -> float:
    """Return about how wide a text is in bold Computer Modern of 8 points, rather more than less."""
    wide = {" ": 3.3, ".": 2.8, ",": 2.8, "±": 6.8, "-": 6.8, "m": 7.8, "w": 7.0, CLOSE: 4.0}
    return sum(wide.get(c, 7.2 if c.isupper() else 2.8 if c in "il" else 4.9) for c in text)
