"""Computations that several figures share."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from bench.stats import half_width


def intervals(frame: pd.DataFrame, by: Sequence[str]) -> pd.DataFrame:
    """Return mean, half-width of the 95 % t interval (NaN for one value) and n of ``value`` in each group.

    The numbers are those of bench.stats.summarise, for thousands of groups at once.
    """
    there = frame[frame["value"].notna()]
    if there.empty:
        return pd.DataFrame(columns=[*by, "mean", "half", "n"])
    found = there.astype({"value": float}).groupby(list(by))["value"].agg(["mean", "std", "count"])
    found["half"] = half_width(found["std"], found["count"])
    return found.reset_index().rename(columns={"count": "n"})[[*by, "mean", "half", "n"]]


def evenly(items: Sequence[int], most: int) -> list[int]:
    """Return at most ``most`` of the items, evenly spread, with the first and the last."""
    if len(items) <= most:
        return list(items)
    return [items[i] for i in np.linspace(0, len(items) - 1, most).round().astype(int)]
