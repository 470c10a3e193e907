"""The search space of a method: its declared ranges, those of --space, and settings that are fixed."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, cast, get_type_hints

import strategies
import suites
from bench.plan import OF_METHODS, CellSpec, Value, identity, parse_selector, text_of
from strategies.core import defaults
from suites.base import Training
from suites.errors import UserError, unknown
from suites.values import Search, conditions, search_of, taken_apart

_DIGITS = 3
"""Significant digits of drawn numbers, so that selectors stay short."""


@dataclass(frozen=True)
class Axis:
    """The values of one setting: a list of them, or a range of numbers."""

    values: tuple[Value, ...] = ()
    low: float = 0.0
    high: float = 0.0
    log: bool = False
    whole: bool = False
    """Whether the values of a range are whole numbers."""
    most: int = 0
    """Number of values of a range in a grid; 0 for as many as the budget allows."""

    @classmethod
    def of(cls, search: Search, usual: Value, hint: Any) -> Axis:
        """Return the axis of a search space; ``usual`` is the default of the setting."""
        if search.of:
            return cls(values=search.of)
        if isinstance(usual, bool | str):
            raise UserError(
                f"{search} is a range, and the setting is not a number: write its values like a|b"
            )
        by = float(usual) if search.times else 1.0
        if by <= 0:
            raise UserError(f"{search} are multiples of the default, which is {text_of(usual)}")
        return cls(
            (), search.first * by, search.last * by, search.log, taken_apart(hint)[0] is int, search.points
        )

    def at(self, share: float) -> Value:
        """Return the value at a share of the axis, from 0 to 1."""
        if self.values:
            return self.values[min(int(share * len(self.values)), len(self.values) - 1)]
        if self.log:
            value = math.exp(math.log(self.low) + share * (math.log(self.high) - math.log(self.low)))
        else:
            value = self.low + share * (self.high - self.low)
        return self.rounded(value)

    def rounded(self, value: float) -> Value:
        """Return a number of the range with few digits; whole if the setting is a whole number."""
        return round(value) if self.whole else float(f"{value:.{_DIGITS}g}")

    def points(self, n: int) -> tuple[Value, ...]:
        """Return the values, of a range without a number of points ``n`` of them, ends included."""
        n = self.most or n
        if self.values or n < 2:
            return self.values or (self.at(0.5),)
        return tuple(dict.fromkeys(self.at(i / (n - 1)) for i in range(n)))

    def __str__(self) -> str:
        if self.values:
            return "|".join(map(text_of, self.values))
        ends = (text_of(float(f"{end:.6g}")) for end in (self.low, self.high))
        return "..".join(ends) + ":log" * self.log


Settings = dict[str, Value]
"""Values by the name of an axis: ``lam``, or ``lwf: lam`` for a part of a sum."""


@dataclass(frozen=True)
class Space:
    """The search space of a selector on one suite and scenario."""

    selector: str
    axes: Mapping[str, Axis]
    usual: Settings
    """The value of each axis without tuning."""

    @cached_property
    def _parts(self) -> list[tuple[str, dict[str, str]]]:
        return [parse_selector(part) for part in strategies.split(self.selector)]

    def selected(self, settings: Settings) -> str:
        """Return the selector with the values of a trial."""
        words = []
        for number, (name, fixed) in enumerate(self._parts):
            # Training settings, which have no owner in a sum, are in the brackets of the first part.
            owners = (strategies.REGISTRY.spelled(name), *([""] if number == 0 else []))
            named = {axis.rpartition(": ")[::2]: value for axis, value in settings.items()}
            own = {key: value for (owner, key), value in named.items() if owner in owners}
            words.append(identity(name, {**fixed, **own}))
        return "+".join(words)

    def as_text(self) -> dict[str, str]:
        """Return the values of every axis in the notation of search spaces."""
        return {name: str(axis) for name, axis in self.axes.items()}


def space_of(selector: str, spec: CellSpec, given: Mapping[str, Mapping[str, str]]) -> Space:
    """Return the search space of a method.

    Settings in the brackets of the selector are fixed, and those that have no effect are left out.

    Args:
        selector: The method.
        spec: Its cell without tuning, of any seed.
        given: Search spaces by strategy and setting, which come before the declared ones.

    Raises:
        UserError: A space is not a range of the setting, or of a setting that nothing has.
    """
    parts = [
        (strategies.REGISTRY.spelled(n), fixed)
        for n, fixed in map(parse_selector, strategies.split(selector))
    ]
    training = get_type_hints(Training, include_extras=True)
    around: Settings = {**spec.model_options, **spec.training, "scenario": spec.scenario}
    around |= {key: getattr(strategies.get(spec.strategy), key) for key in OF_METHODS}
    around["generates"] = suites.get(spec.suite).generates
    axes: dict[str, Axis] = {}
    usual: Settings = {}
    for number, (written, fixed) in enumerate(parts):
        cls, name = strategies.get(written), strategies.REGISTRY.spelled(written)
        hints = get_type_hints(cast(Any, cls), include_extras=True)
        in_spec = {
            key: strategies.field_name(cls.name, key) if len(parts) > 1 else key for key in defaults(cls)
        }
        usual_of = defaults(cls)  # a setting of a later version is only in specs where it differs
        value_of = around | {k: spec.hyper.get(named, usual_of[k]) for k, named in in_spec.items()}
        types = (training if number == 0 else {}) | {key: hints[key] for key in in_spec}
        found = {
            key: search for key, hint in types.items() if (search := search_of(hint)) and key not in fixed
        }
        found |= {key: Search.read(text) for key, text in given.get(name, {}).items()}
        for key, search in found.items():
            if key not in value_of:
                raise unknown(f"hyper-parameter of {name}", key, list(value_of))
            hint = types.get(key, str)
            if all(c.other in found or c.met(value_of[c.other]) for c in conditions(hint)):
                label = f"{name}: {key}" if len(parts) > 1 and key in in_spec else key
                axes[label], usual[label] = Axis.of(search, value_of[key], hint), value_of[key]
    return Space(selector, axes, usual)


def without_ranges(selector: str) -> tuple[str, dict[str, dict[str, str]]]:
    """Return a selector without the settings that it gives ranges or several values, and these as spaces.

    ``ewc[lam=1..1e4:log,variant=online]`` is ``ewc[variant=online]`` with a search space of lam.
    """
    words, spaces = [], {}
    for name, options in (parse_selector(part) for part in strategies.split(selector)):
        ranges = {key: text for key, text in options.items() if "|" in text or ".." in text}
        spaces[strategies.REGISTRY.spelled(name)] = ranges
        words.append(identity(name, {key: text for key, text in options.items() if key not in ranges}))
    return "+".join(words), spaces


def read_spaces(texts: Iterable[str]) -> dict[str, dict[str, str]]:
    """Return the search spaces of ``--space 'ewc[lam=1..1e5:log]'`` by strategy and setting.

    Raises:
        UserError: A text is not a strategy with ranges in brackets.
    """
    found: dict[str, dict[str, str]] = {}
    for text in texts:
        name, ranges = parse_selector(text)
        if not ranges:
            raise UserError(f"cannot read --space {text!r}; write it like --space 'ewc[lam=1..1e5:log]'")
        for key, value in ranges.items():
            Search.read(value)
            found.setdefault(strategies.REGISTRY.spelled(name), {})[key] = value
    return found
