"""Strategies across the suites and scenarios of a report: ranks, aggregates and tests."""

from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from bench.report.captions import about_bounds
from bench.report.families import bounds
from bench.report.formats import interval, p_value, points, rank_text
from bench.report.score_names import head, unit_words
from bench.report.summary import rank_competitors
from bench.report.text_tables import markdown_rows, plain
from bench.results import Frames
from bench.stats import ALPHA, SCORES, Estimate, Ranking, aggregate, improvement

_EXPLAINED = (
    "Ranks of means over common seeds, 1 the best. IQM and mean over blocks and seeds {units}, with 95 % "
    "intervals of the stratified bootstrap; better than the first: probability of improvement over the first "
    "in rank (Agarwal et al. 2021). The tests take blocks as independent; scenarios of one suite are not."
)


@dataclass(frozen=True)
class Across:
    """The report across suites."""

    numbers: pd.DataFrame
    """A row per score and strategy: rank, IQM and mean with 95 % intervals, probability of improvement over
    the first in rank."""
    lines: tuple[str, ...]
    """The same in Markdown, with the tests; empty for a run of one suite in one scenario."""


def across(frames: Frames, scores: Sequence[str]) -> Across:
    """Rank the competitors over all suites and scenarios."""
    parts, lines = [], []
    if len(frames.cells[["suite", "scenario"]].drop_duplicates()) > 1:
        explained = _EXPLAINED.format(units=unit_words(frames.score))
        words = " ".join(filter(None, [explained, about_bounds(bounds(frames))]))
        lines = ["**Across suites and scenarios**", "", plain(words), ""]
        for score in scores:
            ranking = rank_competitors(frames, score)
            if isinstance(ranking, str):
                lines += [plain(ranking[0].upper() + ranking[1:] + "."), ""]
                continue
            parts.append(_numbers(ranking))
            lines += [*_lines(ranking, parts[-1], head(score, frames.score)), ""]
    return Across(pd.concat(parts, ignore_index=True) if parts else pd.DataFrame(), tuple(lines))


def _numbers(ranking: Ranking) -> pd.DataFrame:
    sign = 1 if SCORES[ranking.score].higher_is_better else -1
    values = ranking.whole.values()
    first = values[ranking.ranks.index[0]]
    rows = []
    for name, place in ranking.ranks.items():
        own = values[str(name)]
        row = {"score": ranking.score, "identity": name, "rank": place}
        for kind in ("iqm", "mean"):
            row |= _flat(kind, aggregate(own, kind))
        rows.append(row | _flat("better_than_first", improvement(sign * own, sign * first)))
    n_seeds = next(iter(values.values())).shape[1]
    return pd.DataFrame(rows).assign(blocks=len(ranking.whole.blocks), seeds=n_seeds)


def _flat(name: str, estimate: Estimate) -> dict[str, float]:
    return {name: estimate.value, f"{name}_low": estimate.low, f"{name}_high": estimate.high}


def _interval(row: dict[Hashable, Any], kind: str) -> str:
    return points(row[kind]) + interval(row[f"{kind}_low"], row[f"{kind}_high"])


def _lines(ranking: Ranking, numbers: pd.DataFrame, title: str) -> list[str]:
    header = [f"strategy ({title})", "mean rank", "IQM", "mean", "better than the first"]
    rows = []
    for r in numbers.to_dict("records"):
        better = f"{points(r['better_than_first'], 0)} %"
        rows.append([r["identity"], rank_text(r["rank"]), _interval(r, "iqm"), _interval(r, "mean"), better])
    seeds = sorted(set(ranking.whole.seeds.values()))
    common = f"{seeds[0]}" if len(seeds) == 1 else f"{seeds[0]} to {seeds[-1]}"
    used = int(numbers["seeds"].iloc[0])
    words = [
        f"{len(ranking.whole.blocks)} blocks (suite and scenario), {common} common seeds each.",
        f"IQM and mean over {used} seeds of each.",
        f"Friedman: p = {p_value(ranking.p)}.",
    ]
    if ranking.p < ALPHA:
        groups = "; ".join(", ".join(g) for g in ranking.groups)
        words.append(
            f"Nemenyi: mean ranks more than {rank_text(ranking.critical_difference)} apart differ at 5 %; "
            f"not distinguished: {groups or 'none'}."
        )
    else:
        words.append("No difference between strategies is significant, so pairs are not tested.")
    left_out = "; ".join(ranking.whole.left_out)
    words += [f"Left out: {left_out}."] if left_out else []
    return [markdown_rows(header, rows), "", plain(" ".join(words))]
