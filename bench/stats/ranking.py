"""Ranks of strategies across suites: Friedman's and Nemenyi's tests, critical differences (Demsar 2006).

A block is a suite in a scenario. The tests assume independent blocks, which is only approximately true for
scenarios of one suite and for suites with the same data.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray
from scipy import stats

from bench.stats.paired import ALPHA
from bench.stats.scores import SCORES

Block = tuple[str, str]
"""Suite and scenario."""


@dataclass(frozen=True)
class Complete:
    """The values of a score that all included strategies have, so that all means are over the same seeds."""

    score: str
    blocks: Mapping[Block, pd.DataFrame]
    """Per block: common seeds as rows, strategies as columns."""
    left_out: tuple[str, ...]
    """Strategies and blocks that are left out, each with the reason."""

    @property
    def strategies(self) -> list[str]:
        """The included strategies, by name."""
        return list(next(iter(self.blocks.values())).columns) if self.blocks else []

    @property
    def seeds(self) -> dict[Block, int]:
        """Number of common seeds of each block."""
        return {block: len(table) for block, table in self.blocks.items()}

    def means(self) -> pd.DataFrame:
        """Return the mean over the common seeds: blocks as rows, strategies as columns."""
        return pd.DataFrame({block: table.mean() for block, table in self.blocks.items()}).T

    def values(self) -> dict[str, NDArray[np.float64]]:
        """Return the values of each strategy, shape (blocks, seeds), with the seeds of the smallest block."""
        n = min(self.seeds.values(), default=0)
        tables = [table[:n] for table in self.blocks.values()]
        return {name: np.array([table[name].to_numpy() for table in tables]) for name in self.strategies}


def complete(scores: pd.DataFrame, score: str) -> Complete:
    """Return the complete part of a score: strategies with values in all blocks, blocks with common seeds.

    Args:
        scores: ``Frames.scores``.
        score: Name of the score.
    """
    part = scores[(scores["score"] == score) & scores["value"].notna()]
    if part.empty:
        return Complete(score, {}, ())
    keys = ["suite", "scenario"]
    has = part.groupby([*keys, "identity"]).size().unstack("identity").notna()
    lacks = {str(name): [" ".join(block) for block in has.index[~has[name]]] for name in has.columns}
    words = [f"{name}: no value in {', '.join(blocks)}" for name, blocks in lacks.items() if blocks]
    included = [name for name, blocks in lacks.items() if not blocks]
    blocks = {}
    for (suite, scenario), rows in part[part["identity"].isin(included)].groupby(keys):
        table = rows.pivot(index="seed", columns="identity", values="value").dropna()[included]
        if table.empty:
            words.append(f"{suite} {scenario}: no seed that all strategies have")
        else:
            blocks[str(suite), str(scenario)] = table
    return Complete(score, blocks, tuple(words))


@dataclass(frozen=True)
class Ranking:
    """Mean ranks over blocks with their tests: the content of a critical-difference diagram."""

    score: str
    ranks: pd.Series
    """Mean rank of each strategy, best first; rank 1 is best, ties share the mean of their ranks."""
    whole: Complete
    """The values that are ranked."""
    p: float
    """p of Friedman's test (chi-squared) that all strategies have equal ranks."""
    critical_difference: float
    """Mean ranks that differ by more than this differ at 5 % (Nemenyi), if Friedman's p is below 0.05."""
    groups: tuple[tuple[str, ...], ...]
    """Maximal sets of neighbouring strategies that are not distinguished: the bars of the diagram."""


def rank(scores: pd.DataFrame, score: str) -> Ranking | str:
    """Rank strategies over blocks; return the reason if fewer than 3 strategies in 2 blocks are complete."""
    whole = complete(scores, score)
    names, means = whole.strategies, whole.means()
    if len(names) < 3 or len(means) < 2:
        return (
            f"{score}: ranks across suites need at least 3 strategies with common seeds in at least 2 suites "
            f"or scenarios; this run has {len(names)} in {len(means)}"
        )
    # Means of ratios of counts: rounded, so that equal ones are exact ties.
    rounded = means.round(12)
    ascending = not SCORES[score].higher_is_better
    ranks = rounded.rank(axis=1, ascending=ascending).mean().sort_values(kind="stable")
    alike = bool((rounded.nunique(axis=1) == 1).all())
    p = 1.0 if alike else float(stats.friedmanchisquare(*(rounded[n] for n in names)).pvalue)
    difference = critical_difference(len(names), len(means))
    groups = not_distinguished(ranks, difference)
    return Ranking(score, ranks, whole, p, difference, groups)


def critical_difference(strategies: int, blocks: int) -> float:
    """Return Nemenyi's critical difference of mean ranks: q(0.05, k) sqrt(k (k + 1) / 6 N)."""
    q = float(stats.studentized_range.ppf(1 - ALPHA, strategies, np.inf)) / math.sqrt(2)
    return q * math.sqrt(strategies * (strategies + 1) / (6 * blocks))


def not_distinguished(ranks: pd.Series, difference: float) -> tuple[tuple[str, ...], ...]:
    """Return maximal sets of two or more neighbours within the critical difference."""
    names = list(ranks.index)
    return tuple(tuple(names[first : last + 1]) for first, last in cliques(ranks.to_numpy(), difference))


def cliques(ranks: ArrayLike, difference: float) -> list[tuple[int, int]]:
    """Return maximal runs of two or more sorted ranks within a difference, each as first and last index."""
    values = np.asarray(ranks)
    lasts = np.searchsorted(values, values + difference, side="right") - 1
    found: list[tuple[int, int]] = []
    for first, last in enumerate(map(int, lasts)):
        if last > first and (not found or last > found[-1][1]):
            found.append((first, last))
    return found
