"""One value, one spelling: settings from text or from a default, their bounds, and paths.

Given values, defaults of strategies, training settings of suites and options of models all pass ``convert``,
and every name that holds a path passes ``spelled``: so that one setting is one identity and one key.
"""

import math
import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal, get_args, get_origin

from suites.errors import UserError, unknown

Value = bool | int | float | str
"""A setting's value."""


def text_of(value: Value) -> str:
    """Return a value as a selector writes it: 1e9 and 1e-05, never a plus sign, which joins strategies."""
    if isinstance(value, bool):
        return str(value).lower()
    if not isinstance(value, float):
        return str(value)
    short = f"{value:g}"
    return (short if float(short) == value else repr(value)).replace("e+", "e").replace("e0", "e")


def convert(what: str, given: Value, hint: Any) -> Value:
    """Return a value in the one form that a field of a type has it in.

    ``1``, ``1.0`` and ``1e0`` are one number, whole where the field is, and ``-0.0`` is 0. A number is no
    ``true``, and ``true`` is no number.

    Args:
        what: The setting, as messages name it.
        given: Text as a user wrote it, or a default as an author wrote it.
        hint: The field's type: int, float, bool, str or a Literal, perhaps Annotated with bounds.

    Raises:
        UserError: for what is not of the type or out of its bounds, in one line.
    """
    plain, bounds = taken_apart(hint)
    text = text_of(given).strip()
    if get_origin(plain) is Literal:
        options = {text_of(option): option for option in get_args(plain)}
        if text not in options:
            raise unknown(f"value for {what}", text, list(options))
        found: Value = options[text]
        return found
    if plain is bool:
        if text.lower() not in ("true", "false"):
            raise UserError(f"{what} must be true or false, not {_quoted(given)}")
        return text.lower() == "true"
    if plain is str:
        return text_of(given)
    if plain not in (int, float):
        raise UserError(f"{what} cannot be set: it is neither a number, true or false, nor text")
    value = _number(text, plain)
    if value is None:
        kind = "a whole number" if plain is int else "a number"
        raise UserError(f"{what} must be {kind}, not {_quoted(given)}")
    if not math.isfinite(value):
        raise UserError(f"{what} must be finite, not {_quoted(given)}")
    low, high = (getattr(bounds, end, None) for end in ("low", "high"))
    if low is not None and value < low:
        raise UserError(f"{what} must be at least {text_of(low)}, not {text}")
    if high is not None and value > high:
        raise UserError(f"{what} must be at most {text_of(high)}, not {text}")
    return value


@dataclass(frozen=True)
class Condition:
    """When a setting has an effect: while another one has, or has not, one of some values."""

    other: str
    """Another setting of the same method or model, a training setting, or ``scenario``."""
    values: tuple[Value, ...]
    has: bool = True

    def met(self, value: Value) -> bool:
        """Return whether it is so at a value of the other setting."""
        return (value in self.values) is self.has

    def __str__(self) -> str:
        named = " or ".join(text_of(v) for v in self.values)
        return f"{'unless' if self.has else 'with'} {self.other}={named}"


def only_if(other: str, *values: Value) -> Condition:
    """Say, in a field's ``Annotated``, that it has an effect only while another one has one of some values.

    Example::

        lam: Annotated[NotNegative, only_if("balance", "sum")] = LaneFloat(1.0)
    """
    return Condition(other, values)


def unless(other: str, *values: Value) -> Condition:
    """Say, in a field's ``Annotated``, that it has no effect while another one has one of some values."""
    return Condition(other, values, has=False)


def conditions(hint: Any) -> list[Condition]:
    """Return what a field's type says of when it has an effect; all of it must hold."""
    return [a for a in get_args(hint)[1:] if isinstance(a, Condition)] if _is_annotated(hint) else []


def settled(
    given: Mapping[str, Value],
    usual: Mapping[str, Value],
    hints: Mapping[str, Any],
    around: Mapping[str, Value],
) -> tuple[dict[str, Value], dict[str, Condition]]:
    """Set back what has no effect, so that it makes no cell of its own.

    Args:
        given: The settings of a method or of a model.
        usual: What each of them is set back to.
        hints: Their types, with their conditions.
        around: What else conditions may be about.

    Returns:
        The settings, and for each that was set back the first condition that is not met.
    """
    found: dict[str, Value] = {}
    why: dict[str, Condition] = {}

    def value(name: str) -> Value:
        if name not in given:
            return around[name]
        if name not in found:
            unmet = next((c for c in conditions(hints[name]) if not c.met(value(c.other))), None)
            found[name] = given[name] if unmet is None else usual[name]
            if unmet is not None and found[name] != given[name]:
                why[name] = unmet
        return found[name]

    for name in given:
        value(name)
    return {name: found[name] for name in given}, why


def _is_annotated(hint: Any) -> bool:
    return get_origin(hint) is Annotated


def taken_apart(hint: Any) -> tuple[Any, Any]:
    """Return a type without its annotations, and the one of them that has bounds, None where none has."""
    if not _is_annotated(hint):
        return hint, None
    plain, *annotations = get_args(hint)
    return plain, next((a for a in annotations if hasattr(a, "low")), None)


def _number(text: str, kind: type) -> int | float | None:
    """Return a number in its one form, None where the text is none of that kind."""
    try:
        if kind is int:
            try:
                return int(text)  # exact, whatever its length
            except ValueError:
                whole = float(text)
                return int(whole) if whole.is_integer() else whole if math.isinf(whole) else None
        return float(text) + 0.0  # of -0.0 as well 0.0
    except ValueError:
        return None


def _quoted(given: Value) -> str:
    return repr(given) if isinstance(given, str) else text_of(given)


def spelled(path: str) -> str:
    """Return the one spelling of a path: ``./`` and the rest below the working directory, else absolute."""
    whole, here = os.path.realpath(os.path.expanduser(path)), os.path.realpath(os.curdir)
    if os.path.commonpath([whole, here]) != here:
        return whole
    return os.path.join(os.curdir, os.path.relpath(whole, here))
