"""Suites, found by name: built-in ones, entry points ``lethe.suites`` and files.

``get(name)`` returns a Suite; the name ``./file.py:NAME`` loads one from a file, and a name like
``./reviews.csv[text=review]`` is a data set of the user, see suites.declared.
"""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from types import ModuleType
from typing import TypeGuard, get_type_hints

from suites.base import Suite
from suites.bracketed import identity, name_of, take_apart
from suites.declared import is_declared, parsed
from suites.description import Description, Option, field_help, in_words, options_in_words
from suites.registry import Registry
from suites.syntax import assigned_names
from suites.training import Training

__all__ = ["REGISTRY", "Suite", "get", "name_and_view", "names", "notes_of", "plain_name"]


class SuiteRegistry(Registry[Suite]):
    """All suites."""

    kind, plural, package, group = "suite", "suites", "suites", "lethe.suites"

    def collect(self, module: ModuleType) -> None:
        """Enter the suites that a module makes; those that it imports belong to another one."""
        for name in assigned_names(module):
            if self.is_one(value := getattr(module, name)):
                self.enter(value.name, value, module.__name__)

    def is_one(self, value: object) -> TypeGuard[Suite]:
        """Return whether a value is a suite."""
        return isinstance(value, Suite)

    def is_declared(self, name: str) -> bool:
        """Return whether a name is a data set of the user, or a view of one; no file is opened."""
        return is_declared(name_and_view(name)[0])

    # A name may have options in brackets, and a view after @: they change the suite, not where it is defined.

    def get(self, name: str) -> Suite:
        """Return a suite, ``digits[tasks=2]`` with options, or a view of one, ``digits@tuning``.

        Raises:
            UserError: As ``Registry.get``, for options and views that are unknown or impossible, and for a
                user's data that cannot be learned from.
        """
        suite, view = name_and_view(name)
        if view:
            from suites.views import view_of

            return self.once(name, self.get(suite), lambda whole: view_of(whole, view))
        if is_declared(name):
            from suites.own.suite import suite_of

            return suite_of(parsed(name))
        plain, given = take_apart(name)
        usual = super().get(plain)
        return self.once(name, usual, lambda made: made.with_options(given)) if given else usual

    def spelled(self, name: str) -> str:
        """Return the canonical spelling of a name: options that differ from the suite's own, sorted."""
        suite, view = name_and_view(name)
        return self._spelled(suite) + (f"@{view}" if view else "")

    def _spelled(self, name: str) -> str:
        if is_declared(name):
            own = parsed(name)
            if not own.of_split:
                return own.name
            from suites.own.suite import spelled_with_options

            return spelled_with_options(own)
        plain, given = take_apart(name)
        usual, options = (super().get(plain).options, self.get(name).options) if given else ({}, {})
        differing = {k: v for k, v in options.items() if v != usual[k]}
        return identity(super().spelled(plain), differing)

    def has(self, name: str) -> bool:
        """Return whether a name is that of a suite, also with options or of a view of one."""
        return self.is_declared(name) or super().has(plain_name(name))

    def knows(self, name: str) -> bool:
        """Return whether a name is that of a suite, also with options, or refers to a file."""
        return self.is_declared(name) or super().knows(plain_name(name))

    def defined_in(self, name: str) -> str | Path:
        """Return the module or file that defines a suite; of a declared one what its numbers depend on."""
        return "suites.own.suite" if self.is_declared(name) else super().defined_in(plain_name(name))

    def describe_value(self, name: str, value: Suite) -> Description:
        """Return the description of a suite, with its training settings as options."""
        shown = ["version", "source", "licence", "scenarios", "model", "model_options", "needs", "presets"]
        said = {key: getattr(value, key) for key in shown}
        metadata = {key: in_words(of) for key, of in said.items() if of not in ("", {}, Suite.needs)}
        hints, help_ = get_type_hints(Training, include_extras=True), field_help(Training)
        options = options_in_words(asdict(value.training), hints, help_)
        of_split: tuple[Option, ...] = getattr(value.split, "described", tuple)()
        return Description(self.kind, name, value.summary, "", metadata, options, of_split)


REGISTRY = SuiteRegistry(Path(__file__).parent)


def names() -> list[str]:
    """Return the names of all registered suites, sorted."""
    return REGISTRY.names()


def get(name: str) -> Suite:
    """Return a suite; raises UserError for an unknown name and suggests the closest ones."""
    return REGISTRY.get(name)


def notes_of(name: str) -> list[str]:
    """Return what a user should know of the data of a declared suite; nothing for others."""
    if not is_declared(name):
        return []
    from suites.own.loaded import loaded

    own = parsed(name)
    return [f"{own.short}: {words}" for words in loaded(own).notes]


def name_and_view(name: str) -> tuple[str, str]:
    """Return the names of suite and view in ``digits@tuning``; the view is empty for a whole suite."""
    suite, at, view = name.rpartition("@")
    return (suite, view) if at and not {*"/.:]"} & {*view} else (name, "")


def plain_name(name: str) -> str:
    """Return the name of a suite without options and view: ``digits[tasks=2]@tuning`` is ``digits``."""
    return name_of(name_and_view(name)[0])
