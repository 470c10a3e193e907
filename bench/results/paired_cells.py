"""The cells of two runs, paired."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from bench.results.frames import Frames
from bench.results.outcome import RESOURCES, TIMINGS, Outcome


@dataclass(frozen=True)
class Pair:
    """One cell of both runs."""

    base: Outcome
    new: Outcome

    @property
    def equal(self) -> bool:
        """Whether the records are equal bit for bit, without timings and provenance."""
        return self.base.origin.content == self.new.origin.content


Rows = Sequence[tuple[tuple[str, str, str], list[Pair]]]
"""Suite, scenario and strategy of each row of tables, with its pairs, one for each seed."""


def pairs(base: Frames, new: Frames) -> tuple[list[Pair], int, int]:
    """Return the cells of both runs, sorted by row and seed, and how many only one of them has.

    Cells of equal keys are pairs; of the others, those with the same suite, scenario, strategy and seed if
    there is one in each run: their settings differ, which is reported.
    """
    found = [Pair(cell, new.outcomes[key]) for key, cell in base.outcomes.items() if key in new.outcomes]
    left = {n: _unique(f, {p.base.key for p in found}) for n, f in (("base", base), ("new", new))}
    found += [Pair(cell, left["new"][at]) for at, cell in left["base"].items() if at in left["new"]]
    found.sort(key=lambda pair: (pair.base.row, pair.base.spec["seed"]))
    return found, len(base.outcomes) - len(found), len(new.outcomes) - len(found)


def _unique(frames: Frames, taken: set[str]) -> dict[tuple[Any, ...], Outcome]:
    """Return cells by suite, scenario, strategy and seed, without those of which there are several."""
    places: dict[tuple[Any, ...], list[Outcome]] = {}
    for key, cell in frames.outcomes.items():
        if key not in taken:
            spec = cell.spec
            at = spec["suite"], spec["scenario"], spec["identity"], spec["seed"]
            places.setdefault(at, []).append(cell)
    return {at: cells[0] for at, cells in places.items() if len(cells) == 1}


def same_rows(pair: Pair) -> bool:
    """Return whether the tasks of both cells have the same numbers of rows, where both were measured."""
    both = ((pair.base.measured[split].total, pair.new.measured[split].total) for split in pair.base.measured)
    return all(
        was.shape == now.shape and not (was - now)[np.isfinite(was) & np.isfinite(now)].any()
        for was, now in both
    )


def recorded_number(cell: Outcome, name: str) -> Any:
    """Return a number of the record by its name in TIMINGS or RESOURCES."""
    return cell.numbers[[*TIMINGS, *RESOURCES].index(name)]
