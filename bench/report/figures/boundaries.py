"""Scores step by step around task boundaries: the loss, and recovery, when a new task begins.

De Lange, van de Ven & Tuytelaars 2023 (Continual evaluation for lifelong learning) call it the stability gap.
"""

from typing import Any

import pandas as pd
from matplotlib.figure import Figure

from bench.report.figures.axes import grid_shape, label_outer
from bench.report.figures.data import evenly, intervals
from bench.report.figures.looks import INK, Looks, finish, legend, new, others_remark, seeds_remark, style
from bench.report.figures.tips import tip, with_half
from bench.report.row_order import by_final
from bench.report.score_names import axis, top
from bench.results import Frames

_MOST, _BEFORE, _AFTER, _BANDS = 4, 8, 32, 4


def boundaries_data(frames: Frames) -> pd.DataFrame:
    """Return the mean score on the tasks learned before each boundary, by steps from the boundary.

    ``boundary`` b lies between tasks b and b + 1; ``step`` is 0 or less in task b, from its last recorded
    step, and above 0 in task b + 1. The score is that of tasks 1 to b on validation rows.
    """
    curves, found = frames.curves, []
    for boundary in sorted(set(curves["task"]) - {1}):
        part = curves[(curves["j"] < boundary) & curves["task"].isin([boundary - 1, boundary])]
        by_seed = part.groupby(["identity", "seed", "task", "step"])["value"].mean().reset_index()
        last = by_seed.groupby(["identity", "seed", "task"])["step"].transform("max")
        before = by_seed["task"] < boundary
        by_seed["step"] = by_seed["step"].where(~before, by_seed["step"] - last)
        found.append(intervals(by_seed, ["identity", "step"]).assign(boundary=boundary - 1))
    columns = ["identity", "boundary", "step", "mean", "half", "n"]
    return pd.concat(found)[columns].reset_index(drop=True) if found else pd.DataFrame(columns=columns)


def boundaries(frames: Frames, looks: Looks) -> tuple[Figure, pd.DataFrame] | None:
    """Draw the steps around some boundaries, where curves within tasks were recorded."""
    data = boundaries_data(frames)
    if data.empty:
        return None
    names, others = looks.split(by_final(frames, data["identity"]))
    shown = evenly(sorted(data["boundary"].unique()), _MOST)
    every = int(data[data["step"] > 0]["step"].min())
    near = data[data["step"].between(-_BEFORE * every, _AFTER * every)]
    end = top(frames.score, (near["mean"] + near["half"].fillna(0)).max())
    rows, columns = grid_shape(len(shown), 2)
    with style():
        figure = new(looks, 0.4 + 1.6 * rows, names, 0.4 + 1.4 * rows)
        grid = figure.subplots(rows, columns, squeeze=False, sharex=True, sharey=True)
        parts = dict(list(near.groupby(["boundary", "identity"])))
        for axes, boundary in zip(grid.flat, shown, strict=False):
            axes.axvline(0, color=INK, linewidth=0.6, linestyle=(0, (2, 2)), zorder=1)
            for place, name in enumerate((*others, *reversed(names))):
                part = parts.get((boundary, name))
                if part is None:
                    continue
                if name in others:
                    thin: dict[str, Any] = {"color": looks.colour[name], "linewidth": 0.5, "zorder": 1}
                    tip(axes.plot(part["step"], 100 * part["mean"], **thin), name)
                    continue
                points = {"markevery": (place % 5, 8), "markersize": 3}
                drawn = axes.plot(part["step"], 100 * part["mean"], **looks.line(name), **points, linewidth=1)
                marked = part.iloc[place % 5 :: 8]
                tip(drawn, name, map(_point, marked["step"], marked["mean"], marked["half"]))
                if len(names) <= _BANDS:
                    low, high = (100 * (part["mean"] + sign * part["half"].fillna(0)) for sign in (-1, 1))
                    colour = looks.colour[name]
                    axes.fill_between(part["step"], low, high, color=colour, alpha=0.15, linewidth=0)
            axes.set_title(f"task {boundary + 1} begins", pad=2)
            axes.set_ylim(-2 * end, 102 * end)
        steps = "steps from the boundary" if looks.wide else "steps"
        label_outer(grid, len(shown), steps, axis(frames.score, "{} on earlier\ntasks"))
        legend(figure, names, looks, data)
        what = "mean and 95 % t interval" if len(names) <= _BANDS else "mean"
        rows_of = f"validation rows, every {every} steps"
        return finish(figure, seeds_remark(near["n"], what), rows_of, others_remark(others)), data


def _point(step: int, mean: float, half: float) -> str:
    return f"step {step}: {with_half(mean, half)}"
