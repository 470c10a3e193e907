"""Our numbers beside published ones, as a table."""

from collections.abc import Sequence

from rich.console import Console

from bench.report.formats import MISSING, number, plus_minus_number
from bench.report.text_tables import markdown_rows, print_rows
from bench.results import published

HEADER = ("method", "scenario", "published", "ours", "n", "difference", "allowed", "sees", "verdict")


def rows(verdicts: Sequence[published.Verdict]) -> list[tuple[str, ...]]:
    """Return the verdicts as text, in the order of HEADER."""
    found: list[tuple[str, ...]] = []
    for v in verdicts:
        theirs = number(v.entry.mean) + ("" if v.entry.sem is None else plus_minus_number(v.entry.sem))
        ours = number(v.mean) + ("" if v.n < 2 else plus_minus_number(v.sem)) if v.n else MISSING
        measured = number(v.difference, sign="+"), number(v.allowed), number(v.seen)
        found.append((v.entry.method, v.entry.scenario, theirs, ours, str(v.n), *measured, v.words))
    return found


def caption(table: published.Table, verdicts: Sequence[published.Verdict]) -> str:
    """Return what the numbers are, their spreads' kind and the rule of the verdict."""
    least = verdicts[0].least if verdicts else published.DIFFERENCE
    said = table.file
    return (
        f"{said.title} ({said.citation}). {said.score} in points, mean ± standard error (SEM) over seeds. "
        f"A difference is allowed up to max(3 sqrt(SEM published² + SEM ours²), {published.TOLERANCE}); a "
        f"mean published without a spread is taken to be of {said.published_seeds} seeds that spread as "
        "ours. Sees: the smallest true difference that would exceed what is allowed in 80 % of studies. "
        f"The verdict 'agrees' needs an allowed difference and a comparison that sees {least:g} points; "
        "otherwise it is 'cannot tell', with the number of seeds that would see that difference, or with the "
        "difference that a study of the published size would see."
    )


def notes(verdicts: Sequence[published.Verdict]) -> list[str]:
    """Return what is known of differences, a line per entry that has a note."""
    return [f"{v.entry.method}, {v.entry.scenario}: {v.entry.note}" for v in verdicts if v.entry.note]


def print_published(table: published.Table, verdicts: Sequence[published.Verdict], console: Console) -> None:
    """Print the table and its notes to a terminal."""
    print_rows(HEADER, rows(verdicts), console, caption(table, verdicts))
    for words in notes(verdicts):
        print(words)


def published_in_markdown(table: published.Table, verdicts: Sequence[published.Verdict]) -> str:
    """Return the table and its notes in Markdown."""
    listed = "\n".join(f"- {words}" for words in notes(verdicts))
    return "\n\n".join(
        filter(None, [markdown_rows(HEADER, rows(verdicts)), caption(table, verdicts), listed])
    )
