"""How figures look: widths, colours, markers, names and legends.

Widths are those of a two-column paper. A strategy has the same colour, marker and dash in every figure of a
report; colours differ in lightness too, so they can be distinguished in greyscale and for the colour-blind.
"""

import re
from collections.abc import Iterable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Self

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.lines import Line2D

from bench.report.families import bounds
from bench.report.summary import competitors
from bench.results import Frames

ONE_COLUMN, TWO_COLUMNS = 3.35, 6.9
"""Inches."""
STYLE = Path(__file__).parents[1] / "lethe.mplstyle"
MOST_NAMED = 20
"""Largest number of named strategies; if there are more, the others are thin grey lines."""
GREY = "#c4c4c4"
INK = "#404040"

# Ten steps of lightness, hues chosen by search so that any two lie far apart (CIELAB 27 and more) to normal
# and to protan, deutan and tritan eyes; a test checks it. Neighbours in the list differ most.
PALETTE = (
    "#0272f2", "#e78123", "#33184f", "#a02804", "#db9daf",
    "#8e8b5b", "#3c3699", "#a24474", "#7ac9fd", "#55281f",
)  # fmt: skip
# 10 colours, 13 markers, 4 dashes: of twenty strategies no two share colour and dash, or marker and dash.
MARKERS = "os^DvPX<>dhp*"
DASHES: tuple[Any, ...] = ("-", (0, (4, 1.5)), (0, (1, 1)), (0, (5, 1, 1, 1)))

# All of matplotlib's own defaults and then ours: a user's matplotlibrc changes no figure.
_RC = {k: v for k, v in mpl.rcParamsDefault.items() if "backend" not in k} | dict(
    mpl.rc_params_from_file(STYLE, use_default_template=False)
)


def style() -> AbstractContextManager[None]:
    """Return the context in which everything is drawn and written."""
    return mpl.rc_context(rc=_RC)


@dataclass(frozen=True)
class Looks:
    """Colour, marker and dash of every strategy of a report, and the width of its figures."""

    colour: dict[str, str]
    marker: dict[str, str]
    dash: dict[str, Any]
    named: frozenset[str]
    """Those that figures name; see MOST_NAMED."""
    width: float = TWO_COLUMNS

    @classmethod
    def of(cls, identities: Sequence[str], named: Iterable[str] | None = None) -> Self:
        """Assign looks to strategies in their order; without ``named`` the first ones have names."""
        chosen = frozenset(identities[:MOST_NAMED] if named is None else named)
        place = {name: i for i, name in enumerate(n for n in identities if n in chosen)}
        return cls(
            {n: PALETTE[place[n] % len(PALETTE)] if n in place else GREY for n in identities},
            {n: MARKERS[place[n] % len(MARKERS)] if n in place else "." for n in identities},
            {n: DASHES[place[n] % len(DASHES)] if n in place else "-" for n in identities},
            chosen,
        )

    @property
    def wide(self) -> bool:
        """Whether the figure is wide enough for a legend beside the axes."""
        return self.width > ONE_COLUMN + 1

    def line(self, name: str) -> dict[str, Any]:
        """Return how matplotlib draws a strategy's line."""
        return {"color": self.colour[name], "marker": self.marker[name], "linestyle": self.dash[name]}

    def at(self, width: float) -> Self:
        """Return the same looks for figures of another width."""
        return replace(self, width=width)

    def split(self, identities: Iterable[str]) -> tuple[list[str], list[str]]:
        """Return the named strategies and the others, in their order."""
        found = list(identities)
        return [n for n in found if n in self.named], [n for n in found if n not in self.named]


def looks_of(frames: Frames) -> Looks:
    """Return the looks of a report, by name.

    Of too many strategies the bounds, finetune and the best competitors over all suites and scenarios have
    names.
    """
    identities = sorted(frames.cells["identity"].unique())
    if len(identities) <= MOST_NAMED:
        return Looks.of(identities)
    references = bounds(frames) | {*frames.cells[frames.cells["strategy"] == "finetune"]["identity"]}
    means = competitors(frames, "acc").groupby(["suite", "scenario", "identity"])["value"].mean()
    ranks = means.groupby(["suite", "scenario"]).rank(ascending=False).groupby("identity").mean()
    order = sorted(identities, key=lambda n: (n not in references, ranks.get(n, np.inf), n))
    return Looks.of(identities, order[:MOST_NAMED])


