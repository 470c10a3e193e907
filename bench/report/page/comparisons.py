"""Paired comparisons of all pairs of strategies of a suite and scenario, for the form on the page."""

import math
from collections.abc import Hashable, Sequence
from itertools import combinations
from typing import Any

from bench.report.formats import p_value, points
from bench.results import Frames
from bench.stats import FEWEST, compare_pairs, holm

COMPARED = ("acc", "forgetting", "aia", "learning_acc", "bwt", "fwt")
_MANY = 25
"""Number of strategies above which only the first score is compared; pairs grow with its square."""

Comparisons = dict[str, dict[str, dict[str, Any]]]


def comparisons(part: Frames, identities: Sequence[str]) -> Comparisons:
    """Return, for each score, the paired comparison of every two strategies, by their places in the table."""
    found: Comparisons = {}
    for score in COMPARED if len(identities) <= _MANY else COMPARED[:1]:
        values = part.scores[part.scores["score"] == score]
        table = values.pivot(index="seed", columns="identity", values="value").dropna(axis=1, how="all")
        own = [(i, name) for i, name in enumerate(identities) if name in table]
        places = [f"{i},{j}" for (i, _), (j, _) in combinations(own, 2)]
        tests = compare_pairs(table, list(combinations([name for _, name in own], 2))).set_axis(places)
        tests = tests[tests["n"] > 0]
        enough = tests["n"] >= FEWEST
        tests["p_holm"] = holm(tests["p"].where(enough).tolist())
        if len(tests):
            family = int(enough.sum())
            found[score] = {str(k): _comparison(t, family) for k, t in tests.to_dict("index").items()}
    return found


def _comparison(test: dict[Hashable, Any], family: int) -> dict[str, Any]:
    """Return number of common seeds, difference, ends of its interval, and what the tests say, as text."""
    mean, half = test["mean"], test["half"]
    ends = [] if math.isnan(half) else [points(mean - half), points(mean + half)]
    return {"n": test["n"], "mean": points(mean), "ends": ends, "words": _words(test, family)}


def _words(test: dict[Hashable, Any], family: int) -> str:
    """Return the result of a paired test with the fields of Paired, in words."""
    if test["n"] < FEWEST:
        return f"With fewer than {FEWEST} common seeds no two-sided p can fall below 0.05."
    p, p_holm, p_wilcoxon = (p_value(test[name]) for name in ("p", "p_holm", "p_wilcoxon"))
    effect = "" if math.isnan(test["d_z"]) else f"; effect d_z = {test['d_z']:.2f}"
    return (
        f"Sign-flip permutation test: p = {p}, {p_holm} after Holm over {family} pairs; "
        f"Wilcoxon p = {p_wilcoxon}{effect}."
    )
