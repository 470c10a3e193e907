"""Training settings: conversion, bounds, and the settings that cells share."""

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any, get_type_hints

from bench.schema import Value
from suites import values
from suites.base import Scenario, Suite, Training
from suites.errors import UserError
from suites.training import whole_rows_every
from suites.values import convert, settled, whole_numbers

Shared = Mapping[str, Mapping[str, Value]]
"""For each "suite/scenario" of a run: what all of its cells share."""

_POSITIVE = ("batch", "lr")
_NOT_NEGATIVE = ("epochs", "iterations", "weight_decay", "score_every", "shots", "rows_per_class")
TRAINING_HINTS = get_type_hints(Training, include_extras=True)
OF_METHODS: dict[str, Value] = {
    "one_pass": False,
    "restarts": False,
    "gradient_free": False,
    "trains_on": "task",
}
"""Properties of a strategy on which effects of training settings depend, as most strategies have them."""
USUAL = asdict(Training())
"""Training settings where neither a suite nor a user says otherwise."""


def training_value(key: str, given: Value, of: str = "") -> Value:
    """Return a training setting in canonical form; ``of`` is the suite whose default it is."""
    return convert(f"{of}{key}", given, TRAINING_HINTS[key])


def training_of(suite: Suite, scenario: Scenario, changes: Mapping[str, Value]) -> Training:
    """Return the training settings of a scenario with changes, in canonical form."""
    both = (asdict(suite.training_for(scenario, dict(c))) for c in (changes, {}))
    given, usual = ({k: training_value(k, v, f"suite {suite.name}: ") for k, v in of.items()} for of in both)
    around = OF_METHODS | {"scenario": scenario}
    return Training(**settled(given, usual, TRAINING_HINTS, around)[0])  # type: ignore[arg-type]


def recorded(training: Training) -> dict[str, Value]:
    """Return training settings as in specs and manifests."""
    return values.recorded(asdict(training), USUAL, TRAINING_HINTS)


def check_training(training: dict[str, Any]) -> None:
    """Raise UserError for training settings out of range."""
    for key in _POSITIVE:
        if training[key] <= 0:
            raise UserError(f"{key} must be above 0, not {training[key]}")
    for key in _NOT_NEGATIVE:
        if training[key] < 0:
            raise UserError(f"{key} must not be below 0, not {training[key]}")
    if not 0 <= training["validation"] < 1:
        raise UserError(f"validation must be in [0, 1), not {training['validation']}")
    whole_rows_every(training["eval"])
    if training["score_every"] and not training["validation"]:
        raise UserError("score_every scores validation rows, and validation=0 holds out none of them")
    if training["patience"] and not training["validation"]:
        raise UserError("patience compares validation accuracies, and validation=0 holds out no rows")
    if training["schedule"] == "multi-step":
        if not training["milestones"]:
            raise UserError("schedule=multi-step needs milestones, such as milestones=49-63")
        whole_numbers("milestones", training["milestones"])
    if training["prequential"] and (
        training["iterations"] or {training["epochs"], training["first_task"]} - {0, 1}
    ):
        raise UserError(
            "prequential tests each row once, before it is learned: set epochs=1 and iterations=0"
        )
    if training["epochs"] == 0 and training["iterations"] == 0:
        raise UserError("epochs or iterations must be above 0")


def check_agreement(folder: Path, before: Shared, now: Shared) -> None:
    """Raise UserError if a suite has another version, budget or model to continue from than before.

    Other settings may differ: cells of both are in one folder, and identities say in what they differ.
    """
    for name in before.keys() & now.keys():
        for key in ("version", "continues", "budget"):
            was, is_ = before[name].get(key), now[name].get(key)
            if was != is_:
                raise UserError(f"{folder} has {name} with {key} = {was}, not {is_}: choose another --out")
