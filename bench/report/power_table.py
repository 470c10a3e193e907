"""The table of the numbers of seeds that a difference needs."""

from collections.abc import Sequence

from rich.console import Console

from bench.report.formats import points
from bench.report.text_tables import print_rows
from bench.stats import Need, fewest

HEADER = ("suite", "scenario", "common seeds", "difference", "sd", "seeds needed", "cautiously")


def rows(found: Sequence[Need]) -> list[list[str]]:
    """Return the rows of the table, with differences and standard deviations in points."""
    rows = []
    for need in found:
        measured = [str(need.n), points(need.mean), points(need.sd)]
        rows.append([need.suite, need.scenario, *measured, f"{need.needed:,}", f"{need.cautious:,}"])
    return rows


def caption(a: str, b: str, score: str, difference: float, comparisons: int = 1) -> str:
    """Return the caption of the table."""
    family = f", Holm over {comparisons} comparisons" if comparisons > 1 else ""
    return (
        f"Seeds with which a true difference of {difference:g} points in {score} between {a} and {b} is seen "
        "in 80 % of studies by the test of a report (sign flips of paired differences, two-sided 5 %"
        f"{family}, {fewest(comparisons)} seeds at least; normal differences); difference and sd (standard "
        "deviation of the paired differences) are those of the run, in points; cautiously: at the upper end "
        "of the sd's one-sided 80 % interval."
    )


def print_power(found: Sequence[Need], says: str, console: Console) -> None:
    """Print the table to a terminal, with its caption."""
    print_rows(HEADER, rows(found), console, says)
