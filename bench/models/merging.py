"""Merging of trained parts into the plain weights of a transformer.

Axes: I inputs, O outputs.
"""

import copy
from typing import Any

import torch
from torch import nn

from bench.models.pretrained import Backbone
from bench.models.shared import Shared
from bench.models.transformer import Prompted, Transformer
from bench.models.tuning import Adapter, LoRA, Shifted, key_of
from suites.base import generator
from suites.errors import UserError


@torch.no_grad()
def fold(model: Shared[Any]) -> None:
    """Merge what a model with one lane has trained into the weights of its transformer, in place.

    LoRA (W + alpha / r B A), biases and whole weights are merged; adapters and prompts cannot be and stay.

    Raises:
        UserError: LoRA acts on a weight that is also the embedding.
    """
    base = model.base
    for name, weight in base.named_parameters():
        if (key := key_of(name, "whole")) in model.trained:
            weight.copy_(model.trained[key][0])
    embedding = base.transformer.get_input_embeddings().weight
    for name, layer in list(base.transformer.named_modules()):
        if isinstance(layer, LoRA):
            if layer.frozen.get_parameter("weight") is embedding:
                raise UserError(f"LoRA on {name} cannot be merged: its weight is also the embedding")
            moved_IO = layer.scale * (layer.own("down")[0] @ layer.own("up")[0])
            layer.frozen.get_parameter("weight").add_(moved_IO.T)
            base.transformer.set_submodule(name, layer.frozen)
        elif isinstance(layer, Shifted):
            layer.frozen.get_parameter("bias").copy_(layer.own("bias")[0])
            base.transformer.set_submodule(name, layer.frozen)


def merged(model: Transformer) -> Transformer:
    """Return a model with plain merged weights that gives the same outputs as ``model``.

    ``model`` has one lane and is changed. A model with adapters or prompts is returned itself.
    """
    base = model.base
    fold(model)
    if isinstance(model, Prompted) or any(isinstance(m, Adapter) for m in base.modules()):
        return model
    plain = with_head(base, model.head.bias.shape[1])
    plain.head.load_state_dict(model.head.state_dict())
    return plain


def with_head(base: Backbone, units: int) -> Transformer:
    """Return a model with one lane that trains only a new head."""
    return Transformer([generator(0, "model")], base, units, "head")


def without_adapters(transformer: nn.Module) -> nn.Module:
    """Return a copy of a transformer without its adapters."""
    plain = copy.deepcopy(transformer)
    for name, layer in list(plain.named_modules()):
        if isinstance(layer, Adapter):
            plain.set_submodule(name, layer.frozen)
    return plain
