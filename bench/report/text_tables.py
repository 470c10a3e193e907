"""Tables of text, for a terminal and in Markdown."""

import re
from collections.abc import Iterable, Sequence

from rich.console import Console
from rich.markup import escape
from rich.table import Table

Rows = Sequence[Sequence[str]]


def print_rows(header: Sequence[str], rows: Rows, console: Console, caption: str = "") -> None:
    """Print a table to a terminal."""
    table = empty_table(header)
    for row in rows:
        table.add_row(*map(escape, row))
    print_table(table, console)
    if caption:
        console.print(escape(caption))


def empty_table(header: Sequence[str], title: str | None = None) -> Table:
    """Return a table for a terminal, its first column aligned left and the others right."""
    table = Table(title=title and escape(title), title_justify="left")
    for i, name in enumerate(header):
        table.add_column(escape(name), justify="right" if i else "left", overflow="fold")
    return table


def print_table(table: Table, console: Console) -> None:
    """Print a table; in a pipe, which has no width, it is as wide as it needs to be."""
    if not console.is_terminal:
        console.width = max(console.width, Console(width=10_000).measure(table).maximum)
    console.print(table)


def markdown_rows(header: Sequence[str], rows: Rows) -> str:
    """Return a table in Markdown, its first column aligned left and the others right."""
    lines = [line(header), line(["---", *["---:"] * (len(header) - 1)])]
    return "\n".join([*lines, *(line([plain(cell) for cell in row]) for row in rows)])


def line(cells: Iterable[str]) -> str:
    """Return a row of a table in Markdown; its cells are Markdown already."""
    return f"| {' | '.join(cells)} |"


def plain(text: str) -> str:
    """Escape characters that Markdown would interpret as markup."""
    return re.sub(r"([\\`*_\[\]<>|~&$])", r"\\\1", " ".join(text.split()))
