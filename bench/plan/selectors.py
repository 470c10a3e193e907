"""Selectors: a strategy and the settings that differ from its defaults, ``er[buffer=200,lr=0.05]``.

The brackets hold the strategy's hyper-parameters, the training settings of suites.training.Training and the
options of the model; ``ewc[preset=vandeven2022]`` takes a paper's recipe, ``er+lwf`` is the sum of two
methods. A grid, ``ewc[lam=1|10|100]``, expands to several settings; see bench.plan.grid_notation.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from functools import cache
from itertools import product
from math import prod
from typing import TYPE_CHECKING, Any, get_type_hints

import strategies
from bench import models
from bench.models import ModelRef
from bench.plan.grid_notation import MOST, is_grid, text_of_values, values_of
from bench.plan.model import option_types
from bench.plan.settings import TRAINING_HINTS, training_value
from bench.schema import Value
from suites.base import Training
from suites.bracketed import identity, options_of
from suites.errors import UserError, unknown
from suites.values import Condition, convert, recorded, settled, text_of

if TYPE_CHECKING:
    from strategies.core import Strategy


@dataclass(frozen=True)
class Choice:
    """One method of a selector, with the settings in its brackets divided by kind."""

    name: str
    hyper: dict[str, Value]
    """Hyper-parameters, defaults included."""
    training: dict[str, Value]
    model_options: dict[str, Value]

    @classmethod
    def of(cls, text: str, scenario: str, model: ModelRef) -> Choice:
        """Read ``name[key=value,...]``; ``preset`` is a method's named recipe.

        Raises:
            UserError: The method, a key, a value or a preset is unknown or impossible.
        """
        name, given = parse(text)
        strategy: Any = strategies.get(name)
        name = strategies.REGISTRY.spelled(name)
        hyper, hints = _defaults(strategy), _hints(strategy)
        known_training, known_options = [f.name for f in fields(Training)], models.options(model)
        training: dict[str, Value] = {}
        options: dict[str, Value] = {}
        recipe = _preset(strategy, given.pop("preset"), scenario) if "preset" in given else {}
        for key, value in (recipe | given).items():
            if key in hyper:
                hyper[key] = convert(f"{name}: {key}", value, hints[key])
            elif key in known_training:
                training[key] = training_value(key, value)
            elif key in known_options:
                options[key] = convert(f"model {model.name}: {key}", value, models.option_type(model, key))
            else:
                preset = ["preset"] if strategies.presets_of(strategy) else []
                known = [*hyper, *known_training, *known_options, *preset]
                raise unknown(f"hyper-parameter of {name}", key, known)
        return cls(name, hyper, training, options)

    @property
    def strategy(self) -> Any:
        """The class of the method."""
        return strategies.get(self.name)

    def settled(self, around: Mapping[str, Value]) -> tuple[Choice, dict[str, Condition]]:
        """Return the choice with hyper-parameters without effect set to their defaults, and the reasons.

        ``around`` contains other settings that effects depend on: training, model options and scenario.
        """
        hyper, idle = settled(self.hyper, _defaults(self.strategy), _hints(self.strategy), around)
        return replace(self, hyper=hyper), idle

    def differing(self) -> dict[str, Value]:
        """Return the hyper-parameters that differ from their defaults."""
        usual = _defaults(self.strategy)
        return {k: v for k, v in self.hyper.items() if v != usual[k]}

    def recorded(self, in_sum: bool) -> dict[str, Value]:
        """Return the hyper-parameters of a spec; in a sum, under the names they have in the whole."""
        hyper = recorded(self.hyper, _defaults(self.strategy), _hints(self.strategy))
        if not in_sum:
            return hyper
        own = self.strategy.name  # of a method in a file without the path
        return {strategies.field_name(own, k): v for k, v in hyper.items()}


def _defaults(strategy: type[Strategy]) -> dict[str, Value]:
    from strategies.core import defaults  # not at the top: a list of names imports no torch

    return dict(defaults(strategy))


@cache
def _hints(strategy: type[Any]) -> dict[str, Any]:
    """Return the types of hyper-parameters, resolved once for all cells of a strategy."""
    return get_type_hints(strategy, include_extras=True)


def _preset(strategy: type[Strategy], name: str, scenario: str) -> dict[str, str]:
    """Return the values of a preset as text; raises UserError if it has none for the scenario."""
    presets = strategies.presets_of(strategy)
    if not presets:
        raise UserError(f"{strategy.name} has no presets")
    if name not in presets:
        raise unknown(f"preset of {strategy.name}", name, list(presets))
    chosen: dict[str, str] = {}
    for key, value in presets[name].items():
        if isinstance(value, dict):
            if scenario not in value:
                has = ", ".join(value)
                raise UserError(f"{strategy.name}: preset {name} has no {key} for {scenario}; it has: {has}")
            value = value[scenario]
        chosen[key] = text_of(value)
    return chosen


def parse(selector: str) -> tuple[str, dict[str, str]]:
    """Parse ``name[key=value,...]``; raises UserError for any other form."""
    found = strategies.name_and_options(selector.strip())
    if found is None:
        raise UserError(f"cannot read {selector!r}; write a strategy like er or er[buffer=200,lr=0.05]")
    name, written = found
    return name, options_of(written, selector, "buffer=200")


def expanded(selector: str, model: ModelRef, beside: Mapping[str, str]) -> tuple[str, list[str]]:
    """Return the name of a grid, and the selectors that it expands to; its last setting varies fastest.

    Args:
        selector: A selector; one without a grid is its own name and expands to itself.
        model: The model of the cells, whose options selectors may set.
        beside: Settings in the notation of grids that the first part gets where it does not set them itself.

    Raises:
        UserError: A strategy is unknown, values cannot be read, or there are too many.
    """
    parts: list[tuple[str, list[list[str]]]] = []
    names = []
    for number, part in enumerate(strategies.split(selector)):
        name, given = parse(part)
        options = given if number else given | {k: v for k, v in beside.items() if k not in given}
        hints = _type_of_options(name, model) if any(is_grid(v, float) for v in options.values()) else {}
        names.append(_joined(name, sorted(f"{k}={v.replace(' ', '')}" for k, v in options.items())))
        of_keys = [[f"{k}={v}" for v in values_of(k, text, hints.get(k, str))] for k, text in options.items()]
        parts.append((name, of_keys))
    n = prod(len(values) for _, of_keys in parts for values in of_keys)
    if n > MOST:
        raise UserError(f"{selector} is a grid of {n:,} settings, and at most {MOST:,} are possible")
    if n == 1 and not beside:
        return selector, [selector]
    of_parts = [[_joined(name, chosen) for chosen in product(*of_keys)] for name, of_keys in parts]
    return "+".join(names), ["+".join(chosen) for chosen in product(*of_parts)]


def name_with(name: str, beside: Iterable[str], identities: Sequence[str]) -> str:
    """Return the name of a grid with the settings beside it that all of its identities show.

    Args:
        name: The name, as ``expanded`` gives it: ``er[buffer=5|9]``.
        beside: Names of settings that are given beside selectors: ``epochs``.
        identities: Those of the grid's cells: ``er[buffer=5,epochs=2]``, ``er[buffer=9,epochs=2]``.
    """
    first, *others = strategies.split(name)
    base, own = parse(first)
    shown = [parse(strategies.split(one)[0])[1].items() for one in identities]
    common = set.intersection(*map(set, shown))
    more = {key: value for key, value in common if key in beside and key not in own}
    return "+".join([identity(base, own | more), *others]) if more else name


def _joined(name: str, options: Iterable[str]) -> str:
    return f"{name}[{words}]" if (words := ",".join(options)) else name


def _type_of_options(name: str, model: ModelRef) -> dict[str, Any]:
    """Return the type of everything that the brackets of a strategy may set."""
    strategy: Any = strategies.get(name)
    return option_types(model) | TRAINING_HINTS | _hints(strategy)


def selectors_of(given: object) -> tuple[str, ...]:
    """Return selectors from Python or TOML: one, several in any iterable, or options by strategy.

    Args:
        given: ``"er[buffer=100]"``, ``["er", "ewc"]`` or ``{"er": {"buffer": [100, 200]}, "ewc": {}}``, where
            a list is a grid; an iterable may contain dictionaries too.

    Raises:
        UserError: A part is something else, or options are given to a sum or beside brackets.
    """
    if isinstance(given, str):
        return (given,)
    if isinstance(given, Mapping):
        return tuple(_with_options(name, options) for name, options in given.items())
    if not isinstance(given, Iterable):
        raise UserError(
            f"strategies must be names like 'er[buffer=100]', a list of them, or a dictionary like "
            f"{{'er': {{'buffer': 100}}}}, not {given!r}; a class of yours is './file.py:Class'"
        )
    return tuple(text for part in given for text in selectors_of(part))


def _with_options(name: object, options: object) -> str:
    if not isinstance(name, str) or not isinstance(options, Mapping | None):
        raise UserError(
            f"cannot read the options {options!r} of {name!r}; write {{'er': {{'buffer': 100}}}}, or "
            "{'er': {'buffer': [100, 200]}} for several values"
        )
    if not options:
        return name
    if "[" in name or "+" in name:
        raise UserError(f"write the options of {name!r} into it: 'er[buffer=100]+lwf'")
    return _joined(name, (f"{key}={text_of_values(f'{name}: {key}', v)}" for key, v in options.items()))
