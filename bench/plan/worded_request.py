"""Requests as an experiment file, a command or a call in Python words them."""

from collections.abc import Iterable, Mapping
from pathlib import Path

from bench.plan.budget import Budget
from bench.plan.grid_notation import text_of_values
from bench.plan.request import Request
from bench.plan.seed_notation import seeds_of
from bench.plan.selectors import selectors_of
from bench.schema import Value


def worded_request(
    suite: str,
    strategies: object,
    scenarios: str | Iterable[str],
    seeds: object,
    settings: Mapping[str, object],
    budget: str | Iterable[str] | Mapping[str, Value],
    resume_from: str | Path | None = None,
) -> Request:
    """Return a request.

    Args:
        suite: Name of a suite.
        strategies: See ``selectors_of``.
        scenarios: One or several; empty for the usual one of the suite.
        seeds: See ``seeds_of``.
        settings: Values or lists of values by name.
        budget: ``{"memory": "2MB"}``, ``["memory=2MB"]`` or ``"memory=2MB,compute=1.5"``; may be empty.
        resume_from: Folder of an exported model.

    Raises:
        UserError: One of them cannot be read.
    """
    return Request(
        suite,
        selectors_of(strategies),
        (scenarios,) if isinstance(scenarios, str) else tuple(scenarios),
        seeds_of(seeds),
        {name: text_of_values(name, value) for name, value in settings.items()},
        "" if resume_from is None else str(resume_from),
        budget=Budget.read(budget.split(",") if isinstance(budget, str) else budget),
    )
