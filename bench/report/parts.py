"""The parts that a report is divided into, and what their files are called."""

from collections.abc import Iterator
from dataclasses import replace

import pandas as pd

from bench.results import Frames

Part = tuple[str, str, Frames]


def parts(frames: Frames) -> Iterator[Part]:
    """Yield suite, scenario and the done cells of each, with their scores on test rows."""
    for (suite, scenario), cells in _done(frames).groupby(["suite", "scenario"]):
        part = frames.only(cells)
        for key, own in part.outcomes.items():
            part.outcomes[key] = replace(own, measured={"test": own.measured["test"]})
        yield str(suite), str(scenario), part


def by_scenario(frames: Frames) -> Iterator[tuple[str, Frames]]:
    """Yield each scenario that has several suites, and its done cells."""
    for scenario, cells in _done(frames).groupby("scenario"):
        if cells["suite"].nunique() > 1:
            yield str(scenario), frames.only(cells)


def stem(suite: str, scenario: str) -> str:
    """Return the beginning of the names of the files of a suite and scenario."""
    return f"{suite}-{scenario}".replace("/", "-").replace(":", "-")


def _done(frames: Frames) -> pd.DataFrame:
    return frames.cells[frames.cells["status"] == "done"]
