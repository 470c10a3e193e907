"""Weight aligning.

Axes: L lanes, B batch, F features, U units; X the axes of one row.
"""

from typing import Annotated

import torch
from torch import Tensor

from strategies.core import Batch, Bounds, LaneFloat, Search, mask
from strategies.parts import Distilled


class WA(Distilled):
    """Weight aligning: after a task, the weights of new classes are scaled to the mean norm of the old ones.

    Training minimises (1 - lambda) CE + lambda KD on new rows and exemplars, lambda = old classes / classes
    seen; then w_new <- gamma w_new with gamma = mean ||w_old|| / mean ||w_new|| (Zhao 2020).
    """

    name = "wa"
    paper = "Zhao et al. 2020, Maintaining discrimination and fairness in class incremental learning"

    temperature: Annotated[LaneFloat, Bounds(1e-3), Search(1, 5)] = LaneFloat(2.0)
    """Logits are divided by this before the softmax of the distillation."""
    clip: bool = True
    """Whether negative weights of the head are set to 0 after each step, so that norms reflect logits."""

    def loss(self, batch: Batch) -> Tensor:
        """Return cross-entropy and distillation, weighted by the share of old classes."""
        both = self.with_exemplars(batch)
        logits_LBU = self.model(both.x_LBX)
        loss_L = self.cross_entropy(mask(logits_LBU, both.active_LBU), both)
        if self.task == 0:
            return loss_L
        with torch.no_grad():
            target_LBU = self.teacher(both.x_LBX)
        return self.with_distillation(loss_L, both, logits_LBU, target_LBU, self.temperature)

    @torch.no_grad()
    def after_step(self, batch: Batch) -> None:
        """Clip the head; a resting lane is clipped already."""
        if self.clip:
            self.model.head.weight.clamp_(min=0)

    @torch.no_grad()
    def end_task(self, task: int) -> None:
        """Align the head; then the network is copied as the next teacher."""
        if task > 0:
            weight_LFU = self.model.head.weight
            factor_LU = torch.where(self._new_LU, self.ratio_L().unsqueeze(1), 1)
            weight_LFU.mul_(factor_LU.unsqueeze(1))
        super().end_task(task)

    def ratio_L(self) -> Tensor:
        """Return gamma, the mean norm of old classes' weights over that of new ones; 1 without old ones."""
        length_LU = self.model.head.weight.detach().norm(dim=1)
        n_old_L = self._old_LU.sum(1)
        old_L = (length_LU * self._old_LU).sum(1) / n_old_L
        new_L = (length_LU * self._new_LU).sum(1) / self._new_LU.sum(1)
        ratio_L: Tensor = old_L / new_L.clamp(min=1e-12)
        return torch.where(n_old_L > 0, ratio_L, 1)
