"""The layout of tables: scores, spread, rows and columns."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, get_args

from bench.stats import SCORES
from suites.errors import UserError, unknown

DEFAULT = ("acc", "forgetting", "bwt", "fwt", "aia", "learning_acc")
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

    def __post_init__(self) -> None:
        if self.spread not in get_args(Spread):
            raise unknown("spread", self.spread, list(get_args(Spread)))
        if self.per_task and self.wide:
            raise UserError("tables are either per task or wide: tasks and suites cannot both be columns")


def chosen_scores(names: Sequence[str] | None, layout: Layout | None = None) -> tuple[str, ...]:
    """Return the chosen scores, by default the usual ones; raises UserError for an unknown score."""
    for name in names or ():
        if name not in SCORES:
            raise unknown("score", name, list(SCORES))
    return tuple(dict.fromkeys(names or (("acc",) if layout is not None and layout.wide else DEFAULT)))
