"""The reduced ResNet-18 of the continual-learning literature (Lopez-Paz & Ranzato 2017).

Axes: L lanes, B batch, F features; C, H, W of an image.
"""

import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

from bench.models.initial import Init, initialise
from bench.models.reference import Shape
from strategies.core import (
    Generators,
    LaneBatchNorm2d,
    LaneConv2d,
    LaneLinear,
    LaneModel,
    fold_lanes,
    unfold_lanes,
)


class Block(nn.Module):
    """Two 3x3 convolutions with batch normalisation, and a shortcut."""

    def __init__(self, generators: Generators, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        lanes = len(generators)
        self.conv1 = LaneConv2d(generators, inputs, outputs, 3, stride, padding=1, bias=False)
        self.norm1 = LaneBatchNorm2d(lanes, outputs)
        self.conv2 = LaneConv2d(generators, outputs, outputs, 3, padding=1, bias=False)
        self.norm2 = LaneBatchNorm2d(lanes, outputs)
        self.shortcut: nn.Module = nn.Identity()
        if stride > 1 or inputs != outputs:
            conv = LaneConv2d(generators, inputs, outputs, 1, stride, bias=False)
            self.shortcut = nn.Sequential(conv, LaneBatchNorm2d(lanes, outputs))

    def forward(self, x: Tensor) -> Tensor:
        """Return the output of the block, shape (B, L*C, H, W)."""
        h = self.norm1(self.conv1(x)).relu()
        sum_: Tensor = self.norm2(self.conv2(h)) + self.shortcut(x)
        return sum_.relu()


class ResNet18(LaneModel):
    """Four stages of two blocks; the first stage has ``width`` channels, each later stage twice as many."""

    def __init__(self, generators: Generators, shape: Shape, units: int, width: int) -> None:
        super().__init__()
        self.lanes = len(generators)
        self.conv = LaneConv2d(generators, shape[0], width, 3, padding=1, bias=False)
        self.norm = LaneBatchNorm2d(self.lanes, width)
        blocks, inputs = [], width
        for stage in range(4):
            outputs = width * 2**stage
            first = Block(generators, inputs, outputs, 2 if stage else 1)
            blocks += [first, Block(generators, outputs, outputs, 1)]
            inputs = outputs
        self.blocks = nn.Sequential(*blocks)
        self.head = LaneLinear(generators, inputs, units)

    def features(self, x_LBCHW: Tensor) -> Tensor:
        """Return the outputs of the last stage after global pooling, shape (L, B, 8 * width)."""
        h = self.blocks(self.norm(self.conv(fold_lanes(x_LBCHW))).relu())
        return unfold_lanes(F.adaptive_avg_pool2d(h, 1), self.lanes)


def resnet18(
    generators: Generators, shape: Shape, units: int, *, width: int = 20, init: Init = "pytorch"
) -> LaneModel:
    """The reduced ResNet-18 of the literature: `width` channels in the first stage.

    Args:
        generators: One for each lane.
        shape: Of an image.
        units: Of the head.
        width: Channels of the first stage; each of the three others has twice as many as the one before.
        init: Initial weights: of torch's layers, of Glorot & Bengio 2010, or of He et al. 2015.
    """
    model = ResNet18(generators, shape, units, width)
    initialise(model, init, generators)
    return model


MODELS = {"resnet18": resnet18}
