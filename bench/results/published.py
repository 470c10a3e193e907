"""Comparison of our numbers with published ones: the recipe of a table is run, and its entries are compared.

A table is a TOML file (results/published/*.toml) with its citation, the suite, the score, the kind of its
spread and, per entry, the selector that reproduces it and the published mean and spread by scenario.
"""

import math
import sysconfig
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path
from statistics import NormalDist

from bench.plan import Request, text_of
from bench.results.frames import Frames
from bench.schema import PublishedTable, read_toml
from bench.stats import POWER, SCORES, summarise
from suites.base import SCENARIOS
from suites.errors import unknown

_CHECKOUT = Path(__file__).parents[2] / "results" / "published"
_INSTALLED = Path(sysconfig.get_path("data")) / "share" / "lethe" / "published"
TABLES = _CHECKOUT if _CHECKOUT.is_dir() else _INSTALLED
TOLERANCE = 0.3
"""Difference, in points, that is always accepted as agreement."""
DIFFERENCE = 2.0
"""True difference, in points, that a comparison must be able to detect before it can state agreement."""
_NORMAL_95 = 1.959963984540054
_POWER = NormalDist().inv_cdf(POWER)


@dataclass(frozen=True)
class Entry:
    """One published number: a method in a scenario."""

    method: str
    scenario: str
    selector: str
    mean: float
    """In points, as published."""
    sem: float | None
    """Standard error of the published mean, in points; None if no spread was published or confirmed."""
    note: str
    """What is known about a difference."""


@dataclass(frozen=True)
class Table:
    """A published table and how to run it."""

    name: str
    file: PublishedTable
    """What its file says."""
    entries: tuple[Entry, ...]
    """Its numbers, by method and scenario."""

    def requests(self, seeds: int, only: Sequence[str] = (), scenarios: Sequence[str] = ()) -> list[Request]:
        """Return the requests to run, one per scenario; raises UserError as ``chosen`` does."""
        chosen = self.chosen(only, scenarios)
        numbers = tuple(range(self.file.first_seed, self.file.first_seed + seeds))
        settings = {name: text_of(value) for name, value in self.file.settings.items()}
        found = []
        for scenario in SCENARIOS:
            selectors = tuple(dict.fromkeys(e.selector for e in chosen if e.scenario == scenario))
            if selectors:
                found.append(Request(self.file.suite, selectors, (scenario,), numbers, settings))
        return found

    def chosen(self, only: Sequence[str] = (), scenarios: Sequence[str] = ()) -> list[Entry]:
        """Return the entries of some methods and scenarios; all if none are given.

        Raises:
            UserError: A method or scenario is not in the table.
        """
        for kind, asked in (("method", only), ("scenario", scenarios)):
            known = list(dict.fromkeys(str(getattr(e, kind)) for e in self.entries))
            for name in asked:
                if name not in known:
                    raise unknown(f"{kind} of {self.name}", name, known)
        return [
            e
            for e in self.entries
            if (not only or e.method in only) and (not scenarios or e.scenario in scenarios)
        ]


def names() -> list[str]:
    """Return the names of the tables in Lethe."""
    return sorted(path.stem for path in TABLES.glob("*.toml"))


def read(name: str) -> Table:
    """Return a table by name or file; raises UserError if it does not exist or is invalid."""
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
    return Table(path.stem, found, tuple(entries))


def as_sem(spread: float | None, kind: str, n: int) -> float | None:
    """Return the standard error for a published spread over n seeds; None for none."""
    by = {"sem": 1.0, "sd": math.sqrt(n), "ci95": _NORMAL_95}[kind]
    return None if spread is None else spread / by


def allowed(sem: float) -> float:
    """Return the largest accepted difference of two means, in points: max(3 SEM, 0.3).

    ``sem`` is the standard error of the difference, sqrt(SEM published^2 + SEM ours^2).
    """
    return max(3 * sem, TOLERANCE)


def seen(sem: float) -> float:
    """Return the true difference that is detected in 80 % of studies, for normal means."""
    return allowed(sem) + _POWER * sem


