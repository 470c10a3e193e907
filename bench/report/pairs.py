"""Paired comparisons of a report: of every two strategies, and what those with the best say."""

from collections.abc import Sequence

import pandas as pd

from bench.report.families import bounds
from bench.report.layout import chosen_scores
from bench.report.summary import best_first, higher_is_better, untested
from bench.results import Frames
from bench.stats import every_pair

MANY = 25
"""Number of strategies above which all pairs, which grow with its square, are of the first score only."""


def scores_of_pairs(n_strategies: int, scores: Sequence[str]) -> Sequence[str]:
    """Return the scores in which every two of so many strategies are compared."""
    return scores if n_strategies <= MANY else scores[:1]


def every_comparison(frames: Frames, scores: Sequence[str]) -> pd.DataFrame:
    """Return the comparison of every two strategies except bounds, by suite, scenario and score (``column``).

    The columns are those of ``bench.stats.every_pair``; raises UserError for an unknown score.
    """
    chosen = chosen_scores(scores)
    found = frames.scores[
        frames.scores["score"].isin(chosen) & ~frames.scores["identity"].isin(bounds(frames))
    ]
    parts = []
    for (suite, scenario, score), part in found.dropna(subset=["value"]).groupby(
        ["suite", "scenario", "score"], sort=False
    ):
        table = part.pivot(index="seed", columns="identity", values="value")
        table = table[best_first(frames, table.columns)]
        pairs = every_pair(table, higher_is_better=higher_is_better(str(score)))
        pairs.insert(0, "suite", str(suite))
        pairs.insert(1, "scenario", str(scenario))
        pairs.insert(2, "column", str(score))
        parts.append(pairs[pairs["n"] > 0])
    names = ["suite", "scenario", "column", "a", "b", "n", "verdict"]
    return pd.concat(parts, ignore_index=True) if parts else pd.DataFrame(columns=names)


def both_families(best: pd.DataFrame, every: pd.DataFrame) -> pd.DataFrame:
    """Return the comparisons in pairs.csv: with the best of a column, and of every two strategies.

    Args:
        best: The comparisons with the best; see ``every_number``.
        every: See ``every_comparison``.

    Returns:
        Rows with ``family`` best or all: the comparisons that ``p_holm`` corrects for.
    """
    named = every.rename(columns={"a": "identity", "b": "rival"})
    parts = [best.assign(family="best"), named.assign(family="all")]
    return pd.concat([part for part in parts if len(part)] or parts, ignore_index=True)


def significance(pairs: pd.DataFrame, frames: Frames, scores: Sequence[str]) -> list[str]:
    """Return a line for each suite, scenario and score: which strategies are significantly worse.

    ``pairs`` are the comparisons with the best; see ``every_number``.
    """
    lines = []
    chosen = pairs[pairs["column"].isin(scores)]
    for (suite, scenario, column, best), part in chosen.groupby(
        ["suite", "scenario", "column", "rival"], sort=False
    ):
        too_few = {words: None for words in untested(part) if words}
        names = {v: ", ".join(best_first(frames, of["identity"])) for v, of in part.groupby("verdict")}
        titles = {"worse": "significantly worse", "not distinguished": "not distinguished"}
        said = [f"{title}: {names[verdict]}" for verdict, title in titles.items() if verdict in names]
        lines.append(f"{suite} {scenario}, {column}: best {best}; {'; '.join([*said, *too_few])}")
    return lines
