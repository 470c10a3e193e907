"""Running and measuring: ``run`` carries out cells, ``load`` reads a run folder into tidy pandas frames,
``classes`` reads what came of each class.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from bench.version import VERSION
from suites import aliases

if TYPE_CHECKING:
    from bench.api import run
    from bench.results import classes, load

__all__ = ["__version__", "classes", "load", "run"]

__version__ = VERSION

aliases.install()


def __getattr__(name: str) -> Any:
    # torch and pandas take seconds to import: only for those who run or load.
    if name not in __all__:
        raise AttributeError(f"module 'bench' has no attribute {name!r}")
    return getattr(importlib.import_module("bench.api" if name == "run" else "bench.results"), name)
