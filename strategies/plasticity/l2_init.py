"""Regenerative regularisation."""

from typing import Annotated

from strategies.core import LaneFloat, NotNegative, Search, Strategy, gradients, per_lane


class L2Init(Strategy):
    """Weight decay towards the initial parameters, where the network is known to learn well.

    L + lambda * ||p - p_0||^2, from the first step on (Kumar 2023, section 3).
    """

    name = "l2-init"
    family = "plasticity"
    paper = "Kumar et al. 2023, Maintaining plasticity via regenerative regularization"
    needs = "a copy of the initial parameters"

    lam: Annotated[NotNegative, Search(1e-6, 0.1, log=True)] = LaneFloat(1e-3)
    """lambda: weight of the penalty."""

    def setup(self) -> None:
        """Copy the initial parameters."""
        self.initial = [p.clone() for p in self.model_tensors()]

    def adjust_gradients(self) -> None:
        """Add the gradient of the penalty, 2 lambda (p - p_0)."""
        for g, p, start in zip(gradients(self.model), self.model_tensors(), self.initial, strict=True):
            g.addcmul_(per_lane(2 * self.lam, p).to(p.dtype), p - start)
