"""Experiment files, and the notation of seeds in them and on the command line."""

from collections.abc import Iterable, Mapping, Sequence
from numbers import Integral
from pathlib import Path
from typing import Any

from bench import schema
from bench.plan.budget import Budget
from bench.plan.grid_notation import text_of_values
from bench.plan.request import Request
from bench.plan.selectors import selectors_of
from suites.declared import suite_named
from suites.errors import UserError

_MOST_SEEDS = 10_000


def seeds(text: str) -> tuple[int, ...]:
    """Read seeds: ``5`` means 0 to 4, ``2-6`` means 2 to 6, ``1,4`` means these two.

    Raises:
        UserError: The text is anything else.
    """
    found: list[int] = []
    try:
        parts = [f"0-{int(text) - 1}"] if text.isdigit() else text.split(",")
        for part in parts:
            first, dash, last = part.strip().partition("-")
            start, stop = int(first), int(last if dash else first) + 1
            if stop - start > _MOST_SEEDS:  # such as --seeds 20260101, which meant one seed
                raise UserError(f"seeds {text} are too many: {stop - start:,}; write a single seed as 7-7")
            found += range(start, stop)
    except ValueError:
        found = []
    return check_seeds(found, text)


def seeds_of(given: object) -> tuple[int, ...]:
    """Return the seeds that a file or a call in Python gives: a number, text as in ``seeds``, or a list.

    Raises:
        UserError: They are of another type, or not distinct and not negative.
    """
    if isinstance(given, str | Integral):
        return seeds(str(given))
    if not isinstance(given, Iterable):
        raise UserError(f"seeds must be a number of seeds, a list of them or text like '2-6', not {given!r}")
    listed = list(given)
    return check_seeds(listed, listed)


def check_seeds(found: Sequence[int], text: object) -> tuple[int, ...]:
    """Return seeds, which must be distinct and not negative; else raise UserError, which quotes ``text``."""
    whole = [int(s) for s in found if isinstance(s, Integral) and not isinstance(s, bool) and s >= 0]
    if not found or len(set(whole)) != len(found):
        raise UserError(f"cannot read seeds {str(text)!r}; write 5 (0 to 4), 2-6 or 1,4")
    return tuple(whole)


def read_toml(path: Path) -> tuple[list[Request], str | None]:
    """Return the requests of an experiment file, and the folder of the run if the file names it.

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
    experiment = schema.read_toml(schema.Experiment, path)
    dataset = _dataset(path, experiment.dataset) if experiment.dataset else ""
    for number, table in enumerate(experiment.runs, 1):
        if not (table.suite or dataset):
            raise UserError(f"{path}: table {number} of [[run]] has no suite, and there is no [dataset]")
    requests = [_request(table, dataset) for table in experiment.runs]
    return [one for request in requests for one in request.alternatives], experiment.out


def tune_table(path: Path) -> schema.TuneTable | None:
    """Return the ``[tune]`` table of an experiment file, None if it has none; raises as ``read_toml``."""
    return schema.read_toml(schema.Experiment, path).tune


def _dataset(path: Path, table: Mapping[str, Any]) -> str:
    """Return the name of the suite that ``[dataset]`` declares; its path is relative to the file."""
    options = dict(table)
    place = options.pop("path", None)
    if not isinstance(place, str) or not place:
        raise UserError(f'{path}: [dataset] has no path: write path = "reviews.csv"')
    return suite_named(place, options, path.parent)


def _request(table: schema.RunTable, dataset: str) -> Request:
    """Return the request of one ``[[run]]`` table; raises UserError for seeds that cannot be read."""
    return Request(
        suite=table.suite or dataset,
        strategies=selectors_of(table.strategies),
        scenarios=tuple(table.scenarios),
        seeds=seeds_of(table.seeds),
        settings={name: text_of_values(name, value) for name, value in table.settings.items()},
        budget=Budget.read(table.budget),
    )
