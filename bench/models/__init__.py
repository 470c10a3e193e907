"""Backbones over lanes, by name.

Each is a function ``(generators, shape, units, **options) -> LaneModel``, with one CPU generator a lane for
the initial weights.
"""

from __future__ import annotations

import importlib
import inspect
import pkgutil
from collections.abc import Callable

from strategies.lanes import Generators, LaneModel
from suites.base import generator
from suites.errors import UserError, unknown

Shape = tuple[int, ...]
"""Channels, height and width of an image."""

_MODELS: dict[str, Callable[..., LaneModel]] = {}


def register(name: str) -> Callable[[Callable[..., LaneModel]], Callable[..., LaneModel]]:
    """Enter a function that builds a model under a name."""

    def enter(build: Callable[..., LaneModel]) -> Callable[..., LaneModel]:
        _MODELS[name] = build
        return build

    return enter


def _all() -> dict[str, Callable[..., LaneModel]]:
    for module in pkgutil.iter_modules(__path__):
        importlib.import_module(f"{__name__}.{module.name}")
    return _MODELS


def names() -> list[str]:
    """Return the names of all models, sorted."""
    return sorted(_all())


def options(name: str) -> dict[str, int]:
    """Return a model's options with their defaults; raises UserError for an unknown name."""
    if name not in _all():
        raise unknown("model", name, names())
    parameters = inspect.signature(_MODELS[name]).parameters.values()
    return {p.name: p.default for p in parameters if p.kind is p.KEYWORD_ONLY}


def check(name: str, chosen: dict[str, int]) -> None:
    """Raise UserError for an unknown or impossible option."""
    known = options(name)
    for option, value in chosen.items():
        if option not in known:
            raise unknown(f"option of model {name}", option, list(known))
        if value < 1:
            raise UserError(f"model option {option} must be at least 1, not {value}")


def build(name: str, chosen: dict[str, int], shape: Shape, units: int, generators: Generators) -> LaneModel:
    """Build a model of one lane per generator; raises UserError as ``check`` does."""
    check(name, chosen)
    return _MODELS[name](generators, shape, units, **chosen)


def parameter_count(name: str, chosen: dict[str, int], shape: Shape, units: int) -> int:
    """Return the parameters of one lane."""
    model = build(name, chosen, shape, units, [generator(0, "model")])
    return sum(p.numel() for p in model.parameters())
