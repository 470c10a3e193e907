"""What methods noted of their own doing, along the steps of the stream: the schedules of adaptive methods."""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from bench.frames import Frames
from bench.report.figures.data import intervals
from bench.report.figures.looks import (
    INK,
    Looks,
    by_final,
    counts,
    finish,
    legend,
    legend_height,
    new,
    seeds_remark,
    style,
)

_MOST, _POINTS = 8, 300


def schedules_data(frames: Frames) -> pd.DataFrame:
    """Return the mean of each note over seeds: per strategy, note, row and step.

    ``at`` numbers what was noted through all rows, which for a note of shape (tasks, steps) is the stream.
    """
    data = intervals(frames.notes, ["identity", "note", "row", "step"])
    data["at"] = data.groupby(["identity", "note"]).cumcount() + 1
    return data[data.groupby(["identity", "note"])["at"].transform("max") > 1].reset_index(drop=True)


def schedules(frames: Frames, looks: Looks) -> tuple[Figure, pd.DataFrame] | None:
    """Draw every note that has steps, a panel each, with lines for the strategies that made it."""
    data = schedules_data(frames)
    if data.empty:
        return None
    notes = list(dict.fromkeys(frames.notes["note"]))
    notes = [n for n in notes if (data["note"] == n).any()][:_MOST]
    data = data[data["note"].isin(notes)]
    names = looks.split(by_final(frames, data["identity"]))[0] or by_final(frames, data["identity"])
    with style():
        room = legend_height(names, looks)
        figure = new(
            looks, max(0.35 + 1.15 * len(notes), room) if looks.wide else 0.35 + 1.15 * len(notes) + room
        )
        grid = figure.subplots(len(notes), 1, squeeze=False)[:, 0]
        parts = dict(list(data.groupby(["note", "identity"])))
        for axes, note in zip(grid, notes, strict=True):
            for name in reversed(names):
                part = parts.get((note, name))
                if part is None:
                    continue
                for boundary in part[part["step"] == part["step"].min()]["at"].iloc[1:]:
                    axes.axvline(boundary - 0.5, color=INK, linewidth=0.4, linestyle=(0, (2, 2)), zorder=1)
                thin = _thinned(part)
                low, high = (thin["mean"] + sign * thin["half"].fillna(0) for sign in (-1, 1))
                axes.plot(
                    thin["at"],
                    thin["mean"],
                    color=looks.colour[name],
                    linestyle=looks.dash[name],
                    linewidth=1,
                )
                axes.fill_between(thin["at"], low, high, color=looks.colour[name], alpha=0.15, linewidth=0)
            axes.set_ylabel(note.replace("_", " "))
            axes.margins(x=0.01)
        grid[-1].set_xlabel("steps noted, through the stream")
        figure.align_ylabels(list(grid))
        legend(figure, names, looks, counts(data))
        return finish(
            figure, seeds_remark(data["n"]), "dashed: a new row of the note, as a rule a task"
        ), data


def _thinned(part: pd.DataFrame) -> pd.DataFrame:
    """Return at most so many points: means of equal stretches."""
    stretch = -(-len(part) // _POINTS)
    if stretch == 1:
        return part
    return part[["at", "mean", "half"]].groupby(np.arange(len(part)) // stretch).mean()
