"""The expected best of k trials: what a result costs in tuning."""

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import comb


def weights(scores: ArrayLike, k: int, replace: bool = True) -> NDArray[np.float64]:
    """Return the probability of each trial to be chosen as the best of k of them; equal ones share theirs.

    Args:
        scores: The validation score of each of n trials.
        k: Number of trials that one could afford.
        replace: Draw the k trials with replacement, from the empirical distribution, as in Dodge et al. 2019,
            Show your work: improved reporting of experimental results (their equation for E[V*_n | n]); the
            best of the first i of n sorted trials has probability (i/n)^k. Else over all subsets of k trials
            (Tang et al. 2020, Showing your work doesn't always work): C(i, k) / C(n, k).

    Returns:
        One probability for each trial, in their order; their sum is 1.
    """
    v_N = np.asarray(scores, dtype=float)
    n = len(v_N)
    _, place_N, count = np.unique(v_N, return_inverse=True, return_counts=True)
    up_to = np.cumsum(count)
    total = (up_to / n) ** k if replace else comb(up_to, k) / comb(n, k)
    own = np.diff(total, prepend=0.0)
    shares: NDArray[np.float64] = (own / count)[place_N]
    return shares


def expected_best(scores: ArrayLike, k: int, others: ArrayLike | None = None, replace: bool = True) -> float:
    """Return the expected score of the trial that is chosen as the best of k.

    Args:
        scores: The validation score of each trial, by which the best is chosen.
        k: Number of trials.
        others: What is expected of the chosen trial, such as its test score; the validation score without it.
        replace: See ``weights``.
    """
    return float(weights(scores, k, replace) @ np.asarray(scores if others is None else others, dtype=float))
