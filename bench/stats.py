"""Intervals over seeds."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats


@dataclass(frozen=True)
class Summary:
    """Mean of n values with the 95 % t interval; ``half`` is NaN for fewer than two values."""

    n: int
    mean: float
    half: float
    """Half-width of the interval, so that it is mean - half to mean + half."""
    sd: float
    """Sample standard deviation."""


def summarise(values: Sequence[float]) -> Summary:
    """Return the summary of the values that are there: NaNs are left out and not counted."""
    found = np.asarray(values, dtype=float)
    found = found[~np.isnan(found)]
    n = len(found)
    if n == 0:
        return Summary(0, math.nan, math.nan, math.nan)
    if n == 1:
        return Summary(1, float(found[0]), math.nan, math.nan)
    sd = float(found.std(ddof=1))
    half = float(stats.t.ppf(0.975, n - 1)) * sd / math.sqrt(n)
    return Summary(n, float(found.mean()), half, sd)
