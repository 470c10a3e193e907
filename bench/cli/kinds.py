"""The registries of all kinds: suites, strategies, models and scores."""

from pathlib import Path
from types import ModuleType
from typing import Any, TypeGuard

import strategies
import suites
from bench import models
from suites.description import Description
from suites.errors import UserError, unknown
from suites.registry import Registry


class _Scores(Registry[Any]):
    """All scores. Defined here because importing bench.stats takes longer than printing a list."""

    kind, plural, package = "score", "scores", "bench.stats.scores"

    def collect(self, module: ModuleType) -> None:
        """Register the scores of the module."""
        for score in module.SCORES.values():
            self.enter(score.name, score, module.__name__)

    def is_one(self, value: object) -> TypeGuard[Any]:
        """Return False: scores are built in."""
        return False

    def describe_value(self, name: str, value: Any) -> Description:
        """Return what a score says of itself."""
        found: Description = value.description
        return found


_SCORES = _Scores(Path(__file__).parents[1] / "stats" / "scores.py")


def registries() -> dict[str, Registry[Any]]:
    """Return the registry of each kind by its plural."""
    found: list[Registry[Any]] = [suites.REGISTRY, strategies.REGISTRY, models.REGISTRY, _SCORES]
    return {registry.plural: registry for registry in found}


def describe(name: str) -> Description:
    """Return the description of a name of any kind; raises UserError for an unknown name."""
    known = registries()
    if len(strategies.split(name)) > 1:
        return strategies.REGISTRY.describe(name)
    for registry in known.values():
        if registry.has(name):
            return registry.describe(name)
    if ".py:" in name:
        path, _, attribute = name.rpartition(":")
        raise UserError(f"{path} has no suite, strategy or model {attribute!r}")
    raise unknown("name", name, [d.name for registry in known.values() for d in registry.descriptions()])
