"""Axes that several figures share: tasks, and quantities over many decades."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, MaxNLocator, NullLocator
from numpy.typing import ArrayLike, NDArray


def task_ticks(axes: Axes, n_tasks: int, first: int = 1) -> None:
    """Number the tasks; all of them if there are few."""
    step = 1 if n_tasks <= 10 else 2 if n_tasks <= 20 else 5 * -(-n_tasks // 50)
    ticks = [t for t in range(first, n_tasks + 1) if t % step == 0 or step == 1]
    axes.set_xticks(ticks)


def grid_shape(n: int, most: int) -> tuple[int, int]:
    """Return the rows and columns of n panels, at most ``most`` of them side by side."""
    columns = min(n, most)
    return -(-n // columns), columns


def panels(figure: Figure, n: int, shape: tuple[int, int], sharey: bool = False) -> list[Axes]:
    """Return n panels, row by row; the places after them stay empty."""
    places = figure.subplots(*shape, squeeze=False, sharey=sharey).ravel()
    for axes in places[n:]:
        axes.set_visible(False)
    return list(places[:n])


def label_outer(grid: NDArray[Any], shown: int, x: str, y: str) -> None:
    """Hide the panels that are not used, and label the lowest and the leftmost of the others."""
    rows, columns = grid.shape
    for place, axes in enumerate(grid.flat):
        axes.set_visible(place < shown)
        if place + columns >= shown:
            axes.tick_params(labelbottom=True)
        if place // columns == rows - 1:
            axes.set_xlabel(x)
        if place % columns == 0:
            axes.set_ylabel(y)


def heat_map(axes: Axes, square: ArrayLike, highest: float, title: str, **more: Any) -> None:
    """Draw a matrix of numbers from 0 to ``highest``, without ticks; ``more`` goes to seaborn."""
    plain: dict[str, Any] = {"cmap": "cividis", "cbar": False, "xticklabels": False, "yticklabels": False}
    sns.heatmap(square, ax=axes, vmin=0, vmax=highest, **plain, **more)
    axes.grid(visible=False)
    axes.set_title(title, pad=2, fontsize=7)
    axes.set(xlabel="", ylabel="")
    axes.tick_params(length=0, pad=2)


def show_cuts(*panels: Axes, which: str = "xy") -> str:
    """Begin linear axes at zero if that takes little room, else break their lines; return a remark on that.

    Args:
        panels: The axes.
        which: ``x``, ``y`` or both.
    """
    cut = False
    for axes in panels:
        for name in which:
            line = axes.xaxis if name == "x" else axes.yaxis
            low, high = sorted(line.get_view_interval())
            if line.get_scale() != "linear" or low <= 0 <= high:
                continue
            if 0 < low < 0.3 * high:
                (axes.set_xlim if name == "x" else axes.set_ylim)(-0.03 * high, high)
                continue
            _break(axes, name)
            cut = True
    return "broken axes do not begin at zero" if cut else ""


def _break(axes: Axes, which: str) -> None:
    """Draw a break across the line of an axis, beside its origin."""
    along = np.array([0.035, 0.065])
    place = (along, np.zeros(2)) if which == "x" else (np.zeros(2), along)
    slant = [(-0.5, -1), (0.5, 1)] if which == "x" else [(-1, -0.5), (1, 0.5)]
    how: dict[str, Any] = {"transform": axes.transAxes, "clip_on": False, "zorder": 10}
    axes.plot(*place, color="white", linewidth=1.6, **how)
    axes.plot(*place, linestyle="none", marker=slant, markersize=5, color="black", **how)


def colour_bar(figure: Figure, panels: list[Axes], label: str) -> None:
    """Explain the colours of heat maps beside them."""
    bar = figure.colorbar(panels[0].collections[0], ax=panels, pad=0.02, aspect=30, fraction=0.05)
    bar.set_label(label)
    bar.outline.set_visible(False)


class Quantity:
    """Numbers on an axis, logarithmic if they span decades, with a separate position for zero."""

    def __init__(self, values: Sequence[float]) -> None:
        found = np.asarray(values, dtype=float)
        found = found[np.isfinite(found)]
        above = found[found > 0]
        self.log = bool((found >= 0).all() and len(above) and above.max() / above.min() >= 8)
        self.low, self.high = (float(above.min()), float(above.max())) if self.log else (0.0, 0.0)
        self.zero = self.low / (self.high / self.low) ** 0.25 if self.log and (found == 0).any() else None

    def place(self, values: Any) -> Any:
        """Return the positions of values: zero has no logarithm."""
        values = np.asarray(values, dtype=float)
        return values if self.zero is None else np.where(values == 0, self.zero, values)

    def prepare(self, axes: Axes, most: int = 5) -> None:
        """Scale an axis and label it with plain numbers."""
        if not self.log:
            low, high = axes.get_xlim()
            axes.xaxis.set_major_locator(MaxNLocator(4))
            axes.xaxis.set_major_formatter(lambda x, _: short(x))
            axes.set_xlim(low, high)
            return
        axes.set_xscale("log")
        decades = range(int(np.floor(np.log10(self.low))) - 1, int(np.ceil(np.log10(self.high))) + 2)
        for steps in ((1, 2, 5), (1, 3), (1,), (1,)):
            ticks = [m * 10.0**d for d in decades for m in steps]
            ticks = [t for t in ticks if 0.95 * self.low <= t <= 1.05 * self.high]
            if len(ticks) <= most:
                break
        ticks = ticks[:: -(-len(ticks) // most)] if ticks else [self.low]
        labels = [short(t) for t in ticks]
        first = self.low
        if self.zero is not None:
            ticks, labels, first = [self.zero, *ticks], ["0", *labels], self.zero
        axes.xaxis.set_major_locator(FixedLocator(ticks))
        axes.xaxis.set_minor_locator(NullLocator())
        axes.set_xticks(ticks, labels)
        room = (self.high / first) ** 0.06
        axes.set_xlim(first / room, self.high * room)


def short(x: float) -> str:
    """Return a number in few characters: 20k, 1.5M, 1e-5."""
    for size, letter in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(x) >= size:
            return f"{x / size:.3g}{letter}"
    return f"{x:.3g}".replace("e-0", "e-")
