"""Suites, found by name: built-in ones, entry points ``lethe.suites`` and files.

``get(name)`` returns a Suite; the name ``./file.py:NAME`` loads one from a file, and a name like
``./reviews.csv[text=review]`` is a data set of the user, see suites.declared.
"""

from suites.base import REGISTRY, Suite
from suites.declared import Declared

__all__ = ["REGISTRY", "Suite", "get", "names"]

REGISTRY.declared = Declared()


def names() -> list[str]:
    """Return the names of all registered suites, sorted."""
    return REGISTRY.names()


def get(name: str) -> Suite:
    """Return a suite; raises UserError for an unknown name and suggests the closest ones."""
    return REGISTRY.get(name)
