"""A class as an author wrote it, made a complete strategy: annotated defaults are hyper-parameters."""

import math
from dataclasses import dataclass, fields
from typing import get_type_hints

from strategies.core.strategy import Strategy
from suites.errors import UserError


def complete(selector: str, cls: type[Strategy]) -> type[Strategy]:
    """Return the class with its annotated defaults as fields, decorated as a dataclass or not, and a name.

    Raises UserError for an annotated attribute that cannot be a hyper-parameter.
    """
    if "name" not in vars(cls):
        cls.name = cls.__name__
    doing = "its annotated defaults cannot be hyper-parameters"
    try:
        for ancestor in reversed(cls.__mro__):
            if issubclass(ancestor, Strategy) and "__dataclass_fields__" not in vars(ancestor):
                dataclass(ancestor)
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
                "number, nor true or false, nor text; leave out its annotation, or annotate it as ClassVar"
            )
    return cls


def _can_be_set(value: object) -> bool:
    return isinstance(value, bool | int | str) or (isinstance(value, float) and math.isfinite(value))
