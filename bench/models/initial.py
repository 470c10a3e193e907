"""Initial weights and activations of models, as options.

Axes: L lanes, I inputs, O outputs.
"""

import math
from collections.abc import Callable
from typing import Annotated, Literal

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

from strategies.core import Generators, LaneConv2d, LaneLinear
from suites.values import Bounds, Later

Init = Annotated[Literal["pytorch", "xavier", "kaiming"], Later()]
Activation = Annotated[Literal["relu", "tanh", "sigmoid", "gelu", "leaky-relu"], Later()]
Dropout = Annotated[float, Bounds(0.0, 0.99), Later()]

ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "relu": torch.relu, "tanh": torch.tanh, "sigmoid": torch.sigmoid, "gelu": F.gelu,
    "leaky-relu": F.leaky_relu,
}  # fmt: skip
EXACT = ("relu", "leaky-relu")
"""Activations whose rounding does not depend on where a number is stored; see ``lanewise``."""


@torch.no_grad()
def initialise(model: nn.Module, init: str, generators: Generators) -> None:
    """Draw the weights of all dense layers and convolutions again, unless ``init`` is ``pytorch``.

    Args:
        model: A model with one lane per generator.
        init: ``xavier``: uniform in +-sqrt(6 / (inputs + outputs)) (Glorot & Bengio 2010, eq. 16);
            ``kaiming``: normal with standard deviation sqrt(2 / inputs) (He et al. 2015, eq. 10). Biases are
            0. Inputs and outputs of a convolution are those of all places of its kernel.
        generators: One CPU generator for each lane.
    """
    if init == "pytorch":
        return
    for module in model.modules():
        if isinstance(module, LaneLinear | LaneConv2d):
            # As (outputs, inputs, ...), the layout in which torch would draw them.
            shape = module.weight.shape[1:]
            dense = isinstance(module, LaneLinear)
            shape = shape[::-1] if dense else shape
            places = math.prod(shape[2:])
            inputs, outputs = shape[1] * places, shape[0] * places
            for lane, random in enumerate(generators):
                drawn = torch.empty(shape)
                if init == "xavier":
                    bound = math.sqrt(6 / (inputs + outputs))
                    drawn.uniform_(-bound, bound, generator=random)
                else:
                    drawn.normal_(0, math.sqrt(2 / inputs), generator=random)
                module.weight[lane] = drawn.T if dense else drawn
            if module.bias is not None:
                module.bias.zero_()
