"""Continual backpropagation.

Axes: L lanes, H hidden units of one layer, I inputs, O outputs.
"""

from typing import Annotated, Literal

import torch
from torch import Tensor

from strategies.core import Batch, CountOrNone, LaneFloat, NotNegative, Search, Share, per_lane, unless
from strategies.parts import Recycling


class ContinualBackprop(Recycling):
    """Continual backpropagation: a small share of the least useful mature hidden units is reinitialised.

    After every step the utility is u <- eta u + (1 - eta) |h| sum_o |w_out|. Per step, a share rho of the
    mature units, those with the lowest u, get incoming weights from the initial distribution and outgoing
    weights 0 (Dohare 2024, eq. 1 and algorithm 1). Fractions of a unit accumulate over steps; a step replaces
    at most one unit per layer.
    """

    name = "continual-backprop"
    paper = "Dohare et al. 2024, Loss of plasticity in deep continual learning"

    rate: Annotated[NotNegative, Search(1e-6, 0.01, log=True)] = LaneFloat(1e-4)
    """rho: share of a layer's mature units replaced per step."""
    maturity: Annotated[CountOrNone, unless("rate", 0.0)] = 100
    """Steps before a new unit can be replaced."""
    decay: Annotated[Share, unless("rate", 0.0)] = LaneFloat(0.99)
    """eta: decay of the running mean of utility."""
    variant: Annotated[Literal["paper", "code"], unless("rate", 0.0)] = "paper"
    """paper: the algorithm as published; code: utility is also corrected for its start at 0, and the mean
    output of a replaced unit, times its outgoing weights, is added to the next biases."""

    def setup(self) -> None:
        """Start with utility, age and accumulated replacements at 0."""
        super().setup()
        zeros = [torch.zeros_like(layer.bias).detach() for layer in self._layers[:-1]]
        self.utility = [z.clone() for z in zeros]
        self.output = [z.clone() for z in zeros]
        self.age = [z.clone() for z in zeros]
        self.due = [z[:, 0].clone() for z in zeros]

    @torch.no_grad()
    def after_step(self, batch: Batch) -> None:
        """Update utilities and replace units."""
        decay_L1, learns_L = self.decay.unsqueeze(1), batch.learns_L > 0
        for i, activity_LH in enumerate(batch.noted[self.name]):
            self._update(i, decay_L1, activity_LH, learns_L.unsqueeze(1))
            mature_LH = self.age[i] > self.maturity
            self.due[i] += self.rate * (mature_LH & learns_L.unsqueeze(1)).sum(1)
            replace_L = learns_L & (self.due[i] >= 1) & mature_LH.any(1)
            self.due[i] -= replace_L.to(self.due[i])
            self.renewed_L += replace_L.to(self.renewed_L)
            self._replace(i, self._rank(i, decay_L1).masked_fill(~mature_LH, torch.inf).argmin(1), replace_L)

    def _update(self, i: int, decay_L1: Tensor, activity_LH: Tensor, learns_L1: Tensor) -> None:
        """Update utility, mean output and age; resting lanes stay unchanged."""
        outgoing_LHO = self._units[i][2]
        now_LH = activity_LH * outgoing_LHO.abs().sum(2)
        self.age[i] += learns_L1.to(self.age[i])
        for kept, new in ((self.utility[i], now_LH), (self.output[i], activity_LH)):
            kept.copy_(torch.where(learns_L1, decay_L1 * kept + (1 - decay_L1) * new, kept))

    def _rank(self, i: int, decay_L1: Tensor) -> Tensor:
        if self.variant == "paper":
            return self.utility[i]
        return self.utility[i] / (1 - decay_L1 ** self.age[i]).clamp(min=1e-30)

    def _replace(self, i: int, unit_L: Tensor, replace_L: Tensor) -> None:
        """Reinitialise one unit of a layer in the lanes marked by ``replace_L``."""
        lane_L = torch.arange(len(unit_L), device=unit_L.device)
        if self.variant == "code":
            age_L = self.age[i][lane_L, unit_L]
            mean_L = self.output[i][lane_L, unit_L] / (1 - self.decay**age_L).clamp(min=1e-30)
            lost_LO = mean_L.unsqueeze(1) * self._units[i][2][lane_L, unit_L]
            self._layers[i + 1].bias.detach().add_(torch.where(replace_L.unsqueeze(1), lost_LO, 0))
        draw_LI = self.draws.uniform(f"incoming {i}", self._layers[i].weight.shape[1])
        new_LI = ((2 * draw_LI - 1) * self.bound(i)).float()
        incoming, *others = self._units[i]
        for tensor in (incoming, *others, self.utility[i], self.output[i], self.age[i]):
            was = tensor[lane_L, unit_L]
            new = new_LI if tensor is incoming else torch.zeros_like(was)
            tensor[lane_L, unit_L] = torch.where(per_lane(replace_L, was), new, was)
