"""Dropout over lanes.

Axes: L lanes, B batch, F features.
"""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from strategies.core.draws import Draws


class _Source:
    """The draws of all lanes, which copies of a network share with it."""

    def __init__(self) -> None:
        self.draws: Draws | None = None

    def __deepcopy__(self, memo: dict[int, Any]) -> _Source:
        return self


class LaneDropout(nn.Module):
    """Sets features to zero at random in training, and scales the others (Srivastava et al. 2014).

    The numbers are draws of each lane, so they do not depend on other lanes. Where a network is called with
    other lanes than it has, for gradients of single rows, nothing is set to zero.

    Args:
        share: Share of the features that are set to zero.
    """

    def __init__(self, share: float) -> None:
        super().__init__()
        self.share = share
        self._source = _Source()

    def forward(self, x_LBF: Tensor) -> Tensor:
        """Return the features, (L, B, F)."""
        draws = self._source.draws
        if not self.training or not self.share or draws is None or len(draws.seeds) != len(x_LBF):
            return x_LBF
        kept_LBF = draws.uniform("dropout", x_LBF[0].numel()).view_as(x_LBF) >= self.share
        return x_LBF * kept_LBF / (1 - self.share)


def draw_dropout(model: nn.Module, draws: Draws) -> None:
    """Let the dropout of a network take its numbers from the draws of its lanes."""
    for module in model.modules():
        if isinstance(module, LaneDropout):
            module._source.draws = draws
