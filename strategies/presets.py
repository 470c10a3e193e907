"""Presets of built-in methods: recipes of papers, declared in their classes, and values that were tuned.

The tuned ones are in ``presets.toml``, by suite and scenario. ``python -m bench.tune.write_presets`` makes
that file from the choices of ``lethe tune``; no value in it is written by hand.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from strategies.core import Strategy

FILE = Path(__file__).with_name("presets.toml")


@cache
def tuned() -> Mapping[str, Mapping[str, Mapping[str, Any]]]:
    """Return the tuned presets by method and suite; each setting has a value for each scenario."""
    found: dict[str, dict[str, dict[str, Any]]] = {}
    for entry in tomllib.loads(FILE.read_text(encoding="utf-8")).get("preset", ()):
        of_suite = found.setdefault(entry["strategy"], {}).setdefault(entry["suite"], {})
        for key, value in entry["values"].items():
            of_suite.setdefault(key, {})[entry["scenario"]] = value
    return found


def presets_of(strategy: type[Strategy]) -> dict[str, Mapping[str, Any]]:
    """Return the presets of a method by name; a tuned one has the name of its suite."""
    built_in = strategy.__module__.startswith("strategies.")
    return {**strategy.presets, **(tuned().get(strategy.name, {}) if built_in else {})}
