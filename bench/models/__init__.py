"""Models over lanes.

A model is a function ``(generators, shape, units, **options) -> LaneModel``, with one CPU generator per lane
for the initial weights. The functions of models that read texts take the name of the model first. A
``ModelRef`` identifies a built-in model, a folder, or a repository of the Hugging Face hub. A user's class or
function that makes an ``nn.Module``, ``./net.py:Net``, and ``torchvision:NAME`` or ``timm:NAME`` become such
functions, see network_sources.
"""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable
from functools import cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeGuard, get_type_hints

from bench.models.reference import ModelRef
from suites.base import generator
from suites.description import (
    Description,
    Option,
    argument_help,
    docstring,
    first_paragraph,
    in_words,
    type_in_words,
)
from suites.errors import UserError, unknown
from suites.paths import folder_named
from suites.registry import Registry
from suites.values import convert, spelled as spelled_path, taken_apart

__all__ = [
    "NETWORKS", "PRETRAINED", "REGISTRY", "Build", "ModelRef", "ModelRegistry", "Options", "Shape", "build",
    "check", "names", "normalisation", "one_by_one", "option_type", "options", "parameter_count",
    "reference", "register", "spelled",
]  # fmt: skip

if TYPE_CHECKING:  # a list of the models imports neither torch nor pydantic
    from strategies.core import Generators, LaneModel

Shape = tuple[int, ...]
"""Shape of an input: (channels, height, width), (tokens,) or (features,)."""
Options = dict[str, Any]
"""Options of a model by name: integers and strings."""

Build = Callable[..., "LaneModel"]
"""A function that builds a model."""
_TEXTS: set[str] = set()
PRETRAINED = "pretrained"
"""The value of the option ``weights`` for those that a library has for its network."""
NETWORKS = "bench.models.network_sources"
"""The module that makes models of users' networks and of those of libraries."""


def is_of_library(name: str) -> bool:
    """Return whether a name is that of a network of torchvision or timm."""
    return name.startswith(("torchvision:", "timm:"))


_SUMMARIES = {
    "minilm": "all-MiniLM-L6-v2, a sentence encoder of six layers, from an installed package.",
    "tiny-bert": "A very small BERT with random weights, for tests.",
    "tiny-seq2seq": "A small T5 with random weights, which generates text.",
}
"""Of models that one function builds."""


def register(name: str, *, texts: bool = False) -> Callable[[Build], Build]:
    """Return a decorator that registers a function under a name; with ``texts`` the model reads texts."""

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
        """Return whether a value is a function, or a class of networks."""
        if not isinstance(value, type) or "torch" not in sys.modules:
            return inspect.isfunction(value)
        from torch import nn

        from strategies.core import LaneModel

        return issubclass(value, nn.Module) and not issubclass(value, LaneModel)

    def prepared(self, name: str, value: Build) -> Build:
        """Return a function that builds lanes, also for one that makes a single network."""
        if inspect.isfunction(value) and "generators" in inspect.signature(value).parameters:
            return value
        from bench.models.network_sources import users_network

        return users_network(name, value)

    def get(self, name: str) -> Build:
        """Return the function that builds a model; see Registry.get."""
        if not is_of_library(name):
            return super().get(name)
        from bench.models.network_sources import library_network

        return library_network(name)

    def has(self, name: str) -> bool:
        """Return whether a name is that of a model; see Registry.has."""
        return is_of_library(name) or super().has(name)

    def knows(self, name: str) -> bool:
        """Return whether a name is that of a model, or may be; see Registry.knows."""
        return is_of_library(name) or super().knows(name)

    def defined_in(self, name: str) -> str | Path:
        """Return the module or file that defines a model; see Registry.defined_in."""
        return NETWORKS if is_of_library(name) else super().defined_in(name)

    def describe_value(self, name: str, value: Build) -> Description:
        """Return the description of a model and its options, from its function."""
        hints = get_type_hints(value, include_extras=True)
        doc = docstring(value)
        help_, defaults = argument_help(doc), _defaults(value).items()
        options = tuple(
            Option(k, _type_in_words(hints[k]), in_words(default), help_.get(k, ""))
            for k, default in defaults
        )
        return Description(self.kind, name, _SUMMARIES.get(name) or first_paragraph(doc), options=options)


