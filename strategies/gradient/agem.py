"""Averaged gradient episodic memory."""

import torch

from strategies.core import dot_and_square_L, gradients, per_lane
from strategies.parts import Rehearsal, RowReplay


class AGEM(Rehearsal, RowReplay):
    """A-GEM: a step may not, to first order, raise the loss on a sample from the memory.

    If g . r < 0, g becomes g - (g . r / r . r) r, with r the gradient on the sample (Chaudhry 2019, eq. 11).
    """

    name = "agem"
    generates = True
    family = "gradient"
    paper = "Chaudhry et al. 2019, Efficient lifelong learning with A-GEM"
    projects = True
    presets = {"vandeven2022": {"buffer": 1000, "write": "per-class"}}

    def adjust_gradients(self) -> None:
        """Project each lane's gradient so that its product with the sample's gradient is not negative."""
        # The first task has nothing to protect; with hidden boundaries the whole memory is protected.
        if self.task == 0 and self.streams.training.boundaries == "shown":
            return
        parameters, new = list(self.model.parameters()), self.context.batch
        old = self.memory.replay("reference", self.stored(new), new)
        with self.autocast():
            loss_L = self.cross_entropy(self.logits(old), old)
        ones_L = self.streams.ones_L.to(loss_L.dtype)
        reference = torch.autograd.grad(loss_L, parameters, ones_L, materialize_grads=True)
        now = gradients(self.model)
        inner_L, square_L = dot_and_square_L(now, reference)
        scale_L = inner_L.clamp(max=0) / square_L.clamp(min=1e-30)
        torch._foreach_sub_(now, [per_lane(scale_L, r) * r for r in reference])
