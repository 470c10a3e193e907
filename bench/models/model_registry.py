"""The registry of models: built-in ones, networks of users' files, and those of torchvision and timm.

A model is a function ``(generators, shape, units, **options) -> LaneModel``, with one CPU generator per lane
for the initial weights. The functions of models that read texts take the name of the model first. A module of
this package lists its models in ``MODELS``.
"""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any, TypeGuard, get_type_hints

from bench.models.reference import Options
from suites.description import (
    Description,
    Option,
    argument_help,
    docstring,
    first_paragraph,
    in_words,
    type_in_words,
)
from suites.registry import Registry
from suites.values import taken_apart

if TYPE_CHECKING:  # a list of the models imports no torch
    from strategies.core import LaneModel

Build = Callable[..., "LaneModel"]
"""A function that builds a model."""
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


class ModelRegistry(Registry[Build]):
    """All functions that build a model."""

    kind, plural, package, group = "model", "models", "bench.models", "lethe.models"

    def collect(self, module: ModuleType) -> None:
        """Enter the models that a module lists."""
        for name, build in getattr(module, "MODELS", {}).items():
            self.enter(name, build, module.__name__)

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
        help_ = argument_help(doc)
        options = tuple(
            Option(k, _type_in_words(hints[k]), in_words(default), help_.get(k, ""))
            for k, default in defaults(value).items()
        )
        return Description(self.kind, name, _SUMMARIES.get(name) or first_paragraph(doc), options=options)


REGISTRY = ModelRegistry(Path(__file__).parent)


def defaults(build: Build) -> Options:
    """Return the options of a function that builds a model, with their defaults."""
    parameters = inspect.signature(build).parameters.values()
    return {p.name: p.default for p in parameters if p.kind is p.KEYWORD_ONLY}


def _type_in_words(hint: Any) -> str:
    whole = taken_apart(hint)
    return "whole number from 1 up" if whole == (int, None) else type_in_words(hint)
