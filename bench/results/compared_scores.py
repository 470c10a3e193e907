"""Verdicts on the scores, sizes and times of two runs, paired by seed; see bench.stats.verdicts."""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Literal

from bench.results.frames import Frames
from bench.results.outcome import Outcome
from bench.results.paired_cells import Pair, Rows, recorded_number
from bench.schema import ComparedScore, Project
from bench.stats import SCORES, Judged, judge

POINTS, PER_CENT = 1.0, 5.0
"""The default margins of scores, and of sizes and times."""
SIZES = {
    "seconds_per_seed": False, "train_seconds": False, "evaluation_seconds": False,
    "samples_per_second": True, "peak_bytes": False, "parameters": False, "memory_samples": False,
    "memory_bytes": False,
}  # fmt: skip
"""Sizes and times that can be compared, and whether higher is better."""


def judged_scores(
    rows: Rows, base: Frames, new: Frames, names: Sequence[str], project: Project
) -> list[ComparedScore]:
    """Return the verdicts on all scores of all rows, which are one family for Holm's correction."""
    values = {n: _values(frames, names) for n, frames in (("base", base), ("new", new))}
    asked = []
    for row, found in rows:
        for name in names:
            own = [(p, values["base"](p.base, name), values["new"](p.new, name)) for p in found]
            defined = [(p, was, now) for p, was, now in own if not math.isnan(was - now)]
            if name in SIZES:
                defined = [(p, was, now) for p, was, now in defined if was or not now]
            if defined:
                margin = project.margin(row[0], name, POINTS if name in SCORES else PER_CENT)
                asked.append((row, name, defined, margin))
    changes = [[_change(name, was, now) for _, was, now in defined] for _, name, defined, _ in asked]
    found_verdicts = judge(changes, [margin for *_, margin in asked])
    return [
        _compared(row, name, defined, margin, judged)
        for (row, name, defined, margin), judged in zip(asked, found_verdicts, strict=True)
    ]


def _values(frames: Frames, names: Sequence[str]) -> Callable[[Outcome, str], float]:
    """Return a function that looks up a score, size or time of a cell; NaN if it is not defined."""
    chosen = frames.scores[frames.scores["score"].isin(names)]
    table: Mapping[tuple[str, str], float] = dict(
        zip(zip(chosen["key"], chosen["score"], strict=True), chosen["value"], strict=True)
    )

    def value(cell: Outcome, name: str) -> float:
        if name in SCORES:
            return 100 * table.get((cell.key, name), math.nan)
        number = recorded_number(cell, name)
        return math.nan if number is None else float(number)

    return value


def _higher(name: str) -> bool:
    return SCORES[name].higher_is_better if name in SCORES else SIZES[name]


def _change(name: str, was: float, now: float) -> float:
    """Return the improvement from BASE to NEW: in points, or in percent of BASE for sizes and times."""
    scale = 1.0 if name in SCORES or was == 0 else 100 / was  # a size of zero is compared with zero only
    change = (now - was) * scale
    return change if _higher(name) else -change


def _compared(
    row: tuple[str, str, str],
    name: str,
    defined: Sequence[tuple[Pair, float, float]],
    margin: float,
    judged: Judged,
) -> ComparedScore:
    n, equal = len(defined), sum(pair.equal for pair, *_ in defined)
    unit: Literal["points", "%"] = "points" if name in SCORES else "%"
    low, high = (judged.low, judged.high) if _higher(name) else (-judged.high, -judged.low)
    verdict = "same" if equal == n and name in SCORES else judged.verdict
    return ComparedScore(
        suite=row[0],
        scenario=row[1],
        strategy=row[2],
        score=name,
        unit=unit,
        higher_is_better=_higher(name),
        n=n,
        base=sum(was for _, was, _ in defined) / n,
        new=sum(now for *_, now in defined) / n,
        difference=(judged.mean if _higher(name) else -judged.mean) + 0.0,
        low=None if math.isnan(low) else low + 0.0,
        high=None if math.isnan(high) else high + 0.0,
        p_holm=None if math.isnan(judged.p_holm) else judged.p_holm,
        margin=margin,
        verdict=verdict,
        equal_records=equal,
        seeds_needed=judged.seeds_needed if verdict == "unclear" else None,
        why=_why(judged, verdict, margin, unit, equal == n and name in SCORES),
    )


def _why(judged: Judged, verdict: str, margin: float, unit: str, equal: bool) -> str:
    n = f"{judged.n} seed{'s' * (judged.n > 1)}"
    if equal:
        return f"equal bit for bit in {n}"
    if judged.nothing and judged.n > 1:
        return f"no difference in any of {n}"
    if verdict == "same":
        return f"the interval is within {margin:g} {unit}"
    if verdict != "unclear":
        return f"by {abs(judged.mean):.2f} {unit} in {n}, p = {judged.p_holm:.2g} after Holm's correction"
    if judged.n == 1:
        return "one seed has no interval; run more seeds"
    if judged.seeds_needed is None:
        return f"more than 10,000 seeds for a margin of {margin:g} {unit}"
    return f"{judged.seeds_needed:,} seeds would decide it"
