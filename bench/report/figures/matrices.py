"""The score matrix R as a heat map: row i after i tasks, column j of task j."""

import pandas as pd
from matplotlib.figure import Figure

from bench.report.figures.axes import colour_bar, grid_shape, heat_map, label_outer
from bench.report.figures.data import intervals
from bench.report.figures.looks import Looks, finish, label, new, seeds_remark, style
from bench.report.layout import ONE_COLUMN
from bench.report.row_order import best_first, by_final
from bench.report.score_names import axis, top
from bench.results import Frames
from suites.base import Score

_MOST = 20
"""Most matrices in one figure; the data have all of them."""


def matrices_data(frames: Frames) -> pd.DataFrame:
    """Return the mean matrix over seeds of every strategy that was measured everywhere."""
    n_tasks = int(frames.matrix["j"].max()) if len(frames.matrix) else 0
    of_rows = frames.matrix.groupby("identity")
    whole = of_rows["value"].count() == of_rows["key"].nunique() * n_tasks * (n_tasks + 1)
    data = intervals(frames.matrix, ["identity", "i", "j"])
    return data[data["identity"].isin(whole[whole].index)]


def matrices(frames: Frames, looks: Looks) -> tuple[Figure, pd.DataFrame] | None:
    """Draw the mean score matrix of each strategy that has one, the best first."""
    data = matrices_data(frames)
    if data.empty:
        return None
    names = by_final(frames, data["identity"])[:_MOST]
    return _draw(data, names, looks, 5 if looks.wide else 3, frames.score), data


def matrix(frames: Frames, looks: Looks) -> tuple[Figure, pd.DataFrame] | None:
    """Draw the score matrix of the best strategy; of a bound only where no competitor has one."""
    data = matrices_data(frames)
    if data.empty:
        return None
    name = best_first(frames, data["identity"])[0]
    data = data[data["identity"] == name]
    return _draw(data, [name], looks.at(min(looks.width, ONE_COLUMN)), 1, frames.score), data


def matrix_digits(end: float) -> int:
    """Return how many decimals the entries of R have, in points, where the scale ends at ``end``."""
    return 0 if end > 0.2 else 1


def _draw(data: pd.DataFrame, names: list[str], looks: Looks, most: int, score: Score | None) -> Figure:
    n_tasks = int(data["j"].max())
    end = top(score, data["mean"].max())
    rows, columns = grid_shape(len(names), most)
    side = (looks.width - 0.9) / columns
    side = min(side, 2.4)
    titles = [label(n, int(side * 15)) for n in names]
    title = 0.13 * (1 + max(t.count("\n") for t in titles)) if len(names) > 1 else 0.18
    # Few matrices are not stretched to the width of many.
    width = min(looks.width, side * columns + 0.9)
    with style():
        figure = new(looks.at(width), 0.55 + rows * (min(side, 1.6 if columns > 1 else 2.4) + title))
        grid = figure.subplots(rows, columns, squeeze=False, sharex=True, sharey=True)
        step = 1 if n_tasks <= 5 else 2 if n_tasks <= 10 else 5 * -(-n_tasks // 25)
        parts = dict(list(data.groupby("identity")))
        for axes, name, text in zip(grid.flat, names, titles, strict=False):
            square = parts[name].pivot(index="i", columns="j", values="mean") * 100
            numbers = side / n_tasks >= 0.19 and len(names) * n_tasks * (n_tasks + 1) <= 400
            annotated = {"fmt": f".{matrix_digits(end)}f", "annot_kws": {"size": 6 if columns > 1 else 7}}
            lines = 0.4 if n_tasks <= 10 else 0
            heat_map(axes, square, 100 * end, text, annot=numbers, linewidths=lines, **annotated)
            axes.collections[0].set_rasterized(n_tasks > 10)
        # Once, because all share them: ticks take longer than the squares.
        columns_at, rows_at = ([t for t in range(first, n_tasks + 1) if t % step == 0] for first in (1, 0))
        grid.flat[0].set_xticks([t - 0.5 for t in columns_at], [str(t) for t in columns_at])
        grid.flat[0].set_yticks([t + 0.5 for t in rows_at], [str(t) for t in rows_at])
        label_outer(grid, len(names), "score on task", "tasks learned")
        colour_bar(figure, list(grid.flat), axis(score, "{}"))
        total = data["identity"].nunique()
        few = f"{len(names)} of {total} strategies" if len(names) < total else ""
        return finish(figure, seeds_remark(data["n"], "mean"), few)
