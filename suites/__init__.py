"""What is learned: suites are found by name among these files, the entry points ``lethe.suites`` and files.

``get(name)`` returns a Suite; ``./file.py:NAME`` reads one from a file of one's own.
"""

from __future__ import annotations

import importlib
import importlib.util
import pkgutil
from functools import cache
from importlib.metadata import entry_points
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from suites.base import Suite


@cache
def _built_in() -> dict[str, Suite]:
    from suites.base import SUITES

    for module in pkgutil.iter_modules(__path__):
        if module.name != "statistics":  # a command, not a suite
            importlib.import_module(f"{__name__}.{module.name}")
    return SUITES


def names() -> list[str]:
    """Return the names of all registered suites, sorted."""
    return sorted({*_built_in(), *(e.name for e in entry_points(group="lethe.suites"))})


def get(name: str) -> Suite:
    """Return a suite; raises UserError for an unknown name, with the nearest ones."""
    from suites.errors import unknown

    if ".py:" in name:
        return _from_file(name)
    built_in = _built_in()
    if name in built_in:
        return built_in[name]
    for entry in entry_points(group="lethe.suites"):
        if entry.name == name:
            loaded: Suite = entry.load()
            return loaded
    raise unknown("suite", name, names())


def _from_file(name: str) -> Suite:
    from suites.base import Suite
    from suites.errors import UserError

    path, _, attribute = name.rpartition(":")
    if not Path(path).is_file():
        raise UserError(f"no such file: {path}")
    spec = importlib.util.spec_from_file_location(Path(path).stem, path)
    if spec is None or spec.loader is None:
        raise UserError(f"{path} is not a Python file")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    found = getattr(module, attribute, None)
    if not isinstance(found, Suite):
        raise UserError(f"{path} has no suite {attribute!r}")
    return found
