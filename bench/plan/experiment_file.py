"""Experiment files."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench import schema
from bench.plan.request import Request
from bench.plan.worded_request import worded_request
from suites.declared import suite_named
from suites.errors import UserError


@dataclass(frozen=True)
class Experiment:
    """What a command or an experiment file asks for."""

    requests: Sequence[Request]
    out: Path | None = None
    """Folder of the run; None if it is not named."""
    track: Sequence[str] = ()
    """Trackers, with a place."""
    tune: schema.TuneTable | None = None
    """How settings are chosen first; None for the settings as they are."""


def read_experiment(path: Path) -> Experiment:
    """Return what an experiment file asks for.

    A table has ``suite``, ``strategies`` and optionally ``scenarios``, ``seeds`` (as on the command line, or
    a list) and ``set``. Without ``suite``, it uses the data set that the table ``[dataset]`` declares::

        out = "results/runs/first"

        [[run]]
        suite = "digits"
        strategies = ["finetune", "er[buffer=200]", { ewc = { lam = [1, 10, 100] } }]
        scenarios = ["task", "class"]
        seeds = 5
        [run.set]
        epochs = 2
        [run.budget]
        memory = "2MB"

    Raises:
        UserError: The file is missing or does not match the format.
    """
    file = schema.read_toml(schema.Experiment, path)
    dataset = _dataset(path, file.dataset) if file.dataset else ""
    requests: list[Request] = []
    for number, table in enumerate(file.runs, 1):
        if not (suite := table.suite or dataset):
            raise UserError(f"{path}: table {number} of [[run]] has no suite, and there is no [dataset]")
        how = table.scenarios, table.seeds, table.settings, table.budget
        requests += worded_request(suite, table.strategies, *how).alternatives
    return Experiment(requests, Path(file.out) if file.out else None, file.track, file.tune)


def _dataset(path: Path, table: Mapping[str, Any]) -> str:
    """Return the name of the suite that ``[dataset]`` declares; its path is relative to the file."""
    options = dict(table)
    place = options.pop("path", None)
    if not isinstance(place, str) or not place:
        raise UserError(f'{path}: [dataset] has no path: write path = "reviews.csv"')
    return suite_named(place, options, path.parent)
