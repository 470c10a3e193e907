"""Experiments in files, and seeds as they are written there and on the command line."""

from collections.abc import Sequence
from pathlib import Path

from bench import schema
from bench.plan.request import Request
from suites.errors import UserError
from suites.values import text_of

_MOST_SEEDS = 10_000


def seeds(text: str) -> tuple[int, ...]:
    """Read seeds: ``5`` is 0 to 4, ``2-6`` is 2 to 6, ``1,4`` is those two.

    Raises UserError for anything else.
    """
    found: list[int] = []
    try:
        parts = [f"0-{int(text) - 1}"] if text.isdigit() else text.split(",")
        for part in parts:
            first, dash, last = part.strip().partition("-")
            start, stop = int(first), int(last if dash else first) + 1
            if stop - start > _MOST_SEEDS:  # --seeds 20260101 meant one seed, not twenty million
                raise UserError(f"seeds {text} are too many: {stop - start:,}; one seed is written like 7-7")
            found += range(start, stop)
    except ValueError:
        found = []
    return check_seeds(found, text)


def check_seeds(found: Sequence[int], text: object) -> tuple[int, ...]:
    """Return seeds, each once and from 0 up; raises UserError, which quotes ``text``, for anything else."""
    whole = [s for s in found if isinstance(s, int) and not isinstance(s, bool) and s >= 0]
    if not found or len(set(whole)) != len(found):
        raise UserError(f"cannot read seeds {str(text)!r}; write 5 (0 to 4), 2-6 or 1,4")
    return tuple(whole)


def read_toml(path: Path) -> tuple[list[Request], str | None]:
    """Return the requests of an experiment, and the run's folder, if it is named there.

    A table has ``suite``, ``strategies`` and, where wanted, ``scenarios``, ``seeds`` (as on the command line,
    or a list) and ``set``::

        out = "results/runs/first"

        [[run]]
        suite = "digits"
        strategies = ["finetune", "er[buffer=200]"]
        scenarios = ["task", "class"]
        seeds = 5
        [run.set]
        epochs = 2

    Raises UserError for a file that is missing or of another form.
    """
    experiment = schema.read_toml(schema.Experiment, path)
    return [_request(table) for table in experiment.runs], experiment.out


def _request(table: schema.RunTable) -> Request:
    """Return what one ``[[run]]`` table asks for; raises UserError for seeds that cannot be read."""
    chosen = table.seeds
    return Request(
        suite=table.suite,
        strategies=tuple(table.strategies),
        scenarios=tuple(table.scenarios),
        seeds=check_seeds(chosen, chosen) if isinstance(chosen, list) else seeds(str(chosen)),
        settings={name: text_of(value) for name, value in table.settings.items()},
    )
