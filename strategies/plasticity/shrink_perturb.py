"""Shrink and perturb."""

from typing import Annotated, Literal

import torch
from torch import Tensor

from strategies.core import LaneFloat, NotNegative, Search, Share, Strategy, per_lane, unless


class ShrinkPerturb(Strategy):
    """Before every task but the first, shrink all parameters and add noise to them.

    p <- lambda p + sigma n (Ash & Adams 2020, section 4). The defaults are those of the authors' code.
    """

    name = "shrink-perturb"
    family = "plasticity"
    paper = "Ash & Adams 2020, On warm-starting neural network training"
    needs = "task boundaries, a copy of the initial parameters"
    needs_boundaries = True

    shrink: Annotated[Share, Search(0.1, 1)] = LaneFloat(0.4)
    """lambda: factor of every parameter."""
    perturb: Annotated[NotNegative, Search(1e-3, 1, log=True)] = LaneFloat(0.1)
    """sigma: scale of the noise."""
    noise: Annotated[Literal["initial", "normal"], unless("perturb", 0.0)] = "initial"
    """n: the tensor's initial values in random order (the authors' code: a new initialisation), or N(0, 1)
    (the paper)."""

    def setup(self) -> None:
        """Copy the initial parameters."""
        self.initial = [p.clone() for p in self.model_tensors()]

    @torch.no_grad()
    def begin_task(self, task: int) -> None:
        """Shrink and perturb, each lane with its own random generator."""
        if task == 0:
            return
        # Not self.draws, which draws for many steps ahead: there is one draw per task.
        random = self.streams.generators(f"perturb/{task}")
        for p, start in zip(self.model.parameters(), self.initial, strict=True):
            n = torch.stack([self._noise(start[lane], g) for lane, g in enumerate(random)])
            p.copy_(per_lane(self.shrink, p).to(p) * p + per_lane(self.perturb, p).to(p) * n)

    def _noise(self, start: Tensor, random: torch.Generator) -> Tensor:
        if self.noise == "normal":
            return torch.randn(start.shape, generator=random).to(start)
        order = torch.randperm(start.numel(), generator=random).to(start.device)
        return start.flatten()[order].view(start.shape)
