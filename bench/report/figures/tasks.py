"""Each task's score over the stream: R[:, j] along i, a panel for each task."""

import math

import pandas as pd
from matplotlib.figure import Figure

from bench.report.figures.axes import grid_shape, label_outer, task_ticks
from bench.report.figures.data import evenly, intervals
from bench.report.figures.looks import INK, Looks, finish, legend, new, others_remark, seeds_remark, style
from bench.report.figures.tips import tip
from bench.report.formats import number
from bench.report.row_order import by_final
from bench.report.score_names import axis, top
from bench.results import Frames

_MOST = 10


def tasks_data(frames: Frames) -> pd.DataFrame:
    """Return, per strategy, task and number of tasks learned, the mean score over seeds."""
    data = intervals(frames.matrix, ["identity", "j", "i"])
    return data.rename(columns={"j": "task", "i": "tasks"})


def tasks(frames: Frames, looks: Looks) -> tuple[Figure, pd.DataFrame] | None:
    """Draw the score on each task from before the stream to its end."""
    data = tasks_data(frames)
    if data.empty:
        return None
    names, others = looks.split(by_final(frames, data["identity"]))
    n_tasks = int(data["task"].max())
    end = top(frames.score, data["mean"].max())
    shown = evenly(range(1, n_tasks + 1), _MOST)
    rows, columns = grid_shape(len(shown), 3 if looks.wide else 2)
    with style():
        figure = new(looks, 0.35 + 1.45 * rows, names, 0.35 + 1.35 * rows)
        grid = figure.subplots(rows, columns, squeeze=False, sharex=True, sharey=True)
        # A line breaks where nothing was measured: joint has only the first and the last row.
        learned = range(n_tasks + 1)
        means = data.pivot(index=["task", "identity"], columns="tasks", values="mean")
        lines = dict(zip(means.index, 100 * means.reindex(columns=learned).to_numpy(), strict=True))
        for axes, task in zip(grid.flat, shown, strict=False):
            axes.axvline(task, color=INK, linewidth=0.6, linestyle=(0, (2, 2)), zorder=1)
            for name in (*others, *reversed(names)):
                line = lines.get((task, name))
                if line is None:
                    continue
                if name in others:
                    tip(axes.plot(learned, line, color=looks.colour[name], linewidth=0.5, zorder=1), name)
                    continue
                drawn = axes.plot(learned, line, **looks.line(name), linewidth=1.0, markersize=2.8)
                there = [i for i in learned if not math.isnan(line[i])]
                tip(drawn, name, (f"task {task} after {i}: {number(line[i])}" for i in there))
            axes.set_title(f"task {task}", pad=2)
            axes.set(ylim=(-2 * end, 102 * end), xlim=(-0.3, n_tasks + 0.3))
            task_ticks(axes, n_tasks, first=0)
        label_outer(grid, len(shown), "tasks learned", axis(frames.score, "{}"))
        legend(figure, names, looks, data)
        few = f"{len(shown)} of {n_tasks} tasks" if len(shown) < n_tasks else ""
        dashed = "dashed: the task is learned here"
        return finish(figure, seeds_remark(data["n"], "mean"), dashed, few, others_remark(others)), data
