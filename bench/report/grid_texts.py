"""Grids in reports: what a row was chosen from, and the table of all settings."""

from collections.abc import Sequence

import pandas as pd

from bench.report.formats import MISSING, plus_minus, points
from bench.report.score_names import head
from bench.report.summary import Entry
from bench.results import Frames, Grid
from suites.values import text_of


def chosen_words(frames: Frames, suite: str, scenario: str, identity: str) -> str:
    """Return what a row shows after its name: the setting that was chosen; empty for no grid."""
    found = (grid for grid in frames.grids if (*grid.place, grid.name) == (suite, scenario, identity))
    return next((f": {grid.chosen} by validation" for grid in found if grid.chosen), "")


def about_grid(grid: Grid, frames: Frames) -> str:
    """Return a sentence on how the setting of a grid was chosen, or why none was."""
    n, able = len(grid.settings), grid.settings[grid.settings["why"] == ""]
    what = f"{grid.name} is a grid of {n} settings"
    if not grid.chosen:
        return f"{what}, of which none is chosen, as {grid.why}: test rows choose nothing"
    score, seeds = head("acc", frames.score_of(grid.suite)), able["n"].iloc[0]
    over = f"over {seeds} seeds" if seeds > 1 else "of one seed"
    words = f"{what}; {grid.chosen} has the highest mean {score} on validation rows {over}"
    out = grid.settings[grid.settings["why"] != ""]
    return f"{words}; {len(out)} could not be chosen ({out['why'].iloc[0]})" if len(out) else words


def grid_caption(grid: Grid, frames: Frames) -> str:
    """Return the words below the table of all settings."""
    return f"{about_grid(grid, frames)}; mean ± half-width of the 95 % t interval over n seeds."


def grid_remarks(frames: Frames) -> list[str]:
    """Return a line for each grid."""
    where = "all settings: grid.csv and the figure grid"
    return [f"{g.suite} {g.scenario}: {about_grid(g, frames)}; {where}" for g in frames.grids]


def grid_header(grid: Grid, frames: Frames) -> tuple[str, ...]:
    """Return the header of the table of all settings."""
    score = head("acc", frames.score_of(grid.suite))
    return (", ".join(grid.axes) or "setting", "n", f"{score}, validation", f"{score}, test", "")


def grid_rows(grid: Grid) -> tuple[tuple[Entry, ...], ...]:
    """Return the table of all settings, in the order asked for."""
    rows = []
    for row in grid.settings.to_dict("records"):
        values = [row[axis] for axis in grid.axes]
        words = MISSING if any(pd.isna(v) for v in values) else ", ".join(map(text_of, values))
        scores = [Entry(points(row[s]), plus_minus(row[f"{s}_half"])) for s in ("validation", "test")]
        last = "chosen" if row["chosen"] else row["why"]
        rows.append((Entry(words or str(row["identity"])), Entry(str(row["n"])), *scores, Entry(last)))
    return tuple(rows)


def grid_settings(grids: Sequence[Grid]) -> pd.DataFrame:
    """Return the settings of grids as one frame, for CSV and JSON; empty for no grid."""
    return pd.concat([grid.settings for grid in grids], ignore_index=True) if grids else pd.DataFrame()
