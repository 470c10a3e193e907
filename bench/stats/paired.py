"""Paired comparison of two strategies over common seeds.

Axes: P pairs, N seeds, F sign patterns.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import combinations

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import stats
from threadpoolctl import threadpool_limits

from bench.stats.intervals import half_width

ALPHA = 0.05
EXACT_UP_TO = 30
"""Largest number of pairs for which all sign patterns are counted."""
FLIPS = 99_999
"""Number of sign patterns drawn for more pairs."""
_ROWS_AT_ONCE, _FLIPS_AT_ONCE = 256, 1000
"""Rows of differences that are multiplied by drawn patterns at once: their sums, 2 MB, stay in the cache."""


def fewest(comparisons: int = 1) -> int:
    """Return the smallest number of pairs for which p < 0.05 is possible, after Holm's correction.

    With n pairs the smallest two-sided p of the sign-flip test is 2 / 2^n, and Holm's first step multiplies
    it by the number of comparisons; if no p passes this step, none passes the others.
    """
    return math.floor(math.log2(2 * comparisons / ALPHA)) + 1


FEWEST = fewest()
"""Smallest number of pairs for which a two-sided p < 0.05 is possible: 6."""


@dataclass(frozen=True)
class Paired:
    """The difference a - b over common seeds; NaN if there are too few."""

    n: int
    """Number of common seeds."""
    mean: float
    half: float
    """Half-width of the 95 % t interval of the mean difference."""
    sd: float
    """Sample standard deviation of the differences."""
    d_z: float
    """Effect size, Cohen's d_z: mean of the differences over their standard deviation (Lakens 2013)."""
    p: float
    """Two-sided sign-flip permutation test of the mean."""
    p_wilcoxon: float
    """Two-sided Wilcoxon signed-rank test of the differences that are not zero."""


def compare(a: pd.Series, b: pd.Series) -> Paired:
    """Compare two strategies by a score, indexed by seed; seeds that only one of them has are left out."""
    [found] = compare_pairs(pd.DataFrame({"a": a, "b": b}), [("a", "b")]).to_dict("records")
    return Paired(**{str(name): value for name, value in found.items()})


def compare_pairs(table: pd.DataFrame, pairs: Sequence[tuple[str, str]]) -> pd.DataFrame:
    """Compare pairs of strategies, many at a time.

    Args:
        table: Seeds as rows, strategies as columns.
        pairs: Names of strategies a and b.

    Returns:
        A row per pair, in order, with the fields of ``Paired`` for a - b.
    """
    values = {name: table[name].to_numpy(dtype=float) for name in {name for pair in pairs for name in pair}}
    difference_PN = np.array([values[a] - values[b] for a, b in pairs]).reshape(len(pairs), len(table))
    found = pd.DataFrame(difference_PN.T)
    out = pd.DataFrame({"n": found.count(), "mean": found.mean(), "sd": found.std()})
    out["half"] = half_width(out["sd"], out["n"])
    # Equal differences have a standard deviation of rounding errors only.
    constant = (found.max() - found.min()) <= _slack(np.nan_to_num(difference_PN))
    out["d_z"] = (out["mean"] / out["sd"]).mask(constant)
    there = [row[~np.isnan(row)] for row in difference_PN]
    out["p"], out["p_wilcoxon"] = sign_flips(there), wilcoxons(there)
    return out[list(Paired.__annotations__)]


def sign_flips(
    differences: Sequence[NDArray[np.float64]], *, flips: int = FLIPS, seed: int = 0
) -> list[float]:
    """Return two-sided p of the sign-flip permutation test of each row: of sign patterns with |sum| as large.

    Under the null hypothesis that a and b can be exchanged within a seed, all sign patterns are equally
    likely. Up to 30 pairs all 2^n are counted, so p is exact. For more pairs ``flips`` patterns are drawn
    with ``seed``, the same for rows of equal length, and p = (1 + hits) / (1 + flips), which is never 0
    (Phipson & Smyth 2010).
    """
    found = [math.nan] * len(differences)
    drawn: dict[int, list[int]] = {}
    for place, d in enumerate(differences):
        reach = abs(d.sum()) - _slack(d)
        if len(d) > EXACT_UP_TO and reach > 0:
            drawn.setdefault(len(d), []).append(place)
        elif len(d):
            found[place] = _counted(d, float(reach)) if reach > 0 else 1.0
    for n, places in drawn.items():
        rows_PN = np.array([differences[place] for place in places])
        hits_P = _hits(rows_PN, _drawn_signs(n, flips, seed))
        for place, hits in zip(places, hits_P.tolist(), strict=True):
            found[place] = (1 + hits) / (1 + flips)
    return found


