"""A stand-in for packages that only validate files, such as pydantic, where they are not installed.

The check of a GPU needs none of them. Imports nothing of Lethe, so that it can be imported first.
"""

import sys
from types import ModuleType
from typing import Any


def stand_in_for(*packages: str) -> None:
    """Put a stand-in in the place of each package that is not installed."""
    for name in packages:
        try:
            __import__(name)
        except ImportError:
            sys.modules[name] = _StandIn(name)


class _StandIn(ModuleType):
    """A package of which everything is ``_Anything``."""

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return _Anything


class _Anything:
    """A base class, a decorator or a description that does nothing."""

    def __init__(self, *of: Any, **given: Any) -> None:
        """Take anything."""

    def __init_subclass__(cls, **given: Any) -> None:
        """Take anything."""

    def __call__(self, decorated: Any) -> Any:
        """Return what is decorated."""
        return decorated

    def __class_getitem__(cls, item: Any) -> Any:
        return cls
