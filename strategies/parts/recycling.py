"""Base of methods that reinitialise hidden units of an mlp.

Axes: L lanes, B batch, H hidden units of one layer, I inputs, O outputs; X the axes of one row.
"""

import torch
from torch import Tensor

from strategies.core import Batch, Strategy
from strategies.parts.layers import relu_chain


class Recycling(Strategy):
    """Plain training that records hidden units' outputs; a method decides which to reinitialise, and when."""

    family = "plasticity"
    cost = 1.33  # the units' outputs are computed a second time
    needs = "a network of dense layers: mlp"

    def setup(self) -> None:
        """Find the chain of dense layers; raises Unsuitable if there is none."""
        self._layers = relu_chain(self.model, self.name)
        self.renewed_L = torch.zeros(self.streams.lanes, device=self.streams.device)
        self._units = [self._tensors(i) for i in range(len(self._layers) - 1)]

    def _tensors(self, i: int) -> list[Tensor]:
        """Return the tensors of a layer's units as views to write into, each with axes (L, H, ...).

        They are the incoming weights, the biases and the outgoing weights, then their moments in the
        optimiser.
        """
        layer, after = self._layers[i], self._layers[i + 1]
        place = {id(p): n for n, p in enumerate(self.optimiser.parameters)}
        found: list[Tensor] = []
        for moment in [self.optimiser.parameters, *self.optimiser.moments]:
            incoming_LIH, bias_LH, outgoing_LHO = (
                moment[place[id(p)]].detach() for p in (layer.weight, layer.bias, after.weight)
            )
            found += [incoming_LIH.transpose(1, 2), bias_LH, outgoing_LHO]
        return found

    def extra_loss(self, batch: Batch, raw_LBU: Tensor) -> None:
        """Record each unit's mean output over rows with weight 1; after ReLU it is not negative."""
        weight_LB1 = batch.weight_LB.unsqueeze(2)
        rows_L1 = weight_LB1.sum(1)
        batch.noted[self.name] = activity = []
        with torch.no_grad():
            x_LBI = batch.x_LBX.flatten(2)
            for layer in self._layers[:-1]:
                x_LBI = layer(x_LBI).relu()
                activity.append((x_LBI * weight_LB1).sum(1) / rows_L1.clamp(min=1))

    def bound(self, i: int) -> float:
        """Return the bound of a layer's initial weights, which are drawn from U(-bound, bound)."""
        inputs: int = self._layers[i].weight.shape[1]
        return float(inputs**-0.5)

    def notes(self) -> dict[str, Tensor]:
        """Return how many units were reinitialised."""
        return {"renewed": self.renewed_L}
