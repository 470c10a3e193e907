"""A plain quadratic penalty towards earlier parameters."""

from typing import Annotated, Literal

import torch
from torch import Tensor

from strategies.core import LaneFloat, NotNegative, Search, unless
from strategies.parts import QuadraticPenalty


class L2(QuadraticPenalty):
    """Weight decay towards the parameters at the end of the last task: EWC with every importance 1.

    lambda/2 * sum_i (p_i - p*_i)^2 (the baseline of Kirkpatrick 2017, figure 2).
    """

    name = "l2"
    generates = True
    paper = "Kirkpatrick et al. 2017, Overcoming catastrophic forgetting in neural networks"

    lam: Annotated[NotNegative, Search(1e-4, 10, log=True)] = LaneFloat(0.1)
    """Strength of the penalty."""
    centre_at: Annotated[Literal["last", "each"], unless("lam", 0.0)] = "last"
    """One penalty, centred at the end of the last task, or one for the end of each task."""

    def strength(self) -> Tensor:
        """Return lambda: the penalty has the factor 1/2."""
        return self.lam

    def end_task(self, task: int) -> None:
        """Move the centre to the current parameters, or add a penalty centred at them."""
        ones = [torch.ones_like(p) for p in self.model_tensors()]
        if self.centre_at == "last":
            self.replace_importance(ones)
        else:
            self.add(ones)
