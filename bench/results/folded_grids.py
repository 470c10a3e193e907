"""Grids in runs are folded: one row each, with the setting that is best on validation rows.

The manifest says which identities each selector expands to. Test scores choose nothing: without a score on
validation rows no setting is chosen, and all are shown apart.
"""

import math
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

import pandas as pd

from bench.plan import Value
from bench.results.frames import Frames, renamed
from bench.results.grids import Grid
from bench.stats import summarise
from suites.errors import UserError

SCORE = "acc"
"""The score on validation rows that chooses: the final mean over tasks."""
COLUMNS = [
    "suite", "scenario", "grid", "identity", "chosen", "why", "n", "validation", "validation_half", "test",
    "test_half",
]  # fmt: skip
"""The columns of ``Grid.settings`` before those of the settings."""


def folded(frames: Frames) -> Frames:
    """Return frames in which a grid is one row: the cells of the chosen setting, under the name of the grid.

    ``grids`` of the result have all settings. A grid without a chosen setting has no row.
    """
    asked = list(_asked(frames))
    if frames.grids or not asked:
        return frames
    keys = {key for _, _, of in asked for found in of.values() for key in found}
    of_grids = frames.only(frames.cells[frames.cells["key"].isin(keys)])
    values = {split: _values(of_grids, split) for split in ("validation", "test")}
    grids = [_grid(frames, place, name, of, values) for place, name, of in asked]
    names: dict[str, str] = {}
    for grid in grids:
        chosen = grid.settings["identity"][grid.settings["chosen"]]
        names |= dict.fromkeys(grid.cells["key"][grid.cells["identity"].isin(chosen)], grid.name)
    cells = frames.cells[~frames.cells["key"].isin(keys - names.keys())]
    shown, parts = frames.only(cells), ("cells", "scores", "curves", "notes")
    named: dict[str, Any] = {part: renamed(getattr(shown, part), names, "key") for part in parts}
    return replace(shown, **named, grids=tuple(grids))


def _values(frames: Frames, split: str) -> dict[str, float]:
    """Return the score of each cell on a split, by key; empty if the runs have no rows of it."""
    try:
        scores = frames.on(split).scores
    except UserError:
        return {}
    found = scores[scores["score"] == SCORE].dropna(subset=["value"])
    return dict(zip(found["key"], found["value"], strict=True))


Keys = dict[str, list[str]]
"""The keys of the recorded cells of each setting of a grid, by identity in their specs."""


def _asked(frames: Frames) -> Iterator[tuple[tuple[str, str], str, Keys]]:
    """Yield suite and scenario, name and settings of each grid with a record.

    Grids of a strategy are one if they share a setting, or differ in the same settings, all else equal.
    """
    several = {
        tuple(part.rpartition("/")[::2]): {s: ids for s, ids in of.items() if len(ids) > 1}
        for part, of in frames.manifest.selectors.items()
    }
    if not any(several.values()):
        return
    there: dict[tuple[str, str, str], Keys] = {}
    columns = (frames.cells[name].tolist() for name in ("suite", "scenario", "identity", "key"))
    for suite, scenario, identity, key in zip(*columns, strict=True):
        own = str(frames.outcomes[key].spec["identity"])
        # What a report adds to an identity, such as the label of a run, distinguishes grids too.
        of_run = there.setdefault((suite, scenario, str(identity).removeprefix(own)), {})
        of_run.setdefault(own, []).append(key)
    for (suite, scenario, more), found in there.items():
        grids: list[tuple[list[str], Keys]] = []
        for selector, identities in several.get((suite, scenario), {}).items():
            new: tuple[list[str], Keys] = [selector], {i: found.get(i, []) for i in identities}
            if not any(new[1].values()):
                continue
            alike = [grid for grid in grids if _are_one(frames, grid[1], new[1])]
            grids = [grid for grid in grids if grid not in alike]
            every = [*alike, new]
            settings = {i: keys for _, of in every for i, keys in of.items()}
            contained = {s for names, of in every if of.keys() < settings.keys() for s in names}
            names = [s for names, _ in every for s in names]
            grids.append(([s for s in names if s not in contained] or names, settings))
        for names, settings in grids:
            yield (suite, scenario), " and ".join(names) + more, settings


def _are_one(frames: Frames, a: Keys, b: Keys) -> bool:
    if a.keys() & b.keys():
        return True
    (strategy_a, *of_a), (strategy_b, *of_b) = (_differing(frames, of) for of in (a, b))
    return strategy_a == strategy_b and of_a == of_b


def _differing(frames: Frames, of: Keys) -> tuple[str, set[str], dict[str, Value]]:
    """Return the strategy of a grid, the settings in which its cells differ, and the values of the others."""
    found = [frames.outcomes[keys[0]] for keys in of.values() if keys]
    values = [{name: value for _, name, value in outcome.settings} for outcome in found]
    differing = {name for name in values[0] if any(v.get(name) != values[0][name] for v in values)}
    fixed = {name: value for name, value in values[0].items() if name not in differing}
    return str(found[0].spec["strategy"]), differing, fixed


def _grid(
    frames: Frames, place: tuple[str, str], name: str, of: Keys, values: Mapping[str, Mapping[str, float]]
) -> Grid:
    strategy, differing, _ = _differing(frames, of)
    keys = [key for found in of.values() for key in found]
    cells = frames.cells[frames.cells["key"].isin(keys)]
    by_key = cells.set_index("key")
    seeds = set(cells["seed"])
    order = [n for _, n, _ in frames.outcomes[keys[0]].settings if n in differing]
    rows = []
    for identity, found in of.items():
        row: dict[str, Any] = {"suite": place[0], "scenario": place[1], "grid": name, "identity": identity}
        row |= {"chosen": False, "n": 0}
        row["why"] = "no record" if not found else _incomplete(by_key.loc[found], len(seeds))
        if found:
            row["identity"] = by_key.loc[found[0], "identity"]
            row |= {n: v for _, n, v in frames.outcomes[found[0]].settings if n in differing}
        for split, of_split in values.items():
            s = summarise([of_split[key] for key in found if key in of_split])
            row |= {split: s.mean, f"{split}_half": s.half, "n": max(row["n"], s.n)}
        if not row["why"] and math.isnan(row["validation"]):
            row["why"] = "no score on validation rows"
        rows.append(row)
    # Of type object, so that whole numbers stay whole beside settings without a record.
    settings = pd.DataFrame(rows, columns=[*COLUMNS, *order]).astype(dict.fromkeys(order, object))
    able = settings[settings["why"] == ""]
    if len(able):  # of equal ones the first
        settings.loc[able["validation"].idxmax(), "chosen"] = True
    why = ""
    if not len(able):
        none = settings["validation"].isna().all() and settings["test"].notna().any()
        incomplete = f"none has a score for every seed ({settings['why'].iloc[0]})"
        why = "its runs have no validation rows" if none else incomplete
    return Grid(*place, name, strategy, tuple(order), settings, cells, why)


def _incomplete(cells: pd.DataFrame, n_seeds: int) -> str:
    """Return what a setting lacks to be chosen; empty for nothing."""
    counts = cells["status"][cells["status"] != "done"].value_counts()
    words = [f"{n} of {n_seeds} seeds {status}" for status, n in counts.items()]
    if len(cells) < n_seeds:
        words.append(f"{n_seeds - len(cells)} of {n_seeds} seeds without a record")
    return ", ".join(words)
