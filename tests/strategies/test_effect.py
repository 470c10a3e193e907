"""Hyper-parameters that have no effect in some settings: the declaration at the field is correct."""

from dataclasses import replace
from typing import Any, Literal, get_args, get_origin, get_type_hints

import pytest

import strategies
from bench.plan.settings import OF_METHODS
from bench.train import run_group
from lethe.testing import SMALL, TOY, blobs, outcome, registered, toy_cell
from strategies.core import defaults
from suites.base import Training
from suites.values import Condition, conditions, settled, taken_apart

TRAINING = get_type_hints(Training, include_extras=True)
DECLARED = [
    (name, field, n)
    for name in strategies.names()
    for field, hint in get_type_hints(strategies.get(name), include_extras=True).items()
    if field in defaults(strategies.get(name))
    for n in range(len(conditions(hint)))
]


LOUD: dict[tuple[str, str], dict[str, Any]] = {
    ("adaptive-replay", "alarm"): {"every": 2, "watch": 2},
    **{("continual-backprop", f): {"rate": 0.2, "maturity": 2} for f in ("maturity", "decay", "variant")},
    **{("si", field): {"c": 100.0} for field in ("xi", "path", "negative")},
    ("l2", "centre_at"): {"lam": 10.0},
    ("gpm", "growth"): {"threshold": 0.9},
    ("mbpa++", "adapt_lam"): {"adapt_rate": 0.5, "adapt_steps": 5},
}
"""Settings with a visible effect within the few steps of these tests."""


def hints(name: str) -> dict[str, Any]:
    own = get_type_hints(strategies.get(name), include_extras=True)
    return {field: own[field] for field in defaults(strategies.get(name))}


def other_value(hint: Any, value: Any, among: tuple[Any, ...] = ()) -> Any:
    """Return a value of a field that is neither the given one nor among those listed."""
    plain, bounds = taken_apart(hint)
    if get_origin(plain) is Literal:
        return next(v for v in get_args(plain) if v not in (value, *among))
    if plain is bool:
        return not value
    if plain is int:
        return next(v for v in (3, 2, 4) if v not in (value, *among))
    high = getattr(bounds, "high", None)
    return next(v for v in (0.25, 0.75, 0.5) if v not in (value, *among) and (high is None or v <= high))


def fulfilled(condition: Condition, hint: Any, value: Any, met: bool) -> Any:
    """Return a value with which a condition is met (or not met); the given value if possible."""
    if condition.met(value) is met:
        return value
    if condition.has is met:
        return condition.values[0]
    return other_value(hint, value, condition.values)


def arranged(name: str, field: str, unmet: Condition | None) -> tuple[dict[str, Any], str, dict[str, Any]]:
    """Return hyper-parameters, scenario and training that meet all conditions of a field except ``unmet``."""
    own, loud = hints(name), LOUD.get((name, field), {})
    hyper = dict(defaults(strategies.get(name))) | SMALL.get(name, {}) | loud
    # With more than two units, all gradients of mas have the same sign here.
    scenario, training = "task" if name == "mas" else "class", {"epochs": 2}
    for condition in conditions(own.get(field)):
        met = condition != unmet
        if condition.other == "scenario":
            able = strategies.get(name).scenarios
            scenario = next(s for s in able if (s in condition.values) is met)
        elif condition.other in own:
            hyper[condition.other] = fulfilled(condition, own[condition.other], hyper[condition.other], met)
        else:
            usual = getattr(Training(), condition.other)
            training[condition.other] = fulfilled(condition, TRAINING[condition.other], usual, met)
    return hyper, scenario, training


def numbers(name: str, hyper: dict[str, Any], scenario: str, training: dict[str, Any]) -> Any:
    """Return the results of a cell with exactly these hyper-parameters, none reset."""
    asked = repr((name, sorted(hyper.items()), scenario, sorted(training.items())))
    if asked not in MEASURED:  # fields of one method share a baseline
        with registered(replace(TOY, name="toy-tasks", load=lambda: blobs(6))):
            suite = {} if strategies.get(name).tunes else {"suite": "toy-tasks"}
            cell = toy_cell(name, 0, scenario, **training, **suite)
            (record,) = run_group([replace(cell, hyper=hyper)])
        MEASURED[asked] = outcome(record)
    return MEASURED[asked]


MEASURED: dict[str, Any] = {}


@pytest.mark.slow
@pytest.mark.parametrize(("name", "field", "n"), DECLARED)
def test_a_hyper_parameter_declared_without_effect_changes_no_number(name: str, field: str, n: int) -> None:
    own = hints(name)
    hyper, *rest = arranged(name, field, conditions(own[field])[n])
    changed = hyper | {field: other_value(own[field], hyper[field])}
    assert numbers(name, hyper, *rest) == numbers(name, changed, *rest)
    usual, around = defaults(strategies.get(name)), {**vars(Training(**rest[1])), "scenario": rest[0]}
    assert settled(changed, usual, own, around)[0][field] == usual[field]


SHOWN_ELSEWHERE = {("ncm", "normalised")}
"""Fields without an effect on blobs that every classifier tells apart; test_training_settings shows it."""


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "field"),
    [
        pair
        for pair in dict.fromkeys((name, field) for name, field, _ in DECLARED)
        if pair not in SHOWN_ELSEWHERE
    ],
)
def test_such_a_hyper_parameter_has_an_effect_where_declared(name: str, field: str) -> None:
    own = hints(name)
    hyper, *rest = arranged(name, field, None)
    changed = hyper | {field: other_value(own[field], hyper[field])}
    assert numbers(name, hyper, *rest) != numbers(name, changed, *rest)


OTHER: dict[str, Any] = {"optimiser": "momentum", "lr": 0.05, "weight_decay": 0.1, "reset_optimiser": True}
IDLE = [
    (name, setting, condition.other)
    for name in strategies.names()
    for setting in OTHER
    for condition in conditions(TRAINING[setting])
    if condition.other in OF_METHODS and not condition.met(getattr(strategies.get(name), condition.other))
]
"""Training settings without effect on a method, and the property of the method that decides it."""


@pytest.mark.slow
@pytest.mark.parametrize(("name", "setting"), list(dict.fromkeys(idle[:2] for idle in IDLE)))
def test_a_training_setting_declared_without_effect_changes_no_number(name: str, setting: str) -> None:
    hyper = dict(defaults(strategies.get(name))) | SMALL.get(name, {})
    scenario = strategies.get(name).scenarios[0]
    usual, changed = {"epochs": 2}, {"epochs": 2, setting: OTHER[setting]}
    assert numbers(name, hyper, scenario, usual) == numbers(name, hyper, scenario, changed)


@pytest.mark.slow
@pytest.mark.parametrize("scenario", ["task", "domain"])
def test_active_units_have_no_effect_outside_class_incremental_streams(scenario: str) -> None:
    for name in ("finetune", "er", "lwf", "dgr", "bi-r"):
        hyper = dict(defaults(strategies.get(name))) | SMALL.get(name, {})
        usual, changed = {"epochs": 2}, {"epochs": 2, "active": "seen"}
        assert numbers(name, hyper, scenario, usual) == numbers(name, hyper, scenario, changed)
