"""Names with options in brackets, ``name[key=value,...]``: those that differ from their defaults."""

import re
from collections.abc import Mapping
from typing import Any

from suites.errors import UserError
from suites.values import Value, text_of

_NAMED = re.compile(r"(?P<name>.*?)(?:\[(?P<options>[^\[\]]*)\])?", re.DOTALL)


def name_of(selector: str) -> str:
    """Return the name in a selector; a text of another form is its own name."""
    found = _NAMED.fullmatch(selector)
    return found["name"] if found else selector


def take_apart(selector: str) -> tuple[str, dict[str, str]]:
    """Return the name and the options of a selector; raises UserError for options that cannot be read."""
    found = _NAMED.fullmatch(selector)
    if found is None:
        return selector, {}
    return found["name"], options_of(found["options"] or "", selector, "tasks=10")


def options_of(written: str, selector: str, example: str) -> dict[str, str]:
    """Return the options in the brackets of a selector.

    Args:
        written: The text in the brackets.
        selector: The whole selector, for messages.
        example: An option, for messages.

    Raises:
        UserError: An option is not ``key=value``, or is given twice.
    """
    options: dict[str, str] = {}
    for part in filter(None, written.split(",")):
        key, equals, value = part.partition("=")
        if not equals or not key.strip() or not value.strip():
            raise UserError(f"cannot read {part!r} in {selector!r}; write options like {example}")
        if key.strip() in options:
            raise UserError(f"{key.strip()} is given twice in {selector!r}")
        options[key.strip()] = value.strip()
    return options


def identity(name: str, options: Mapping[str, Value] | Mapping[str, Any]) -> str:
    """Return the canonical selector: options sorted, numbers in their shortest form."""
    if not options:
        return name
    return f"{name}[{','.join(f'{k}={text_of(options[k])}' for k in sorted(options))}]"
