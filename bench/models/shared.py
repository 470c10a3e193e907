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

    @property
    def base(self) -> Base:
        """The transformer, with the layers that were inserted into it."""
        return self._base[0]

    def _apply(self, fn: Any, recurse: bool = True) -> Self:
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
        self.base._apply(fn)  # type: ignore[no-untyped-call]
        return self

    def count(self, tokens: int, padded: int) -> None:
        """Add to the counts of tokens, without and with padding; only while gradients are recorded."""
        if torch.is_grad_enabled():
            self.counts["tokens"] += tokens
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
