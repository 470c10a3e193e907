"""Running and measuring: ``run`` carries out cells, ``load`` reads a run folder into tidy pandas frames,
``classes`` reads what came of each class.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from bench.api import run
    from bench.results import classes, load

__all__ = ["classes", "load", "run"]
__version__ = "0.1.0"


def __getattr__(name: str) -> Any:
    # torch and pandas take seconds to import: only for those who run or load.
    if name == "run":
        from bench.api import run

        return run
    if name == "load":
        from bench.results import load

        return load
    if name == "classes":
        from bench.results import classes

        return classes
    raise AttributeError(f"module 'bench' has no attribute {name!r}")
