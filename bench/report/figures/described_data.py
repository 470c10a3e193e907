"""Rows and labels of a data set, task by task."""

import numpy as np
from matplotlib.figure import Figure

from bench.report.figures.looks import GREY, INK, PALETTE, style
from bench.report.layout import TWO_COLUMNS
from suites.own.portrait import Portrait

_MOST_CLASSES = len(PALETTE)


def described_data(found: Portrait) -> Figure:
    """Draw rows and label shares of each task; of a data set without tasks, the rows of each class."""
    rows_TC2 = found.rows_TC2.numpy()
    of_tasks = len(found.tasks) > 1
    names = found.tasks if of_tasks else found.classes
    rows_K2 = rows_TC2.sum(1) if of_tasks else rows_TC2[0]
    with style():
        figure = Figure(figsize=(TWO_COLUMNS, max(1.6, 0.9 + 0.17 * len(names))), layout="constrained")
        grid = figure.subplots(1, 2 if of_tasks else 1, sharey=True, squeeze=False)[0]
        places = np.arange(len(names))
        grid[0].barh(places - 0.2, rows_K2[:, 0], 0.4, color=INK, label="training rows")
        grid[0].barh(places + 0.2, rows_K2[:, 1], 0.4, color=GREY, label="test rows")
        grid[0].set_yticks(places, names)
        grid[0].invert_yaxis()
        grid[0].set_xlabel("rows")
        figure.legend(loc="outside upper left", ncols=2)
        if of_tasks:
            share_KC = rows_TC2[:, :, 0] / rows_TC2[:, :, 0].sum(1, keepdims=True).clip(1)
            order = np.argsort(-share_KC.mean(0), kind="stable")
            left_K = np.zeros(len(names))
            for nth, c in enumerate(order[:_MOST_CLASSES]):
                grid[1].barh(places, share_KC[:, c], left=left_K, color=PALETTE[nth], label=found.classes[c])
                left_K += share_KC[:, c]
            grid[1].set_xlabel("share of training rows by class")
            grid[1].set_xlim(0, 1)
            handles, labels = grid[1].get_legend_handles_labels()
            more = f" (of {len(order)})" if len(order) > _MOST_CLASSES else ""
            figure.legend(handles, labels, loc="outside right upper", title=f"class{more}", labelcolor=INK)
    return figure
