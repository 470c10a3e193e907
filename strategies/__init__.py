"""Strategies, how a stream is learned: one file, one class, one method.

``get(name)`` finds a strategy among these files, the installed entry points (group ``lethe.strategies``) and
``./file.py:Class``; names joined by ``+`` are the sum of these strategies.
"""

from __future__ import annotations

from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, TypeGuard, get_type_hints

from strategies.presets import presets_of
from strategies.sums import field_name, method_names, name_and_options, split
from suites import aliases
from suites.description import (
    Description,
    docstring,
    field_help,
    first_paragraph,
    in_words,
    options_in_words,
)
from suites.registry import Registry

__all__ = [
    "REGISTRY", "StrategyRegistry", "field_name", "get", "method_names", "name_and_options", "names",
    "presets_of", "split",
]  # fmt: skip

if TYPE_CHECKING:
    from strategies.core import Strategy

aliases.install()


class StrategyRegistry(Registry["type[Strategy]"]):
    """All strategies, and their sums."""

    kind, plural, package, group = "strategy", "strategies", "strategies", "lethe.strategies"

    def collect(self, module: ModuleType) -> None:
        """Enter the methods of a module: the strategies that give themselves a name."""
        for value in vars(module).values():
            if self.is_one(value) and "name" in vars(value) and value.__module__ == module.__name__:
                self.enter(value.name, self.prepared(value.name, value), value.__module__)

    def get(self, name: str) -> type[Strategy]:
        """Return the class of a strategy, of a sum the composed class."""
        from strategies.core import composed

        parts = split(name)
        return composed([self.get(part) for part in parts]) if len(parts) > 1 else super().get(name)

    def is_one(self, value: object) -> TypeGuard[type[Strategy]]:
        """Return whether it is the class of a method."""
        from strategies.core import Strategy

        return isinstance(value, type) and issubclass(value, Strategy) and value is not Strategy

    def prepared(self, name: str, value: type[Strategy]) -> type[Strategy]:
        """Return the class with its annotated defaults as hyper-parameters; see ``complete``."""
        from strategies.core import complete

        return complete(name, value)

    def describe_value(self, name: str, value: type[Strategy]) -> Description:
        """Return the description of a class, with its hyper-parameters."""
        from strategies.core import defaults

        shown = (
            "family",
            "paper",
            "needs",
            "scenarios",
            "needs_boundaries",
            "trains_on",
            "sized_by",
            "waits",
        )
        hints, about = get_type_hints(value, include_extras=True), docstring(value)
        options = options_in_words(defaults(value), hints, _help(value))
        metadata = {key: in_words(getattr(value, key)) for key in shown}
        metadata["presets"] = in_words(presets_of(value))
        return Description(self.kind, name, first_paragraph(about), about, metadata, options)


def _help(cls: type[Strategy]) -> dict[str, str]:
    """Return the help of each hyper-parameter; those of a sum are the parts'."""
    parts: tuple[type[Strategy], ...] = getattr(cls, "of", ())
    of_parts = {field_name(part.name, k): text for part in parts for k, text in _help(part).items()}
    return field_help(cls) | of_parts


REGISTRY = StrategyRegistry(Path(__file__).parent)


def names() -> list[str]:
    """Return the names of all registered strategies, sorted."""
    return REGISTRY.names()


def get(name: str) -> type[Strategy]:
    """Return the class of a strategy, or of a sum of several: ``er+lwf``.

    Raises UserError for a name that is not known, with the nearest ones, for a file without the class, and
    for a class with a hyper-parameter that cannot be one.
    """
    return REGISTRY.get(name)