@lru_cache(maxsize=1)
def _drawn_signs(n: int, flips: int, seed: int) -> NDArray[np.int8]:
    """Return sign patterns of n pairs, drawn with a seed; a report asks for the same ones many times."""
    return np.random.default_rng(seed).integers(0, 2, size=(flips, n)).astype(np.int8) * 2 - 1


def _hits(rows_PN: NDArray[np.float64], signs_FN: NDArray[np.int8]) -> NDArray[np.int64]:
    """Return for each row the number of patterns with |sum| at least as large as that of the row."""
    hits_P = np.zeros(len(rows_PN), dtype=int)
    reach_P = np.abs(rows_PN.sum(1)) - _slack(rows_PN)
    # The products are small, and other processes of a report draw figures: threads would wait for a core.
    with threadpool_limits(1, "blas"):
        for flip in range(0, len(signs_FN), _FLIPS_AT_ONCE):
            signs = signs_FN[flip : flip + _FLIPS_AT_ONCE].astype(float)
            for row in range(0, len(rows_PN), _ROWS_AT_ONCE):
                of = slice(row, row + _ROWS_AT_ONCE)
                hits_P[of] += (np.abs(signs @ rows_PN[of].T) >= reach_P[of]).sum(0)
    return hits_P


def _counted(d: NDArray[np.float64], reach: float) -> float:
    """Return the share of all sign patterns whose |sum| is at least ``reach``."""
    # Each sum is a sum over the first half of the pairs plus one over the second: 2^16 sums, not 2^30.
    first, second = (_signed_sums(half) for half in np.array_split(d, 2))
    second.sort()
    above = len(second) - np.searchsorted(second, reach - first, side="left")
    return 2 * float(above.sum()) / float(2 ** len(d))


