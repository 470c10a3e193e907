"""Our numbers beside published ones, as a table."""

from collections.abc import Sequence

from rich.console import Console

from bench.report.formats import MISSING, number, plus_minus_number
from bench.report.text_tables import markdown_rows, print_rows
from bench.results import published

HEADER = ("method", "scenario", "published", "ours", "n", "difference", "allowed", "verdict")


def rows(verdicts: Sequence[published.Verdict]) -> list[tuple[str, ...]]:
    """Return the verdicts as text, in the order of HEADER."""
    found: list[tuple[str, ...]] = []
    for v in verdicts:
        theirs = number(v.entry.mean) + ("" if v.entry.sem is None else plus_minus_number(v.entry.sem))
        ours: tuple[str, ...] = (MISSING, "0", MISSING, MISSING, "not run")
        if v.n:
            mean, verdict = number(v.mean) + plus_minus_number(v.sem), "agrees" if v.agrees else "differs"
            ours = (mean, str(v.n), number(v.difference, sign="+"), number(v.allowed), verdict)
        found.append((v.entry.method, v.entry.scenario, theirs, *ours))
    return found


def caption(table: published.Table) -> str:
    """Return what the numbers are, their spreads' kind and the rule of the verdict."""
    return (
        f"{table.title} ({table.citation}). {table.score} in points, mean ± standard error (SEM) over seeds; "
        f"a difference is allowed up to max(3 sqrt(SEM published² + SEM ours²), {published.TOLERANCE})."
    )


def notes(verdicts: Sequence[published.Verdict]) -> list[str]:
    """Return what is known of differences, a line per entry that has a note."""
    return [f"{v.entry.method}, {v.entry.scenario}: {v.entry.note}" for v in verdicts if v.entry.note]


def print_published(table: published.Table, verdicts: Sequence[published.Verdict], console: Console) -> None:
    """Print the table and its notes to a terminal."""
    print_rows(HEADER, rows(verdicts), console, caption(table))
    for words in notes(verdicts):
        print(words)


def published_in_markdown(table: published.Table, verdicts: Sequence[published.Verdict]) -> str:
    """Return the table and its notes in Markdown."""
    listed = "\n".join(f"- {words}" for words in notes(verdicts))
    return "\n\n".join(filter(None, [markdown_rows(HEADER, rows(verdicts)), caption(table), listed]))
