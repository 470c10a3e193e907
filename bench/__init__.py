"""Running, measuring and reporting. Import from ``lethe``; the names here are those of version 0.1.0."""

import importlib
from typing import Any

from suites import aliases
from suites.version import VERSION

_HOMES = {"run": "bench.api", "load": "bench.api", "classes": "bench.results"}
__version__ = VERSION

aliases.install()


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'bench' has no attribute {name!r}")
    return getattr(importlib.import_module(_HOMES[name]), name)
