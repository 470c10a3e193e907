"""Families of strategies, and which strategies are bounds."""

from collections.abc import Mapping
from functools import cache

from bench.results import Frames
from strategies import REGISTRY, split

Described = Mapping[str, Mapping[str, bool | str | list[str]]]
"""Metadata of strategies by name: ``Frames.described``, from the manifest."""

ORDER = (
    "baseline", "regularisation", "distillation", "replay", "gradient", "generative", "isolation", "meta",
    "plasticity", "class-incremental", "pretrained", "composed",
)  # fmt: skip
OTHER = "other"
"""The family of a strategy without metadata."""


def about(strategy: str, described: Described) -> Mapping[str, str | bool | list[str]]:
    """Return the metadata of a strategy, by its name without brackets; empty if it is not known.

    It is read from the manifest or, for runs of older versions, from the built-in strategies. No
    user's file is imported.
    """
    return described.get(strategy) or _built_in().get(strategy, {})


@cache
def _built_in() -> dict[str, dict[str, str]]:
    return {d.name: d.metadata for d in REGISTRY.descriptions()}


def family(strategy: str, described: Described) -> str:
    """Return a strategy's family; a sum of several is ``composed``."""
    known = str(about(strategy, described).get("family", ""))
    return known or ("composed" if len(split(strategy)) > 1 else OTHER)


def place(name: str) -> tuple[int, str]:
    """Return the sort key of a family."""
    return (ORDER.index(name) if name in ORDER else len(ORDER), name)


def is_bound(strategy: str, described: Described) -> bool:
    """Return whether a strategy trains on rows of other tasks: a bound, not a competitor."""
    return about(strategy, described).get("trains_on", "task") != "task"


def families(frames: Frames) -> dict[str, str]:
    """Return the family of every identity of a report."""
    return {identity: family(strategy, frames.described) for identity, strategy in _strategies(frames)}


def bounds(frames: Frames) -> frozenset[str]:
    """Return the identities that are bounds: shown in a report, never marked, ranked or compared with."""
    return frozenset(i for i, strategy in _strategies(frames) if is_bound(strategy, frames.described))


def _strategies(frames: Frames) -> list[tuple[str, str]]:
    pairs = frames.cells[["identity", "strategy"]].drop_duplicates()
    return [(str(identity), str(strategy)) for identity, strategy in pairs.itertuples(index=False)]
