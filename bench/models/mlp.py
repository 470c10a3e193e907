"""The multi-layer perceptron of most continual-learning papers.

Axes: L lanes, B batch, F features; C, H, W of an image.
"""

import itertools
import math
from typing import ClassVar

from torch import Tensor, nn

from bench.models import Shape, register
from strategies.core import Generators, LaneLinear, LaneModel


class MLP(LaneModel):
    """Dense layers with ReLU between them."""

    any_lanes: ClassVar[bool] = True

    def __init__(self, generators: Generators, shape: Shape, units: int, hidden: int, layers: int) -> None:
        super().__init__()
        sizes = [math.prod(shape)] + [hidden] * layers
        self.layers = nn.ModuleList(LaneLinear(generators, i, o) for i, o in itertools.pairwise(sizes))
        self.head = LaneLinear(generators, sizes[-1], units)

    def features(self, x_LBCHW: Tensor) -> Tensor:
        """Return the outputs of the last hidden layer, shape (L, B, hidden)."""
        h_LBF = x_LBCHW.flatten(2)
        for layer in self.layers:
            h_LBF = layer(h_LBF).relu()
        return h_LBF


@register("mlp")
def mlp(generators: Generators, shape: Shape, units: int, *, hidden: int = 100, layers: int = 2) -> LaneModel:
    """Multi-layer perceptron with ReLU: `layers` hidden layers of `hidden` units.

    Args:
        generators: One for each lane.
        shape: Of an image.
        units: Of the head.
        hidden: Units of each hidden layer.
        layers: Number of hidden layers.
    """
    return MLP(generators, shape, units, hidden, layers)
