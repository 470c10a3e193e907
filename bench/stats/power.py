"""Number of seeds needed to detect a difference."""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import stats

from bench.stats.intervals import summarise
from bench.stats.paired import ALPHA, fewest, sign_flips
from bench.stats.scores import SCORES
from suites.errors import UserError, unknown

POWER = 0.80
MOST = 100_000
_STUDIES, _SIMULATED = 4_000, 16


def power(difference: float, sd: float, n: int, comparisons: int = 1) -> float:
    """Return the power of a report's test: the probability that it detects a true mean difference.

    The test is that of ``bench.stats.paired``: sign flips, two-sided 5 %, the first step of Holm, and
    no verdict below ``fewest`` seeds. Up to 16 seeds, power is estimated on simulated studies with normal
    differences, always the same ones. For more seeds it is the power of the paired t test, which agrees to
    within 0.01.

    Args:
        difference: The true mean difference.
        sd: Standard deviation of the paired differences.
        n: Number of common seeds.
        comparisons: Number of comparisons in the family; 1 for one pair of strategies.
    """
    if n < fewest(comparisons) or difference == sd == 0:
        return 0.0
    if sd == 0:
        return 1.0
    if n > _SIMULATED:
        return _power_of_t(difference, sd, n, ALPHA / comparisons)
    p = np.array(sign_flips(list(_studies(n) + abs(difference) / sd)))
    return float((p * comparisons < ALPHA).mean())


@cache
def _studies(n: int) -> NDArray[np.float64]:
    return np.random.default_rng(n).standard_normal((_STUDIES, n))


def _power_of_t(difference: float, sd: float, n: int, alpha: float) -> float:
    """Return the power of a two-sided paired t test, exact for normal differences.

    It is P(|t| > t(1 - alpha/2, n - 1)), where t is noncentral with n - 1 degrees of freedom and parameter
    sqrt(n) difference / sd.
    """
    t, shift = float(stats.t.ppf(1 - alpha / 2, n - 1)), math.sqrt(n) * abs(difference) / sd
    # For a shift above 6 the other tail is below 1e-9, and scipy returns NaN for some values.
    other = float(stats.nct.cdf(-t, n - 1, shift)) if shift < 6 else 0.0
    return float(stats.nct.sf(t, n - 1, shift)) + other


def seeds_needed(difference: float, sd: float, comparisons: int = 1) -> int:
    """Return the smallest number of seeds with at least 80 % power; raises UserError above 100,000."""
    found = fewest_above(
        fewest(comparisons) - 1, lambda n: power(difference, sd, n, comparisons) >= POWER, MOST
    )
    if found is None:
        raise UserError(f"more than {MOST:,} seeds: the difference is too small to detect")
    return found


def fewest_above(low: int, enough: Callable[[int], bool], most: int) -> int | None:
    """Return the smallest number above ``low`` that is enough; larger ones are, too. None above ``most``."""
    high = low + 1
    while not enough(high):
        low, high = high, 2 * high
        if low >= most:
            return None
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if enough(middle) else (middle, high)
    return high if high <= most else None


@dataclass(frozen=True)
class Need:
    """The number of seeds needed to compare two strategies in one suite and scenario."""

    suite: str
    scenario: str
    n: int
    """Number of common seeds so far."""
    mean: float
    """Mean of a - b over them, a proportion."""
    sd: float
    """Standard deviation of a - b over them."""
    comparisons: int
    """Number of comparisons that Holm corrects for."""
    needed: int
    """Seeds for 80 % power if ``sd`` is the true standard deviation; see ``power``."""
    cautious: int
    """Seeds for 80 % power at the upper end of the one-sided 80 % interval of the standard deviation (Browne
    1995), which is uncertain with few seeds."""


def needs(
    scores: pd.DataFrame, a: str, b: str, score: str, points: float, comparisons: int | None = None
) -> list[Need]:
    """Return how many seeds are needed to detect a difference, for each suite and scenario.

    Args:
        scores: ``Frames.scores``.
        a: A strategy, by identity.
        b: Another strategy.
        score: Name of a score.
        points: The true difference, in points.
        comparisons: Number of comparisons in the family; without it those of a report: the strategies of
            ``scores`` in the suite and scenario less one.

    Raises:
        UserError: The score or a strategy is unknown, or no suite has two seeds of both strategies.
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
    found = list(_needs(scores[scores["score"] == score], a, b, points / 100, comparisons))
    if not found:
        raise UserError(f"{a} and {b} have no two seeds of {score} in common")
    return found


def _needs(
    scores: pd.DataFrame, a: str, b: str, difference: float, comparisons: int | None
) -> Iterator[Need]:
    for (suite, scenario), part in scores.groupby(["suite", "scenario"]):
        values = {n: part[part["identity"] == n].set_index("seed")["value"] for n in (a, b)}
        s = summarise((values[a] - values[b]).tolist())
        if s.n < 2:
            continue
        upper = s.sd * math.sqrt((s.n - 1) / float(stats.chi2.ppf(0.2, s.n - 1)))
        family = comparisons or part.dropna(subset=["value"])["identity"].nunique() - 1
        few, many = (seeds_needed(difference, sd, family) for sd in (s.sd, upper))
        yield Need(str(suite), str(scenario), s.n, s.mean, s.sd, family, few, many)
