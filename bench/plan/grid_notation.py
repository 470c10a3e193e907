"""The notation of several values of a setting: ``1|10|100``, ``1e-1..1e4:log6``, ``0.1..0.5:5``, ``2..6``.

``|`` separates values and ranges. A range has both ends: ``:logN`` are N values evenly spaced in the
logarithm, ``:N`` are N values evenly spaced. Of a whole number, a range without a count has every number.
"""

import math
import re
from collections.abc import Iterable
from itertools import product
from math import prod
from numbers import Real

import suites
from suites.bracketed import identity, take_apart
from suites.declared import is_declared
from suites.errors import UserError
from suites.values import taken_apart, text_of

MOST = 10_000
"""Largest number of settings of a grid, and of values of a range."""
_NUMBER = r"[-+]?(?:\d+(?:\.\d+)?|\.\d+)(?:[eE][-+]?\d+)?"
_RANGE = re.compile(rf"({_NUMBER})\.\.({_NUMBER})(?::(log)?(\d{{1,9}}))?")
_DIGITS = {"log": "3", None: "6"}
"""Significant digits of the values between the ends of a range, so that identities stay short."""


def is_grid(text: str, hint: object) -> bool:
    """Return whether a text is in the notation of a grid; only numbers, by their type, have ranges."""
    return "|" in text or (".." in text and taken_apart(hint)[0] in (int, float))


def values_of(what: str, text: str, hint: object) -> list[str]:
    """Return the values in a text: the text itself, unless it is in the notation of a grid.

    Args:
        what: Name of the setting in messages.
        text: The text after the equals sign.
        hint: Type of the setting; only numbers have ranges.

    Raises:
        UserError: A value is empty or a range cannot be read.
    """
    found: list[str] = []
    for part in map(str.strip, text.split("|")):
        if not part:
            raise UserError(f"{what}={text} has an empty value; write values like {what}=1|10|100")
        found += _range(what, part, taken_apart(hint)[0] is int) if is_grid(part, hint) else [part]
    return found


def suites_of(name: str) -> list[str]:
    """Return the suites in a name: the name itself, unless an option in its brackets has several values.

    ``split-mnist[tasks=5|10]`` are ``split-mnist[tasks=5]`` and ``split-mnist[tasks=10]``.

    Raises:
        UserError: A value is empty or a range cannot be read, or the suite is unknown.
    """
    if is_declared(name) or not any(mark in name.partition("[")[2] for mark in ("|", "..")):
        return [name]
    base, options = take_apart(name)
    # A user's file is not imported to read a name: of its suites, ``|`` is a grid and a range is not.
    usual = {} if ":" in base else suites.get(base).options
    of_keys = [
        [(k, v) for v in values_of(f"{base}: {k}", text, type(usual.get(k, "")))]
        for k, text in options.items()
    ]
    if (n := prod(map(len, of_keys))) > MOST:
        raise UserError(f"{name} is a grid of {n:,} suites, and at most {MOST:,} are possible")
    return [identity(base, dict(chosen)) for chosen in product(*of_keys)]


def _range(what: str, text: str, whole: bool) -> list[str]:
    """Return the values of a range; raises UserError if it cannot be read."""
    match = _RANGE.fullmatch(text)
    if match is None:
        raise _unreadable(what, text, "it is not of that form")
    ends, kind, count = match.group(1, 2), match[3], match[4]
    low, high = map(float, ends)
    if not math.isfinite(low) or not math.isfinite(high) or low == high:
        raise _unreadable(what, text, "its ends must be two different numbers")
    if kind and (low <= 0 or high <= 0):
        raise _unreadable(
            what, text, f"no logarithm of {ends[low > 0]}: write the 0 apart, as in 0|1..100:log3"
        )
    if count is None and not (whole and low.is_integer() and high.is_integer()):
        raise _unreadable(what, text, "it needs a number of values")
    n = int(count) if count else abs(high - low) + 1
    if not 2 <= n <= MOST:
        raise _unreadable(what, text, f"the number of values must be from 2 to {MOST:,}, not {n:,.0f}")
    if not math.isfinite(high - low):
        raise _unreadable(what, text, "its ends are too far apart")
    shares = [i / (n - 1) for i in range(1, int(n) - 1)]
    if kind:
        between = [math.exp(math.log(low) + s * (math.log(high) - math.log(low))) for s in shares]
    else:
        between = [low + s * (high - low) for s in shares]
    shown = [str(round(x)) if whole else text_of(float(f"{x:.{_DIGITS[kind]}g}")) for x in between]
    return [ends[0], *shown, ends[1]]


def _unreadable(what: str, text: str, why: str) -> UserError:
    ways = f"{what}=1|10|100, {what}=1..100:log3 (evenly in the logarithm) or {what}=1..5:3 (evenly)"
    return UserError(f"cannot read the range {what}={text}: {why}; write {ways}")


def text_of_values(what: str, given: object) -> str:
    """Return a value or an iterable of values from Python or TOML as text: ``[1, 10]`` is ``1|10``.

    Raises:
        UserError: A value is not a number, text, true or false, or no value is given.
    """
    several = isinstance(given, Iterable) and not isinstance(given, str | bytes | dict)
    values = list(given) if several else [given]  # type: ignore[call-overload]
    for value in values:
        if not isinstance(value, Real | str):
            raise UserError(f"{what} must be a number, text, true or false, or a list of them, not {value!r}")
    if not values:
        raise UserError(f"{what} has no values; write a list like [1, 10]")
    return "|".join(map(text_of, values))
