"""The interface to tuned transformers: trained parameters, and features of the frozen backbone.

Axes: L lanes, B batch, N rows, S tokens, P soft prompts, F features.
"""

from typing import Protocol, cast

import torch
from torch import Tensor, nn

from strategies.core import LaneLinear, LaneStreams, Strategy, Unsuitable

_AT_ONCE = 500


class Tuned(Protocol):
    """A transformer with frozen weights; trained parameters are stacked over lanes."""

    head: LaneLinear
    trained: nn.ParameterDict
    """For LoRA ``LAYER/down`` (L, I, r) and ``LAYER/up`` (L, r, O); for prompts ``prompt`` (L, P, F)."""
    places: float
    """The largest number of tokens that it reads, soft prompts included."""
    past: dict[str, Tensor]
    """More LoRA factors, which are added; names as in ``trained``."""

    def features(self, x_LBS: Tensor, *of_rows: Tensor) -> Tensor:
        """Return features (L, B, F); prompts (L, B, P, F), if given, replace the model's own."""
        ...


def tuned_transformer(strategy: Strategy) -> Tuned:
    """Return a strategy's model; raises Unsuitable if its ``tune`` is not the strategy's ``tunes``."""
    if getattr(strategy.model, "tune", "") != strategy.tunes:
        raise Unsuitable(f"{strategy.name} needs a transformer, such as minilm, with tune={strategy.tunes}")
    return cast(Tuned, strategy.model)


@torch.no_grad()
def frozen_features(model: Tuned, streams: LaneStreams) -> Tensor:
    """Return the backbone's features, without any prompt, of all rows of the data, shape (N, F).

    They are the same for all lanes and tasks, so one pass is enough. Rows that are in no stream are 0.
    """
    used = [
        rows
        for s in streams.streams
        for rows in (
            s.outside_rows,
            *(r for t in s.tasks for r in (t.train_rows, t.validation_rows, t.test_rows)),
        )
    ]
    used_N = streams.data.index_of(torch.cat(used)).unique().to(streams.device)
    prompt = model.trained["prompt"]
    found_NF: Tensor = prompt.new_zeros(streams.n_images, model.head.weight.shape[1], dtype=torch.float32)
    for rows_N in used_N.split(_AT_ONCE):
        x_1NS = streams.x_N[rows_N].unsqueeze(0)
        no_prompt = prompt.new_zeros(1, len(rows_N), 0, prompt.shape[2])
        found_NF[rows_N] = model.features(x_1NS, no_prompt)[0].float()
    return found_NF
