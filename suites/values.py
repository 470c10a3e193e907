"""Canonical forms of values and paths, so that equal settings have one identity and one key.

Values from users, defaults of strategies, training settings of suites and options of models all go through
``convert``, and names that contain a path through ``spelled``.
"""

from __future__ import annotations

import math
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal, get_args, get_origin

from suites.errors import UserError, unknown

Value = bool | int | float | str
"""The value of a setting."""


def text_of(value: Value) -> str:
    """Return a value as selectors write it: 1e9, 1e-05; without plus signs, which join strategies."""
    if isinstance(value, bool):
        return str(value).lower()
    if not isinstance(value, float):
        return str(value)
    short = f"{value:g}"
    return (short if float(short) == value else repr(value)).replace("e+", "e").replace("e0", "e")


def convert(what: str, given: Value, hint: Any) -> Value:
    """Return a value in the canonical form of the type of its field.

    ``1``, ``1.0`` and ``1e0`` are the same number, an int if the field is one, and ``-0.0`` is 0. Numbers and
    ``true`` or ``false`` are not converted into each other.

    Args:
        what: Name of the setting in messages.
        given: Text from a user, or a default from an author.
        hint: Type of the field: int, float, bool, str or a Literal, optionally Annotated with bounds.

    Raises:
        UserError: The value does not have the type or is out of bounds.
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
        raise UserError(f"{what} cannot be set: its type must be int, float, bool, str or Literal")
    value = _number(text, plain)
    if value is None:
        kind = "a whole number" if plain is int else "a number"
        raise UserError(f"{what} must be {kind}, not {_quoted(given)}")
    if isinstance(value, float) and not math.isfinite(value):
        raise UserError(f"{what} must be finite, not {_quoted(given)}")
    low, high = (getattr(bounds, end, None) for end in ("low", "high"))
    if low is not None and value < low:
        raise UserError(f"{what} must be at least {text_of(low)}, not {text}")
    if high is not None and value > high:
        raise UserError(f"{what} must be at most {text_of(high)}, not {text}")
    return value


@dataclass(frozen=True)
class Bounds:
    """The smallest and largest value that a setting may have; None for no bound."""

    low: float | None = None
    high: float | None = None


Count = Annotated[int, Bounds(1)]
"""A whole number from 1 up, the same for all lanes."""
CountOrNone = Annotated[int, Bounds(0)]
"""A whole number from 0 up, the same for all lanes; 0 means none, or what the help says."""


class Later:
    """Marks a setting that was added later: specs leave it out at its default, so old cells keep their keys.

    Example:
        ```python
        rows: Annotated[int, Bounds(0), Later()] = 0
        ```
    """


def recorded(given: Mapping[str, Any], usual: Mapping[str, Any], hints: Mapping[str, Any]) -> dict[str, Any]:
    """Return settings as specs have them: without those marked ``Later`` that have their default."""
    later = {name for name in given if any(isinstance(a, Later) for a in _annotations(hints[name]))}
    return {name: value for name, value in given.items() if name not in later or value != usual[name]}


def whole_numbers(what: str, text: str) -> list[int]:
    """Return the numbers of ``3-1-4``; raises UserError for any other text."""
    parts = text.split("-")
    if not all(part.isascii() and part.isdecimal() for part in parts):
        raise UserError(f"cannot read {what}={text}; write numbers like 3-1-4")
    return [int(part) for part in parts]


@dataclass(frozen=True)
class Condition:
    """The condition under which a setting has an effect: the value of another setting."""

    other: str
    """Another setting of the same method or model, a training setting, or ``scenario``."""
    values: tuple[Value, ...]
    """Values of the other setting."""
    has: bool = True
    """Whether the other setting must have one of the values, or must have none of them."""

    def met(self, value: Value) -> bool:
        """Return whether the condition is met by a value of the other setting."""
        return (value in self.values) is self.has

    def __str__(self) -> str:
        named = " or ".join(text_of(v) for v in self.values)
        return f"{'unless' if self.has else 'with'} {self.other}={named}"


@dataclass(frozen=True)
class Search:
    """The values of a setting among which tuning chooses, declared in the ``Annotated`` of its field.

    Written ``1..1e6:log``, ``0..1``, ``8|16|32``, or ``0.1x..10x:log`` for multiples of the default. A range
    may end in the number of its points in a grid, ``1..1e6:log7`` or ``0..1:5``.

    Example:
        ```python
        lam: Annotated[NotNegative, Search(1, 1e6, log=True)] = LaneFloat(1000.0)
        ```
    """

    first: float = 0.0
    """The smallest value of a range."""
    last: float = 1.0
    """The largest value of a range."""
    log: bool = False
    """Whether the logarithm is drawn evenly, and not the value."""
    times: bool = False
    """Whether the ends of the range are multiples of the default, which differs between suites."""
    points: int = 0
    """Number of values of a range in a grid; 0 for as many as a budget allows."""
    of: tuple[Value, ...] = ()
    """The values, instead of a range: for settings that are not real numbers, or that change shapes."""

    def __post_init__(self) -> None:
        """Raise UserError for a range that is empty, or without logarithms."""
        if not self.of and (self.first >= self.last or (self.log and self.first <= 0)):
            raise UserError(f"{self} is not a range: write the smaller value first, and above 0 for log")

    def __str__(self) -> str:
        if self.of:
            return "|".join(map(text_of, self.of))
        ends = (f"{text_of(float(end))}{'x' * self.times}" for end in (self.first, self.last))
        how = "log" * self.log + (str(self.points) if self.points else "")
        return "..".join(ends) + (f":{how}" if how else "")

    @classmethod
    def read(cls, text: str) -> Search:
        """Return the search space in its notation; raises UserError for any other text."""
        found = _RANGE.fullmatch(text.strip())
        if found is None and ".." not in text and "" not in (values := text.strip().split("|")):
            return cls(of=tuple(values))
        try:
            if found is None or bool(found[2]) != bool(found[4]):
                raise ValueError
            log, times, points = bool(found[5]), bool(found[2]), int(found[6] or 0)
            return cls(float(found[1]), float(found[3]), log, times, points)
        except ValueError:
            raise UserError(f"cannot read the range {text!r}; write 1..1e6:log, 0..1 or 8|16|32") from None


_RANGE = re.compile(r"([^.x:|]+(?:\.\d+[^.x:|]*)?)(x?)\.\.([^x:|]+)(x?)(?::(?=.)(log)?([1-9]\d*)?)?")


def search_of(hint: Any) -> Search | None:
    """Return the search space in the type of a field, None if it has none."""
    return next((a for a in _annotations(hint) if isinstance(a, Search)), None)


def only_if(other: str, *values: Value) -> Condition:
    """Declare, in a field's ``Annotated``, that it only has an effect if another setting has some value.

    Without an effect the field is set back to its default, so that it does not make a separate cell.

    Args:
        other: Another hyper-parameter, a training setting, or ``scenario``.
        values: Values of it for which the field has an effect.

    Example:
        ```python
        lam: Annotated[NotNegative, only_if("balance", "sum")] = LaneFloat(1.0)
        ```
    """
    return Condition(other, values)


def unless(other: str, *values: Value) -> Condition:
    """Declare, in a field's ``Annotated``, that it has no effect if another setting has some value.

    Args:
        other: Another hyper-parameter, a training setting, or ``scenario``.
        values: Values of it for which the field has no effect.
    """
    return Condition(other, values, has=False)


def conditions(hint: Any) -> list[Condition]:
    """Return the conditions in the type of a field; all must be met for it to have an effect."""
    return [a for a in _annotations(hint) if isinstance(a, Condition)]


def settled(
    given: Mapping[str, Value],
    usual: Mapping[str, Value],
    hints: Mapping[str, Any],
    around: Mapping[str, Value],
) -> tuple[dict[str, Value], dict[str, Condition]]:
    """Set settings without effect back to their defaults, so that they do not make separate cells.

    Args:
        given: The settings of a method or of a model.
        usual: The default of each.
        hints: Their types, with conditions.
        around: Other settings that conditions may refer to.

    Returns:
        The settings, and for each one that was set back the first condition that is not met.
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


