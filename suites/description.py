"""Descriptions of registered objects in words, for lists and help."""

from __future__ import annotations

import ast
import inspect
import re
import textwrap
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from functools import cache
from itertools import pairwise
from typing import Annotated, Any, Literal, get_args, get_origin

from suites.values import search_of, taken_apart


@dataclass(frozen=True)
class Option:
    """A hyper-parameter, a training setting, or an option of a model."""

    name: str
    type: str
    """In words: ``whole number from 1 up``."""
    default: str
    help: str
    search: str = ""
    """The values among which tuning chooses: ``1..1e6:log``; empty if it is not tuned."""


@dataclass(frozen=True)
class Description:
    """A strategy, suite, model or score in words."""

    kind: str
    name: str
    summary: str
    about: str = ""
    """The whole docstring, if it is more than the summary."""
    metadata: dict[str, str] = field(default_factory=dict)
    """Family, paper, needs ...; in the order in which they are shown."""
    options: tuple[Option, ...] = ()
    of_name: tuple[Option, ...] = ()
    """Options in the brackets of the name of a suite: ``split-mnist[tasks=10]``."""

    def as_json(self) -> dict[str, Any]:
        """Return it as JSON."""
        return asdict(self)

    @classmethod
    def of_json(cls, saved: dict[str, Any]) -> Description:
        """Return the description in ``as_json``; raises TypeError or KeyError for anything else."""
        of = {key: tuple(Option(**option) for option in saved[key]) for key in ("options", "of_name")}
        return cls(**saved | of)


def in_words(value: object) -> str:
    """Return a value as a user writes it: ``true``; ``hidden=100, layers=2``; ``preset (buffer=100)``."""
    if isinstance(value, Mapping):
        return ", ".join(
            f"{k} ({in_words(v)})" if isinstance(v, Mapping) else f"{k}={in_words(v)}"
            for k, v in value.items()
        )
    if isinstance(value, tuple):
        return ", ".join(map(in_words, value))
    return str(value).lower() if isinstance(value, bool) else str(value)


def type_in_words(hint: Any) -> str:
    """Return a type in words: ``Annotated[int, Bounds(1)]`` is a whole number from 1 up."""
    if get_origin(hint) is Literal:
        return " | ".join(map(str, get_args(hint)))
    if get_origin(hint) is Annotated:
        plain, bounds = taken_apart(hint)
        return type_in_words(plain) + _range(getattr(bounds, "low", None), getattr(bounds, "high", None))
    words = {int: "whole number", float: "number", bool: "true or false", str: "text"}
    return words.get(hint) or (hint.__name__ if isinstance(hint, type) else str(hint))


def _range(low: float | None, high: float | None) -> str:
    if low is None:
        return "" if high is None else f" up to {high:g}"
    return f" from {low:g} {'up' if high is None else f'to {high:g}'}"


def options_in_words(
    values: Mapping[str, object], hints: Mapping[str, Any], help_: Mapping[str, str]
) -> tuple[Option, ...]:
    """Return options and their default values in words, given the type of each and its help."""
    return tuple(
        Option(k, type_in_words(hints[k]), in_words(v), help_.get(k, ""), str(search_of(hints[k]) or ""))
        for k, v in values.items()
    )


def first_paragraph(doc: str) -> str:
    """Return the summary of a docstring, in one line."""
    return doc.split("\n\n")[0].replace("\n", " ")


def argument_help(doc: str) -> dict[str, str]:
    """Return the text on each argument in the ``Args:`` section of a docstring, in one line each."""
    section = re.search(r"^Args:\n(.*?)(?=^\S|\Z)", doc, re.MULTILINE | re.DOTALL)
    parts = re.findall(r"^ {4}(\w+): (.*(?:\n {5,}.*)*)", section[1], re.MULTILINE) if section else []
    return {name: " ".join(text.split()) for name, text in parts}


def docstring(thing: Any) -> str:
    """Return the docstring in the source of a function or class, not inherited and not generated."""
    written = vars(thing).get("__doc__") if isinstance(thing, type) else thing.__doc__
    doc = inspect.cleandoc(written or "")
    # A dataclass without a docstring gets its signature as one.
    return "" if isinstance(thing, type) and doc.startswith(f"{thing.__name__}(") else doc


def field_help(cls: type) -> dict[str, str]:
    """Return the string below each annotated attribute of a class and its ancestors.

    Python does not keep these strings, so they are read from the source; without a source there are none.
    """
    found: dict[str, str] = {}
    for ancestor in reversed(cls.__mro__):
        if ancestor.__module__ != "builtins":
            found |= _own_help(ancestor)
    return found


@cache
def _own_help(cls: type) -> dict[str, str]:
    try:
        node = ast.parse(textwrap.dedent(inspect.getsource(cls))).body[0]
    except (OSError, TypeError, SyntaxError, IndexError):
        return {}
    body = node.body if isinstance(node, ast.ClassDef) else []
    return {
        item.target.id: after.value.value
        for item, after in pairwise(body)
        if isinstance(item, ast.AnnAssign)
        and isinstance(item.target, ast.Name)
        and isinstance(after, ast.Expr)
        and isinstance(after.value, ast.Constant)
        and isinstance(after.value.value, str)
    }
