"""Models over lanes.

A ``ModelRef`` identifies a built-in model, a user's class or function that makes an ``nn.Module``
(``./net.py:Net``), ``torchvision:NAME`` or ``timm:NAME``, a folder, or a repository of the Hugging Face hub.
"""

from bench.models.by_reference import (
    build,
    check,
    names,
    normalisation,
    one_by_one,
    one_lane,
    option_type,
    options,
    parameter_count,
    reference,
    spelled,
)
from bench.models.model_registry import NETWORKS, REGISTRY
from bench.models.reference import PRETRAINED, ModelRef, Options, Shape

__all__ = [
    "NETWORKS", "PRETRAINED", "REGISTRY", "ModelRef", "Options", "Shape", "build", "check", "names",
    "normalisation", "one_by_one", "one_lane", "option_type", "options", "parameter_count", "reference",
    "spelled",
]  # fmt: skip
