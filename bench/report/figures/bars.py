"""Final accuracy, forgetting and transfer of every strategy, with every seed as a point."""

from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from bench.report.figures.axes import grid_shape, panels
from bench.report.figures.data import intervals
from bench.report.figures.looks import INK, Looks, finish, label, new, seeds_remark, style
from bench.report.figures.tips import tip, with_half
from bench.report.row_order import by_final
from bench.report.score_names import head, score_axis
from bench.results import Frames

_LABELS = {
    "forgetting": "forgetting\n(points)",
    "bwt": "backward\ntransfer (points)",
    "fwt": "forward\ntransfer (points)",
}
_SCORES = ("acc", *_LABELS)
_MOST = 60


def bars(frames: Frames, looks: Looks) -> tuple[Figure, pd.DataFrame] | None:
    """Draw final accuracy, forgetting and both kinds of transfer."""
    data = frames.scores[frames.scores["score"].isin(_SCORES) & frames.scores["value"].notna()]
    data = data[["identity", "seed", "score", "value"]].sort_values(["score", "identity", "seed"])
    if data.empty:
        return None
    names = by_final(frames, data["identity"])
    of_all = f"{{}} of {len(names)} strategies" if len(names) > _MOST else ""
    names = looks.split(names)[0] if of_all else names
    means = intervals(data, ["score", "identity"]).set_index(["score", "identity"])
    scores = [s for s in _SCORES if (data["score"] == s).any()]
    shape = grid_shape(len(scores), len(scores) if looks.wide else 2)
    texts = [label(n, 34 if looks.wide else 20) for n in names]
    # A name of several lines has a higher row.
    heights = np.array([1 + 0.7 * t.count("\n") for t in texts])
    middles = np.cumsum(heights) - heights / 2
    at = dict(zip(names, middles, strict=True))
    with style():
        figure = new(looks, 0.3 + shape[0] * (0.4 + 0.16 * heights.sum()))
        grid = panels(figure, len(scores), shape, sharey=True)
        for axes, score in zip(grid, scores, strict=True):
            there = [name for name in names if (score, name) in means.index]
            own = means.loc[[(score, name) for name in there]]
            places = [at[name] for name in there]
            mean, half = 100 * own["mean"], 100 * own["half"].fillna(0)
            colours = [looks.colour[name] for name in there]
            pale = [_pale(colour) for colour in colours]
            drawn = axes.barh(places, mean, height=0.7, color=pale, edgecolor=colours, linewidth=0.6)
            for bar, name, *ends in zip(drawn, there, own["mean"], own["half"], strict=True):
                tip(bar, name, [f"{head(score, frames.score)}: {with_half(*ends)}"])
            axes.errorbar(mean, places, xerr=half, fmt="none", ecolor=INK, elinewidth=1)
            seeds = data[(data["score"] == score) & data["identity"].isin(there)]
            n, k = (seeds.groupby("identity")["seed"].transform(f) for f in ("size", "cumcount"))
            off = np.where(n > 1, 0.4 * k / np.maximum(n - 1, 1) - 0.2, 0)
            points: dict[str, Any] = {"color": "black", "markersize": 2, "markeredgewidth": 0, "alpha": 0.7}
            axes.plot(100 * seeds["value"], seeds["identity"].map(at) + off, ".", **points)
            axes.set_xlabel(_LABELS.get(score) or score_axis(score, frames.score).replace(" ", "\n", 1))
            axes.axvline(0, color=INK, linewidth=0.6)
            axes.grid(visible=False, axis="y")
            axes.tick_params(axis="y", length=0)
            axes.xaxis.get_major_locator().set_params(nbins=4)  # type: ignore[call-arg]
        grid[0].set_yticks(middles, texts, linespacing=0.95)
        grid[0].set_ylim(heights.sum() + 0.1, -0.1)
        remark = seeds_remark(means["n"], "bar and line: mean and 95 % t interval")
        return finish(figure, f"{remark}; points: seeds", of_all.format(len(names))), data


def _pale(colour: str) -> tuple[float, float, float]:
    """Return a colour half-way to white; unlike a transparent one it prints as drawn."""
    parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    return (0.45 + 0.55 * parts[0], 0.45 + 0.55 * parts[1], 0.45 + 0.55 * parts[2])
