"""The order of strategies in rows and legends."""

import math
from collections.abc import Iterable

import pandas as pd

from bench.report.families import bounds
from bench.report.score_names import higher_is_better
from bench.results import Frames


def by_final(frames: Frames, names: Iterable[str]) -> list[str]:
    """Return strategies in the order of rows and legends everywhere.

    Those with a display name come first, in the order of ``frames.names``, then the others by final accuracy,
    highest first.
    """
    final, place = final_accuracy(frames, "identity").fillna(-math.inf), name_places(frames)
    return sorted(set(names), key=lambda n: (place.get(n, len(place)), -final.get(n, -math.inf), n))


def name_places(frames: Frames) -> dict[str, int]:
    """Return the place of each display name."""
    return {name: place for place, name in enumerate(frames.names)}


def best_first(frames: Frames, names: Iterable[str]) -> list[str]:
    """Return strategies by final accuracy, highest first, with the bounds last: the first is the best."""
    final, apart = final_accuracy(frames, "identity").fillna(-math.inf), bounds(frames)
    return sorted(set(names), key=lambda n: (n in apart, -final.get(n, -math.inf), n))


def order_over_suites(frames: Frames, numbers: pd.DataFrame) -> list[str]:
    """Return strategies by their mean over suites in one column of ``summary``, the best first.

    Strategies with all suites come first, because means over fewer suites are not comparable; before them
    those with a display name, in the order of ``frames.names``.
    """
    mean = numbers.pivot(index="identity", columns="suite", values="mean")
    order = pd.DataFrame({"gaps": mean.isna().sum(axis=1), "mean": mean.mean(axis=1)}).reset_index()
    up = [True, not higher_is_better(str(numbers["column"].iloc[0])), True]
    ordered = order.sort_values(["gaps", "mean", "identity"], ascending=up, na_position="last")
    place = name_places(frames)
    return sorted(ordered["identity"].tolist(), key=lambda name: place.get(name, len(place)))


def final_accuracy(frames: Frames, by: str | list[str]) -> pd.Series:
    """Return the mean final accuracy of each group of cells."""
    return frames.scores[frames.scores["score"] == "acc"].groupby(by)["value"].mean()
