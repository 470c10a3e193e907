"""Shrink and perturb."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch

from strategies.base import NotNegative, Share, Strategy
from strategies.lanes import per_lane
from suites.base import generator


@dataclass
class ShrinkPerturb(Strategy):
    """Before every task but the first, shrink all parameters and add noise to them.

    p <- lambda p + sigma n with n ~ N(0, 1) (Ash & Adams 2020, section 4).
    """

    name: ClassVar[str] = "shrink-perturb"
    family: ClassVar[str] = "plasticity"
    paper: ClassVar[str] = "Ash & Adams 2020, On warm-starting neural network training"
    needs: ClassVar[str] = "task boundaries"
    needs_boundaries: ClassVar[bool] = True

    shrink: Share = 0.6
    """lambda: what is left of a parameter."""
    noise: NotNegative = 0.01
    """sigma: standard deviation of what is added."""

    @torch.no_grad()
    def begin_task(self, task: int) -> None:
        """Shrink and perturb, each lane by its own generator."""
        if task == 0:
            return
        # Not by self.draws, which makes many steps' numbers ahead: here there is one draw a task.
        random = [generator(s.seed, f"perturb/{task}") for s in self.streams.streams]
        for p in self.model.parameters():
            n = torch.stack([torch.randn(p.shape[1:], generator=g) for g in random]).to(p)
            shrink_L, noise_L = (
                torch.as_tensor(v, device=p.device).expand(len(p)) for v in (self.shrink, self.noise)
            )
            p.copy_(per_lane(shrink_L, p) * p + per_lane(noise_L, p) * n)
