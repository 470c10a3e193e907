"""Synaptic intelligence."""

from typing import Annotated, Literal

import torch
from torch import Tensor

from strategies.core import Batch, Bounds, LaneFloat, NotNegative, Search, gradients, per_lane, unless
from strategies.parts import QuadraticPenalty


class SI(QuadraticPenalty):
    """Synaptic intelligence: changes of a parameter are penalised by how much its path lowered the loss.

    c * sum_i Omega_i (p_i - p*_i)^2 with Omega = sum_k w_k / (D_k^2 + xi), w_k the path integral of
    -gradient x movement over task k, D_k the task's whole movement (Zenke 2017, eq. 3 to 5).
    """

    name = "si"
    generates = True
    paper = "Zenke, Poole & Ganguli 2017, Continual learning through synaptic intelligence"
    needs = "task boundaries, four times the parameters"
    presets = {
        "vandeven2022": {"c": {"task": 10.0, "domain": 5e4, "class": 5e3}, "xi": 0.1}
        | {"path": "total", "negative": True}
    }

    c: Annotated[NotNegative, Search(0.01, 1e4, log=True)] = LaneFloat(0.1)
    """Strength of the penalty."""
    xi: Annotated[LaneFloat, Bounds(1e-12), Search(1e-3, 1, log=True), unless("c", 0.0)] = LaneFloat(0.1)
    """Damping, so that a parameter that hardly moved does not become infinitely important."""
    path: Annotated[Literal["task", "total"], unless("c", 0.0)] = "task"
    """Gradient along the path: of the task's loss (the paper), or of loss and penalty (van de Ven 2022)."""

    negative: Annotated[bool, unless("c", 0.0)] = False
    """Whether a path that raised the loss gives negative importance (the paper's formula) or 0."""

    def setup(self) -> None:
        """Start with no importance."""
        super().setup()
        self.path_integral = [torch.zeros_like(p) for p in self.model_tensors()]

    def strength(self) -> Tensor:
        """Return 2c: the penalty has no factor 1/2."""
        return 2 * self.c

    def begin_task(self, task: int) -> None:
        """Start a new path."""
        super().begin_task(task)
        torch._foreach_zero_(self.path_integral)

    def adjust_gradients(self) -> None:
        """Add the penalty's gradient; record the parameters before the step and the gradient of ``path``."""
        if self.path == "task" and self._pull is not None:
            gradient = [g.clone() for g in gradients(self.model)]
            super().adjust_gradients()
        else:
            super().adjust_gradients()
            gradient = gradients(self.model)
        self.context.batch.noted[self.name] = gradient, [p.clone() for p in self.model_tensors()]

    def after_step(self, batch: Batch) -> None:
        """Add -gradient x movement of this step to the path integral."""
        gradient, before = batch.noted[self.name]
        back = torch._foreach_sub(before, list(self.model_tensors()))
        torch._foreach_addcmul_(self.path_integral, gradient, back)

    def end_task(self, task: int) -> None:
        """Add the task's importance and move the centre to the current parameters."""
        new = []
        for p, start, w in zip(self.model_tensors(), self.centre, self.path_integral, strict=True):
            omega = w / ((p - start).square() + per_lane(self.xi, p))
            new.append(omega if self.negative else omega.clamp(min=0))
        self.move(new)
