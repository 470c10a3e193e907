"""Incremental classifier and representation learning.

Axes: L lanes, B batch, M exemplars, U units; X the axes of one row.
"""

from functools import partial
from typing import Literal

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

from strategies.core import Batch, lanewise
from strategies.parts import Distilled, NearestMean


class ICaRL(NearestMean, Distilled):
    """iCaRL: binary cross-entropy per class, distilled for old classes; the nearest mean classifies.

    L = -sum_y [q_y log g_y + (1 - q_y) log(1 - g_y)] over the classes seen, on new rows and exemplars. g is
    the sigmoid of the logits; q is the label for the task's classes and the earlier network's g for the
    others (Rebuffi 2017, Algorithm 3). Exemplars are chosen by herding (Algorithm 4); the nearest mean of
    exemplars classifies (Algorithm 1).
    """

    name = "icarl"
    paper = "Rebuffi et al. 2017, iCaRL: Incremental classifier and representation learning"
    scenarios = ("task", "class", "online")

    units: Literal["sum", "mean"] = "sum"
    """The loss of a row is the sum over classes (the paper's formula) or the mean (its code)."""

    def remembered(self) -> tuple[Tensor, Tensor, Tensor]:
        """Return the exemplars, whose class means classify."""
        return self.exemplars.all()

    def loss(self, batch: Batch) -> Tensor:
        """Return binary cross-entropy and distillation on new rows and exemplars."""
        both = self.with_exemplars(batch)
        logits_LBU = self.model(both.x_LBX)
        seen_L1U = self._seen_LU.unsqueeze(1)
        yes_or_no = partial(F.binary_cross_entropy_with_logits, reduction="none")
        loss_LBU = lanewise(yes_or_no, logits_LBU, self.targets(both))
        loss_LB = torch.where(seen_L1U, loss_LBU, 0).sum(2)
        return both.mean_L(loss_LB if self.units == "sum" else loss_LB / seen_L1U.sum(2))

    def targets(self, both: Batch) -> Tensor:
        """Return each unit's target: the label, or for old classes the earlier network's sigmoid."""
        label_LBU = F.one_hot(both.y_LB, self.streams.n_units).float()
        if self.task == 0:
            return label_LBU
        with torch.no_grad():
            sigmoid_LBU = lanewise(torch.sigmoid, self.teacher(both.x_LBX).float())
        return torch.where(self._old_LU.unsqueeze(1), sigmoid_LBU, label_LBU)
