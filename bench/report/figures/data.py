"""Computations that several figures share."""

from collections.abc import Sequence

import numpy as np
import pandas as pd

from bench.stats import group_intervals


def intervals(frame: pd.DataFrame, by: Sequence[str]) -> pd.DataFrame:
    """Return mean, half-width of the 95 % t interval (NaN for one value) and n of ``value`` in each group."""
    there = frame[frame["value"].notna()].astype({"value": float})
    return group_intervals(there, by)[["mean", "half", "n"]].reset_index()


def evenly(items: Sequence[int], most: int) -> list[int]:
    """Return at most ``most`` of the items, evenly spread, with the first and the last."""
    if len(items) <= most:
        return list(items)
    return [items[i] for i in np.linspace(0, len(items) - 1, most).round().astype(int)]
