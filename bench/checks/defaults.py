"""``lethe check defaults SUITE``: which methods do nothing, or harm, at their defaults.

A method is compared with ``finetune`` on the same seeds and at the suite's settings.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import strategies
import suites
from bench.plan import Request
from bench.results import Frames, LikeFinetune, compared_with_finetune
from bench.schema import Project

MARGIN = 1.0
"""Points of final accuracy by which a method may be worse, where ``lethe.toml`` names none."""
_MOST = 3.5
"""Largest cost of a step of a method that is checked without being named."""
_SLOW = ("gdumb", "gem", "generative-classifier", "mbpa++", "ogd", "ranpac")
"""Methods whose cost of a step does not say how slow they are: training at the end of tasks, a quadratic
programme on the host, steps and samples in predictions, products with stored gradients or features."""


@dataclass(frozen=True)
class Finding:
    """A method whose default does nothing, or harms, in a scenario of a suite."""

    suite: str
    scenario: str
    strategy: str
    n: int
    """Number of seeds."""
    difference: float | None
    """Final accuracy minus that of finetune, in points; the mean over seeds."""
    own_term: float | None
    """How much its own term acted; None if it is not recorded."""
    kind: str
    """equal, idle or worse."""
    words: str
    """Why, and what to do, in one line."""


def candidates() -> tuple[list[str], list[str]]:
    """Return the methods that are checked by default, and those that take too long."""
    kinds = {name: strategies.get(name) for name in strategies.names()}
    own = [
        n
        for n, cls in kinds.items()
        if cls.family != "baseline" and cls.trains_on == "task" and not cls.tunes
    ]
    slow = [name for name in own if kinds[name].cost > _MOST or name in _SLOW]
    return [name for name in own if name not in slow], slow


def request_of(suite: str, chosen: Sequence[str], scenarios: Sequence[str], seeds: Sequence[int]) -> Request:
    """Return the request of the cells to compare."""
    kinds = tuple(scenarios) or tuple(s for s in suites.get(suite).scenarios if s != "online")
    return Request(suite, tuple(dict.fromkeys(["finetune", *chosen])), kinds, tuple(seeds))


def findings(frames: Frames, project: Project) -> list[Finding]:
    """Return the methods that are like finetune or worse, in the order of the runs' cells."""
    found = []
    cells = frames.cells[["identity", "strategy"]].drop_duplicates().itertuples(index=False)
    bounds = [identity for identity, strategy in cells if strategies.get(strategy).trains_on != "task"]
    for row in compared_with_finetune(frames, bounds):
        margin = project.margin(row.suite, "acc", MARGIN)
        worse = row.difference is not None and row.difference < -margin
        kind = "equal" if row.equal else "idle" if row.idle else "worse" if worse else ""
        if kind:
            about = row.suite, row.scenario, row.identity, row.n, row.difference, row.own_term
            found.append(Finding(*about, kind, f"{_why(row, kind, margin)}; {row.advice}"))
    return found


def _why(row: LikeFinetune, kind: str, margin: float) -> str:
    if kind == "worse":
        assert row.difference is not None
        return f"worse than finetune by {-row.difference:.1f} points over {row.n} seeds (margin {margin:g})"
    words = [row.equal_in_words] if row.equal else []
    words += [row.own_term_in_words] if row.own_term is not None else []
    more = (
        f"; {row.difference:+.1f} points to finetune" if not row.equal and row.difference is not None else ""
    )
    return ", and ".join(words) + more
