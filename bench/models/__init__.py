"""Backbones over lanes, by name.

Each is a function ``(generators, shape, units, **options) -> LaneModel``, with one CPU generator a lane for
the initial weights; one that reads texts is given its own name before them. A folder, or a repository of the
Hugging Face hub, is a name as well; that of an exported model of images names its architecture.
"""

from __future__ import annotations

import importlib
import inspect
import pkgutil
from collections.abc import Callable
from functools import cache, partial
from typing import Any, get_type_hints

from bench.schema import Exported
from strategies.core import Generators, LaneModel
from suites.base import generator
from suites.errors import UserError, unknown

Shape = tuple[int, ...]
"""Channels, height and width of an image; the tokens of a text; its features."""
Options = dict[str, Any]
"""A model's options by name: whole numbers and words."""

_MODELS: dict[str, Callable[..., LaneModel]] = {}
_TEXTS: set[str] = set()


def register(
    name: str, *, texts: bool = False
) -> Callable[[Callable[..., LaneModel]], Callable[..., LaneModel]]:
    """Enter a function that builds a model under a name; ``texts`` says that it reads texts, not images."""

    def enter(build: Callable[..., LaneModel]) -> Callable[..., LaneModel]:
        _MODELS[name] = build
        if texts:
            _TEXTS.add(name)
        return build

    return enter


@cache
def _all() -> dict[str, Callable[..., LaneModel]]:
    for module in pkgutil.iter_modules(__path__):
        importlib.import_module(f"{__name__}.{module.name}")
    return _MODELS


def _builder(name: str) -> Callable[..., LaneModel]:
    """Return what builds a model; raises UserError for an unknown name."""
    from bench.models.pretrained import is_pretrained
    from bench.models.transformer import transformer

    known = _all()
    images = None if name in known else _exported_images(name)
    if images:
        return known[images.facts["model"]]
    if name in _TEXTS or (name not in known and is_pretrained(name)):
        return partial(transformer, name)
    if name not in known:
        raise unknown("model", name, names())
    return known[name]


def _exported_images(name: str) -> Exported | None:
    """Return the exported model of images that a name is the folder of, or None."""
    exported = Exported.named(name)
    return None if exported is None or exported.reads_texts else exported


def reads_texts(name: str) -> bool:
    """Return whether a model reads texts; raises UserError for an unknown name."""
    return isinstance(_builder(name), partial)


def names() -> list[str]:
    """Return the names of all models, sorted."""
    return sorted(_all())


def options(name: str) -> Options:
    """Return a model's options with their defaults; raises UserError for an unknown name."""
    parameters = inspect.signature(_builder(name)).parameters.values()
    return {p.name: p.default for p in parameters if p.kind is p.KEYWORD_ONLY}


def option_type(name: str, option: str) -> Any:
    """Return the type of one of a model's options."""
    build = _builder(name)
    return get_type_hints(build.func if isinstance(build, partial) else build)[option]


def check(name: str, chosen: Options) -> None:
    """Raise UserError for an unknown or impossible option."""
    known = options(name)
    for option, value in chosen.items():
        if option not in known:
            raise unknown(f"option of model {name}", option, list(known))
        if isinstance(value, int) and value < 1:
            raise UserError(f"model option {option} must be at least 1, not {value}")


def build(name: str, chosen: Options, shape: Shape, units: int, generators: Generators) -> LaneModel:
    """Build a model of one lane per generator; raises UserError as ``check`` does."""
    check(name, chosen)
    return _builder(name)(generators, shape, units, **chosen)


def parameter_count(name: str, chosen: Options, shape: Shape, units: int) -> int:
    """Return the parameters of one lane."""
    return _counted(name, tuple(sorted(chosen.items())), shape, units)


@cache
def _counted(name: str, chosen: tuple[tuple[str, Any], ...], shape: Shape, units: int) -> int:
    """Count once in a process: every group of lanes asks, and a transformer is read from disk for it."""
    model = build(name, dict(chosen), shape, units, [generator(0, "model")])
    return sum(p.numel() for p in model.parameters())
