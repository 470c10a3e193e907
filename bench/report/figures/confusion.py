"""The confusion matrix after some of the tasks: rows are true classes, columns predictions."""

from collections.abc import Iterator, Sequence
from itertools import groupby, pairwise

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from bench.report.figures.axes import colour_bar, grid_shape, heat_map
from bench.report.figures.data import evenly
from bench.report.figures.looks import Looks, finish, label, new, style
from bench.report.figures.tips import tip
from bench.report.formats import number
from bench.report.row_order import best_first
from bench.results import Confusions, Frames, confusions, so_far

MOST_TASKS = 5
_COLUMNS = ["identity", "i", "task", "true", "answer", "count", "share"]
_LETTERS = 12
"""Longest shown name of a class, in letters."""
_EMPTY, _LINE = "#ececec", "#808080"


def confusion_data(frames: Frames) -> pd.DataFrame:
    """Return counts of the best competitor that has them, on rows of the tasks so far.

    ``share`` is that of the true class's rows, ``task`` the first one with it. ``true`` and ``answer`` are
    categories in the order in which they are learned. Counts are summed over the seeds that learn the classes
    in the first one's order.
    """
    in_order = confusions(frames, list(best_first(frames, frames.cells["identity"])))
    for name, cells in groupby(in_order, key=lambda c: c.cell["identity"]):
        found = sorted(cells, key=lambda c: int(c.cell["seed"]))
        order = _order(found[0], frames.split)
        alike = [c for c in found if c.units == found[0].units and _order(c, frames.split) == order]
        return _shares(alike, order, frames.split).assign(
            identity=name, n=len(alike), seed=alike[0].cell["seed"]
        )
    return pd.DataFrame(columns=[*_COLUMNS, "n", "seed"])


def _order(cell: Confusions, split: str) -> dict[int, int]:
    """Return the units in the order in which they are learned, each with its first task."""
    pairs = cell.counts[split][:, [1, 2]]
    first: dict[int, int] = {}
    for task, unit in sorted({(int(task), int(unit)) for task, unit in pairs}):
        first.setdefault(unit, task)
    return first


def _shares(cells: Sequence[Confusions], order: dict[int, int], split: str) -> pd.DataFrame:
    columns = ["i", "j", "true", "answer", "count"]
    frame = pd.concat([pd.DataFrame(so_far(c.counts[split]), columns=columns) for c in cells])
    data = frame.groupby(["i", "true", "answer"])["count"].sum().reset_index()
    data["share"] = data["count"] / data.groupby(["i", "true"])["count"].transform("sum")
    data["task"] = data["true"].map(order)
    units = cells[0].units
    names = [units[u] for u in [*order, *(u for u in range(len(units)) if u not in order)]]
    for column in ("true", "answer"):
        named = [units[u] for u in data[column]]
        data[column] = pd.Categorical(named, categories=list(dict.fromkeys(names)), ordered=True)
    return data


