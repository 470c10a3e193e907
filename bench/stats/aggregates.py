"""Aggregate scores over many suites, as in Agarwal et al. 2021.

Values have shape (blocks, seeds), see ``Complete.values``: all blocks have the same number of seeds.
Intervals are 95 % percentile intervals of the stratified bootstrap: in every block, seeds are drawn
with replacement.

Axes: R resamples, B blocks, N seeds.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import ArrayLike, NDArray

from bench.stats import intervals

Array = NDArray[np.float64]
RESAMPLES = 2_000


@dataclass(frozen=True)
class Estimate:
    """A number with the ends of its 95 % bootstrap interval."""

    value: float
    low: float
    high: float


def mean(values_BN: Array) -> Array:
    """Return the mean over blocks of the mean over seeds."""
    result: Array = values_BN.mean(axis=(-2, -1))
    return result


def iqm(values_BN: Array) -> Array:
    """Return the mean of the middle half of all values: floor(n/4) are cut at either end."""
    return intervals.iqm(values_BN.reshape(*values_BN.shape[:-2], -1))


AGGREGATES: dict[str, Callable[[Array], Array]] = {"mean": mean, "iqm": iqm}


@lru_cache(1)
def _draws(shape: tuple[int, ...], resamples: int, seed: int) -> NDArray[np.int64]:
    """Return indices_RBN of seeds, drawn with replacement within each block.

    They depend only on ``seed`` and the shape, so all strategies get the same ones: with equal seeds they
    share streams and initial weights.
    """
    return np.random.default_rng(seed).integers(0, shape[-1], size=(resamples, *shape))


@lru_cache(1)
def _times(shape: tuple[int, ...], resamples: int, seed: int) -> Array:
    """Return how often each seed is drawn, times_RBN."""
    drawn = _draws(shape, resamples, seed)
    return np.stack([(drawn == i).sum(axis=-1) for i in range(shape[-1])], axis=-1).astype(float)


def aggregate(
    values_BN: ArrayLike, kind: str = "iqm", *, resamples: int = RESAMPLES, seed: int = 0
) -> Estimate:
    """Return the ``mean`` or ``iqm`` over blocks and seeds with its interval."""
    function = AGGREGATES[kind]
    values = np.asarray(values_BN, dtype=float)
    drawn_RBN = _draws(values.shape, resamples, seed)
    low, high = _ends(function(np.take_along_axis(values[None], drawn_RBN, axis=-1)))
    return Estimate(float(function(values)), float(low), float(high))


def improvement(a_BN: ArrayLike, b_BN: ArrayLike, *, resamples: int = RESAMPLES, seed: int = 0) -> Estimate:
    """Return the probability of improvement P(a > b): the mean over blocks of the share of pairs of seeds.

    Ties count half, as in Mann & Whitney's statistic.
    """
    a, b = np.asarray(a_BN, dtype=float), np.asarray(b_BN, dtype=float)
    wins_BNN = (a[:, :, None] > b[:, None, :]) + 0.5 * (a[:, :, None] == b[:, None, :])
    # The share of wins is a quadratic form in the counts of draws.
    times_RBN = _times(a.shape, resamples, seed)
    products_RB = ((times_RBN[:, :, None] @ wins_BNN)[:, :, 0] * times_RBN).sum(axis=-1)
    shares = products_RB.mean(axis=-1) / a.shape[-1] ** 2
    low, high = _ends(shares)
    return Estimate(float(wins_BNN.mean()), float(low), float(high))


def _ends(samples_R: Array) -> tuple[Array, Array]:
    low, high = np.quantile(samples_R, [0.025, 0.975], axis=0)
    return low, high
