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
    """iCaRL: a yes or no for each class, distilled for old ones; the nearest mean of exemplars answers.

    L = -sum_y [q_y log g_y + (1 - q_y) log(1 - g_y)] over the classes seen, g the sigmoid of the logits, q
    the label for the task's classes and the earlier network's g for others, over new rows and exemplars alike
    (Rebuffi 2017, Algorithm 3); exemplars by herding (Algorithm 4); answers by Algorithm 1.
    """

    name = "icarl"
    paper = "Rebuffi et al. 2017, iCaRL: Incremental classifier and representation learning"
    scenarios = ("task", "class", "online")

    units: Literal["sum", "mean"] = "sum"
    """The loss of a row is the sum over classes (the paper's formula) or their mean (its code)."""

    def remembered(self) -> tuple[Tensor, Tensor, Tensor]:
        """Answer by the means of the exemplars."""
        return self.exemplars.all()

    def loss(self, batch: Batch) -> Tensor:
        """Return binary cross-entropy and distillation, over new rows and exemplars."""
        both = self.with_exemplars(batch)
        logits_LBU = self.model(both.x_LBX)
        seen_L1U = self._seen_LU.unsqueeze(1)
        yes_or_no = partial(F.binary_cross_entropy_with_logits, reduction="none")
        loss_LBU = lanewise(yes_or_no, logits_LBU, self.targets(both))
        loss_LB = torch.where(seen_L1U, loss_LBU, 0).sum(2)
        return both.mean_L(loss_LB if self.units == "sum" else loss_LB / seen_L1U.sum(2))

    def targets(self, both: Batch) -> Tensor:
        """Return what each unit is to say: the label, for old classes the earlier network's answer."""
        label_LBU = F.one_hot(both.y_LB, self.streams.n_units).float()
        if self.task == 0:
            return label_LBU
        with torch.no_grad():
            answer_LBU = lanewise(torch.sigmoid, self.teacher(both.x_LBX).float())
        return torch.where(self._old_LU.unsqueeze(1), answer_LBU, label_LBU)
