"""What a run asks of the models of its cells before it trains them: sizes, inputs and fingerprints."""

from collections.abc import Callable
from typing import Any

import suites
from bench.encode import input_shape, inputs
from bench.models import ModelRef, Shape, one_by_one, parameter_count, pretrained
from bench.plan import CellSpec
from suites.paths import folder_named


def parameters_of(spec: CellSpec) -> int:
    """Return the number of parameters of one lane of a cell; raises Unavailable without its data."""
    return parameter_count(*_built_from(spec))


def prepare(spec: CellSpec, device: str, said: Callable[[str], None] | None) -> None:
    """Check that a cell's model can read its suite; encode texts by a frozen backbone once, for all workers.

    ``said`` is called with words on progress, and where lanes are computed one after the other.

    Raises:
        UserError: The model cannot read the suite.
    """
    inputs(suites.get(spec.suite).load(), spec.reference, spec.model_options, device, said)
    if said and not spec.reference.reads_texts and (why := one_by_one(*_built_from(spec))):
        said(f"lanes of {spec.model} are computed one after the other: {why}")


def fingerprint_in_folder(model: str) -> str | None:
    """Return the fingerprint of a pretrained model in a folder, which may have changed; None for others."""
    return pretrained.fingerprint(model) if folder_named(model) else None


def _built_from(spec: CellSpec) -> tuple[ModelRef, dict[str, Any], Shape, int]:
    """Return what a cell's model is built from, with a unit for each class."""
    data = suites.get(spec.suite).load()
    shape = input_shape(data, spec.reference, spec.model_options)
    return spec.reference, spec.model_options, shape, len(data.class_names)
