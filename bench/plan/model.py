"""References of models by name; the only place that decides whether a folder is an exported model."""

from dataclasses import replace
from typing import Any

from bench import models
from bench.models import ModelRef
from bench.schema import Exported


def model_reference(name: str, fingerprint: str = "") -> ModelRef:
    """Return the reference of a model.

    Args:
        name: A built-in name, a folder, or a repository of the Hugging Face hub.
        fingerprint: Fingerprint of the exported model that learning continues from; empty for none.

    Raises:
        UserError: The name is none of these.
    """
    exported = None if name in models.names() else Exported.named(name)
    if exported is None:
        return models.reference(name)
    return replace(exported_reference(exported), fingerprint=fingerprint)


def exported_reference(exported: Exported) -> ModelRef:
    """Return the reference of an exported model, with a new start of learning."""
    architecture = "" if exported.reads_texts else exported.header.model
    return ModelRef("exported", exported.name, architecture, exported.writes)


def option_types(model: ModelRef) -> dict[str, Any]:
    """Return the type of every option of a model."""
    return {name: models.option_type(model, name) for name in models.options(model)}
