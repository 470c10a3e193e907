"""How figures look: widths, colours, markers, names and legends.

Widths are those of a two-column paper. A strategy has the same colour, marker and dash in every figure of
every report, whatever else is shown: they follow from its name. Colours differ in lightness too, so they can
be distinguished in greyscale and by the colour-blind. Bounds and finetune are grey.
"""

import textwrap
import zlib
from collections.abc import Collection, Iterable, Mapping, Sequence
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
from bench.report.figures.tips import Drawing, tip
from bench.report.formats import broken
from bench.report.layout import ONE_COLUMN, TWO_COLUMNS
from bench.report.summary import competitors
from bench.results import Frames

STYLE = Path(__file__).parents[1] / "lethe.mplstyle"
MOST_NAMED = 70
"""Largest number of named strategies; if there are more, the others are thin grey lines."""
_MOST_BESIDE = 16
"""Most lines of a legend beside the axes; a longer one is above them, in columns."""
GREY = "#c4c4c4"
INK = "#404040"

# Ten steps of lightness, hues chosen by search so that any two lie far apart (CIELAB 27 and more) to normal
# and to protan, deutan and tritan eyes; a test checks it. Neighbours in the list differ most.
PALETTE = (
    "#0272f2", "#e78123", "#33184f", "#a02804", "#db9daf",
    "#8e8b5b", "#3c3699", "#a24474", "#7ac9fd", "#55281f",
)  # fmt: skip
GREYS = ("#8a8a8a", "#4d4d4d", "#6b6b6b")
MARKERS = "os^DvPX<>dhp*"
DASHES: tuple[Any, ...] = (
    "-", (0, (4, 1.5)), (0, (1, 1)), (0, (5, 1, 1, 1)), (0, (8, 2)), (0, (2, 2)), (0, (5, 1, 1, 1, 1, 1)),
)  # fmt: skip
Slot = tuple[int, int, int]
"""The places of a colour, marker and dash in their lists."""


def _coloured(n: int, more: int = 0) -> Slot:
    """Return slot n: no two of the first 70 share colour and dash, colour and marker, or marker and dash."""
    dash, colour = divmod(n, len(PALETTE))
    return colour, (2 * dash + colour + more) % len(MARKERS), dash


