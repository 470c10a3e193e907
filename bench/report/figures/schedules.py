"""The notes of methods along the steps of the stream: the schedules of adaptive methods."""

from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from bench.report.figures.axes import grid_shape, panels, show_cuts
from bench.report.figures.data import intervals
from bench.report.figures.looks import INK, Looks, finish, legend, new, seeds_remark, style
from bench.report.figures.tips import tip
from bench.report.row_order import by_final
from bench.results import Frames

_MOST, _POINTS = 8, 300


def schedules_data(frames: Frames) -> pd.DataFrame:
    """Return the mean of each note over seeds: per strategy, note, row and step.

    ``at`` is the position in the stream. For a note with several rows, of shape (tasks, parts), it is in
    tasks: 1.25 is a quarter into the second. For a note with one row it is the step. A note called ``step``
    only holds the times of the others, and a single number is not a schedule: both are left out.
    """
    notes = frames.notes[frames.notes["note"] != "step"]
    size = notes.groupby(["identity", "note"])[["row", "step"]].max()
    data = intervals(notes, ["identity", "note", "row", "step"]).join(
        size.rename(columns={"row": "rows", "step": "steps"}), on=["identity", "note"]
    )
    data = data[data["steps"] > 1]
    in_tasks = data["row"] - 1 + (data["step"] - 0.5) / data["steps"]
    data = data.assign(at=in_tasks.where(data["rows"] > 1, data["step"]).astype(float))
    return data[["identity", "note", "row", "step", "rows", "at", "mean", "half", "n"]].reset_index(drop=True)


def schedules(frames: Frames, looks: Looks) -> tuple[Figure, pd.DataFrame] | None:
    """Draw every note that has steps, a panel each, with a line per strategy."""
    data = schedules_data(frames)
    if data.empty:
        return None
    notes = [n for n in dict.fromkeys(frames.notes["note"]) if (data["note"] == n).any()][:_MOST]
    data = data[data["note"].isin(notes)]
    names = by_final(frames, data["identity"])
    names = looks.split(names)[0] or names
    rows, columns = grid_shape(len(notes), 2 if looks.wide and len(notes) > 2 else 1)
    with style():
        figure = new(looks, 0.35 + 1.25 * rows, names, 0.35 + 1.2 * rows)
        grid = panels(figure, len(notes), (rows, columns))
        parts = dict(list(data.groupby(["note", "identity"])))
        for place, (axes, note) in enumerate(zip(grid, notes, strict=True)):
            here = data[data["note"] == note]
            for boundary in range(1, int(here["rows"].max())):
                axes.axvline(boundary, color=INK, linewidth=0.4, linestyle=(0, (2, 2)), zorder=1)
            for name in (n for n in reversed(names) if (note, n) in parts):
                part, colour = _thinned(parts[note, name]), looks.colour[name]
                low, high = (part["mean"] + sign * part["half"].fillna(0) for sign in (-1, 1))
                points: dict[str, Any] = {"markevery": (names.index(name) % 7, 16), "markersize": 3}
                drawn = axes.plot(part["at"], part["mean"], **looks.line(name), **points, linewidth=1)
                tip(drawn, name, (f"{mean:.3g}" for mean in part["mean"].iloc[names.index(name) % 7 :: 16]))
                axes.fill_between(part["at"], low, high, color=colour, alpha=0.15, linewidth=0)
            axes.set_ylabel(str(note).replace("_", " "))
            n_tasks = int(here["rows"].max())
            axes.set_xlim((0, n_tasks) if n_tasks > 1 else None)
            if place + columns >= len(notes):
                axes.set_xlabel("tasks learned" if (here["rows"] > 1).any() else "steps recorded")
        figure.align_ylabels()
        legend(figure, names, looks, data)
        cuts = show_cuts(*grid, which="y")
        dashed = "dashed: task boundaries" if (data["rows"] > 1).any() else ""
        return finish(figure, seeds_remark(data["n"]), dashed, cuts), data


def _thinned(part: pd.DataFrame) -> pd.DataFrame:
    """Return at most ``_POINTS`` points: means of equal stretches."""
    stretch = -(-len(part) // _POINTS)
    if stretch == 1:
        return part
    return part[["at", "mean", "half"]].groupby(np.arange(len(part)) // stretch).mean()
