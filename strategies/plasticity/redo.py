"""Recycling of dormant neurons.

Axes: L lanes, H hidden units of one layer, I inputs.
"""

from typing import Annotated

import torch
from torch import Tensor

from strategies.core import Batch, Count, LaneFloat, NotNegative, Search, hashed_uniform
from strategies.parts import Recycling


class ReDo(Recycling):
    """ReDo: dormant hidden units are reinitialised at regular intervals.

    A unit is dormant if its mean output is at most tau times the mean over its layer. Its incoming weights
    are drawn from the initial distribution and its outgoing weights set to 0 (Sokar 2023, definition 3.1
    and algorithm 1).
    """

    name = "redo"
    paper = "Sokar et al. 2023, The dormant neuron phenomenon in deep reinforcement learning"

    tau: Annotated[NotNegative, Search(1e-3, 0.3, log=True)] = LaneFloat(0.025)
    """A unit is dormant if its mean output is at most this share of its layer's."""
    every: Count = 1000
    """Steps between two checks, counted since the optimiser was last reset."""

    @torch.no_grad()
    def after_step(self, batch: Batch) -> None:
        """Reinitialise dormant units in lanes whose step count is a multiple of ``every``."""
        # Drawn at every step, so that draws do not depend on the step counts of other lanes.
        key_L = self.draws.uniform("recycle", 1)[:, 0]
        if all(n % self.every for n in self.optimiser.steps):
            return
        due_L = self.optimiser.steps_L.remainder(self.every) == 0
        # A resting lane may stay at a multiple of ``every`` for many steps.
        due_L1 = (due_L & (batch.learns_L > 0)).unsqueeze(1)
        for i, activity_LH in enumerate(batch.noted[self.name]):
            dormant_LH = activity_LH <= self.tau.unsqueeze(1) * activity_LH.mean(1, keepdim=True)
            self._recycle(i, due_L1 & dormant_LH, key_L)

    def _recycle(self, i: int, which_LH: Tensor, key_L: Tensor) -> None:
        incoming_LHI, *others = self._units[i]
        draw_LHI = hashed_uniform(key_L, f"layer {i}", incoming_LHI[0].numel()).view(incoming_LHI.shape)
        new_LHI = ((2 * draw_LHI - 1) * self.bound(i)).float()
        incoming_LHI.copy_(torch.where(which_LH.unsqueeze(2), new_LHI, incoming_LHI))
        for tensor in others:
            tensor.masked_fill_(which_LH.view(*which_LH.shape, *[1] * (tensor.dim() - 2)), 0)
        self.renewed_L += which_LH.sum(1)
