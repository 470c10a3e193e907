"""Mean ranks over suites with the critical difference of Nemenyi's test (Demsar 2006, JMLR 7)."""

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from bench.report.captions import about_bounds
from bench.report.families import bounds
from bench.report.figures.looks import INK, Looks, finish, label, new, style
from bench.report.formats import p_value, rank_text
from bench.report.score_names import in_words
from bench.report.summary import rank_competitors
from bench.results import Frames
from bench.stats import cliques

_ROW = 0.15


def ranks(frames: Frames, looks: Looks) -> tuple[Figure, pd.DataFrame] | None:
    """Draw the critical-difference diagram, where there are several suites and at least three competitors.

    A block is a suite: the mean final accuracy over common seeds, as in the tables across suites.
    """
    ranking = rank_competitors(frames, "acc")
    if isinstance(ranking, str):
        return None
    names, places = ranking.ranks.index.tolist(), ranking.ranks.tolist()
    difference, k = ranking.critical_difference, len(names)
    data = pd.DataFrame({"identity": names, "rank": places})
    data = data.assign(suites=len(ranking.whole.blocks), difference=difference, p=ranking.p)
    groups = cliques(places, difference)
    half = -(-k // 2)
    texts = [label(n, 40 if looks.wide else 14).replace("\n", "\n  ") for n in names]
    row = _ROW + 0.1 * max(t.count("\n") for t in texts)
    down = 0.12 * (len(groups) + 1)
    height = 0.75 + down + row * half
    with style():
        figure = new(looks, height + 0.15)
        axes = figure.subplots()
        axes.set_axis_off()
        # Ranks across, inches down from the axis; names beside it, the better half on the left.
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
            text = f"{texts[i]}  {rank_text(rank)}" if left else f"{rank_text(rank)}  {texts[i]}"
            x, side = edge + (-0.01 if left else 0.01) * (k - 1), "right" if left else "left"
            axes.text(x, y, text, ha=side, va="center", fontsize=7)
        n = len(ranking.whole.blocks)
        tests = f"Friedman's test: p = {p_value(ranking.p)}"
        few = "few suites: the test has little power" if n < 5 else ""
        bars = "thick bars join what does not differ at 5 % (Nemenyi)"
        shown = in_words(frames.score, f"mean rank of final accuracy over {n} suites, 1 is best")
        return finish(figure, shown, bars, tests, few, about_bounds(bounds(frames)).rstrip(".")), data


def _scale(axes: Axes, k: int, difference: float) -> None:
    """Draw the line of ranks and, above it, the critical difference."""
    axes.plot([1, k], [0, 0], color=INK, linewidth=0.8)
    step = 1 if k <= 12 else 2 if k <= 20 else 5
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
    words = f"CD = {rank_text(difference)}{beyond}"
    axes.text(1 + width / 2, -0.46, words, ha="center", va="bottom", fontsize=7)
