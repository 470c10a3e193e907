"""A score over revisions."""

from collections.abc import Sequence

import pandas as pd
from matplotlib.figure import Figure

from bench.report.figures.looks import OWN_GREYS, Looks, finish, legend, new, style
from bench.report.layout import TWO_COLUMNS
from bench.results import Line


def revisions(lines: Sequence[Line], width: float = TWO_COLUMNS) -> tuple[Figure, pd.DataFrame]:
    """Draw the lines of one suite, scenario and score over revisions, and return the figure and its data.

    Bands are 95 % intervals by the standard error; a vertical line is a step.
    """
    names = [line.strategy for line in lines]
    looks = Looks.of(names, {*names} & OWN_GREYS.keys()).at(width)
    found = sorted({r for line in lines for r in line.values}, key=lambda r: r.at)
    place = {revision: i for i, revision in enumerate(found)}
    data = pd.DataFrame(
        [
            {"identity": line.strategy, "revision": r.label, "commit": r.commit, "at": r.at, "mean": v.mean}
            | {"error": v.error, "n": v.n, "step": any(s.at == r for s in line.steps)}
            for line in lines
            for r, v in line.values.items()
        ]
    )
    with style():
        figure = new(looks, 2.6, names, 2.4)
        axes = figure.subplots()
        for line in lines:
            x = [place[r] for r in line.values]
            means = [v.mean for v in line.values.values()]
            ends = [1.96 * (0 if v.error != v.error else v.error) for v in line.values.values()]
            axes.plot(x, means, **looks.line(line.strategy), markersize=3)
            low, high = ([m + sign * e for m, e in zip(means, ends, strict=True)] for sign in (-1, 1))
            axes.fill_between(x, low, high, color=looks.colour[line.strategy], alpha=0.15, linewidth=0)
            for step in line.steps:
                axes.axvline(place[step.at] - 0.5, color=looks.colour[line.strategy], linewidth=0.8)
        shown = range(0, len(found), -(-len(found) // 12))
        axes.set_xticks(list(shown), [found[i].label for i in shown], rotation=45, ha="right")
        axes.set(xlabel="revision", ylabel=f"{lines[0].score} ({lines[0].suite}, {lines[0].scenario})")
        legend(figure, names, looks, data)
        return finish(
            figure, "band: 95 % interval of the mean over seeds; vertical line: a step (PELT)"
        ), data
