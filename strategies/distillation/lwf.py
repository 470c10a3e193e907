"""Learning without forgetting."""

from typing import Annotated, Literal

import torch
from torch import Tensor

from strategies.core import Batch, Bounds, LaneFloat, NotNegative, Search, add_up, mask, only_if, unless
from strategies.parts import WithTeacher, soft_cross_entropy, taught_heads


class LwF(WithTeacher):
    """Learning without forgetting: on new rows, keep the outputs of the network before the task.

    Distillation is the cross-entropy of tempered outputs (Li & Hoiem, eq. 2 to 4): in task-incremental
    streams the sum over the heads of earlier tasks (their mean with ``balance=tasks``), in others over the
    units of ``distil``.
    """

    name = "lwf"
    cost = 1.33  # a third: the teacher's forward pass
    family = "distillation"
    paper = "Li & Hoiem 2017, Learning without forgetting"
    needs = "task boundaries, a copy of the network"
    needs_boundaries = True
    presets = {
        "vandeven2022": {"temperature": 2.0, "balance": {"task": "tasks", "domain": "tasks", "class": "sum"}}
    }

    temperature: Annotated[LaneFloat, Bounds(1e-3), Search(1, 8), unless("lam", 0.0)] = LaneFloat(2.0)
    """Logits are divided by this before the softmax."""
    balance: Literal["sum", "tasks"] = "sum"
    """L_new + lambda L_distil, or 1/t L_new + (1 - 1/t) L_distil at the t-th task (van de Ven 2022)."""
    lam: Annotated[NotNegative, Search(0.1, 10, log=True), only_if("balance", "sum")] = LaneFloat(1.0)
    """Weight of distillation with balance=sum."""
    heat_squared: Annotated[bool, unless("temperature", 1.0), unless("lam", 0.0)] = False
    """Whether distillation is multiplied by T^2, so that T does not change its weight (Hinton 2015)."""
    distil: Annotated[
        Literal["active", "seen"], only_if("scenario", "class", "online"), unless("lam", 0.0)
    ] = "active"
    """Class-incremental: over all active units, or only over those of earlier tasks."""

    def not_composable_reason(self) -> str | None:
        """With ``balance=tasks`` the loss on new rows has a weight, so the loss is not a plain sum."""
        return f"balance=tasks of {self.name} weights new rows, too" if self.balance == "tasks" else None

    def loss(self, batch: Batch) -> Tensor:
        """Return the loss on the labels plus distillation."""
        loss_L = super().loss(batch)
        return loss_L / (self.task + 1) if self.balance == "tasks" else loss_L

    def extra_loss(self, batch: Batch, raw_LBU: Tensor) -> Tensor | None:
        """Return the weighted distance to the earlier network's outputs, None in the first task."""
        if self.task == 0:
            return None
        with torch.no_grad():
            target_LBU = self.teacher(batch.x_LBX)
        old = [
            self.distance_L(mask(raw_LBU, units), mask(target_LBU, taught), batch)
            for units, taught in self.units(batch)
        ]
        # loss divides the sum by t: 1/t of the new and (t - 1)/t of the old.
        return self.task * (add_up(old) / len(old)) if self.balance == "tasks" else self.lam * add_up(old)

    def units(self, batch: Batch) -> list[tuple[Tensor | None, Tensor | None]]:
        """Return pairs of units: those of the network's softmax and those of the teacher's."""
        if self.distil == "seen" and self.streams.scenario in ("class", "online"):
            earlier_L1U = self.streams.own_LTU[:, : self.task].any(1, keepdim=True)
            return [(earlier_L1U, earlier_L1U)]
        return taught_heads(self.streams, batch, self.task)

    def distance_L(self, logits_LBU: Tensor, target_LBU: Tensor, batch: Batch) -> Tensor:
        """Return -sum_u softmax(target/T)_u log softmax(logits/T)_u, mean over rows, shape (L,)."""
        distance_LB = soft_cross_entropy(logits_LBU, target_LBU, self.temperature)
        distance_L = batch.mean_L(distance_LB)
        return distance_L * self.temperature**2 if self.heat_squared else distance_L
