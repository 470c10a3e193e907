"""Figures of a run, each as PDF, SVG and PNG with its data beside it as CSV.

Widths are those of a two-column paper; a strategy has the same colour, marker and dash in every figure of a
report, and can be told by each of them alone.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.figure import Figure

from bench.frames import Frames
from bench.stats import summarise

ONE_COLUMN, TWO_COLUMNS = 3.35, 6.9
"""Inches."""
STYLE = Path(__file__).parent / "lethe.mplstyle"
_MARKERS = "os^DvP*X<>hpd8H"
_DASHES: list[Any] = ["-", (0, (4, 1.5)), (0, (1, 1)), (0, (4, 1, 1, 1))]


@dataclass(frozen=True)
class Looks:
    """Colour, marker and dash of every strategy of a report."""

    colour: dict[str, Any]
    marker: dict[str, str]
    dash: dict[str, Any]

    @classmethod
    def of(cls, identities: Sequence[str]) -> Looks:
        """Give each strategy its looks, in the order given."""
        n = len(identities)
        colours = sns.color_palette("colorblind", n) if n <= 10 else sns.color_palette("husl", n)
        return cls(
            dict(zip(identities, colours, strict=True)),
            {name: _MARKERS[i % len(_MARKERS)] for i, name in enumerate(identities)},
            {name: _DASHES[i % len(_DASHES)] for i, name in enumerate(identities)},
        )


Part = tuple[str, str, Frames]


def make_figures(frames: Frames, folder: Path) -> list[Path]:
    """Draw all figures of each suite and scenario into a folder; return the PNGs."""
    folder.mkdir(parents=True, exist_ok=True)
    looks = Looks.of(sorted(frames.cells["identity"].unique()))
    drawn = []
    for suite, scenario, part in parts(frames):
        for name, draw in FIGURES.items():
            made = draw(part, looks)
            if made is not None:
                figure, data = made
                stem = f"{suite}-{scenario}-{name}".replace("/", "-").replace(":", "-")
                drawn.append(save(figure, data, folder / stem))
    return drawn


def parts(frames: Frames) -> Iterator[Part]:
    """Yield suite, scenario and the done cells of each."""
    done = frames.cells[frames.cells["status"] == "done"]
    for key, cells in done.groupby(["suite", "scenario"]):
        suite, scenario = key
        keys = cells["key"]
        yield (
            str(suite),
            str(scenario),
            Frames(
                frames.folder,
                cells,
                frames.scores[frames.scores["key"].isin(keys)],
                frames.matrix[frames.matrix["key"].isin(keys) & (frames.matrix["split"] == "test")],
                frames.curves[frames.curves["key"].isin(keys)],
            ),
        )


def save(figure: Figure, data: pd.DataFrame, stem: Path) -> Path:
    """Write a figure in three formats, without dates, and its data; return the PNG's path."""
    stem.with_suffix(".csv").write_text(data.to_csv(index=False))
    with mpl.rc_context(fname=STYLE):
        figure.savefig(stem.with_suffix(".pdf"), metadata={"CreationDate": None})
        figure.savefig(stem.with_suffix(".svg"), metadata={"Date": None})
        figure.savefig(stem.with_suffix(".png"), metadata={"Software": None})
    return stem.with_suffix(".png")


def stream_data(frames: Frames) -> pd.DataFrame:
    """Return, per strategy and number of tasks learned, the mean score on the tasks so far, over seeds."""
    seen = frames.matrix[(frames.matrix["j"] <= frames.matrix["i"]) & frames.matrix["value"].notna()]
    by_seed = seen.groupby(["identity", "seed", "i"])["value"].mean().reset_index()
    rows = []
    for key, part in by_seed.groupby(["identity", "i"]):
        s = summarise(part["value"].tolist())
        rows.append({"identity": key[0], "tasks": key[1], "mean": s.mean, "half": s.half, "n": s.n})
    return pd.DataFrame(rows, columns=["identity", "tasks", "mean", "half", "n"])


def stream(frames: Frames, looks: Looks) -> tuple[Figure, pd.DataFrame] | None:
    """Draw accuracy over all seen tasks along the stream, with 95 % intervals."""
    data = stream_data(frames)
    if data.empty:
        return None
    names = _order(data)
    n_tasks = int(data["tasks"].max())
    with mpl.rc_context(fname=STYLE):
        figure = Figure(figsize=(TWO_COLUMNS * 0.72, 2.5 + 0.06 * max(0, len(names) - 10)))
        axes = figure.subplots()
        for offset, name in zip(np.linspace(-0.12, 0.12, len(names)), names, strict=True):
            part = data[data["identity"] == name]
            axes.errorbar(
                part["tasks"] + offset,
                100 * part["mean"],
                yerr=100 * part["half"].fillna(0),
                label=name,
                color=looks.colour[name],
                marker=looks.marker[name],
                linestyle=looks.dash[name],
                elinewidth=0.8,
                capsize=1.5,
            )
        axes.set(xlabel="tasks learned", ylabel="accuracy on tasks so far (%)", ylim=(0, 102))
        axes.set_xticks(range(1, n_tasks + 1) if n_tasks <= 20 else range(5, n_tasks + 1, 5))
        _legend(figure, axes, len(names))
    return figure, data


