"""Riemannian walk.

Axes: L lanes, B batch.
"""

from typing import Annotated

import torch
from torch import Tensor

from strategies.core import (
    Batch,
    Bounds,
    Count,
    LaneFloat,
    NotNegative,
    Search,
    Share,
    gradients,
    per_lane,
    unless,
)
from strategies.parts import QuadraticPenalty


class RWalk(QuadraticPenalty):
    """Riemannian walk: EWC's Fisher as a moving average, plus SI's path integral in the Fisher metric.

    lambda * sum_i (F_i + s_i) (p_i - p*_i)^2; after every step F <- alpha g^2 + (1 - alpha) F, and s sums
    max(0, -g x movement) / (F movement^2 / 2 + xi) over stretches of the path, averaged with the earlier
    tasks' s at the end of each (Chaudhry 2018, section 4). F and s are scaled to a greatest value of 1.
    """

    name = "rwalk"
    paper = "Chaudhry et al. 2018, Riemannian walk for incremental learning"
    needs = "task boundaries, four times the parameters"

    lam: Annotated[NotNegative, Search(0.01, 1e4, log=True)] = LaneFloat(1.0)
    """Strength of the penalty."""
    alpha: Annotated[Share, unless("lam", 0.0)] = LaneFloat(0.9)
    """Weight of the newest squared gradient in the moving average."""
    stretch: Annotated[Count, unless("lam", 0.0)] = 10
    """Steps in a stretch of the path; each stretch's integral is divided by its length and added to s."""
    xi: Annotated[LaneFloat, Bounds(1e-12), unless("lam", 0.0)] = LaneFloat(1e-3)
    """Damping, so that a parameter that hardly moved does not get a large score."""

    def setup(self) -> None:
        """Start with no importance."""
        super().setup()
        self.fisher = [torch.zeros_like(p) for p in self.model_tensors()]
        self.score = [torch.zeros_like(p) for p in self.model_tensors()]

    def strength(self) -> Tensor:
        """Return 2 lambda: the penalty has no factor 1/2."""
        return 2 * self.lam

    def begin_task(self, task: int) -> None:
        """Start a new path."""
        super().begin_task(task)
        self._steps = 0
        self._new = [torch.zeros_like(p) for p in self.model_tensors()]
        self._gain = [torch.zeros_like(p) for p in self.model_tensors()]
        self._start = [p.clone() for p in self.model_tensors()]

    def adjust_gradients(self) -> None:
        """Record the gradient of the loss and the parameters before the step; add the penalty's gradient."""
        gradient = [g.clone() for g in gradients(self.model)]
        self.context.batch.noted[self.name] = gradient, [p.clone() for p in self.model_tensors()]
        super().adjust_gradients()

    def after_step(self, batch: Batch) -> None:
        """Update the Fisher and the path integral of the stretch; end it after ``stretch`` steps."""
        learns_L = batch.mean_L(torch.ones_like(batch.y_LB, dtype=torch.float32)) > 0
        alpha_L = torch.where(learns_L, self.alpha, 0)
        gradient, before = batch.noted[self.name]
        for f, g in zip(self.fisher, gradient, strict=True):
            f.lerp_(g.square(), per_lane(alpha_L.to(f), f))
        # A resting lane did not move, so this adds zero.
        back = torch._foreach_sub(before, list(self.model_tensors()))
        torch._foreach_addcmul_(self._gain, gradient, back)
        self._steps += 1
        if self._steps % self.stretch == 0:
            self._close(learns_L)

    def _close(self, which_L: Tensor) -> None:
        """Add the stretch's scores in some lanes and start their next stretch."""
        parts = zip(self._new, self._gain, self.fisher, self._start, self.model_tensors(), strict=True)
        for new, gain, f, start, p in parts:
            on = per_lane(which_L, p)
            new += torch.where(
                on, gain.clamp(min=0) / (0.5 * f * (p - start).square() + per_lane(self.xi, p)), 0
            )
            gain.masked_fill_(on, 0)
            start.copy_(torch.where(on, p, start))

    def end_task(self, task: int) -> None:
        """End the last stretch, average the scores, and set the importance to the sum of both measures."""
        self._close(torch.ones(self.streams.lanes, dtype=torch.bool, device=self.streams.device))
        for s, new in zip(self.score, self._new, strict=True):
            s.copy_((s + new) / 2 if task else new)
        both = torch._foreach_add(_scaled(self.fisher), _scaled(self.score))
        self.replace_importance(list(both))


def _scaled(parts: list[Tensor]) -> list[Tensor]:
    """Return the tensors divided by each lane's largest value over all parameters."""
    greatest_L = torch.stack([t.flatten(1).amax(1) for t in parts]).amax(0).clamp(min=1e-30)
    return [t / per_lane(greatest_L, t) for t in parts]
