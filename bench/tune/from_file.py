"""The ``[tune]`` table of an experiment file."""

from pathlib import Path

from bench.plan import seeds_of, tune_table
from bench.tune.space import read_spaces
from bench.tune.study import Choosing


def choosing_in(path: Path) -> Choosing | None:
    """Return how an experiment file chooses settings, None if it has no ``[tune]`` table.

    Raises:
        UserError: The file is missing or does not match the format.
    """
    table = tune_table(path)
    if table is None:
        return None
    read = {"seeds": seeds_of(table.seeds), "space": read_spaces(table.space)}
    return Choosing(**table.model_dump() | read)
