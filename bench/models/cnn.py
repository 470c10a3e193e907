"""A small convolutional network: four convolutions, two poolings, one dense layer.

Axes: L lanes, B batch, F features; C, H, W of an image.
"""

from typing import ClassVar

import torch.nn.functional as F  # noqa: N812
from torch import Tensor

from bench.models.initial import ACTIVATIONS, Activation, Dropout, Init, initialise
from bench.models.reference import Shape
from strategies.core import (
    Generators,
    LaneConv2d,
    LaneDropout,
    LaneLinear,
    LaneModel,
    fold_lanes,
    unfold_lanes,
)
from suites.errors import UserError


class CNN(LaneModel):
    """Two blocks of two 3x3 convolutions and a pooling, then a dense layer (as in Zenke et al. 2017)."""

    any_lanes: ClassVar[bool] = True

    def __init__(
        self,
        generators: Generators,
        shape: Shape,
        units: int,
        width: int,
        hidden: int,
        activation: str = "relu",
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        self.activation, self.dropout = activation, LaneDropout(dropout)
        channels, height, width_px = shape
        if min(height, width_px) < 4:
            raise UserError(f"model cnn needs images of 4 x 4 pixels or more, not {height} x {width_px}")
        self.conv1 = LaneConv2d(generators, channels, width, 3, padding=1)
        self.conv2 = LaneConv2d(generators, width, width, 3, padding=1)
        self.conv3 = LaneConv2d(generators, width, 2 * width, 3, padding=1)
        self.conv4 = LaneConv2d(generators, 2 * width, 2 * width, 3, padding=1)
        self.dense = LaneLinear(generators, 2 * width * (height // 4) * (width_px // 4), hidden)
        self.head = LaneLinear(generators, hidden, units)

    def features(self, x_LBCHW: Tensor) -> Tensor:
        """Return the outputs of the dense layer, shape (L, B, hidden)."""
        h, act = fold_lanes(x_LBCHW), ACTIVATIONS[self.activation]
        h = F.max_pool2d(act(self.conv2(act(self.conv1(h)))), 2)
        h = F.max_pool2d(act(self.conv4(act(self.conv3(h)))), 2)
        h_LBF: Tensor = self.dropout(act(self.dense(unfold_lanes(h, len(x_LBCHW)))))
        return h_LBF


def cnn(
    generators: Generators,
    shape: Shape,
    units: int,
    *,
    width: int = 32,
    hidden: int = 256,
    init: Init = "pytorch",
    activation: Activation = "relu",
    dropout: Dropout = 0.0,
) -> LaneModel:
    """Four 3x3 convolutions of `width` and 2 `width` channels, a dense layer of `hidden` units.

    Args:
        generators: One for each lane.
        shape: Of an image, at least 4 x 4 pixels.
        units: Of the head.
        width: Channels of the first two convolutions; the others have twice as many.
        hidden: Units of the dense layer.
        init: Initial weights: of torch's layers, of Glorot & Bengio 2010, or of He et al. 2015.
        activation: After each convolution and the dense layer.
        dropout: Share of the outputs of the dense layer that are set to zero in training.
    """
    model = CNN(generators, shape, units, width, hidden, activation, dropout)
    initialise(model, init, generators)
    return model


MODELS = {"cnn": cnn}
