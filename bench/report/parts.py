"""The parts of a report, and the names of their files."""

import hashlib
import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pandas as pd

from bench.results import Frames

_LONGEST = 100
"""Bytes of a suite in the name of a file: file systems take 255 for all of it."""
Part = tuple[str, str, Frames]


def parts(frames: Frames) -> Iterator[Part]:
    """Yield suite, scenario and the done cells of each, with the rows of R of ``frames.split``.

    A part is sent to the process that draws it, so the list of all cells of the run is left out.
    """
    manifest = frames.manifest.model_copy(update={"cells": {}})
    done = _done(frames)
    for suite, scenario in part_names(frames):
        part = frames.only(done[(done["suite"] == suite) & (done["scenario"] == scenario)])
        part = replace(part, grids=tuple(g for g in frames.grids if g.place == (suite, scenario)))
        own = {k: replace(o, measured={part.split: o.measured[part.split]}) for k, o in part.outcomes.items()}
        yield suite, scenario, replace(part, outcomes=own, manifest=manifest)


def part_names(frames: Frames) -> list[tuple[str, str]]:
    """Return suite and scenario of each part, in order."""
    found = {(str(a), str(b)) for a, b in _done(frames).groupby(["suite", "scenario"]).size().index}
    return sorted(found | {grid.place for grid in frames.grids if grid.settings["n"].any()})


def by_scenario(frames: Frames) -> Iterator[tuple[str, Frames]]:
    """Yield each scenario that has several suites, and its done cells."""
    for scenario, cells in _done(frames).groupby("scenario"):
        if cells["suite"].nunique() > 1:
            yield str(scenario), frames.only(cells)


def stem(suite: str, scenario: str) -> str:
    """Return the first part of the file names of a suite and scenario: of any suite not hidden, nor too long.

    The name of a suite in a file is that of the file and the suite, with a hash of the whole path.
    """
    path, _, name = suite.rpartition(":")
    short = f"{Path(path).stem}-{name}" if ".py:" in suite else suite.removeprefix("./")
    short = re.sub(r"[/:\x00-\x1f\ud800-\udfff]", "-", short).lstrip(".")
    if ".py:" in suite or short != suite.replace("/", "-") or len(short.encode()) > _LONGEST:
        cut = short.encode()[:_LONGEST].decode(errors="ignore")
        short = f"{cut}-{hashlib.sha256(suite.encode(errors='surrogatepass')).hexdigest()[:8]}"
    return f"{short}-{scenario}"


def _done(frames: Frames) -> pd.DataFrame:
    return frames.cells[frames.cells["status"] == "done"]
