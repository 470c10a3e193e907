"""The strategies that a report shows, their display names and their order."""

import re
import tomllib
from collections import Counter
from collections.abc import Collection, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd

from bench.results.folded_grids import folded
from bench.results.frames import Frames, renamed
from suites.errors import UserError, unknown


def choose(
    frames: Frames,
    only: Collection[str] = (),
    without: Collection[str] = (),
    names: Mapping[str, str] | None = None,
) -> Frames:
    """Return frames with some of the strategies, under other names and in another order.

    Marks, tests and ranks of a report are then over the strategies that it shows.

    Args:
        frames: The runs.
        only: The strategies to show, as their tables name them; all if it is empty.
        without: The strategies to leave out.
        names: Display names by strategy, in the order of rows and legends; strategies without one follow, by
            final accuracy. Strategies that the runs do not have are ignored.

    Returns:
        The chosen cells. ``names`` has the strategies behind the display names, ``hidden`` those left out.

    Raises:
        UserError: A strategy is not in the runs, none is left, or two would have the same name.

    Example:
        ```python
        frames = lethe.load("runs/first")
        frames = choose(frames, without=["joint"], names={"er": "Experience replay"})
        ```
    """
    there = [str(name) for name in frames.cells["identity"].unique()]
    there += [grid.name for grid in frames.grids if grid.name not in there]
    for name in (*only, *without):
        if name not in there:
            raise unknown("strategy of the run", name, there)
    shown = [name for name in there if (not only or name in only) and name not in without]
    if there and not shown:
        raise UserError("no strategy of the run is left to show")
    own = {name: text for name, text in (names or {}).items() if name in shown}
    texts = own | {name: name for name in shown if name not in own}
    if len(set(texts.values())) < len(texts):
        twice = next(text for text in texts.values() if [*texts.values()].count(text) > 1)
        raise UserError(f"two strategies would be shown as {twice!r}; give them different names")
    hidden = tuple(name for name in there if name not in shown)
    if hidden:
        cells = frames.cells[frames.cells["identity"].isin(shown)]
        of_hidden = re.compile(rf" (?:{'|'.join(map(re.escape, hidden))}) seed \d+$")
        of_grids = {key for grid in frames.grids if grid.name in hidden for key in grid.cells["key"]}
        planned = {
            key: words
            for key, words in frames.manifest.cells.items()
            if not (key in of_grids or of_hidden.search(words))
        }
        frames = replace(frames, grids=tuple(grid for grid in frames.grids if grid.name not in hidden))
        left_out = frames.left_out[~frames.left_out["identity"].isin(hidden)]
        manifest = frames.manifest.model_copy(update={"cells": planned})
        frames = replace(frames.only(cells), hidden=hidden, left_out=left_out, manifest=manifest)
    if own:
        frames = replace(_renamed(frames, own), names={text: name for name, text in own.items()})
    return frames


def declared(frames: Frames) -> Frames:
    """Return frames for a report: with declared names, and without settings that tuning did not choose.

    Methods of users' files have the names that they declare, not their paths; a path stays if another method
    of the runs has the same name.
    """
    frames = _without_trials(frames)
    cells = pd.concat([frames.cells, *(grid.cells for grid in frames.grids)])
    identities = cells["identity"].astype(str)
    names: dict[str, str] = {}
    for spelled, about in frames.described.items():
        own = about.get("name")
        if ".py:" in spelled and isinstance(own, str):
            of_it = identities[cells["strategy"] == spelled].unique()
            names |= {text: own + text.removeprefix(spelled) for text in of_it if text.startswith(spelled)}
    others = {*identities} - {*names}
    taken = Counter(names.values())
    names = {text: own for text, own in names.items() if taken[own] == 1 and own not in others}
    return _renamed(frames, names) if names else frames


def _without_trials(frames: Frames) -> Frames:
    """Return frames without the settings that were tried, not chosen, and are not a method's defaults."""
    tuning = frames.manifest.tuning.values()
    tried = {(t.suite, t.scenario, trial.identity) for t in tuning for trial in t.trials}
    if not tried:
        return frames
    shown = {
        (t.suite, t.scenario, trial.identity) for t in tuning for trial in (t.trials[0], t.best) if trial
    }
    of = {
        key: (o.spec["suite"], o.spec["scenario"], o.spec["identity"]) for key, o in frames.outcomes.items()
    }
    final = frames.scores[frames.scores["score"] == "acc"]
    values: dict[tuple[str, str, str], list[float]] = {}
    for key, value in zip(final["key"], final["value"], strict=True):
        values.setdefault(of[key], []).append(value)
    hidden = [of[key] in tried - shown for key in frames.cells["key"]]
    cells = frames.cells[[not hide for hide in hidden]]
    names = tuple(dict.fromkeys(frames.cells["identity"][hidden]))
    trials = {row: sum(found) / len(found) for row, found in values.items() if row in tried}
    return replace(frames.only(cells), trials=trials, n_trials_hidden=len(names))


def as_shown(frames: Frames) -> Frames:
    """Return frames as reports show them: grids as one row, methods of users' files as they declare."""
    return declared(folded(frames))


def _renamed(frames: Frames, names: Mapping[str, str]) -> Frames:
    """Return frames with other names in the column ``identity`` of every frame."""
    parts = ("cells", "scores", "curves", "notes", "left_out")
    grids = (
        replace(
            grid,
            name=names.get(grid.name, grid.name),
            cells=renamed(grid.cells, names),
            settings=renamed(grid.settings, names).assign(grid=names.get(grid.name, grid.name)),
        )
        for grid in frames.grids
    )
    own: dict[str, Any] = {part: renamed(getattr(frames, part), names) for part in parts}
    return replace(frames, **own, grids=tuple(grids))


def read_names(path: Path) -> dict[str, str]:
    """Read display names by strategy, in the order of the file: lines like ``"er" = "Experience replay"``.

    Raises:
        UserError: The file cannot be read, or holds something other than texts.
    """
    if not path.is_file():
        raise UserError(f"cannot read the names in {path}: it is not a file")
    try:
        found = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError, RecursionError) as error:
        raise UserError(f"cannot read the names in {path}: {error}") from None
    for name, text in found.items():
        if not isinstance(text, str) or not text.strip():
            example = f'"{name}" = "a name"'
            raise UserError(f"{path}: the name of {name!r} is not a text; write lines like {example}")
    return {name: " ".join(text.split()) for name, text in found.items()}
