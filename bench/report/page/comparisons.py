"""Paired comparisons of all pairs of strategies of a suite and scenario, for the form on the page."""

import math
from collections.abc import Hashable, Sequence
from typing import Any

import pandas as pd

from bench.report.formats import p_value, points
from bench.report.pairs import scores_of_pairs
from bench.results import Frames
from bench.stats import every_pair, too_few

COMPARED = ("acc", "forgetting", "aia", "learning_acc", "bwt", "fwt")

Comparisons = dict[str, dict[str, dict[str, Any]]]


def comparisons(part: Frames, identities: Sequence[str], known: pd.DataFrame) -> Comparisons:
    """Return, for each score, the paired comparison of every two strategies, by their places in the table.

    ``known`` are those of ``every_comparison``, which leaves out bounds; here bounds are compared, too.
    """
    found: Comparisons = {}
    for score in scores_of_pairs(len(identities), COMPARED):
        values = part.scores[part.scores["score"] == score]
        table = values.pivot(index="seed", columns="identity", values="value").dropna(axis=1, how="all")
        place = {name: i for i, name in enumerate(identities)}
        had = known[known["column"] == score]
        shown = table[[name for name in identities if name in table]]
        tests = every_pair(shown, known=had if len(had) else None)
        tests = tests[tests["n"] > 0]
        family = int(tests["p_holm"].notna().sum()) or len(tests)
        rows = tests.to_dict("records")
        if rows:
            found[score] = {f"{place[t['a']]},{place[t['b']]}": _comparison(t, family) for t in rows}
    return found


def _comparison(test: dict[Hashable, Any], family: int) -> dict[str, Any]:
    """Return number of common seeds, difference, ends of its interval, and what the tests say, as text."""
    mean, half = test["mean"], test["half"]
    ends = [] if math.isnan(half) else [points(mean - half), points(mean + half)]
    return {"n": test["n"], "mean": points(mean), "ends": ends, "words": _words(test, family)}


def _words(test: dict[Hashable, Any], family: int) -> str:
    """Return the result of a paired test, a row of ``every_pair``, in words."""
    if test["verdict"] == "too few seeds":
        return f"{too_few(test['n'], family)}."
    p, p_holm, p_wilcoxon = (p_value(test[name]) for name in ("p", "p_holm", "p_wilcoxon"))
    effect = "" if math.isnan(test["d_z"]) else f"; effect d_z = {test['d_z']:.2f}"
    return (
        f"Sign-flip permutation test: p = {p}, {p_holm} after Holm over {family} pairs; "
        f"Wilcoxon p = {p_wilcoxon}{effect}."
    )
