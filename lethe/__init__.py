"""Lethe measures what a model forgets.

Run an experiment and read it::

    import lethe

    frames = lethe.run("digits", ["finetune", "er[buffer=200]"], seeds=5)
    frames.scores  # one row per cell and score

To write a method, see ``Strategy``; to write a suite, see ``Suite``. The public names are listed in
__init__.pyi. Each is imported on first use, because torch and pandas take seconds to import.
"""

import ast
import importlib
from pathlib import Path
from typing import Any

from lethe.installed import check_packages

_HOMES = {
    str(alias.asname): (node.module, alias.name)
    for node in ast.parse(Path(__file__).with_suffix(".pyi").read_text(encoding="utf-8")).body
    if isinstance(node, ast.ImportFrom) and node.module
    for alias in node.names
}

__all__ = tuple(sorted(_HOMES))


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'lethe' has no attribute {name!r}")
    check_packages()
    module, own_name = _HOMES[name]
    value = globals()[name] = getattr(importlib.import_module(module), own_name)
    return value


def __dir__() -> list[str]:
    return [*globals(), *_HOMES]
