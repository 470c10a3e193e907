"""Backbones over lanes, by name.

Each is a function ``(generators, shape, units, **options) -> LaneModel``, with one CPU generator a lane for
the initial weights; one that reads texts is given its own name before them. A folder, or a repository of the
Hugging Face hub, is a name as well; that of an exported model of images names its architecture.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from functools import cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeGuard, get_type_hints

from suites.base import generator
from suites.description import Description, Option, docstring, first_paragraph, in_words, type_in_words
from suites.errors import UserError, unknown
from suites.registry import Registry

if TYPE_CHECKING:  # a list of the models imports neither torch nor pydantic
    from bench.schema import Exported
    from strategies.core import Generators, LaneModel

Shape = tuple[int, ...]
"""Channels, height and width of an image; the tokens of a text; its features."""
Options = dict[str, Any]
"""A model's options by name: whole numbers and words."""

Build = Callable[..., "LaneModel"]
"""A function that builds a model."""
_TEXTS: set[str] = set()


def register(name: str, *, texts: bool = False) -> Callable[[Build], Build]:
    """Enter a function that builds a model under a name; ``texts`` says that it reads texts, not images."""

    def enter(build: Build) -> Build:
        REGISTRY.enter(name, build, build.__module__)
        if texts:
            _TEXTS.add(name)
        return build

    return enter


class ModelRegistry(Registry[Build]):
    """All functions that build a model."""

    kind, plural, package, group = "model", "models", "bench.models", "lethe.models"

    def is_one(self, value: object) -> TypeGuard[Build]:
        """Return whether it is a function."""
        return inspect.isfunction(value)

    def describe_value(self, name: str, value: Build) -> Description:
        """Return what a function says of the model it builds, and its options."""
        hints = get_type_hints(value, include_extras=True)
        options = tuple(
            Option(key, _type_in_words(hints[key]), in_words(default), "")
            for key, default in _defaults(value).items()
        )
        return Description(self.kind, name, first_paragraph(docstring(value)), options=options)


REGISTRY = ModelRegistry(Path(__file__).parent)


def _defaults(build: Build) -> Options:
    parameters = inspect.signature(build).parameters.values()
    return {p.name: p.default for p in parameters if p.kind is p.KEYWORD_ONLY}


def _type_in_words(hint: Any) -> str:
    return "whole number from 1 up" if hint is int else type_in_words(hint)


def _builder(name: str) -> Build:
    """Return what builds a model; raises UserError for an unknown name."""
    from bench.models.pretrained import is_pretrained
    from bench.models.transformer import transformer

    known = REGISTRY.names()
    images = None if name in known else _exported_images(name)
    if images:
        return REGISTRY.get(images.facts["model"])
    if name in _TEXTS or (name not in known and is_pretrained(name)):
        return partial(transformer, name)
    return REGISTRY.get(name)


def _exported_images(name: str) -> Exported | None:
    """Return the exported model of images that a name is the folder of, or None."""
    from bench.schema import Exported

    exported = Exported.named(name)
    return None if exported is None or exported.reads_texts else exported


def reads_texts(name: str) -> bool:
    """Return whether a model reads texts; raises UserError for an unknown name."""
    return isinstance(_builder(name), partial)


def names() -> list[str]:
    """Return the names of all models, sorted."""
    return REGISTRY.names()


def options(name: str) -> Options:
    """Return a model's options with their defaults; raises UserError for an unknown name."""
    return _defaults(_builder(name))


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
