"""How long a plan will take, from the times of earlier records; unknown where there are none."""

import math
from collections.abc import Iterable, Mapping, Sequence
from statistics import median
from typing import Any, NamedTuple, Self

from bench.plan.cell import LANES
from bench.plan.resolved import ResolvedPlan, duration
from bench.schema import Fields, digest
from suites.errors import some

_WORK = ("suite", "suite_version", "scenario", "strategy", "model", "model_options")


class Timing(NamedTuple):
    """How long a recorded cell took."""

    work: str
    """See ``work``."""
    seconds: float
    """Training and scoring, of one lane; 0 if nothing was trained."""
    lanes: int
    """Number of lanes of its group."""

    @classmethod
    def of(cls, record: Fields) -> Self:
        """Return the timing of a record."""
        timings = record.get("timings") or {}
        return cls(work(record["spec"]), timings.get("seconds_per_seed", 0.0), timings.get("lanes", 1))


def work(spec: Mapping[str, Any]) -> str:
    """Return a hash of what the time of a cell depends on, hyper-parameters apart: suite, model, training."""
    training = {k: v for k, v in spec["training"].items() if k not in LANES}
    return digest({name: spec[name] for name in _WORK} | {"training": training})


def unknown_work(plan: ResolvedPlan, timings: Iterable[Timing]) -> dict[str, str]:
    """Return the ``work`` in a plan that no record did, with the names of the strategies."""
    timed = {timing.work for timing in timings if timing.seconds}
    asked = {work(vars(spec)): spec.strategy for spec in plan.to_run}
    return {key: name for key, name in asked.items() if key not in timed}


def expected_time(plan: ResolvedPlan, timings: Sequence[Timing], source: str, processes: int) -> str:
    """Return how long the cells to run will take, in words; empty if there are none.

    A group takes as long as the records with the nearest number of lanes. If that number differs, the time
    lies between that of their group and the same time per lane.

    Args:
        plan: The plan.
        timings: Those of records; other hyper-parameters than theirs may take longer.
        source: Where the records are, in words.
        processes: Number of processes that share the groups.
    """
    of_work: dict[str, list[Timing]] = {}
    for timing in timings:
        if timing.seconds:
            of_work.setdefault(timing.work, []).append(timing)
    ends: list[tuple[float, float]] = []
    for group in plan.groups:
        found = of_work.get(work(vars(plan.by_key[group.keys[0]])), [])
        if found:
            size = len(group.keys)
            nearest = min((t.lanes for t in found), key=lambda n: (abs(math.log(n / size)), n))
            seconds = median(t.seconds for t in found if t.lanes == nearest)
            ends.append((seconds * min(size, nearest), seconds * max(size, nearest)))
    missing = sorted(set(unknown_work(plan, timings).values()))
    why = f"no record of {some(missing, 4)} with this suite, model and training in {source}"
    if not ends:
        return f"unknown: {why}" if plan.groups else ""
    n = min(processes, len(plan.groups))
    low, high = (duration(_last_end([pair[end] for pair in ends], n)) for end in (0, 1))
    words = f"about {low}" if low == high else f"{low} to {high}"
    words = f"{words} in {n} process{'es' * (n > 1)}, by records in {source}"
    return f"at least {words}; unknown for the rest: {why}" if missing else words


def _last_end(seconds: Sequence[float], processes: int) -> float:
    """Return when the last of some groups ends, if each idle process takes the longest that is left."""
    busy = [0.0] * processes
    for one in sorted(seconds, reverse=True):
        busy[busy.index(min(busy))] += one
    return max(1.0, *busy)