# A new method is appended: no other changes then. The first, which are compared most, differ in colour.
_ORDER = """
er der++ ewc lwf si agem icarl mas gdumb der er-ace mir gem packnet hat dgr bic rwalk lucir gss l2p wa scr
ncm slda ranpac supsup la-maml mer fdr independent coda-prompt il2m generative-classifier frozen xdg
progressive ogd gpm cls-er l2 l2-init er-aml rar hal oml lfl bi-r dgr-gan adaptive-replay continual-backprop
shrink-perturb redo mbpa++ sparse-er o-lora inc-lora lora-per-task progressive-prompts
"""
_OWN_SLOTS = {name: _coloured(n) for n, name in enumerate(_ORDER.split())}
OWN_GREYS: dict[str, Slot] = {"finetune": (0, 4, 2), "joint": (1, 2, 1), "cumulative": (2, 1, 3)}
# Other names (er[buffer=20], a user's method) share no colour and marker with them.
_OTHER_SLOTS = [_coloured(n, 1) for n in range(60)]
_OTHER_GREYS = [(n % 3, (n + n // 3) % len(MARKERS), n % len(DASHES)) for n in range(39)]
_OTHER_GREYS = [slot for slot in _OTHER_GREYS if slot[:2] not in {own[:2] for own in OWN_GREYS.values()}]

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
    def of(
        cls,
        identities: Iterable[str],
        references: Collection[str] = (),
        names: Mapping[str, str] | None = None,
    ) -> Self:
        """Assign looks to strategies by their names; figures name the first ones.

        Args:
            identities: The strategies.
            references: Those that are grey: bounds, and finetune.
            names: The strategies behind display names.
        """
        shown = list(identities)
        chosen = frozenset(shown[:MOST_NAMED])
        own = {name: (names or {}).get(name, name) for name in shown if name in chosen}
        grey = {own[name] for name in own if name in references}
        slots = _assigned(sorted(set(own.values()) - grey), _OWN_SLOTS, _OTHER_SLOTS)
        greys = _assigned(sorted(grey), OWN_GREYS, _OTHER_GREYS)
        colour, marker, dash = (dict.fromkeys(shown, of_others) for of_others in (GREY, ".", "-"))
        for name, identity in own.items():
            palette, (c, m, d) = (GREYS, greys[identity]) if identity in greys else (PALETTE, slots[identity])
            colour[name], marker[name], dash[name] = palette[c], MARKERS[m], DASHES[d]
        return cls(colour, marker, dash, chosen)

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


def _assigned(names: Sequence[str], own: Mapping[str, Slot], others: Sequence[Slot]) -> dict[str, Slot]:
    """Return the slot of every name: its own, else one that follows from its letters.

    Of two names with the same one the second, in the order of the alphabet, has the next free one.
    """
    found = {name: own[name] for name in names if name in own}
    # Beyond the slots for other names those of methods that are not shown are free.
    free = [*others, *(slot for name, slot in own.items() if name not in found)]
    taken: set[int] = set()
    for name in (n for n in names if n not in found):
        first = zlib.crc32(name.encode()) % len(others)
        place = next((p for p in (*range(first, len(free)), *range(first)) if p not in taken), first)
        taken.add(place)
        found[name] = free[place]
    return found


def looks_of(frames: Frames) -> Looks:
    """Return the looks of a report, by name.

    Of too many strategies the bounds, finetune and the best competitors over all suites and scenarios have
    names.
    """
    identities = sorted(frames.cells["identity"].unique())
    references = bounds(frames) | {*frames.cells[frames.cells["strategy"] == "finetune"]["identity"]}
    if len(identities) > MOST_NAMED:
        means = competitors(frames, "acc").groupby(["suite", "scenario", "identity"])["value"].mean()
        ranks = means.groupby(["suite", "scenario"]).rank(ascending=False).groupby("identity").mean()
        identities.sort(key=lambda n: (n not in references, ranks.get(n, np.inf), n))
    # A grid has the colours of its method, if they are free.
    of_grids = {grid.name: grid.strategy for grid in frames.grids if grid.strategy not in identities}
    names = {name: own for name, own in of_grids.items() if [*of_grids.values()].count(own) == 1}
    return Looks.of(identities, references, names=names | frames.names)


def label(identity: str, width: int = 28) -> str:
    """Break a long selector into lines, and shorten those that are still much longer than ``width``."""
    lines = broken(identity, width)
    return "\n".join(line if len(line) <= width + 4 else "…" + line[-width - 3 :] for line in lines)


def new(looks: Looks, height: float, names: Sequence[str] | None = None, narrow: float = 0.0) -> Drawing:
    """Return an empty figure with a constrained layout.

    A legend of ``names`` has room: beside axes of that height, or above them; ``narrow`` is the height of
    axes in one column.
    """
    if names is not None:
        room = _legend_height(names, looks)
        height = max(height, room) if _beside(names, looks) else (height if looks.wide else narrow) + room
    layout = ConstrainedLayoutEngine(w_pad=0.03, h_pad=0.03, wspace=0.02, hspace=0.02)
    return Drawing(figsize=(looks.width, height), layout=layout)


def finish(figure: Figure, *remarks: str) -> Figure:
    """Write the remarks under the figure, and fix its layout."""
    text = "; ".join(filter(None, remarks))
    if text:
        letters = int(22 * figure.get_figwidth())  # that fit at 6 points
        lines = textwrap.fill(text, letters, break_long_words=False, break_on_hyphens=False)
        figure.supxlabel(lines, x=0.01, ha="left", fontsize=6, color=INK)
    engine = figure.get_layout_engine()
    if engine is not None:
        engine.execute(figure)
        figure.set_layout_engine("none")  # else each of the formats would be laid out again
    return figure


def _lines(names: Sequence[str]) -> list[int]:
    """Return how many lines each name has in a legend."""
    return [label(n).count("\n") + 1 for n in names]


def _beside(names: Sequence[str], looks: Looks) -> bool:
    """Return whether the legend is beside the axes: it has room, and there are few names."""
    return looks.wide and sum(_lines(names)) <= _MOST_BESIDE


def _legend_height(names: Sequence[str], looks: Looks) -> float:
    """Return the inches that a legend needs beside the axes, or adds above them."""
    lines = _lines(names)
    if _beside(names, looks):
        return 0.5 + 0.135 * sum(lines)
    rows = -(-len(names) // _columns(names, looks))
    # The legend fills column by column; its tallest column decides.
    return 0.1 + 0.14 * max((sum(lines[i : i + rows]) for i in range(0, len(names), rows)), default=0)


def _columns(names: Sequence[str], looks: Looks) -> int:
    """Return how many columns of names fit above the axes, each as wide as its longest name."""
    widths = [0.45 + 0.058 * max(map(len, label(n).split("\n"))) for n in names]
    for columns in range(len(names), 1, -1):
        rows = -(-len(names) // columns)
        if sum(max(widths[i : i + rows]) for i in range(0, len(names), rows)) <= looks.width:
            return -(-len(names) // rows)
    return 1


def legend(
    figure: Figure,
    names: Sequence[str],
    looks: Looks,
    data: pd.DataFrame,
    line: bool = True,
    of: str = "identity",
) -> None:
    """Put the legend beside the axes, or above them, where it covers no line.

    The number of seeds, ``n`` of ``data``, is printed where a strategy has fewer than another.
    """
    handles = [
        Line2D([], [], **(looks.line(x) if line else looks.line(x) | {"linestyle": ""})) for x in names
    ]
    n = {str(name): int(most) for name, most in data.groupby(of)["n"].max().items()}
    most = max(n.values(), default=0)
    texts = [label(x) + (f" (n={n[x]})" if n.get(x, most) < most else "") for x in names]
    how: dict[str, Any] = {"columnspacing": 1.0, "labelspacing": 0.3, "borderaxespad": 0.2}
    beside = _beside(names, looks)
    how["loc"] = "outside right upper" if beside else "outside upper left"
    how |= {"ncols": 1 if beside else _columns(names, looks), "handlelength": 2.6 if line else 1.0}
    made = figure.legend(handles, texts, **how)
    for name, *drawn in zip(names, made.legend_handles, made.get_texts(), strict=True):
        tip(drawn, name)


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
