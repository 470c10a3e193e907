"""Accuracy over all seen tasks along the stream."""

from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from bench.report.figures.axes import task_ticks
from bench.report.figures.data import intervals
from bench.report.figures.looks import GREY, Looks, finish, legend, new, others_remark, seeds_remark, style
from bench.report.figures.tips import tip, with_half
from bench.report.row_order import by_final
from bench.report.score_names import axis, top
from bench.results import Frames


def stream_data(frames: Frames) -> pd.DataFrame:
    """Return, per strategy and number of tasks learned, the mean score on the tasks so far, over seeds.

    It has no row where one of these tasks was not measured.
    """
    seen = frames.matrix[(frames.matrix["j"] <= frames.matrix["i"]) & frames.matrix["value"].notna()]
    of_seeds = seen.groupby(["identity", "seed", "i"])["value"].agg(["mean", "size"]).reset_index()
    whole = of_seeds[of_seeds["size"] == of_seeds["i"]]
    by_seed = whole.drop(columns="size").rename(columns={"mean": "value"})
    return intervals(by_seed, ["identity", "i"]).rename(columns={"i": "tasks"})


def stream(frames: Frames, looks: Looks) -> tuple[Figure, pd.DataFrame] | None:
    """Draw accuracy over all seen tasks along the stream, with 95 % intervals."""
    data = stream_data(frames)
    if data.empty:
        return None
    names, others = looks.split(by_final(frames, data["identity"]))
    lines = dict(list(data.groupby("identity")))
    with style():
        figure = new(looks, 2.5, names, 2.3)
        axes = figure.subplots()
        for name in others:
            thin: dict[str, Any] = {"color": GREY, "linewidth": 0.6, "zorder": 1}
            tip(axes.plot(lines[name]["tasks"], 100 * lines[name]["mean"], **thin), name)
        spread = min(0.16, 0.025 * len(names))
        for offset, name in zip(np.linspace(-spread, spread, len(names)), names, strict=True):
            part = lines[name]
            x, half = part["tasks"] + offset, 100 * part["half"].fillna(0)
            drawn = axes.errorbar(x, 100 * part["mean"], yerr=half, **looks.line(name), elinewidth=0.7)
            tip(drawn, name, map(_point, part["tasks"], part["mean"], part["half"]))
        highest = (data["mean"] + data["half"].fillna(0)).max()
        axes.set_ylim(0, 102 * top(frames.score, highest))
        axes.set(xlabel="tasks learned", ylabel=axis(frames.score, "{} on tasks so far"))
        axes.set_xlim(0.5, data["tasks"].max() + 0.5)
        task_ticks(axes, int(data["tasks"].max()))
        legend(figure, names, looks, data)
        return finish(figure, seeds_remark(data["n"]), others_remark(others)), data


def _point(tasks: int, mean: float, half: float) -> str:
    return f"after {tasks} task{'s' * (tasks > 1)}: {with_half(mean, half)}"
