"""Values of settings: from text, within their bounds, and as text again."""

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any, Literal, get_args, get_origin, get_type_hints

from bench.schema import Value
from suites.base import Training
from suites.errors import UserError, unknown

Shared = Mapping[str, Mapping[str, Value]]
"""For each "suite/scenario" of a run: what all of its cells have in common."""

_POSITIVE = ("batch", "lr")
_NOT_NEGATIVE = ("epochs", "iterations", "weight_decay", "score_every", "shots", "rows_per_class")
_ADDED = ("shots", "rows_per_class")
"""Training settings that came later: left out of specs while 0, so that older cells keep their keys."""


def text_of(value: Value) -> str:
    """Return a value as a selector writes it: 1e9 and 1e-05, never a plus sign, which joins strategies."""
    if isinstance(value, bool):
        return str(value).lower()
    if not isinstance(value, float):
        return str(value)
    short = f"{value:g}"
    return (short if float(short) == value else repr(value)).replace("e+", "e").replace("e0", "e")


def convert(what: str, text: Any, hint: Any) -> Value:
    """Turn text into the type of a field and check its bounds; raises UserError naming the field."""
    bounds = None
    if get_origin(hint) is Annotated:
        hint, bounds = get_args(hint)[:2]
    if get_origin(hint) is Literal:
        if text not in get_args(hint):
            raise unknown(f"value for {what}", str(text), list(get_args(hint)))
        return str(text)
    if hint is bool:
        words = {"true": True, "false": False}
        if str(text).lower() not in words:
            raise UserError(f"{what} must be true or false, not {text!r}")
        return words[str(text).lower()]
    if hint is str:
        return str(text)
    if hint not in (int, float):
        raise UserError(f"{what} cannot be set: it is neither a number, true or false, nor text")
    try:
        value: int | float = int(str(text)) if hint is int else float(text)
    except ValueError:
        kind = "a whole number" if hint is int else "a number"
        raise UserError(f"{what} must be {kind}, not {text!r}") from None
    if value != value or value in (float("inf"), float("-inf")):
        raise UserError(f"{what} must be finite, not {text!r}")
    if bounds is not None and bounds.low is not None and value < bounds.low:
        raise UserError(f"{what} must be at least {text_of(bounds.low)}, not {text}")
    if bounds is not None and bounds.high is not None and value > bounds.high:
        raise UserError(f"{what} must be at most {text_of(bounds.high)}, not {text}")
    return value


def training_value(key: str, text: Any) -> Value:
    """Return a training setting from text."""
    return convert(key, text, get_type_hints(Training)[key])


def recorded(training: Training) -> dict[str, Value]:
    """Return training settings as specs and manifests hold them."""
    return {k: v for k, v in asdict(training).items() if v or k not in _ADDED}


def as_typed(key: str, value: Any) -> Any:
    """Return a training setting as its field's type: a suite's ``lr=1`` is the same setting as 1.0."""
    return float(value) if get_type_hints(Training)[key] is float else value


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
    if training["epochs"] == 0 and training["iterations"] == 0:
        raise UserError("epochs or iterations must be above 0")


def check_agreement(folder: Path, before: Shared, now: Shared) -> None:
    """Raise UserError where what is asked for contradicts what a run's folder was begun with."""
    for name in before.keys() & now.keys():
        for key in sorted(before[name].keys() | now[name].keys()):
            was, is_ = before[name].get(key), now[name].get(key)
            if was != is_:
                raise UserError(f"{folder} holds {name} with {key} = {was}, not {is_}: choose another --out")


def check_same_data(folder: Path, before: Mapping[str, str], now: Mapping[str, str]) -> None:
    """Raise UserError where a suite's data has another fingerprint than a run's folder was begun with."""
    pair = ({name: {"data": mark} for name, mark in data.items()} for data in (before, now))
    check_agreement(folder, *pair)