REGISTRY = ModelRegistry(Path(__file__).parent)


def _defaults(build: Build) -> Options:
    parameters = inspect.signature(build).parameters.values()
    return {p.name: p.default for p in parameters if p.kind is p.KEYWORD_ONLY}


def _type_in_words(hint: Any) -> str:
    whole = taken_apart(hint)
    return "whole number from 1 up" if whole == (int, None) else type_in_words(hint)


def reference(name: str) -> ModelRef:
    """Return the reference of a built-in model, a folder of transformers or a repository of the hub.

    bench.plan decides whether a folder is an exported model.

    Raises:
        UserError: The name is none of these.
    """
    from bench.models.pretrained import is_pretrained
    from bench.models.seq2seq import TINY

    name = spelled(name)
    if name not in names() and is_pretrained(name):
        return ModelRef("pretrained", name)
    REGISTRY.get(name)
    return ModelRef("built-in", name, "" if name in _TEXTS else name, generates=name == TINY)


def spelled(name: str) -> str:
    """Return the canonical spelling of the name of a model, which may contain a path."""
    if name not in names() and folder_named(name):
        return spelled_path(name)
    return REGISTRY.spelled(name)


def _builder(model: ModelRef) -> Build:
    from bench.models.transformer import transformer

    return partial(transformer, model.name) if model.reads_texts else REGISTRY.get(model.architecture)


def names() -> list[str]:
    """Return the names of all models, sorted."""
    return REGISTRY.names()


def options(model: ModelRef) -> Options:
    """Return the options of a model with their defaults, converted as values from users are.

    Raises:
        UserError: A default would be refused as a value.
    """
    what = f"model {model.name}: default of "
    given = _defaults(_builder(model))
    return {k: convert(what + k, v, option_type(model, k)) for k, v in given.items()}


def option_type(model: ModelRef, option: str) -> Any:
    """Return the type of an option of a model."""
    build = _builder(model)
    return _hints(build.func if isinstance(build, partial) else build)[option]


@cache
def _hints(build: Build) -> dict[str, Any]:
    return get_type_hints(build, include_extras=True)


def check(model: ModelRef, chosen: Options) -> None:
    """Raise UserError for an unknown option or an impossible value."""
    known = options(model)
    for option, value in chosen.items():
        if option not in known:
            raise unknown(f"option of model {model.name}", option, list(known))
        bounds = taken_apart(option_type(model, option))[1]  # without any, whole numbers are sizes
        if bounds is None and isinstance(value, int) and value < 1:
            raise UserError(f"model option {option} must be at least 1, not {value}")


def build(model: ModelRef, chosen: Options, shape: Shape, units: int, generators: Generators) -> LaneModel:
    """Build a model with one lane per generator; raises UserError as ``check`` does."""
    check(model, chosen)
    return _builder(model)(generators, shape, units, **chosen)


def normalisation(model: ModelRef, chosen: Options) -> tuple[tuple[float, ...], tuple[float, ...]] | None:
    """Return the mean and standard deviation of each channel that a network needs; None for the suite's."""
    stated = None if model.reads_texts else vars(_builder(model)).get("normalisation")
    return None if stated is None else stated(bool((options(model) | chosen)["weights"]))


def parameter_count(model: ModelRef, chosen: Options, shape: Shape, units: int) -> int:
    """Return the number of parameters of one lane."""
    return _measured(model, tuple(sorted(chosen.items())), shape, units)[0]


def one_by_one(model: ModelRef, chosen: Options, shape: Shape, units: int) -> str:
    """Return why lanes of a model are computed one after the other; empty if they are computed together."""
    return _measured(model, tuple(sorted(chosen.items())), shape, units)[1]


@cache
def _measured(
    model: ModelRef, chosen: tuple[tuple[str, Any], ...], shape: Shape, units: int
) -> tuple[int, str]:
    """Measure once per process: every group of lanes asks, and a transformer has to be read from disk."""
    one_lane = build(model, dict(chosen), shape, units, [generator(0, "model")])
    return sum(p.numel() for p in one_lane.parameters()), one_lane.one_by_one
