"""Base class of models whose lanes share one transformer.

Axes: L lanes, R rows of all lanes, S tokens.
"""

from collections.abc import Sequence
from typing import Any, ClassVar, Generic, Self, TypeVar

import torch
from torch import Tensor, nn

from bench.models.tuning import key_of
from strategies.core import LaneModel

Base = TypeVar("Base", bound=nn.Module)


def real_tokens(tokens_RS: Tensor, padding: int) -> Tensor:
    """Return the attention mask, 1 for tokens that are not padding, int64 (R, S)."""
    real_RS = (tokens_RS != padding).long()
    real_RS[:, 0] = 1  # an empty text still attends to one position
    return real_RS


_MASK_AS_GIVEN = frozenset(
    ["albert", "bert", "camembert", "distilbert", "electra", "mpnet", "mt5", "roberta", "t5", "xlm-roberta"]
)
"""Kinds of transformers that use a mask of four axes as it is, in attention over whole texts."""


def attention_mask(real_RS: Tensor, transformer: Any) -> Tensor:
    """Return the attention mask that a transformer gets.

    Transformers reads a mask of two axes to find out whether any token is padding, for which a GPU would have
    to wait. There, a mask that is added to the scores, (R, 1, 1, S), is prepared instead.
    """
    if not real_RS.is_cuda or not takes_mask(transformer):
        return real_RS
    lowest = torch.finfo(torch.float32).min
    return torch.zeros_like(real_RS, dtype=torch.float32).masked_fill(real_RS == 0, lowest)[:, None, None]


def takes_mask(transformer: Any) -> bool:
    """Return whether a transformer uses a prepared mask as it is."""
    config = transformer.config
    pairs = getattr(config, "is_encoder_decoder", False)
    return config.model_type in _MASK_AS_GIVEN and (pairs or not getattr(config, "is_decoder", False))


class Shared(LaneModel, Generic[Base]):
    """A model whose lanes share the weights of a transformer; trained parameters are stacked over lanes."""

    any_lanes: ClassVar[bool] = True

    def __init__(self, lanes: int, base: Base) -> None:
        super().__init__()
        self.lanes = lanes
        self.trained = nn.ParameterDict()
        self.counts = {"tokens": 0, "padded": 0}
        # In a tuple, so that the shared weights, which have no lane axis, are not registered as parameters.
        self._base = (base,)
        transformer: Any = base.transformer
        if not takes_mask(transformer):
            self.waits = f"a {transformer.config.model_type} model of transformers reads its mask"

    @property
    def base(self) -> Base:
        """The transformer, with the layers that were inserted into it."""
        return self._base[0]

    def _apply(self, fn: Any, recurse: bool = True) -> Self:
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
        self.base._apply(fn)  # type: ignore[no-untyped-call]
        return self

    def count(self, length_LB: Tensor, padded: int) -> None:
        """Add to the counts of tokens, without and with padding; only while gradients are recorded."""
        if torch.is_grad_enabled():
            # Not in place: the clock remembers an earlier count. It is read when the task has ended.
            self.counts["tokens"] = self.counts["tokens"] + length_LB.sum()
            self.counts["padded"] += padded

    def stack(self, bases: Sequence[nn.Module]) -> None:
        """Make all weights trainable, stacked over lanes: lane l gets those of ``bases[l]``."""
        for of_lanes in zip(*(base.named_parameters() for base in bases), strict=True):
            stacked = torch.stack([weight.detach() for _, weight in of_lanes])
            self.trained[key_of(of_lanes[0][0], "whole")] = nn.Parameter(stacked)

    def weights(self) -> list[dict[str, Tensor]]:
        """Return the weights of each lane, by their names in ``base``."""
        names = [name for name, _ in self.base.named_parameters()]
        # unbind, not indexing: the gradient of each index would be as large as all lanes together.
        of_lanes = zip(*(self.trained[key_of(name, "whole")].unbind(0) for name in names), strict=True)
        return [dict(zip(names, weights, strict=True)) for weights in of_lanes]
