"""Final accuracy against what it costs: throughput, memory, buffer; the Pareto front joined by a line."""

from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from bench.report.families import bounds
from bench.report.figures.axes import Quantity, short, show_cuts
from bench.report.figures.data import intervals
from bench.report.figures.looks import INK, Looks, finish, legend, new, others_remark, seeds_remark, style
from bench.report.figures.tips import tip, with_half
from bench.report.formats import number
from bench.report.row_order import by_final
from bench.report.score_names import score_axis
from bench.results import Frames

_COSTS = {
    "samples_per_second": ("samples per\nsecond", "samples per second", True),
    "memory_bytes": ("stored between\ntasks (bytes)", "bytes", False),
    "memory_samples": ("buffer\n(samples)", "samples", False),
}
"""Column of ``cells``: title, unit, and whether more is better."""
_MEMORY = ("memory_bytes", "memory_samples")


def pareto_data(frames: Frames) -> pd.DataFrame:
    """Return, per cost and strategy, its mean, the mean final accuracy, and whether it is on the front.

    The front is that of the competitors: bounds are drawn and take no part. A bound needs all rows: it stores
    none of its own, and its place among memories (NaN) is beyond all others.
    """
    final = intervals(frames.scores[frames.scores["score"] == "acc"], ["identity"])
    found, apart = [], bounds(frames)
    for cost, (*_, more) in _COSTS.items():
        values = frames.cells.assign(value=pd.to_numeric(frames.cells[cost]))
        means = values[values["value"].notna()].groupby("identity")["value"].mean()
        if cost in _MEMORY:
            means = means[~means.index.isin(apart)]
        part = final.assign(cost=cost, x=final["identity"].map(means)).dropna(subset="mean")
        part = part[part["x"].notna() | (part["identity"].isin(apart) & (cost in _MEMORY))]
        if part["x"].nunique() > 1:
            x = part["x"].to_numpy(dtype=float)
            gain = part["mean"].where(~part["identity"].isin(apart), -np.inf)
            on = on_front(np.nan_to_num(-x if more else x, nan=np.inf), gain.to_numpy())
            found.append(part.assign(front=on & (gain > -np.inf)))
    columns = ["cost", "identity", "x", "mean", "half", "n", "front"]
    return pd.concat(found)[columns].reset_index(drop=True) if found else pd.DataFrame(columns=columns)


def on_front(cost: np.ndarray, gain: np.ndarray) -> np.ndarray:
    """Return which points no other is better than: as cheap and as good, and one of them more."""
    as_good = (cost[:, None] <= cost) & (gain[:, None] >= gain)
    better = (cost[:, None] < cost) | (gain[:, None] > gain)
    return np.asarray(~np.any(as_good & better, axis=0))


def pareto(frames: Frames, looks: Looks) -> tuple[Figure, pd.DataFrame] | None:
    """Draw final accuracy against each cost in which strategies differ."""
    data = pareto_data(frames)
    if data.empty:
        return None
    names, others = looks.split(by_final(frames, data["identity"]))
    costs = [c for c in _COSTS if (data["cost"] == c).any()]
    with style():
        rows, columns = (1, len(costs)) if looks.wide else (len(costs), 1)
        figure = new(looks, 2.3, names, 0.2 + 1.7 * rows)
        grid = figure.subplots(rows, columns, squeeze=False, sharey=True).ravel()
        for axes, cost in zip(grid, costs, strict=True):
            title, unit, more = _COSTS[cost]
            part = data[data["cost"] == cost].set_index("identity")
            quantity = Quantity(part["x"].dropna().tolist())
            best = part[part["front"]].sort_values("x")
            x, where = quantity.place(best["x"]), "pre" if more else "post"
            axes.step(x, 100 * best["mean"], where=where, color=INK, linewidth=0.8, zorder=1)
            faint = part.index.isin(others) & ~part["front"].astype(bool)
            alone = [name for name in (*others, *reversed(names)) if name in part.index[~faint]]
            beyond = [name for name in alone if np.isnan(part["x"][name])]
            alone = [name for name in alone if name not in beyond]
            # What looks alike is drawn at once.
            for these in filter(list, (part.index[faint].tolist(), *([name] for name in alone))):
                edge = ("black", 0.8) if part["front"][these[0]] else ("white", 0.4)
                drawn = axes.errorbar(
                    quantity.place(part["x"][these]),
                    100 * part["mean"][these],
                    yerr=100 * part["half"][these].fillna(0),
                    **looks.line(these[0]) | {"linestyle": "none"},
                    markersize=4.5,
                    markeredgecolor=edge[0],
                    markeredgewidth=edge[1],
                    elinewidth=0.7,
                    zorder=2 if these[0] in others else 3,
                )
                if these[0] in names:
                    place = f"{short(part['x'][these[0]])} {unit}"
                    tip(drawn, these[0], [f"{with_half(*part.loc[these[0], ['mean', 'half']])}, {place}"])
            quantity.prepare(axes, 3 if looks.wide else 5)
            for i, name in enumerate(beyond):
                _line(axes, 100 * part["mean"][name], 1 - 0.06 * i, name, looks)
            axes.set_xlabel(title if looks.wide else title.replace("\n", " "))
        for axes in grid[:1] if looks.wide else grid:
            axes.set_ylabel(score_axis("acc", frames.score))
        legend(figure, names, looks, data, line=False)
        front = f"line and dark edges: Pareto front{', without the bounds' if bounds(frames) else ''}"
        beyond = list(dict.fromkeys(data[data["x"].isna()]["identity"]))
        memory = f"{' and '.join(beyond)} store all rows: a line across" if beyond else ""
        remarks = front, memory, show_cuts(*grid), others_remark(others)
        return finish(figure, seeds_remark(data["n"]), *remarks), data


def _line(axes: Axes, height: float, place: float, name: str, looks: Looks) -> None:
    """Draw a bound in a panel of memories: a line across, and its mark at a place near the far end."""
    how: dict[str, Any] = {"transform": axes.get_yaxis_transform(), "clip_on": False, "zorder": 2}
    axes.axhline(height, color=looks.colour[name], linestyle=looks.dash[name], linewidth=0.8, zorder=1)
    own = looks.line(name) | {"markersize": 4.5, "markeredgecolor": "white", "markeredgewidth": 0.4}
    tip(axes.plot([place], [height], **own, **how), name, [f"{number(height)}, stores all rows"])
