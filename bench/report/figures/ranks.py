"""Mean ranks over suites with the critical difference of Nemenyi's test (Demsar 2006, JMLR 7)."""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from scipy import stats

from bench.report.figures.looks import INK, Looks, finish, label, new, style
from bench.report.score_names import told
from bench.results import Frames
from bench.stats import cliques, critical_difference

_ROW = 0.15


def ranks_data(frames: Frames) -> pd.DataFrame:
    """Return the mean rank over suites of every strategy that was done on all of them; 1 is the best.

    A block is a suite: the mean final accuracy over seeds. Beside it stand the number of suites, the critical
    difference at 5 % and the p-value of Friedman's test.
    """
    final = frames.scores[frames.scores["score"] == "acc"]
    means = final.groupby(["identity", "suite"])["value"].mean().unstack("suite").dropna()
    n, k = means.shape[1], len(means)
    columns = ["identity", "rank", "suites", "difference", "p"]
    if n < 2 or k < 3:
        return pd.DataFrame(columns=columns)
    rank = means.rank(ascending=False).mean(axis=1)
    difference = critical_difference(k, n)
    p = stats.friedmanchisquare(*means.to_numpy()).pvalue if n > 1 else np.nan
    data = pd.DataFrame({"identity": rank.index, "rank": rank.to_numpy()})
    data = data.assign(suites=n, difference=difference, p=p).sort_values(["rank", "identity"])
    return data[columns].reset_index(drop=True)


def ranks(frames: Frames, looks: Looks) -> tuple[Figure, pd.DataFrame] | None:
    """Draw the critical-difference diagram, where there are several suites and at least three strategies."""
    data = ranks_data(frames)
    if data.empty:
        return None
    names, places = data["identity"].tolist(), data["rank"].tolist()
    difference, k = float(data["difference"].iloc[0]), len(names)
    groups = cliques(places, difference)
    half = -(-k // 2)
    texts = [label(n, 40 if looks.wide else 18).replace("\n", "\n  ") for n in names]
    row = _ROW + 0.1 * max(t.count("\n") for t in texts)
    down = 0.12 * (len(groups) + 1)
    height = 0.75 + down + row * half
    with style():
        figure = new(looks, height + 0.15)
        axes = figure.subplots()
        axes.set_axis_off()
        # Ranks across, inches down from the axis; names stand beside it, left the better half.
        room = 0.32 * (k - 1) if looks.wide else 0.6 * (k - 1)
        axes.set(xlim=(1 - room, k + room), ylim=(down + row * half + 0.05, -0.7))
        _scale(axes, k, difference)
        for level, (first, last) in enumerate(groups):
            y = 0.12 * (level + 1)
            axes.plot([places[first] - 0.04, places[last] + 0.04], [y, y], color=INK, linewidth=2.4)
        for i, (name, rank) in enumerate(zip(names, places, strict=True)):
            left = i < half
            y = down + row * (i if left else k - 1 - i) + 0.08
            edge = 1 - 0.03 * (k - 1) if left else k + 0.03 * (k - 1)
            axes.plot([rank, rank, edge], [0, y, y], color=looks.colour[name], linewidth=0.8)
            axes.plot([rank], [0], marker=looks.marker[name], color=looks.colour[name], clip_on=False)
            text = f"{texts[i]}  {rank:.3g}" if left else f"{rank:.3g}  {texts[i]}"
            axes.text(
                edge - 0.01 * (k - 1) if left else edge + 0.01 * (k - 1),
                y,
                text,
                ha="right" if left else "left",
                va="center",
                fontsize=7,
            )
        n, p = int(data["suites"].iloc[0]), float(data["p"].iloc[0])
        tests = f"Friedman's test: p {'< 0.001' if p < 0.001 else f'= {p:.3f}'}"
        few = "few suites: the test can see little" if n < 5 else ""
        bars = "thick bars join what does not differ at 5 % (Nemenyi)"
        return finish(
            figure,
            told(f"mean rank of final accuracy over {n} suites, 1 is best", frames.score),
            bars,
            tests,
            few,
        ), data


def _scale(axes: Axes, k: int, difference: float) -> None:
    """Draw the line of ranks and, above it, the critical difference."""
    axes.plot([1, k], [0, 0], color=INK, linewidth=0.8)
    step = 1 if k <= 12 else 2 if k <= 24 else 5
    for rank in sorted({1, *range(step, k + 1, step)}):
        if rank != 1 and rank - 1 < 0.6 * step and step > 1:
            continue
        axes.plot([rank, rank], [0, -0.05], color=INK, linewidth=0.8)
        axes.text(rank, -0.08, str(rank), ha="center", va="bottom", fontsize=7)
    width = min(difference, k - 1)
    axes.plot([1, 1 + width], [-0.42, -0.42], color=INK, linewidth=1.2)
    for end in (1, 1 + width):
        axes.plot([end, end], [-0.46, -0.38], color=INK, linewidth=1.2)
    beyond = " (wider than shown)" if difference > k - 1 else ""
    axes.text(1 + width / 2, -0.46, f"CD = {difference:.2f}{beyond}", ha="center", va="bottom", fontsize=7)
