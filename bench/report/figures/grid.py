"""Response curves of grids: validation and test score against the settings that differ."""

from typing import Any, TypeGuard

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Rectangle

from bench.report.figures.axes import (
    Quantity,
    colour_bar,
    grid_shape,
    heat_map,
    panels,
    short,
    show_cuts,
)
from bench.report.figures.looks import INK, PALETTE, Looks, finish, label, new, seeds_remark, style
from bench.report.figures.tips import tip, with_half
from bench.report.formats import MISSING, points
from bench.report.grid_texts import grid_settings
from bench.report.score_names import score_axis
from bench.results import Frames, Grid
from suites.values import text_of

SPLITS: dict[str, tuple[str, Any, str]] = {
    "validation": (PALETTE[1], "--", "s"),
    "test": (PALETTE[0], "-", "o"),
}
_MOST = 24
"""Most panels of a figure."""
_MOST_WRITTEN = 40
"""Most squares of a heat map with their numbers."""


def grid(frames: Frames, looks: Looks) -> tuple[Figure, pd.DataFrame] | None:
    """Draw the validation and test score of every setting of grids: a curve, or a map of two settings."""
    drawn = [of for of in frames.grids if of.axes and of.settings["n"].any()]
    shown = [panel for of in drawn for panel in _panels(of)][:_MOST]
    if not shown:
        return None
    shape = grid_shape(len(shown), 3 if looks.wide else 2)
    maps: list[Axes] = []
    with style():
        figure = new(looks, 0.5 + 1.9 * shape[0])
        curves = []
        for axes, (of, what) in zip(panels(figure, len(shown), shape), shown, strict=True):
            if what in SPLITS:
                _map(axes, of, what)
                maps.append(axes)
            else:
                _curve(axes, of, what)
                curves.append(axes)
                axes.set_ylabel(score_axis("acc", frames.score))
            title = label(of.name, 26) + (f"\n{what} rows" if what in SPLITS else "")
            axes.set_title(title, pad=3, fontsize=6)
        if maps:
            _shared_colours(figure, maps, score_axis("acc", frames.score))
        if curves:
            _legend(figure)
        chosen = "ring or frame: chosen on validation rows" if any(of.chosen for of in drawn) else ""
        why = "; ".join(f"{of.name}: none chosen, as {of.why}" for of in drawn if of.why)
        n = [int(k) for of in drawn for k in of.settings["n"] if k]
        return finish(figure, seeds_remark(n), chosen, why, show_cuts(*curves)), grid_settings(drawn)


def _panels(of: Grid) -> list[tuple[Grid, str]]:
    """Return the panels of a grid: a split for its map, else the setting of a curve."""
    if len(of.axes) == 2 and len(of.settings) == np.prod([of.settings[a].nunique() for a in of.axes]):
        splits = [split for split in SPLITS if of.settings[split].notna().any()]
        return [(of, split) for split in splits]
    return [(of, axis) for axis in of.axes]


def _is_number(value: object) -> TypeGuard[float]:
    return isinstance(value, int | float | np.number) and not isinstance(value, bool)


def _curve(axes: Axes, of: Grid, axis: str) -> None:
    """Draw both splits against one setting; lines join settings that equal the chosen one in all others."""
    rows = of.settings[of.settings["n"] > 0].dropna(subset=[axis])
    numbers = all(map(_is_number, rows[axis]))
    words = list(dict.fromkeys(map(text_of, rows[axis])))
    quantity = Quantity(rows[axis].tolist() if numbers else [0.0])

    def place(values: pd.Series) -> Any:
        return quantity.place(values) if numbers else [words.index(text_of(v)) for v in values]

    chosen = rows[rows["chosen"]]
    others = [a for a in of.axes if a != axis]
    like = chosen if len(chosen) else rows.iloc[:1]
    alike = rows[(rows[others] == like[others].iloc[0]).all(axis=1)].sort_values(axis) if others else rows
    alike = alike.sort_values(axis) if numbers else alike
    for split, (colour, dash, marker) in SPLITS.items():
        axes.plot(place(rows[axis]), 100 * rows[split], marker, color=colour, alpha=0.35, markersize=2.5)
        half = 100 * alike[f"{split}_half"].fillna(0)
        how: dict[str, Any] = {"color": colour, "linestyle": dash, "marker": marker, "elinewidth": 0.7}
        drawn = axes.errorbar(place(alike[axis]), 100 * alike[split], yerr=half, **how)
        ends = zip(alike["identity"], alike[split], alike[f"{split}_half"], strict=True)
        tip(drawn, f"{split} rows", (f"{name}: {with_half(m, h)}" for name, m, h in ends))
        if len(chosen):
            ring: dict[str, Any] = {"markersize": 9, "markerfacecolor": "none", "markeredgecolor": INK}
            axes.plot(place(chosen[axis]), 100 * chosen[split], "o", **ring)
    if numbers:
        quantity.prepare(axes)
    else:
        axes.set_xticks(range(len(words)), words)
        axes.margins(x=0.15)
    axes.set_xlabel(axis)


def _map(axes: Axes, of: Grid, split: str) -> None:
    """Draw one split over two settings."""
    y, x = of.axes
    table = of.settings.pivot(index=y, columns=x, values=split)
    heat_map(axes, 100 * table.to_numpy(dtype=float), 100.0, "")
    for line, values, write in (
        (axes.xaxis, table.columns, axes.set_xticks),
        (axes.yaxis, table.index, axes.set_yticks),
    ):
        shown = [short(v) if _is_number(v) else text_of(v) for v in values]
        write([n + 0.5 for n in range(len(shown))], shown)
        line.set_tick_params(labelsize=5.5)
    axes.set(xlabel=x, ylabel=y)
    for row in of.settings.to_dict("records"):
        corner = list(table.columns).index(row[x]), list(table.index).index(row[y])
        if len(of.settings) <= _MOST_WRITTEN:
            words = points(row[split], 1)
            drawn = axes.text(corner[0] + 0.5, corner[1] + 0.5, words, fontsize=5.5, ha="center", va="center")
            tip(drawn, f"{row['identity']}, {split} rows: {with_half(row[split], row[f'{split}_half'])}")
        if not row["chosen"]:
            continue
        axes.add_patch(Rectangle(corner, 1, 1, fill=False, edgecolor="white", linewidth=2.2))
        axes.add_patch(Rectangle(corner, 1, 1, fill=False, edgecolor=INK, linewidth=1))


def _shared_colours(figure: Figure, maps: list[Axes], words: str) -> None:
    """Give all maps one scale, from the lowest to the highest number, and explain it beside them."""
    found = [np.asarray(axes.collections[0].get_array(), dtype=float) for axes in maps]
    low, high = min(np.nanmin(a) for a in found), max(np.nanmax(a) for a in found)
    for axes in maps:
        axes.collections[0].set_clim(low, high if high > low else low + 1)
        for text in axes.texts:
            light = text.get_text() != MISSING and float(text.get_text()) > low + 0.4 * (high - low)
            text.set_color("black" if light else "white")
    colour_bar(figure, maps, words)


def _legend(figure: Figure) -> None:
    handles = [
        Line2D([], [], color=colour, linestyle=dash, marker=marker)
        for colour, dash, marker in SPLITS.values()
    ]
    figure.legend(handles, [f"{split} rows" for split in SPLITS], loc="outside upper left", ncols=2)
