"""Strategies across the suites and scenarios of a report: ranks, aggregates and what they allow to say."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from bench.report.families import bounds
from bench.report.score_names import head, unit_words
from bench.report.text_tables import markdown_rows, plain
from bench.results import Frames
from bench.stats import ALPHA, SCORES, Estimate, Ranking, aggregate, complete, improvement, rank

_EXPLAINED = (
    "Ranks of means over common seeds, 1 the best. IQM and mean over blocks and seeds {units}, with 95 % "
    "intervals of the stratified bootstrap; better than the first: probability of improvement over the first "
    "in rank (Agarwal et al. 2021). The tests take blocks as independent; scenarios of one suite are not."
)


@dataclass(frozen=True)
class Across:
    """What is said across suites."""

    numbers: pd.DataFrame
    """A row per score and strategy: rank, IQM and mean with 95 % intervals, probability of improvement over
    the first in rank."""
    lines: tuple[str, ...]
    """The same in Markdown, with the tests; empty for a run of one suite in one scenario."""
    rankings: dict[str, Ranking]
    """By score, those that could be made."""


def across(frames: Frames, scores: Sequence[str]) -> Across:
    """Rank the strategies over all suites and scenarios; bounds (joint, cumulative) take no part."""
    found = frames.scores[~frames.scores["identity"].isin(bounds(frames))]
    parts, lines, rankings = [], [], {}
    if len(frames.cells[["suite", "scenario"]].drop_duplicates()) > 1:
        lines = [
            "**Across suites and scenarios**",
            "",
            plain(_EXPLAINED.format(units=unit_words(frames.score))),
            "",
        ]
        for score in scores:
            ranking = rank(found, score)
            if isinstance(ranking, str):
                lines += [plain(ranking[0].upper() + ranking[1:] + "."), ""]
                continue
            rankings[score] = ranking
            parts.append(_numbers(found, ranking))
            lines += [*_lines(ranking, parts[-1], head(score, frames.score)), ""]
    return Across(pd.concat(parts, ignore_index=True) if parts else pd.DataFrame(), tuple(lines), rankings)


def _numbers(scores: pd.DataFrame, ranking: Ranking) -> pd.DataFrame:
    whole = complete(scores[scores["identity"].isin(ranking.ranks.index)], ranking.score)
    sign = 1 if SCORES[ranking.score].higher_is_better else -1
    values = whole.values()
    first = values[ranking.ranks.index[0]]
    rows = []
    for name, place in ranking.ranks.items():
        own = values[str(name)]
        row = {"score": ranking.score, "identity": name, "rank": place}
        for kind in ("iqm", "mean"):
            row |= _flat(kind, aggregate(own, kind))
        rows.append(row | _flat("better_than_first", improvement(sign * own, sign * first)))
    n_seeds = next(iter(values.values())).shape[1]
    return pd.DataFrame(rows).assign(blocks=len(ranking.seeds), seeds=n_seeds)


def _flat(name: str, estimate: Estimate) -> dict[str, float]:
    return {name: estimate.value, f"{name}_low": estimate.low, f"{name}_high": estimate.high}


def _interval(row: dict[Hashable, Any], kind: str) -> str:
    mean, low, high = (100 * row[f"{kind}{end}"] for end in ("", "_low", "_high"))
    return f"{mean:.2f} [{low:.2f}, {high:.2f}]"


def _lines(ranking: Ranking, numbers: pd.DataFrame, title: str) -> list[str]:
    header = [f"strategy ({title})", "mean rank", "IQM", "mean", "better than the first"]
    rows = [
        [
            r["identity"],
            f"{r['rank']:.2f}",
            *(_interval(r, kind) for kind in ("iqm", "mean")),
            f"{100 * r['better_than_first']:.0f} %",
        ]
        for r in numbers.to_dict("records")
    ]
    seeds = sorted(set(ranking.seeds.values()))
    common = f"{seeds[0]}" if len(seeds) == 1 else f"{seeds[0]} to {seeds[-1]}"
    used = int(numbers["seeds"].iloc[0])
    words = [
        f"{len(ranking.seeds)} blocks (suite and scenario), {common} common seeds each.",
        f"IQM and mean over {used} seeds of each.",
        f"Friedman: p = {ranking.p:.2g}.",
    ]
    if ranking.p < ALPHA:
        groups = "; ".join(", ".join(g) for g in ranking.groups)
        words.append(
            f"Nemenyi: mean ranks more than {ranking.critical_difference:.2f} apart differ at 5 %; not told "
            f"apart: {groups or 'none'}."
        )
    else:
        words.append("No difference between strategies is shown, so none is looked for in pairs.")
    words += [f"Left out: {'; '.join(ranking.left_out)}."] if ranking.left_out else []
    return [markdown_rows(header, rows), "", plain(" ".join(words))]