def confusion(frames: Frames, looks: Looks) -> tuple[Figure, pd.DataFrame] | None:
    """Draw the confusion of the best strategy after at most five of its tasks, the last among them."""
    data = confusion_data(frames)
    if data.empty:
        return None
    chosen = evenly(sorted(data["i"].unique()), MOST_TASKS)
    data = data[data["i"].isin(chosen)].sort_values(["i", "true", "answer"]).reset_index(drop=True)
    classes = list(data["true"].cat.categories)
    rows, columns = grid_shape(len(chosen), 3 if looks.wide else 2)
    names = 0.06 * min(_LETTERS, max(map(len, classes)))  # inches
    side = min(2.2, (looks.width - 1.0 - names) / columns)
    named = side / len(classes) >= 0.1
    names = names if named else 0.1
    side = min(2.2, (looks.width - 1.0 - names) / columns)
    width = min(looks.width, side * columns + 1.0 + names)
    with style():
        figure = new(looks.at(width), rows * (side + 0.2) + 0.8 + names)
        grid = figure.subplots(rows, columns, squeeze=False, sharex=True, sharey=True)
        panels = list(grid.flat)
        parts = dict(list(data.groupby("i")))
        for axes, i in zip(panels, chosen, strict=False):
            square = 100 * _square(parts[i])
            heat_map(axes, square, 100, f"after task {i}")
            mesh = axes.collections[0]
            # On the page, squares show their numbers: they are drawn one by one, without seams between them.
            mesh.set(rasterized=looks.wide or not named, edgecolor="face", linewidth=0.2)
            if named and not looks.wide:
                tip(mesh, f"after task {i}", _texts(square, classes))
            axes.set_facecolor(_EMPTY)  # where a class is not learned yet
            axes.tick_params(labelsize=6, labelrotation=0)
        first = data.drop_duplicates("true").set_index("true")["task"].reindex(classes)
        if named:
            _label_by_class(panels, classes)
        else:
            _label_by_task(panels, [int(t) for t in first.fillna(first.max())], most=int(side / 0.13))
        for axes in panels[len(chosen) :]:
            axes.set_visible(False)
        for place, axes in enumerate(panels[: len(chosen)]):
            if place + columns >= len(chosen):
                axes.tick_params(labelbottom=True)
                axes.set_xlabel("predicted class")
            if place % columns == 0:
                axes.set_ylabel("true class")
        colour_bar(figure, panels, "share of the true class (%)")
        n, seed = int(data["n"].iloc[0]), int(data["seed"].iloc[0])
        name = label(str(data["identity"].iloc[0]), 60).replace("\n", "")
        numbers = "" if named else "numbers: tasks in which classes are learned"
        seeds = f"classes in the order learned, {f'seed {seed}' if n == 1 else f'{n} seeds added up'}"
        finish(figure, name, seeds, "grey: not learned yet", numbers)
        return figure, data[[*_COLUMNS, "n", "seed"]]


def _texts(square: NDArray[np.float64], classes: Sequence[str]) -> Iterator[str]:
    """Yield what each place of a matrix shows, row by row."""
    for true, row in zip(classes, square, strict=True):
        for answer, share in zip(classes, row, strict=True):
            yield f"{true} predicted as {answer}: {number(share)} %"


def _square(part: pd.DataFrame) -> NDArray[np.float64]:
    """Return shares as a matrix; the row of a class not yet learned is empty."""
    true, answer = part["true"].cat.codes, part["answer"].cat.codes
    n = len(part["true"].cat.categories)
    square = np.full((n, n), np.nan)
    square[true] = 0
    square[true, answer] = part["share"]
    return square


def _label_by_class(panels: Sequence[Axes], classes: Sequence[str]) -> None:
    at = [k + 0.5 for k in range(len(classes))]
    texts = [c if len(c) <= _LETTERS else c[: _LETTERS - 1] + "…" for c in classes]
    panels[0].set_xticks(at, texts)
    panels[0].set_yticks(at, texts)
    for panel in panels:
        panel.tick_params(axis="x", labelrotation=90 if max(map(len, texts)) > 2 else 0)


def _label_by_task(panels: Sequence[Axes], tasks: Sequence[int], most: int) -> None:
    """Label many classes by the tasks in which they are learned, with lines between the tasks."""
    edges = [0, *(k for k in range(1, len(tasks)) if tasks[k] != tasks[k - 1]), len(tasks)]
    step = -(-(len(edges) - 1) // most)
    shown = list(pairwise(edges))[step - 1 :: step]
    at, texts = [(a + b) / 2 for a, b in shown], [str(tasks[a]) for a, _ in shown]
    panels[0].set_xticks(at, texts)
    panels[0].set_yticks(at, texts)
    for panel in panels:
        for edge in edges[1:-1] if len(edges) <= 40 else ():
            panel.axhline(edge, color=_LINE, linewidth=0.2)
            panel.axvline(edge, color=_LINE, linewidth=0.2)