def bars(frames: Frames, looks: Looks) -> tuple[Figure, pd.DataFrame] | None:
    """Draw final accuracy and forgetting per strategy, with every seed as a point."""
    data = frames.scores[frames.scores["score"].isin(["acc", "forgetting"]) & frames.scores["value"].notna()]
    data = data[["identity", "seed", "score", "value"]].sort_values(["score", "identity", "seed"])
    if data.empty:
        return None
    final = data[data["score"] == "acc"].groupby("identity")["value"].mean()
    names = final.sort_values(ascending=False, kind="stable").index.tolist()
    with mpl.rc_context(fname=STYLE):
        figure = Figure(figsize=(TWO_COLUMNS, 0.6 + 0.2 * len(names)))
        for axes, (score, title) in zip(
            figure.subplots(1, 2, sharey=True),
            (("acc", "accuracy"), ("forgetting", "forgetting")),
            strict=True,
        ):
            for y, name in enumerate(names):
                values = 100 * data[(data["identity"] == name) & (data["score"] == score)]["value"]
                if values.empty:
                    continue
                s = summarise(values.tolist())
                half = 0 if np.isnan(s.half) else s.half
                axes.barh(y, s.mean, xerr=half, height=0.62, color=looks.colour[name], alpha=0.55, capsize=2)
                jitter = np.linspace(-0.18, 0.18, len(values)) if len(values) > 1 else np.zeros(1)
                axes.scatter(values, y + jitter, s=5, color="black", linewidths=0, zorder=3)
            axes.set(xlabel=f"{title} (%)")
            axes.set_yticks(range(len(names)), names)
        axes.invert_yaxis()
        figure.tight_layout()
    return figure, data


def matrices(frames: Frames, looks: Looks) -> tuple[Figure, pd.DataFrame] | None:
    """Draw the mean score matrix of each strategy that has one: row i after i tasks, column j of task j."""
    data = frames.matrix.groupby(["identity", "i", "j"])["value"].mean().reset_index()
    names = [n for n, part in data.groupby("identity") if part["value"].notna().all()]
    if not names:
        return None
    n_tasks = int(data["j"].max())
    columns = min(5, len(names))
    rows = -(-len(names) // columns)
    numbers = n_tasks <= 5
    with mpl.rc_context(fname=STYLE, rc={"axes.grid": False}):
        figure = Figure(figsize=(TWO_COLUMNS * columns / 5 + 0.4, 0.25 + 1.62 * rows))
        grid = figure.subplots(rows, columns, squeeze=False, sharex=True, sharey=True)
        for axes, name in zip(grid.flat, names, strict=False):
            square = data[data["identity"] == name].pivot(index="i", columns="j", values="value") * 100
            sns.heatmap(
                square,
                ax=axes,
                vmin=0,
                vmax=100,
                cmap="cividis",
                cbar=False,
                annot=numbers,
                fmt=".0f",
                annot_kws={"size": 6},
                linewidths=0.4,
            )
            axes.set(title=name, xlabel="", ylabel="")
            axes.tick_params(length=0)
        for axes in grid.flat[len(names) :]:
            axes.set_visible(False)
        figure.supxlabel("score on task (%)", fontsize=8)
        figure.supylabel("tasks learned", fontsize=8)
        figure.tight_layout()
    return figure, data[data["identity"].isin(names)]


FIGURES: dict[str, Callable[[Frames, Looks], tuple[Figure, pd.DataFrame] | None]] = {
    "stream": stream,
    "bars": bars,
    "matrices": matrices,
}


def _order(data: pd.DataFrame) -> list[str]:
    """Return strategies by where they end, highest first, so that the legend reads like the lines."""
    last = data[data["tasks"] == data["tasks"].max()].set_index("identity")["mean"]
    return last.sort_values(ascending=False, kind="stable").index.tolist()


def _legend(figure: Figure, axes: Any, n: int) -> None:
    """Put the legend beside the axes, where it cannot lie on a line."""
    figure.tight_layout()
    axes.legend(loc="center left", bbox_to_anchor=(1.01, 0.5), ncols=1 if n <= 12 else 2, handlelength=2.6)
