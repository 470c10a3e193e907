"""Score against the budget of tuning: the expected best of k trials, on validation and on test rows."""

import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from bench.report.figures.axes import show_cuts
from bench.report.figures.looks import Looks, finish, legend, new, style
from bench.report.figures.tips import tip
from bench.report.score_names import score_axis
from bench.report.tuned_rows import budget_data
from bench.results import Frames


def trials(frames: Frames, looks: Looks) -> tuple[Figure, pd.DataFrame] | None:
    """Draw what tuning of k trials is expected to give: dotted on validation rows, with markers on test rows.

    Where not all trials were run on the reported seeds, the test score is that of the best of the first k.
    """
    data = budget_data(frames)
    if data.empty or data["k"].max() < 2:
        return None
    last = data.groupby("strategy")["validation"].last().sort_values(ascending=False, kind="stable")
    names = [str(name) for name in last.index]
    own = looks if set(names) <= set(looks.colour) else Looks.of(sorted(names), []).at(looks.width)
    with style():
        figure = new(looks, 2.7, names, 2.5)
        axes = figure.subplots()
        for name, part in data.groupby("strategy"):
            line = own.line(str(name)) | {"markersize": 3}
            test = part["test"] if part["test"].notna().all() else part["best_test"]
            drawn = axes.plot(part["k"], 100 * test, **line)
            axes.plot(part["k"], 100 * part["validation"], **line | {"linestyle": ":", "marker": ""})
            rows = zip(part["k"], part["validation"], test, strict=True)
            words = (f"{k} trials: validation {100 * v:.1f}, test {100 * t:.1f}" for k, v, t in rows)
            tip(drawn, str(name), words)
        axes.set_xlabel("trials")
        axes.set_ylabel(score_axis("acc", frames.score))
        axes.set_xlim(0.7, data["k"].max() + 0.3)
        axes.xaxis.set_major_locator(MaxNLocator(6, integer=True))
        legend(figure, names, own, data.assign(n=1), of="strategy")
        whole = data["test"].notna().all()
        what = f"markers: test, of the {'expected best' if whole else 'best so far'}"
        remark = f"{what}; dotted, without markers: expected best on validation rows"
        return finish(figure, remark, show_cuts(axes, which="y")), data
