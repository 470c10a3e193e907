"""Strategies ranked across suites: Friedman's test, Nemenyi's after it, critical differences (Demsar 2006).

A block is a suite in a scenario. The tests take blocks as independent: scenarios of one suite, and suites
over one data set, are so only in part.
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
    """The part of a score that every included strategy has, so that means are over equal sets."""

    score: str
    blocks: Mapping[Block, pd.DataFrame]
    """Per block: seeds that all strategies have as rows, strategies as columns."""
    left_out: tuple[str, ...]
    """Strategies and blocks that are not included, each with the reason."""

    @property
    def strategies(self) -> list[str]:
        """The included strategies, by name."""
        return list(next(iter(self.blocks.values())).columns) if self.blocks else []

    @property
    def seeds(self) -> dict[Block, int]:
        """How many common seeds each block has."""
        return {block: len(table) for block, table in self.blocks.items()}

    def means(self) -> pd.DataFrame:
        """Return the mean over the common seeds: blocks as rows, strategies as columns."""
        return pd.DataFrame({block: table.mean() for block, table in self.blocks.items()}).T

    def values(self) -> dict[str, NDArray[np.float64]]:
        """Return each strategy's values, shape (blocks, seeds): the number of seeds that every block has."""
        n = min(self.seeds.values(), default=0)
        tables = [table[:n] for table in self.blocks.values()]
        return {name: np.array([table[name].to_numpy() for table in tables]) for name in self.strategies}


def complete(scores: pd.DataFrame, score: str) -> Complete:
    """Return what of a score is complete over strategies and blocks; ``scores`` is the frame of that name.

    A strategy without a value in some block is left out, then a block whose strategies share no seed.
    """
    part = scores[(scores["score"] == score) & scores["value"].notna()]
    if part.empty:
        return Complete(score, {}, ())
    keys = ["suite", "scenario"]
    has = part.groupby([*keys, "identity"]).size().unstack("identity").notna()
    lacks = {str(name): [" ".join(block) for block in has.index[~has[name]]] for name in has.columns}
    words = [f"{name}: nothing in {', '.join(blocks)}" for name, blocks in lacks.items() if blocks]
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
    """Mean ranks over blocks and their tests: all that a critical-difference diagram shows."""

    score: str
    ranks: pd.Series
    """Mean rank of each strategy, 1 the best, best first; equal means share the mean of their ranks."""
    seeds: dict[Block, int]
    left_out: tuple[str, ...]
    p: float
    """Friedman's test that all strategies rank alike (chi-squared)."""
    critical_difference: float
    """Mean ranks further apart than this differ at 5 % (Nemenyi), where Friedman's p is below 0.05."""
    groups: tuple[tuple[str, ...], ...]
    """The longest runs of neighbouring ranks that are not distinguished: the bars of the diagram."""


def rank(scores: pd.DataFrame, score: str) -> Ranking | str:
    """Rank strategies over blocks; returns the reason where fewer than 3 in 2 blocks are complete."""
    whole = complete(scores, score)
    names, means = whole.strategies, whole.means()
    if len(names) < 3 or len(means) < 2:
        return (
            f"{score}: ranks across suites need at least 3 strategies with common seeds in at least 2 suites "
            f"or scenarios; here are {len(names)} in {len(means)}"
        )
    # Means of ratios of counts: equal ones must be ties to the last bit.
    rounded = means.round(12)
    ascending = not SCORES[score].higher_is_better
    ranks = rounded.rank(axis=1, ascending=ascending).mean().sort_values(kind="stable")
    alike = bool((rounded.nunique(axis=1) == 1).all())
    p = 1.0 if alike else float(stats.friedmanchisquare(*(rounded[n] for n in names)).pvalue)
    difference = critical_difference(len(names), len(means))
    groups = not_distinguished(ranks, difference)
    return Ranking(score, ranks, whole.seeds, whole.left_out, p, difference, groups)


def critical_difference(strategies: int, blocks: int) -> float:
    """Return Nemenyi's critical difference of mean ranks: q(0.05, k) sqrt(k (k + 1) / 6 N)."""
    q = float(stats.studentized_range.ppf(1 - ALPHA, strategies, np.inf)) / math.sqrt(2)
    return q * math.sqrt(strategies * (strategies + 1) / (6 * blocks))


def not_distinguished(ranks: pd.Series, difference: float) -> tuple[tuple[str, ...], ...]:
    """Return the longest runs of two and more neighbours within the critical difference."""
    names = list(ranks.index)
    return tuple(tuple(names[first : last + 1]) for first, last in cliques(ranks.to_numpy(), difference))


def cliques(ranks: ArrayLike, difference: float) -> list[tuple[int, int]]:
    """Return the longest runs of two and more sorted ranks within a difference, each as first and last."""
    values = np.asarray(ranks)
    lasts = np.searchsorted(values, values + difference, side="right") - 1
    found: list[tuple[int, int]] = []
    for first, last in enumerate(map(int, lasts)):
        if last > first and (not found or last > found[-1][1]):
            found.append((first, last))
    return found
