"""Models by reference: their options, and models built over lanes."""

from __future__ import annotations

from functools import cache, partial
from typing import TYPE_CHECKING, Any, get_type_hints

from bench.models.model_registry import REGISTRY, Build, defaults
from bench.models.reference import ModelRef, Options, Shape
from suites.base import generator
from suites.errors import UserError, unknown
from suites.paths import folder_named
from suites.values import convert, spelled as spelled_path, taken_apart

if TYPE_CHECKING:  # names and options of models are read without torch
    from strategies.core import Generators, LaneModel


def reference(name: str) -> ModelRef:
    """Return the reference of a built-in model, a folder of transformers or a repository of the hub.

    bench.plan decides whether a folder is an exported model.

    Raises:
        UserError: The name is none of these.
    """
    from bench.models.pretrained import NAMED, is_pretrained
    from bench.models.seq2seq import TINY

    name = spelled(name)
    if name not in names() and is_pretrained(name):
        return ModelRef("pretrained", name)
    REGISTRY.get(name)
    architecture = "" if name in (*NAMED, TINY) else name
    return ModelRef("built-in", name, architecture, generates=name == TINY)


def spelled(name: str) -> str:
    """Return the canonical spelling of the name of a model, which may contain a path."""
    if name not in names() and folder_named(name):
        return spelled_path(name)
    return REGISTRY.spelled(name)


def _builder(model: ModelRef) -> Build:
    from bench.models.transformer import transformer

    return partial(transformer, model.name) if model.reads_texts else REGISTRY.get(model.architecture)


def names() -> list[str]:
    """Return the names of all models, sorted."""
    return REGISTRY.names()


def options(model: ModelRef) -> Options:
    """Return the options of a model with their defaults, converted as values from users are.

    Raises:
        UserError: A default would be refused as a value.
    """
    what = f"model {model.name}: default of "
    given = defaults(_builder(model))
    return {k: convert(what + k, v, option_type(model, k)) for k, v in given.items()}


def option_type(model: ModelRef, option: str) -> Any:
    """Return the type of an option of a model."""
    build = _builder(model)
    return _hints(build.func if isinstance(build, partial) else build)[option]


@cache
def _hints(build: Build) -> dict[str, Any]:
    return get_type_hints(build, include_extras=True)


def check(model: ModelRef, chosen: Options) -> None:
    """Raise UserError for an unknown option or an impossible value."""
    known = options(model)
    for option, value in chosen.items():
        if option not in known:
            raise unknown(f"option of model {model.name}", option, list(known))
        bounds = taken_apart(option_type(model, option))[1]  # without any, whole numbers are sizes
        if bounds is None and isinstance(value, int) and value < 1:
            raise UserError(f"model option {option} must be at least 1, not {value}")


def build(model: ModelRef, chosen: Options, shape: Shape, units: int, generators: Generators) -> LaneModel:
    """Build a model with one lane per generator; raises UserError as ``check`` does."""
    check(model, chosen)
    return _builder(model)(generators, shape, units, **chosen)


def one_lane(model: ModelRef, chosen: Options, shape: Shape, units: int) -> LaneModel:
    """Build a model with one lane, always with the same initial weights; see ``build``."""
    return build(model, chosen, shape, units, [generator(0, "model")])


def normalisation(model: ModelRef, chosen: Options) -> tuple[tuple[float, ...], tuple[float, ...]] | None:
    """Return the mean and standard deviation of each channel that a network needs; None for the suite's."""
    stated = None if model.reads_texts else vars(_builder(model)).get("normalisation")
    return None if stated is None else stated(bool((options(model) | chosen)["weights"]))


def parameter_count(model: ModelRef, chosen: Options, shape: Shape, units: int) -> int:
    """Return the number of parameters of one lane."""
    return _measured(model, tuple(sorted(chosen.items())), shape, units)[0]


def one_by_one(model: ModelRef, chosen: Options, shape: Shape, units: int) -> str:
    """Return why lanes of a model are computed one after the other; empty if they are computed together."""
    return _measured(model, tuple(sorted(chosen.items())), shape, units)[1]


@cache
def _measured(
    model: ModelRef, chosen: tuple[tuple[str, Any], ...], shape: Shape, units: int
) -> tuple[int, str]:
    """Measure once per process: every group of lanes asks, and a transformer has to be read from disk."""
    built = one_lane(model, dict(chosen), shape, units)
    return sum(p.numel() for p in built.parameters()), built.one_by_one
