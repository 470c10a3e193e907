"""How it is learned: one file, one class, one method.

``get(name)`` finds a strategy among these files, the installed entry points (group ``lethe.strategies``) and
``./file.py:Class``; names joined by ``+`` are one strategy that sums theirs.
"""

from __future__ import annotations

import importlib
import importlib.util
import pkgutil
import re
from functools import cache
from importlib.metadata import entry_points
from pathlib import Path
from typing import TYPE_CHECKING

from suites import aliases

if TYPE_CHECKING:
    from strategies.core import Strategy

aliases.install()

_PART = re.compile(r"(?P<part>[^\[\]+]+(?:\+\+)?(?:\[[^\[\]]*\])?)(?:\+|$)")
"""One part of a composed selector; der++ ends in the sign that joins."""


def split(selector: str) -> list[str]:
    """Return the parts of ``er[buffer=200]+lwf``; a selector of another form is its own only part."""
    found = list(_PART.finditer(selector))
    whole = "".join(match[0] for match in found)
    if whole != selector or not found or found[-1][0] != found[-1]["part"]:
        return [selector]
    return [match["part"] for match in found]


def field_name(part: str, name: str) -> str:
    """Return what a part's hyper-parameter is called in a composed strategy."""
    return f"{part.replace('+', 'p').replace('-', '_')}_{name}"


@cache
def _built_in() -> dict[str, type[Strategy]]:
    from strategies.core import Strategy

    found = {}
    for module in pkgutil.walk_packages(__path__, f"{__name__}."):
        for value in vars(importlib.import_module(module.name)).values():
            if isinstance(value, type) and issubclass(value, Strategy) and "name" in vars(value):
                found[value.name] = value
    return found


def names() -> list[str]:
    """Return the names of all registered strategies, sorted."""
    return sorted({*_built_in(), *(e.name for e in entry_points(group="lethe.strategies"))})


def get(name: str) -> type[Strategy]:
    """Return the class of a strategy, or of a sum of several: ``er+lwf``.

    Raises UserError for a name that is not known, with the nearest ones, and for a file without the class.
    """
    from strategies.core import composed
    from suites.errors import unknown

    parts = split(name)
    if len(parts) > 1:
        return composed([get(part) for part in parts])
    if ".py:" in name:
        return _from_file(name)
    built_in = _built_in()
    if name in built_in:
        return built_in[name]
    for entry in entry_points(group="lethe.strategies"):
        if entry.name == name:
            loaded: type[Strategy] = entry.load()
            return loaded
    raise unknown("strategy", name, names())


def _from_file(name: str) -> type[Strategy]:
    from strategies.core import Strategy
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
    if not (isinstance(found, type) and issubclass(found, Strategy)):
        raise UserError(f"{path} has no strategy {attribute!r}")
    return found
