"""Final accuracy against a hyper-parameter, where a strategy was run at several values of it."""

import re
from typing import Any

import pandas as pd
from matplotlib.figure import Figure

from bench.report.figures.axes import Quantity, grid_shape, panels, short, show_cuts
from bench.report.figures.data import intervals
from bench.report.figures.looks import GREY, GREYS, Looks, finish, legend, new, seeds_remark, style
from bench.report.figures.tips import tip, with_half
from bench.report.score_names import score_axis
from bench.results import Frames
from strategies import field_name, split

_MOST = 6
_COLUMNS = ["setting", "strategy", "identity", "x", "mean", "half", "n"]


def response_data(frames: Frames) -> pd.DataFrame:
    """Return, per setting and strategy, the final accuracy at each value, with all else equal.

    ``strategy`` is the selector without the setting.
    """
    final = frames.scores[frames.scores["score"] == "acc"].set_index("key")["value"]
    cells = frames.cells.set_index("key")[["strategy", "identity"]]
    of: dict[str, dict[str, Any]] = {}
    columns = [frames.settings[name].tolist() for name in ("key", "kind", "setting", "value")]
    for key, kind, setting, value in zip(*columns, strict=True):
        of.setdefault(key, {})[f"{kind} {setting}"] = value
    found = []
    for strategy, group in cells.groupby("strategy"):
        settings = {key: of[key] for key in group.index if key in of}
        for name in sorted({k for s in settings.values() for k in s}):
            values = {s.get(name) for s in settings.values()}
            if len(values) < 2 or not all(type(v) in (int, float) for v in values):
                continue
            alike: dict[str, list[str]] = {}
            for key, s in settings.items():
                rest = repr(sorted((k, v) for k, v in s.items() if k != name))
                alike.setdefault(rest, []).append(key)
            for keys in alike.values():
                rows = group.loc[keys].assign(x=[float(settings[k][name]) for k in keys])
                part = intervals(rows.assign(value=final.reindex(keys)), ["identity", "x"])
                if part["x"].nunique() > 1:
                    word = _word(name, str(strategy))
                    rest = min((_without(n, word) for n in part["identity"]), key=len)
                    found.append(part.assign(setting=word, strategy=rest))
    data = pd.concat(found) if found else pd.DataFrame(columns=_COLUMNS)
    return data[_COLUMNS].sort_values(["setting", "strategy", "x"]).reset_index(drop=True)


def _word(name: str, strategy: str) -> str:
    """Return a setting's name as selectors write it: in a sum the record has the part's name before it."""
    word = name.partition(" ")[2]
    parts = split(strategy)
    for part in parts if len(parts) > 1 else ():
        word = word.removeprefix(field_name(part.rpartition(":")[2], ""))
    return word


def _without(identity: str, word: str) -> str:
    """Return a selector without one of its settings."""
    rest = re.sub(rf"(?<=[\[,]){re.escape(word)}=[^,\]]*,?", "", identity)
    return rest.replace(",]", "]").replace("[]", "")


def response(frames: Frames, looks: Looks) -> tuple[Figure, pd.DataFrame] | None:
    """Draw final accuracy against each setting that strategies were run at several values of."""
    data = response_data(frames)
    if data.empty:
        return None
    sizes = data.groupby("setting").size().sort_values(ascending=False, kind="stable")
    settings = sizes.index[:_MOST].tolist()
    lines = data[data["setting"].isin(settings)].groupby("strategy", sort=False)
    names = lines["mean"].max().sort_values(ascending=False, kind="stable").index.tolist()
    own = _looks(data, names, looks)
    rows, columns = grid_shape(len(settings), 3 if looks.wide else 2)
    with style():
        figure = new(looks, 0.3 + 1.9 * rows, names, 0.3 + 1.6 * rows)
        grid = panels(figure, len(settings), (rows, columns), sharey=True)
        for place, (axes, setting) in enumerate(zip(grid, settings, strict=True)):
            here = data[data["setting"] == setting]
            quantity = Quantity(here["x"].tolist())
            for name, part in here.groupby("strategy"):
                x, half = quantity.place(part["x"]), 100 * part["half"].fillna(0)
                drawn = axes.errorbar(x, 100 * part["mean"], yerr=half, **own.line(str(name)), elinewidth=0.7)
                ends = zip(part["x"], part["mean"], part["half"], strict=True)
                tip(drawn, str(name), (f"{setting}={short(a)}: {with_half(m, h)}" for a, m, h in ends))
            quantity.prepare(axes)
            axes.set_xlabel(setting)
            if place % columns == 0:
                axes.set_ylabel(score_axis("acc", frames.score))
        legend(figure, names, own, data, of="strategy")
        return finish(figure, seeds_remark(data["n"]), show_cuts(*grid)), data


def _looks(data: pd.DataFrame, names: list[str], looks: Looks) -> Looks:
    """Return looks of selectors without a setting: their own where they were run, else the first one's."""
    first = data.drop_duplicates("strategy").set_index("strategy")["identity"]
    like = {n: n if n in looks.colour else str(first[n]) for n in names}
    shared = len(set(like.values())) < len(names) or not set(like.values()) <= looks.named
    if shared:
        grey = [n for n in names if looks.colour[like[n]] in (GREY, *GREYS)]
        return Looks.of(sorted(names), grey).at(looks.width)
    maps = (looks.colour, looks.marker, looks.dash)
    colour, marker, dash = ({n: of[x] for n, x in like.items()} for of in maps)
    return Looks(colour, marker, dash, frozenset(names), looks.width)
