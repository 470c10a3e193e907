"""What strategies for transformers see of them: what is trained, and the features of the frozen backbone.

Axes: L lanes, B batch, N rows, S tokens, P soft prompts, F features.
"""

from __future__ import annotations

from typing import Protocol, cast

import torch
from torch import Tensor, nn

from strategies.base import Strategy, Unsuitable
from strategies.lanes import LaneLinear
from strategies.streams import LaneStreams

_AT_ONCE = 500


class Tuned(Protocol):
    """A transformer whose own weights stay as they are; what is trained beside them is stacked over lanes."""

    head: LaneLinear
    trained: nn.ParameterDict
    """Of LoRA: ``LAYER/down`` (L, I, r) and ``LAYER/up`` (L, r, O); of prompts: ``prompt`` (L, P, F)."""
    past: dict[str, Tensor]
    """Further LoRA factors that are added, by the names in ``trained``."""

    def features(self, x_LBS: Tensor, *of_rows: Tensor) -> Tensor:
        """Return features (L, B, F); prompts (L, B, P, F) may be given in place of the model's own."""
        ...


def tuned(strategy: Strategy) -> Tuned:
    """Return a strategy's model; raises Unsuitable where it is not tuned as the strategy needs it."""
    if getattr(strategy.model, "tune", "") != strategy.tunes:
        raise Unsuitable(f"{strategy.name} needs a transformer, as minilm is, with tune={strategy.tunes}")
    return cast(Tuned, strategy.model)


@torch.no_grad()
def frozen_features(model: Tuned, streams: LaneStreams) -> Tensor:
    """Return what the backbone alone, without any prompt, makes of every row of the data, shape (N, F).

    The same for all lanes and tasks, so that one pass serves the whole stream.
    """
    features = []
    for x_NS in streams.x_N.split(_AT_ONCE):
        no_prompt = torch.zeros(1, len(x_NS), 0, model.trained["prompt"].shape[2], device=x_NS.device)
        features.append(model.features(x_NS.unsqueeze(0), no_prompt)[0].float())
    return torch.cat(features)
