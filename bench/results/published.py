"""Our numbers beside published ones: a table's recipe is run like any plan, and its entries are compared.

A table is a TOML file (results/published/*.toml) with its citation, the suite, the score, the kind of its
spread and, per entry, the selector that reproduces it and the published mean and spread by scenario.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path

from bench.plan import Request, text_of
from bench.results.frames import Frames
from bench.schema import PublishedTable, read_toml
from bench.stats import SCORES, summarise
from suites.base import SCENARIOS
from suites.errors import unknown

TABLES = Path(__file__).parents[2] / "results" / "published"
TOLERANCE = 0.3
"""Points of difference that are agreement whatever the spread."""
_NORMAL_95 = 1.959963984540054


@dataclass(frozen=True)
class Entry:
    """One published number: a method in a scenario."""

    method: str
    scenario: str
    selector: str
    mean: float
    """In points, as published."""
    sem: float | None
    """Standard error of the published mean, in points; None where no spread was published or confirmed."""
    note: str
    """What is known of a difference."""


@dataclass(frozen=True)
class Table:
    """A published table and how to run it."""

    name: str
    title: str
    citation: str
    suite: str
    score: str
    first_seed: int
    settings: dict[str, str]
    entries: tuple[Entry, ...]

    def requests(self, seeds: int, only: Sequence[str] = ()) -> list[Request]:
        """Return what must be run, a request a scenario; raises UserError for a method not in the table."""
        chosen = self.chosen(only)
        numbers = tuple(range(self.first_seed, self.first_seed + seeds))
        found = []
        for scenario in SCENARIOS:
            selectors = tuple(dict.fromkeys(e.selector for e in chosen if e.scenario == scenario))
            if selectors:
                found.append(Request(self.suite, selectors, (scenario,), numbers, self.settings))
        return found

    def chosen(self, only: Sequence[str]) -> list[Entry]:
        """Return the entries of methods, all for none; raises UserError for a method not in the table."""
        known = list(dict.fromkeys(e.method for e in self.entries))
        for name in only:
            if name not in known:
                raise unknown(f"method of {self.name}", name, known)
        return [e for e in self.entries if not only or e.method in only]


def names() -> list[str]:
    """Return the names of the tables that come with Lethe."""
    return sorted(path.stem for path in TABLES.glob("*.toml"))


def read(name: str) -> Table:
    """Return a table by name or by file; raises UserError for one that is not there or of another form."""
    path = Path(name) if name.endswith(".toml") else TABLES / f"{name}.toml"
    if not path.is_file():
        raise unknown("table", name, names())
    found = read_toml(PublishedTable, path)
    if found.score not in SCORES:
        raise unknown(f"score in {path}", found.score, list(SCORES))
    entries = []
    for entry, scenario in product(found.entries, SCENARIOS):
        number = getattr(entry, "class_" if scenario == "class" else scenario)
        if number is not None:
            sem = as_sem(number.spread, found.spread, found.published_seeds)
            entries.append(Entry(entry.method, scenario, entry.run, number.mean, sem, number.note))
    return Table(
        path.stem,
        found.title,
        found.citation,
        found.suite,
        found.score,
        found.first_seed,
        {name: text_of(value) for name, value in found.settings.items()},
        tuple(entries),
    )


def as_sem(spread: float | None, kind: str, n: int) -> float | None:
    """Return the standard error that a published spread of n seeds stands for; None for none."""
    by = {"sem": 1.0, "sd": math.sqrt(n), "ci95": _NORMAL_95}[kind]
    return None if spread is None else spread / by


@dataclass(frozen=True)
class Verdict:
    """A published number beside ours, in points."""

    entry: Entry
    n: int
    mean: float
    sem: float
    """Of our mean; NaN for fewer than two seeds."""
    difference: float
    """Ours minus published."""
    allowed: float
    """What the difference may be: max(3 sqrt(SEM_published^2 + SEM_ours^2), 0.3)."""

    @property
    def agrees(self) -> bool | None:
        """Whether the numbers agree; None where ours is not there."""
        return None if self.n == 0 else abs(self.difference) <= self.allowed


def compare(table: Table, frames: Frames, seeds: int, only: Sequence[str] = ()) -> list[Verdict]:
    """Return the verdict on every entry over the seeds of the table's recipe that are done."""
    cells = {
        (request.scenarios[0], selector): [c.key for c in replace(request, strategies=(selector,)).cells()]
        for request in table.requests(seeds, only)
        for selector in request.strategies
    }
    values = frames.scores[frames.scores["score"] == table.score].set_index("key")["value"]
    verdicts = []
    for entry in table.chosen(only):
        ours = [100 * values[key] for key in cells[entry.scenario, entry.selector] if key in values.index]
        s = summarise(ours)
        spread = math.hypot(entry.sem or 0.0, 0.0 if math.isnan(s.sem) else s.sem)
        verdicts.append(Verdict(entry, s.n, s.mean, s.sem, s.mean - entry.mean, max(3 * spread, TOLERANCE)))
    return verdicts