def _signed_sums(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the sums under all 2^n sign patterns."""
    sums = np.zeros(1)
    for value in values:
        sums = np.concatenate([sums - value, sums + value])
    return sums


def _slack(d: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return a bound on the rounding error of sums over the last axis."""
    slack: NDArray[np.float64] = 1e-12 * np.abs(d).sum(axis=-1)
    return slack


def wilcoxons(differences: Sequence[NDArray[np.float64]]) -> list[float]:
    """Return the two-sided p of Wilcoxon's (1945) signed-rank test of each row; zeros are left out.

    It is the sign-flip test of the signed ranks, so p is exact up to 30 pairs, also with ties; for more pairs
    it is scipy's. (With ties, scipy counts the patterns one by one in Python, a second per comparison.)
    Rows alike are computed together.
    """
    found = [1.0 if len(d) else math.nan for d in differences]
    # Accuracies are ratios of counts: rounded, so that equal differences are exact ties.
    rounded = [np.round(d, 12) for d in differences]
    rows = [d[d != 0] for d in rounded]
    # scipy decides once for all rows whether to count: not with ties.
    alike: dict[tuple[int, bool], list[int]] = {}
    for place, d in enumerate(rows):
        if len(d):
            ties = len(d) > EXACT_UP_TO and len(np.unique(np.abs(d))) < len(d)
            alike.setdefault((len(d), ties), []).append(place)
    for (n, _), places in alike.items():
        d_PN = np.array([rows[place] for place in places])
        if n <= EXACT_UP_TO:
            p_P = sign_flips(list(np.sign(d_PN) * stats.rankdata(np.abs(d_PN), axis=1)))
        else:
            p_P = stats.wilcoxon(d_PN, axis=1).pvalue.tolist()
        for place, p in zip(places, p_P, strict=True):
            found[place] = p
    return found


def holm(p: Sequence[float]) -> list[float]:
    """Return p-values adjusted by Holm (1979): each can be compared with 0.05 as if it were the only test.

    NaNs are not part of the family and stay NaN.
    """
    values = np.asarray(p, dtype=float)
    out = np.full(len(values), np.nan)
    order = [i for i in np.argsort(values, kind="stable") if not np.isnan(values[i])]
    largest = 0.0
    for place, i in enumerate(order):
        largest = max(largest, min(1.0, (len(order) - place) * values[i]))
        out[i] = largest
    return out.tolist()


def against(table: pd.DataFrame, best: str, *, higher_is_better: bool = True) -> pd.DataFrame:
    """Compare every strategy of a table with one of them.

    If ``best`` was chosen for its mean on the same seeds, this choice makes the others look slightly worse
    than they are.

    Args:
        table: Seeds as rows, strategies as columns.
        best: The strategy that the others are compared with.
        higher_is_better: Whether a higher score is better.

    Returns:
        A row per other strategy: the fields of ``Paired`` for strategy - best, ``p_holm`` over the rows with
        enough common seeds, and ``verdict``: better, worse, not distinguished, or ``too few seeds`` (fewer
        than 6 common seeds, or so few that no p could be below 0.05 after Holm's correction).
    """
    others = [str(name) for name in table.columns if name != best]
    out = compare_pairs(table, [(name, best) for name in others]).set_axis(others)
    return _judged(out, higher_is_better)


def every_pair(
    table: pd.DataFrame, *, higher_is_better: bool = True, known: pd.DataFrame | None = None
) -> pd.DataFrame:
    """Compare every two strategies of a table.

    Args:
        table: Seeds as rows, strategies as columns.
        higher_is_better: Whether a higher score is better.
        known: Rows of an earlier result for some of the strategies, which are not computed again; only
            ``p_holm`` and ``verdict`` are.

    Returns:
        A row per pair: ``a``, ``b`` and the columns of ``against`` for a - b; ``p_holm`` is over all pairs.
    """
    names = [(str(a), str(b)) for a, b in combinations(table.columns, 2)]
    pairs = pd.DataFrame(names, columns=["a", "b"])
    out = compare_pairs(table, names) if known is None else _completed(known, pairs, table)
    return pd.concat([pairs, _judged(out, higher_is_better)], axis=1)


def _completed(known: pd.DataFrame, pairs: pd.DataFrame, table: pd.DataFrame) -> pd.DataFrame:
    """Return the rows of ``compare_pairs`` for pairs, of which some are known in either order."""
    signs = {name: 0 - known[name] for name in ("mean", "d_z")}
    turned = known.rename(columns={"a": "b", "b": "a"}).assign(**signs)
    out = pairs.merge(pd.concat([known, turned]), how="left", on=["a", "b"])[[*Paired.__annotations__]]
    new = out["n"].isna()
    out[new] = compare_pairs(table, [*pairs[new].itertuples(index=False, name=None)]).to_numpy()
    return out.astype({"n": int})


def _judged(out: pd.DataFrame, higher_is_better: bool) -> pd.DataFrame:
    """Add ``p_holm`` over the rows with enough seeds, and ``verdict``, to rows of ``compare_pairs``."""
    enough = out["n"] >= FEWEST
    out["p_holm"] = holm(out["p"].where(enough).tolist())
    possible = any(n >= fewest(int(enough.sum())) for n in out["n"][enough])
    better = (out["mean"] > 0) if higher_is_better else (out["mean"] < 0)
    verdict = pd.Series(np.where(better, "better", "worse"), out.index, dtype=object)
    verdict = verdict.mask(out["p_holm"] >= ALPHA, "not distinguished")
    out["verdict"] = verdict.mask(~enough | (not possible), "too few seeds")
    return out


def too_few(n: int, comparisons: int = 1) -> str:
    """Return a sentence on what n common seeds cannot show, empty if a difference is possible.

    It is ``fewest`` in words, the rule of reports and of ``lethe power``.
    """
    needed = fewest(comparisons)
    if n >= needed:
        return ""
    family = f" after Holm over {comparisons} comparisons" if comparisons > 1 else ""
    return f"n = {n} cannot show any difference{family}: {needed} seeds can"
