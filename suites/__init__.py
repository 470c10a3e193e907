"""What is learned: suites are found by name among these files, the entry points ``lethe.suites`` and files.

``get(name)`` returns a Suite; ``./file.py:NAME`` reads one from a file of one's own.
"""

from suites.base import REGISTRY, Suite


def names() -> list[str]:
    """Return the names of all registered suites, sorted."""
    return REGISTRY.names()


def get(name: str) -> Suite:
    """Return a suite; raises UserError for an unknown name, with the nearest ones."""
    return REGISTRY.get(name)
