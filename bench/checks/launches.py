"""How many kernels a training step submits to a GPU, counted on the pretended device.

``python -m bench.checks.launches RECORD.json`` writes the record that docs/costs.md shows. Numbers of
launches depend on the code and torch alone, so no GPU is needed.
"""

import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import strategies
from bench.checks.made_streams import scenario_of
from bench.checks.pretended_device import pretended_device
from bench.plan import CellSpec, Value, one_cell
from bench.store import where, write_json
from bench.train import begin_task, learn_task, make_lanes, take_steps

STEPS, LANES = 64, 2


def cells(name: str) -> list[CellSpec]:
    """Return the lanes that are counted: digits, an mlp, Adam, batch 10."""
    settings: dict[str, Value] = {"iterations": STEPS, "batch": 10, "optimiser": "adam"}
    return [one_cell("digits", name, scenario_of(name), seed, settings) for seed in range(LANES)]


def launches_per_step(cells: Sequence[CellSpec], first: int = -1) -> dict[str, float]:
    """Return the launches of a step, by operator: the mean over the steps of one task.

    Args:
        cells: The lanes.
        first: The task, from 0, or counted from the end; if the strategy learns nothing in it, the next one.
    """
    with pretended_device() as device:
        state = make_lanes(cells, "cuda")
        tasks = range(state.streams.n_tasks)
        for task in tasks[:first]:
            learn_task(state, task)
        for task in tasks[first:]:
            if (schedule := begin_task(state, task)) is not None:
                device.reset()
                take_steps(state, schedule)
                return {name: count / schedule.n_steps for name, count in device.launches.most_common()}
    return {}


def launches(name: str) -> float:
    """Return the launches of a step, the mean over the second task, or the first that the strategy learns."""
    return sum(launches_per_step(cells(name), first=1).values())


class _NoGraph:
    """Takes the step that would be recorded, and no other: whether steps are replayed is decided by then."""

    def record(self, step: Callable[[], None]) -> None:
        """Take the step."""
        step()

    def replay(self) -> None:
        """Do nothing."""


def why_not_replayed(name: str) -> str:
    """Return why a strategy's steps are taken one by one, empty if they are replayed."""
    state = make_lanes(cells(name))
    state.new_graph = _NoGraph
    for task in range(2):
        learn_task(state, task)
    return state.not_replayed


def record() -> dict[str, Any]:
    """Return the launches of all strategies."""
    found = {}
    for name in (n for n in strategies.names() if not strategies.get(n).tunes):
        found[name] = {"launches": round(launches(name), 1), "one_by_one": why_not_replayed(name)}
        print(name, *found[name].values(), flush=True)
    about = {"schema": 1, "command": "make launches", **where("cpu")}
    return {**about, "lanes": LANES, "batch": 10, "strategies": found}


if __name__ == "__main__":
    write_json(Path(sys.argv[1]), record())
