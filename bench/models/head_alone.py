"""A head over features that were computed before.

Axes: L lanes, B batch, F features.
"""

from typing import ClassVar

from torch import Tensor

from strategies.core import Generators, LaneLinear, LaneModel


class HeadAlone(LaneModel):
    """A head over features that a frozen backbone computed before; see bench.encode."""

    any_lanes: ClassVar[bool] = True

    def __init__(self, generators: Generators, features: int, units: int) -> None:
        super().__init__()
        self.head = LaneLinear(generators, features, units)

    def features(self, x_LBF: Tensor) -> Tensor:
        """Return the input, which contains the features."""
        return x_LBF
