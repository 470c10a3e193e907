"""Stability against plasticity: forgetting against learning accuracy."""

from typing import Any

import pandas as pd
from matplotlib.figure import Figure

from bench.report.figures.axes import show_cuts
from bench.report.figures.data import intervals
from bench.report.figures.looks import GREY, Looks, finish, legend, new, others_remark, seeds_remark, style
from bench.report.figures.tips import tip, with_half
from bench.report.row_order import by_final
from bench.report.score_names import in_words, score_axis
from bench.results import Frames


def stability_data(frames: Frames) -> pd.DataFrame:
    """Return forgetting and learning accuracy of every strategy and seed that has both."""
    scores = frames.scores[frames.scores["score"].isin(["forgetting", "learning_acc"])]
    if scores.empty:
        return pd.DataFrame(columns=["identity", "seed", "forgetting", "learning_acc"])
    data = scores.pivot(index=["identity", "seed"], columns="score", values="value").dropna()
    return data.reset_index().rename_axis(columns=None)


def stability(frames: Frames, looks: Looks) -> tuple[Figure, pd.DataFrame] | None:
    """Draw learning accuracy against forgetting: means with intervals, seeds as faint points."""
    data = stability_data(frames)
    if data.empty:
        return None
    names, others = looks.split(by_final(frames, data["identity"]))
    of_scores = (data.rename(columns={name: "value"}) for name in ("forgetting", "learning_acc"))
    x, y = (intervals(part, ["identity"]).set_index("identity") for part in of_scores)
    seeds = dict(list(data.groupby("identity")))
    with style():
        figure = new(looks, 2.7, names, 2.5)
        axes = figure.subplots()
        axes.plot(100 * x["mean"][others], 100 * y["mean"][others], ".", color=GREY, zorder=1)
        for name in names:
            part, colour = seeds[name], looks.colour[name]
            faint: dict[str, Any] = {"alpha": 0.45, "markersize": 4, "markeredgewidth": 0, "zorder": 2}
            axes.plot(100 * part["forgetting"], 100 * part["learning_acc"], ".", color=colour, **faint)
            xerr, yerr = 100 * x["half"].fillna(0)[name], 100 * y["half"].fillna(0)[name]
            mark: dict[str, Any] = {
                "marker": looks.marker[name],
                "markersize": 5,
                "elinewidth": 0.7,
                "zorder": 3,
            }
            mark |= {"color": colour, "markeredgecolor": "white", "markeredgewidth": 0.4}
            drawn = axes.errorbar(100 * x["mean"][name], 100 * y["mean"][name], xerr=xerr, yerr=yerr, **mark)
            words = "forgetting {}, learning accuracy {}".format(
                *(with_half(of["mean"][name], of["half"][name]) for of in (x, y))
            )
            tip(drawn, name, [in_words(frames.score, words)])
        axes.set(xlabel="forgetting (points): further left is more stable")
        axes.set_ylabel(score_axis("learning_acc", frames.score))
        axes.margins(0.06)
        legend(figure, names, looks, x.reset_index(), line=False)
        what = seeds_remark(x["n"]) + "; points: seeds"
        return finish(figure, what, show_cuts(axes), others_remark(others)), data