def _annotations(hint: Any) -> tuple[Any, ...]:
    """Return what a type is annotated with."""
    return get_args(hint)[1:] if get_origin(hint) is Annotated else ()


def taken_apart(hint: Any) -> tuple[Any, Any]:
    """Return a type without its annotations, and the annotation with bounds, None if there is none."""
    plain = get_args(hint)[0] if get_origin(hint) is Annotated else hint
    return plain, next((a for a in _annotations(hint) if hasattr(a, "low")), None)


def _number(text: str, kind: type) -> int | float | None:
    """Return a number in canonical form, None if the text is not a number of that kind."""
    try:
        if kind is int:
            try:
                return int(text)  # exact for any length
            except ValueError:
                whole = float(text)
                return int(whole) if whole.is_integer() else whole if math.isinf(whole) else None
        return float(text) + 0.0  # -0.0 becomes 0.0
    except ValueError:
        return None


def _quoted(given: Value) -> str:
    return repr(given) if isinstance(given, str) else text_of(given)


def spelled(path: str) -> str:
    """Return the canonical spelling of a path: ``./...`` below the working directory, else absolute."""
    if "\0" in path:
        raise UserError(f"a path cannot contain a null character: {path!r}")
    whole, here = os.path.realpath(os.path.expanduser(path)), os.path.realpath(os.curdir)
    if os.path.commonpath([whole, here]) != here:
        return whole
    return os.path.join(os.curdir, os.path.relpath(whole, here))