@dataclass(frozen=True)
class Verdict:
    """A published number beside ours, in points."""

    entry: Entry
    n: int
    mean: float
    sd: float
    """Standard deviation of ours over seeds; NaN for fewer than two."""
    published_seeds: int
    least: float
    """The true difference that must be detected, in points."""
    unresolved: str = ""
    """The file that the entry needs and that must not be imported."""

    @property
    def sem(self) -> float:
        """Standard error of our mean; NaN for fewer than two seeds."""
        return self.sd / math.sqrt(self.n) if self.n else math.nan

    @property
    def difference(self) -> float:
        """Ours minus published."""
        return self.mean - self.entry.mean

    @property
    def published_sem(self) -> float:
        """Standard error of the published mean; if it is not known, estimated from our standard deviation."""
        return self.sd / math.sqrt(self.published_seeds) if self.entry.sem is None else self.entry.sem

    def _sem_with(self, n: float) -> float:
        return math.hypot(self.published_sem, self.sd / math.sqrt(n))

    @property
    def allowed(self) -> float:
        """The largest accepted difference; NaN for fewer than two of our seeds."""
        return allowed(self._sem_with(self.n)) if self.n > 1 else math.nan

    @property
    def seen(self) -> float:
        """The true difference that this comparison detects in 80 % of studies."""
        return seen(self._sem_with(self.n)) if self.n > 1 else math.nan

    @property
    def agrees(self) -> bool | None:
        """Whether the numbers agree; None if that cannot be decided."""
        if self.n < 2:
            return None
        if abs(self.difference) > self.allowed:
            return False
        return True if self.seen <= self.least else None

    def seeds_to_see(self, points: float) -> int | None:
        """Return how many of our seeds detect a true difference in 80 % of studies; None if no number does.

        Assumes that the standard deviation is the true one.
        """
        if seen(self.published_sem) >= points:
            return None
        n = 2
        while seen(self._sem_with(n)) > points:
            n += 1
        return n

    @property
    def words(self) -> str:
        """Return the verdict in words: agrees, differs, cannot tell (with the seeds needed), not run ..."""
        if self.unresolved:
            return f"unresolved: {self.unresolved}"
        if self.n < 2:
            return "cannot tell: 2 seeds are needed" if self.n else "not run"
        if self.agrees is not None:
            return "agrees" if self.agrees else "differs"
        if (n := self.seeds_to_see(self.least)) is not None:
            return f"cannot tell: {n} seeds would"
        if self.n < self.published_seeds:
            points = seen(self._sem_with(self.published_seeds))
            now = f"{self.published_seeds} seeds see {points:.1f} points"
            return f"cannot tell: {now}, no number sees {self.least:g}"
        return f"cannot tell: at best {seen(self.published_sem):.1f} points are seen"


def compare(
    table: Table,
    frames: Frames,
    seeds: int,
    only: Sequence[str] = (),
    least: float = DIFFERENCE,
    scenarios: Sequence[str] = (),
) -> list[Verdict]:
    """Return the verdict on every entry, over the finished seeds of the table's recipe.

    ``least`` is the true difference, in points, that must be detected.
    """
    alone = {
        (request.scenarios[0], selector): replace(request, strategies=(selector,))
        for request in table.requests(seeds, only, scenarios)
        for selector in request.strategies
    }
    cells = {asked: [c.key for c in request.cells()] for asked, request in alone.items()}
    values = frames.scores[frames.scores["score"] == table.file.score].set_index("key")["value"]
    verdicts = []
    for entry in table.chosen(only, scenarios):
        ours = [100 * values[key] for key in cells[entry.scenario, entry.selector] if key in values.index]
        s = summarise(ours)
        asked = entry.scenario, entry.selector
        unresolved = alone[asked].unresolved.get(asked, "")
        verdicts.append(Verdict(entry, s.n, s.mean, s.sd, table.file.published_seeds, least, unresolved))
    return verdicts
