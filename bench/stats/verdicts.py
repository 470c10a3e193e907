"""Verdicts on paired differences: same, worse, better or unclear, by a margin of non-inferiority.

A difference of one seed is NEW - BASE, with the sign at which more is better. All intervals are paired t
intervals, because no sign-flip test reaches p < 0.05 with five pairs (its smallest p is 2 / 2^5).
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike
from scipy import stats

from bench.stats.intervals import summarise
from bench.stats.paired import ALPHA, holm
from bench.stats.power import POWER, fewest_above

Verdict = Literal["same", "worse", "better", "unclear"]
MOST_SEEDS = 10_000
_NOTHING = 1e-12
"""Differences below this are rounding errors of equal scores."""


@dataclass(frozen=True)
class Judged:
    """The verdict on one score of one strategy; means and ends of the interval have the sign of the input."""

    n: int
    """Number of pairs."""
    mean: float
    low: float
    high: float
    """The 95 % paired t interval of the mean, without correction; NaN for one pair."""
    p_holm: float
    """One-sided p of the paired t test of no difference in the direction of the mean, after Holm's correction
    over all judged together; NaN for one pair, and if nothing differs."""
    verdict: Verdict
    nothing: bool
    """Whether no pair differs."""
    seeds_needed: int | None
    """For ``unclear``, the number of seeds that would decide it; see ``seeds_to_settle``. None for other
    verdicts, for one pair, and above 10,000."""


def judge(differences: Sequence[ArrayLike], margins: Sequence[float]) -> list[Judged]:
    """Judge paired differences; positive ones are improvements.

    - ``worse``: the mean is at least the margin below zero, its 95 % interval excludes zero, and one-sided
      p is below 0.05 after Holm's correction over all. If nothing changed, at most 5 % of judgements have
      a ``worse`` among their comparisons.
    - ``better``: the same above zero.
    - ``same``: the whole 95 % interval is within the margin. This needs no correction: everything
      is said to be the same only if each is (an intersection-union test, Berger 1982).
    - ``unclear``: everything else.

    Args:
        differences: The differences of each comparison, one for each pair, without NaN.
        margins: The margin of each comparison, in the units of the differences.
    """
    rows = [np.asarray(d, dtype=float) for d in differences]
    nothing = [bool((np.abs(d) < _NOTHING).all()) for d in rows]
    found = [summarise(d.tolist()) for d in rows]
    p_worse = [
        math.nan if none or s.n < 2 else _p_worse(s.mean, s.sd, s.n)
        for s, none in zip(found, nothing, strict=True)
    ]
    family = sum(not math.isnan(p) for p in p_worse)
    of_direction = zip(holm(p_worse), holm([1 - p for p in p_worse]), strict=True)
    judged = []
    for s, none, margin, both in zip(found, nothing, margins, of_direction, strict=True):
        p = both[0] if s.mean < 0 else both[1]
        verdict = _verdict(s.mean, s.half, margin, p)
        settle = verdict == "unclear" and s.n > 1
        needed = seeds_to_settle(s.mean, s.sd, margin, family) if settle else None
        judged.append(Judged(s.n, s.mean, s.low, s.high, p, verdict, none, needed))
    return judged


def _verdict(mean: float, half: float, margin: float, p: float) -> Verdict:
    if abs(mean) + half < margin:
        return "same"
    if p < ALPHA and abs(mean) >= max(margin, half):
        return "worse" if mean < 0 else "better"
    return "unclear"


def _p_worse(mean: float, sd: float, n: int) -> float:
    """Return p of the paired t test against a mean below zero; 0 or 1 if all differences are equal."""
    if sd < _NOTHING:
        return float(mean > 0)
    return float(stats.t.cdf(mean * math.sqrt(n) / sd, n - 1))


def seeds_to_settle(mean: float, sd: float, margin: float, comparisons: int = 1) -> int | None:
    """Return the number of pairs with which a verdict other than ``unclear`` is given in 80 % of studies.

    It assumes that the true mean and standard deviation are the measured ones: a mean within the margin is
    then shown to be the same, a larger one to be worse or better, at the first step of Holm's correction.

    Args:
        mean: Mean difference.
        sd: Standard deviation of the differences.
        margin: The margin.
        comparisons: Number of comparisons in the family.

    Returns:
        None above 10,000, as for a mean at the margin itself.
    """
    past = abs(mean) - margin
    gap, tail = (-past, ALPHA / 2) if past < 0 else (abs(mean), min(ALPHA / 2, ALPHA / comparisons))

    def enough(n: int) -> bool:
        error, chance = sd / math.sqrt(n), float(stats.t.ppf(POWER, n - 1))
        # A worse or better mean must also be beyond the margin.
        return (stats.t.isf(tail, n - 1) + chance) * error <= gap and (past < 0 or chance * error <= past)

    return fewest_above(1, enough, MOST_SEEDS)
