"""Which model a name stands for: the one place that asks whether a folder is an exported model."""

from dataclasses import replace

from bench import models
from bench.models import ModelRef
from bench.schema import Exported


def model_reference(name: str, fingerprint: str = "") -> ModelRef:
    """Return the model that a name stands for.

    Args:
        name: A built-in name, a folder, or a repository of the Hugging Face hub.
        fingerprint: Of the exported model that learning continues from; empty for a fresh start.

    Raises:
        UserError: for a name that is none of these.
    """
    exported = None if name in models.names() else Exported.named(name)
    if exported is None:
        return models.reference(name)
    return replace(exported_reference(exported), fingerprint=fingerprint)


def exported_reference(exported: Exported) -> ModelRef:
    """Return the model in a folder that ``lethe export`` made, for a fresh start."""
    architecture = "" if exported.reads_texts else exported.header.model
    return ModelRef("exported", exported.name, architecture, exported.writes)
