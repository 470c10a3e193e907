"""The outcome of running a plan."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from bench.plan import CellSpec
from bench.runner.processes import Ended
from bench.schema import failure_in_words
from bench.store import RunFolder
from suites.errors import some


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
