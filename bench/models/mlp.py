"""The multi-layer perceptron of most continual-learning papers.

Axes: L lanes, B batch, F features; C, H, W of an image.
"""

import itertools
import math
from collections.abc import Sequence
from typing import ClassVar

from torch import Tensor, nn

from bench.models.initial import ACTIVATIONS, EXACT, Activation, Dropout, Init, initialise
from bench.models.reference import Shape
from strategies.core import Generators, LaneDropout, LaneLinear, LaneModel, lanewise


class MLP(LaneModel):
    """Dense layers with an activation, and dropout if wanted, between them."""

    any_lanes: ClassVar[bool] = True

    def __init__(
        self, layers: Sequence[LaneLinear], head: LaneLinear, activation: str = "relu", dropout: float = 0.0
    ) -> None:
        super().__init__()
        self.activation, self.dropout = activation, LaneDropout(dropout)
        self.layers, self.head = nn.ModuleList(layers), head

    def features(self, x_LBCHW: Tensor) -> Tensor:
        """Return the outputs of the last hidden layer, shape (L, B, hidden)."""
        h_LBF = x_LBCHW.flatten(2)
        for layer in self.layers:
            h_LBF = self.dropout(self.activate(layer(h_LBF)))
        return h_LBF

    def activate(self, h_LBF: Tensor) -> Tensor:
        """Return the activations of a layer's outputs; no lane's rounding depends on other lanes."""
        function = ACTIVATIONS[self.activation]
        return function(h_LBF) if self.activation in EXACT else lanewise(function, h_LBF)


def mlp(
    generators: Generators,
    shape: Shape,
    units: int,
    *,
    hidden: int = 100,
    layers: int = 2,
    init: Init = "pytorch",
    activation: Activation = "relu",
    dropout: Dropout = 0.0,
) -> LaneModel:
    """Multi-layer perceptron: `layers` hidden layers of `hidden` units, with ReLU by default.

    Args:
        generators: One for each lane.
        shape: Of an image.
        units: Of the head.
        hidden: Units of each hidden layer.
        layers: Number of hidden layers.
        init: Initial weights: of torch's layers, of Glorot & Bengio 2010, or of He et al. 2015.
        activation: After each hidden layer.
        dropout: Share of the outputs of each hidden layer that are set to zero in training.
    """
    sizes = [math.prod(shape)] + [hidden] * layers
    dense = [LaneLinear(generators, i, o) for i, o in itertools.pairwise(sizes)]
    model = MLP(dense, LaneLinear(generators, sizes[-1], units), activation, dropout)
    initialise(model, init, generators)
    return model


MODELS = {"mlp": mlp}
