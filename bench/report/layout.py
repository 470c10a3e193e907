"""What of a run's tables is shown: scores, spread, rows and columns."""

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
    """What of a run's tables is shown, and how; the defaults are the plain table of documents."""

    spread: Spread = "ci"
    by_family: bool = False
    """Rows under the families of their methods."""
    per_task: bool = False
    """The last row of R, a column a task, instead of the scores asked for."""
    wide: bool = False
    """Suites as columns, a table per scenario and score."""
    marks: bool = False
    """The best in bold, and what is not significantly worse marked."""
    origin: bool = False
    """Command, version, seeds and hardware in the caption."""

    def __post_init__(self) -> None:
        if self.spread not in get_args(Spread):
            raise unknown("spread", self.spread, list(get_args(Spread)))
        if self.per_task and self.wide:
            raise UserError("tables are either per task or wide: tasks and suites cannot both be columns")


def chosen_scores(names: Sequence[str] | None, layout: Layout | None = None) -> tuple[str, ...]:
    """Return the scores asked for, the default ones for None; raises UserError for an unknown score."""
    for name in names or ():
        if name not in SCORES:
            raise unknown("score", name, list(SCORES))
    return tuple(dict.fromkeys(names or (("acc",) if layout is not None and layout.wide else DEFAULT)))
