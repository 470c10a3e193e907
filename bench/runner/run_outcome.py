"""What became of cells, and the outcome of running a plan."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Self

from bench.plan import CellSpec
from bench.runner.claimed_groups import Group
from bench.schema import Failure, failure_in_words
from bench.store import RunFolder
from suites.errors import some


@dataclass
class Ended:
    """What became of some cells."""

    keys: list[str] = field(default_factory=list)
    """Cells with a new record."""
    halved: list[str] = field(default_factory=list)
    """A line for each group that ran as halves, with the reason."""
    unfinished: dict[str, str] = field(default_factory=dict)
    """Cells without a record, with the fault of the environment."""
    stops: bool = False
    """Whether the fault would meet all other cells too."""
    again: list[Group] = field(default_factory=list)
    """Groups to run in another process, because this one cannot use its device any more."""
    failure: Failure | None = None
    """Why it cannot."""
    memory: float = 0.0
    """The share of its GPU's memory that its process has needed at most."""

    def __iadd__(self, other: Self) -> Self:
        self.keys += other.keys
        self.halved += other.halved
        self.unfinished |= other.unfinished
        self.stops |= other.stops
        self.again += other.again
        self.failure = other.failure or self.failure
        self.memory = max(self.memory, other.memory)
        return self

    @property
    def stopped_by(self) -> str:
        """The fault that would meet all other cells too, empty for none."""
        return next(iter(self.unfinished.values())) if self.stops else ""

    @classmethod
    def without_record(cls, groups: Sequence[Group], why: str, stops: bool = False) -> Self:
        """Return that groups met a fault of the environment."""
        return cls(unfinished={spec.key: why for group in groups for spec in group}, stops=stops)


@dataclass(frozen=True)
class Outcome:
    """The outcome of the cells that were run or skipped now."""

    counts: dict[str, int]
    failures: dict[str, str]
    """A line for each reason of failed cells, with the file and line that raised it; and its traceback."""
    unfinished: list[str]
    """A line for each fault of the environment, with its cells: they have no new record, and the same command
    runs them again."""
    set_aside: list[str]
    """A line for each file of the folder that could not be read and was set aside."""
    halved: list[str]
    """A line for each group that failed and was run in halves, the only change of a plan."""


def outcome_of(todo: Sequence[CellSpec], run: RunFolder, set_aside: list[str], became: Ended) -> Outcome:
    """Return what became of the cells that were to run."""
    counts: Counter[str] = Counter()
    failures: dict[str, list[str]] = {}
    faults: dict[str, list[str]] = {}
    traces: dict[str, str] = {}
    keys = {spec.key for spec in todo}
    records = run.each(lambda record: {"status": record["status"], "error": record["error"]}, keys)
    for spec in todo:
        record = records.get(spec.key, {"status": "not finished"})
        if spec.key in became.unfinished:
            record = {"status": "not finished"}
            faults.setdefault(became.unfinished[spec.key], []).append(spec.title)
        counts[record["status"]] += 1
        if record["status"] == "failed":
            why = failure_in_words(record["error"])
            failures.setdefault(why, []).append(spec.title)
            traces[why] = record["error"]["traceback"].rstrip()
    failed = {f"{some(titles, 1)}: {why}": traces[why] for why, titles in failures.items()}
    unfinished = [f"{some(titles, 1)}: {why}" for why, titles in faults.items()]
    return Outcome(dict(counts), failed, unfinished, set_aside, became.halved)
