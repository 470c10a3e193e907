"""The table of the numbers of seeds that a difference needs."""

from collections.abc import Sequence

from rich.console import Console

from bench.report.families import bounds
from bench.report.formats import points
from bench.report.text_tables import print_rows
from bench.results import Frames
from bench.stats import Need, needs, too_few

HEADER = (
    "suite", "scenario", "common seeds", "difference", "sd", "comparisons", "seeds needed", "at most",
)  # fmt: skip


def rows(found: Sequence[Need]) -> list[list[str]]:
    """Return the rows of the table, with differences and standard deviations in points."""
    rows = []
    for need in found:
        measured = [str(need.n), points(need.mean), points(need.sd), str(need.comparisons)]
        rows.append([need.suite, need.scenario, *measured, f"{need.needed:,}", f"{need.cautious:,}"])
    return rows


def caption(found: Sequence[Need], a: str, b: str, score: str, difference: float) -> str:
    """Return the caption of the table."""
    few = [(need, words) for need in found if (words := too_few(need.n, need.comparisons))]
    now = [f"{need.suite} {need.scenario}: {words}" for need, words in few]
    return (
        f"Seeds with which a true difference of {difference:g} points in {score} between {a} and {b} is seen "
        "in 80 % of studies by the test of a report (sign flips of paired differences, two-sided 5 %, "
        "Holm over the comparisons with the best; normal differences); difference and sd (standard "
        "deviation of the paired differences) are those of the run, in points; at most: at the upper end "
        f"of the sd's one-sided 80 % interval. {'; '.join(now)}".rstrip()
    )


def print_power(
    found: Sequence[Need], a: str, b: str, score: str, difference: float, console: Console
) -> None:
    """Print the table to a terminal, with its caption."""
    print_rows(HEADER, rows(found), console, caption(found, a, b, score, difference))


def needed_seeds(
    frames: Frames, a: str, b: str, score: str, difference: float, comparisons: int | None = None
) -> list[Need]:
    """Return how many seeds show a difference; see ``bench.stats.needs``.

    Bounds other than ``a`` and ``b`` are left out, as in a report.
    """
    left_out = bounds(frames) - {a, b}
    scores = frames.scores[~frames.scores["identity"].isin(left_out)]
    return needs(scores, a, b, score, difference, comparisons)
