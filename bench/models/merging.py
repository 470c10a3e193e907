"""Trained parts written into the plain weights of a transformer.

Axes: I inputs, O outputs.
"""

from __future__ import annotations

import copy

import torch
from torch import nn

from bench.models.pretrained import Backbone
from bench.models.transformer import Prompted, Transformer, Whole
from bench.models.tuning import Adapter, LoRA, Shifted, key_of
from suites.base import generator


@torch.no_grad()
def merged(model: Transformer) -> Transformer:
    """Return a model of one lane that answers as ``model`` does, which has one lane and is used up.

    LoRA (W + alpha / r B A), biases and whole stacked weights go into the transformer. Adapters and prompts
    cannot: a model with those is returned as it is.
    """
    base = model.base
    if isinstance(model, Whole):
        for name, weight in base.named_parameters():
            weight.copy_(model.trained[key_of(name, "whole")][0])
    for name, layer in list(base.transformer.named_modules()):
        if isinstance(layer, LoRA):
            moved_IO = layer.scale * (layer.own("down")[0] @ layer.own("up")[0])
            layer.frozen.get_parameter("weight").add_(moved_IO.T)
            base.transformer.set_submodule(name, layer.frozen)
        elif isinstance(layer, Shifted):
            layer.frozen.get_parameter("bias").copy_(layer.own("bias")[0])
            base.transformer.set_submodule(name, layer.frozen)
    if isinstance(model, Prompted) or any(isinstance(m, Adapter) for m in base.modules()):
        return model
    plain = with_head(base, model.head.bias.shape[1])
    plain.head.load_state_dict(model.head.state_dict())
    return plain


def with_head(base: Backbone, units: int) -> Transformer:
    """Return a model of one lane that trains nothing but a fresh head."""
    return Transformer([generator(0, "model")], base, units, "head")


def without_adapters(transformer: nn.Module) -> nn.Module:
    """Return a copy of a transformer with the layers that adapters were put after, and without these."""
    plain = copy.deepcopy(transformer)
    for name, layer in list(plain.named_modules()):
        if isinstance(layer, Adapter):
            plain.set_submodule(name, layer.frozen)
    return plain
