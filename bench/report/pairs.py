"""Paired comparisons of a report: with the best of a column, with the marks that follow, and of every two."""

from collections.abc import Sequence
from typing import Literal

import numpy as np
import pandas as pd

from bench.report.families import bounds
from bench.report.layout import chosen_scores
from bench.report.row_order import best_first
from bench.report.score_names import SPEED, higher_is_better
from bench.results import Frames
from bench.stats import FEWEST, against, every_pair, too_few

KEYS = ["suite", "scenario", "identity"]
Mark = Literal["", "best", "close", "worse"]
"""``best`` is bold, ``close`` not significantly worse; empty for bounds, or if no verdict was possible."""
MANY = 25
"""Number of strategies above which all pairs, which grow with its square, are of the first score only."""


def compared_with_best(values: pd.DataFrame) -> pd.DataFrame:
    """Compare, in every column that is a score or a task, every strategy with the one of the best mean."""
    found = values[~values["column"].isin(SPEED)].dropna(subset=["value"])
    rows = []
    for (suite, scenario, column), part in found.groupby(["suite", "scenario", "column"], sort=False):
        table = part.pivot(index="seed", columns="identity", values="value")
        if table.shape[1] < 2:
            continue
        up = higher_is_better(str(column))
        means = table.mean() * (1 if up else -1)
        best = str(means.idxmax())
        compared = against(table, best, higher_is_better=up)
        compared["ties"] = np.isclose(means[compared.index], means[best], rtol=0, atol=1e-12)
        compared = compared.rename_axis("identity").reset_index()
        rows.append(compared.assign(suite=str(suite), scenario=str(scenario), column=str(column), rival=best))
    first = ["suite", "scenario", "column", "identity", "rival"]
    if not rows:
        return pd.DataFrame(columns=[*first, "verdict", "ties"])
    frame = pd.concat(rows, ignore_index=True)
    return frame[[*first, *frame.columns.difference(first, sort=False)]]


def marks(pairs: pd.DataFrame) -> pd.DataFrame:
    """Return the mark of every compared strategy; all strategies with the best mean are best."""
    words = {"worse": "worse", "not distinguished": "close", "better": "close", "too few seeds": ""}
    mark = pairs["verdict"].map(words).astype(object)
    others = pairs.assign(mark=mark.where(~pairs["ties"].astype(bool), "best"), untested=untested(pairs))
    best = pairs.drop_duplicates(["suite", "scenario", "column"]).assign(mark="best", untested="")
    best = best.drop(columns="identity").rename(columns={"rival": "identity"})
    return pd.concat([others, best])[[*KEYS, "column", "mark", "untested"]]


def untested(pairs: pd.DataFrame) -> list[str]:
    """Return, for each comparison with the best, what its number of seeds cannot show; empty if tested."""
    enough = (pairs["n"] >= FEWEST) if len(pairs) else pairs["verdict"] == ""
    of_column = enough.groupby([pairs[name] for name in ("suite", "scenario", "column")])
    family = of_column.transform("sum").where(of_column.transform("any"), of_column.transform("size"))
    rows = zip(pairs["verdict"], pairs.get("n", family), family, strict=True)
    return [too_few(int(n), int(k)) if verdict == "too few seeds" else "" for verdict, n, k in rows]


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
        unsaid = {words: None for words in untested(part) if words}
        names = {v: ", ".join(best_first(frames, of["identity"])) for v, of in part.groupby("verdict")}
        titles = {"worse": "significantly worse", "not distinguished": "not distinguished"}
        said = [f"{title}: {names[verdict]}" for verdict, title in titles.items() if verdict in names]
        lines.append(f"{suite} {scenario}, {column}: best {best}; {'; '.join([*said, *unsaid])}")
    return lines