def label(identity: str, width: int = 28) -> str:
    """Break a long selector after commas and plus signs, so that no line is much longer than ``width``."""
    lines = [""]
    for piece in re.findall(r"[^,+\[]*[,+\[]?", identity):
        if lines[-1] and len(lines[-1]) + len(piece) > width:
            lines.append("")
        lines[-1] += piece
    return "\n".join(line if len(line) <= width + 4 else "…" + line[-width - 3 :] for line in lines)


def new(looks: Looks, height: float, names: Sequence[str] | None = None, narrow: float = 0.0) -> Figure:
    """Return an empty figure with a constrained layout.

    A legend of ``names`` has room: beside axes of that height, or above ``narrow`` ones in one column.
    """
    if names is not None:
        room = _legend_height(names, looks)
        height = max(height, room) if looks.wide else narrow + room
    layout = ConstrainedLayoutEngine(w_pad=0.03, h_pad=0.03, wspace=0.02, hspace=0.02)
    return Figure(figsize=(looks.width, height), layout=layout)


def finish(figure: Figure, *remarks: str) -> Figure:
    """Write the remarks under the figure, and fix its layout."""
    text = "; ".join(filter(None, remarks))
    if text:
        figure.supxlabel(_wrapped(text, figure.get_figwidth()), x=0.01, ha="left", fontsize=6, color=INK)
    engine = figure.get_layout_engine()
    if engine is not None:
        engine.execute(figure)
        figure.set_layout_engine("none")  # else each of the formats would be laid out again
    return figure


def _wrapped(text: str, inches: float) -> str:
    """Break a remark into lines that fit at 6 points."""
    lines, most = [""], int(inches * 22)
    for word in text.split(" "):
        if lines[-1] and len(lines[-1]) + 1 + len(word) > most:
            lines.append("")
        lines[-1] += (" " if lines[-1] else "") + word
    return "\n".join(lines)


def _legend_height(names: Sequence[str], looks: Looks) -> float:
    """Return the inches that a legend of these names adds (one column) or needs at least (two columns)."""
    lines = [label(n).count("\n") + 1 for n in names]
    if looks.wide:
        return 0.5 + 0.135 * sum(lines)
    columns = _columns(names)
    rows = [max(lines[i::1][:1] or [1]) for i in range(-(-len(names) // columns))]
    return 0.1 + 0.14 * (len(rows) if columns > 1 else sum(lines))


def _columns(names: Sequence[str]) -> int:
    """Return how many columns of names fit over a one-column figure."""
    longest = max((len(line) for n in names for line in label(n).split("\n")), default=1)
    return max(1, min(3, int(ONE_COLUMN / (0.4 + 0.058 * longest))))


def legend(
    figure: Figure,
    names: Sequence[str],
    looks: Looks,
    data: pd.DataFrame,
    line: bool = True,
    of: str = "identity",
) -> None:
    """Put the legend beside the axes, or above them in one column, where it covers no line.

    The number of seeds, ``n`` of ``data``, is printed where a strategy has fewer than another.
    """
    handles = [
        Line2D([], [], **(looks.line(x) if line else looks.line(x) | {"linestyle": ""})) for x in names
    ]
    n = {str(name): int(most) for name, most in data.groupby(of)["n"].max().items()}
    most = max(n.values(), default=0)
    texts = [label(x) + (f" (n={n[x]})" if n.get(x, most) < most else "") for x in names]
    how: dict[str, Any] = {"columnspacing": 1.0, "labelspacing": 0.3, "borderaxespad": 0.2}
    how["loc"] = "outside right upper" if looks.wide else "outside upper left"
    how |= {"ncols": 1 if looks.wide else _columns(names), "handlelength": 2.6 if line else 1.0}
    figure.legend(handles, texts, **how)


def seeds_remark(n: Iterable[int], what: str = "mean and 95 % t interval") -> str:
    """Return what is drawn, and the number of seeds."""
    found = sorted(set(n))
    if not found:
        return ""
    if found == [1]:
        return "one seed"
    return f"{what} over {found[0] if len(found) == 1 else f'{found[0]} to {found[-1]}'} seeds"


def others_remark(others: Sequence[str]) -> str:
    """Return how many strategies are drawn without a name."""
    return f"grey: {len(others)} more strategies, named in the data" if others else ""
