"""The ``[tune]`` table of an experiment file."""

from pathlib import Path

from bench import schema
from bench.plan import check_seeds, seeds
from bench.tune.space import read_spaces
from bench.tune.study import Budget, Choosing


def choosing_in(path: Path) -> Choosing | None:
    """Return how an experiment file chooses settings, None if it has no ``[tune]`` table.

    Raises:
        UserError: The file is missing or does not match the format.
    """
    table = schema.read_toml(schema.Experiment, path).tune
    if table is None:
        return None
    chosen = table.seeds
    return Choosing(
        protocol=table.protocol,
        budget=Budget(table.trials, table.steps),
        seeds=check_seeds(chosen, chosen) if isinstance(chosen, list) else seeds(str(chosen)),
        sampler=table.sampler,
        sampler_seed=table.sampler_seed,
        space=read_spaces(table.space),
        report=table.report,
        untuned=table.untuned,
        prune=table.prune,
    )
