"""How many seeds are needed to detect a difference."""

import math
from collections.abc import Iterator
from dataclasses import dataclass

import pandas as pd
from scipy import stats

from bench.stats.intervals import summarise
from bench.stats.scores import SCORES
from suites.errors import UserError, unknown

ALPHA, POWER = 0.05, 0.80
MOST = 100_000


def power(difference: float, sd: float, n: int) -> float:
    """Return how often a two-sided paired t test over n seeds detects a true mean difference.

    ``sd`` is that of the paired differences. Exact for normal differences: |t| > t(1 - alpha/2, n - 1) where
    t is noncentral with n - 1 degrees of freedom and parameter sqrt(n) difference / sd.
    """
    if n < 2:
        return 0.0
    if sd == 0:
        return 1.0 if difference else ALPHA
    t, shift = float(stats.t.ppf(1 - ALPHA / 2, n - 1)), math.sqrt(n) * abs(difference) / sd
    # Beyond 6 the other tail is below 1e-9, and scipy's is NaN for some of them.
    other = float(stats.nct.cdf(-t, n - 1, shift)) if shift < 6 else 0.0
    return float(stats.nct.sf(t, n - 1, shift)) + other


def seeds_needed(difference: float, sd: float) -> int:
    """Return the least number of seeds with at least 80 % power; raises UserError beyond 100,000."""
    low, high = 1, 2
    while power(difference, sd, high) < POWER:
        low, high = high, 2 * high
        if high > 2 * MOST:
            raise UserError(f"more than {MOST:,} seeds: the difference is too small to detect")
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if power(difference, sd, middle) >= POWER else (middle, high)
    return high


@dataclass(frozen=True)
class Need:
    """The number of seeds needed, from two strategies' seeds in one suite and scenario."""

    suite: str
    scenario: str
    n: int
    """Common seeds that the standard deviation is of."""
    mean: float
    """Mean of a - b over them, a proportion."""
    sd: float
    needed: int
    """Seeds for the difference at 80 % power, two-sided 5 %, if the standard deviation is the true one."""
    cautious: int
    """The same for the upper end of the standard deviation's one-sided 80 % interval (Browne 1995): with few
    seeds the standard deviation is itself a guess."""


def needs(scores: pd.DataFrame, a: str, b: str, score: str, points: float) -> list[Need]:
    """Return, per suite and scenario, how many seeds show a difference of ``points`` between a and b.

    ``scores`` is the frame of that name. Raises UserError for an unknown score or strategy, and
    where no suite has at least two seeds of both.
    """
    if score not in SCORES:
        raise unknown("score", score, list(SCORES))
    if not points > 0:
        raise UserError(f"the difference must be above 0 points, not {points:g}")
    if a == b:
        raise UserError(f"{a} does not differ from itself")
    known = scores["identity"].unique().tolist()
    for name in (a, b):
        if name not in known:
            raise unknown("strategy of the run", name, known)
    found = list(_needs(scores[scores["score"] == score], a, b, points / 100))
    if not found:
        raise UserError(f"{a} and {b} have no two seeds of {score} in common")
    return found


def _needs(scores: pd.DataFrame, a: str, b: str, difference: float) -> Iterator[Need]:
    for (suite, scenario), part in scores.groupby(["suite", "scenario"]):
        values = {n: part[part["identity"] == n].set_index("seed")["value"] for n in (a, b)}
        s = summarise((values[a] - values[b]).tolist())
        if s.n < 2:
            continue
        upper = s.sd * math.sqrt((s.n - 1) / float(stats.chi2.ppf(0.2, s.n - 1)))
        few, many = (seeds_needed(difference, sd) for sd in (s.sd, upper))
        yield Need(str(suite), str(scenario), s.n, s.mean, s.sd, few, many)
