"""Completes a class as its author wrote it: annotated defaults become hyper-parameters."""

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from inspect import get_annotations
from typing import Any, get_type_hints

from strategies.core.strategy import Strategy
from suites.errors import UserError
from suites.values import Value, convert


def complete(selector: str, cls: type[Strategy]) -> type[Strategy]:
    """Give a class a name and make its annotated defaults dataclass fields, if its author did not.

    Args:
        selector: The name of the strategy in messages.
        cls: The class; it is changed in place.

    Raises:
        UserError: An annotated attribute cannot be a hyper-parameter, or a default is not a valid value.
    """
    if "name" not in vars(cls):
        cls.name = cls.__name__
    doing = "its annotated defaults cannot be hyper-parameters"
    try:
        if "__dataclass_fields__" not in vars(cls):
            dataclass(cls)
        doing = "its annotations cannot be read"
        get_type_hints(cls, include_extras=True)
        doing = "it cannot be made"
        made = cls()
    except TypeError as error:
        raise UserError(f"{selector}: every hyper-parameter needs a default ({error})") from error
    except Exception as error:
        raise UserError(f"{selector}: {doing}: {type(error).__name__}: {error}") from error
    for field in fields(cls):
        value = getattr(made, field.name)
        if not field.init or not _can_be_set(value):
            raise UserError(
                f"{selector}: {field.name} = {value!r} cannot be a hyper-parameter: it is neither a finite "
                "number, nor true or false, nor text; remove its annotation, or annotate it as ClassVar"
            )
    for ancestor in cls.__mro__:
        written = get_annotations(ancestor)
        for name in (f.name for f in fields(cls) if f.name in vars(ancestor) and f.name not in written):
            line = f"{name} = {vars(ancestor)[name]!r}"
            raise UserError(
                f"{selector}: {line} has no annotation, so it would change nothing: write it with the type "
                f"that {name} has in the class that defines it"
            )
    _DEFAULTS[cls] = _converted(cls, selector)
    return cls


_DEFAULTS: dict[Any, Mapping[str, Value]] = {}
"""Cached by class: a plan reads them thousands of times."""


def defaults(cls: type[Strategy]) -> Mapping[str, Value]:
    """Return a strategy's hyper-parameters at their defaults, converted as values of a user are.

    Raises:
        UserError: A default is not a valid value.
    """
    if cls not in _DEFAULTS:
        _DEFAULTS[cls] = _converted(cls, cls.name)
    return _DEFAULTS[cls]


def _converted(cls: type[Strategy], name: str) -> Mapping[str, Value]:
    hints = get_type_hints(cls, include_extras=True)
    return {k: convert(f"{name}: default of {k}", v, hints[k]) for k, v in asdict(cls()).items()}


def _can_be_set(value: object) -> bool:
    return isinstance(value, bool | int | str) or (isinstance(value, float) and math.isfinite(value))
