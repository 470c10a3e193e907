"""What kind of method a strategy is, read from its source without running it."""

from __future__ import annotations

from functools import cache

from bench.cli.catalogue import Entry, entries, find
from strategies import split
from suites.errors import UserError

ORDER = (
    "baseline",
    "regularisation",
    "distillation",
    "replay",
    "gradient",
    "generative",
    "isolation",
    "meta",
    "plasticity",
    "class-incremental",
    "pretrained",
    "composed",
)
OTHER = "other"
"""The family of a strategy whose source is not at hand."""


@cache
def _known() -> dict[str, Entry]:
    return {e.name: e for e in entries("strategies")}


@cache
def facts(strategy: str) -> dict[str, str]:
    """Return what is said of a strategy, by its name without brackets; nothing where it is not at hand."""
    if ".py:" in strategy and len(split(strategy)) == 1:
        try:
            return find(strategy).facts
        except UserError:  # the file is on another machine
            return {}
    return _known()[strategy].facts if strategy in _known() else {}


def family(strategy: str) -> str:
    """Return a strategy's family; a sum of several is ``composed``."""
    return facts(strategy).get("family") or ("composed" if len(split(strategy)) > 1 else OTHER)


def place(name: str) -> tuple[int, str]:
    """Return where a family stands among the others."""
    return (ORDER.index(name) if name in ORDER else len(ORDER), name)


def is_reference(strategy: str) -> bool:
    """Return whether a strategy trains on rows of other tasks at will: a bound, not a competitor."""
    return facts(strategy).get("trains_on", "task") != "task"
