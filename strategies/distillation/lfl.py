"""Less-forgetful learning."""

from typing import Annotated, Literal

import torch
from torch import Tensor

from strategies.core import Batch, LaneFloat, NotNegative, Search, mask
from strategies.parts import WithTeacher
from suites.base import Training


class LFL(WithTeacher):
    """Less-forgetful learning: the head is frozen after the first task, changes of features are penalised.

    L_new + lambda * 1/2 ||f(x) - f*(x)||^2, f* the features of the network before the task, the mean over
    new rows (Jung 2016, section 3).
    """

    name = "lfl"
    cost = 1.33  # a third: the teacher's forward pass
    family = "distillation"
    paper = "Jung et al. 2016, Less-forgetting learning in deep neural networks"
    needs = "task boundaries, a copy of the network; units shared between tasks"
    scenarios = ("domain",)
    needs_boundaries = True

    lam: Annotated[NotNegative, Search(1e-4, 10, log=True)] = LaneFloat(0.1)
    """Weight of the distance between features."""
    head: Literal["frozen", "free"] = "frozen"
    """Whether the head is frozen after the first task, so that new units cannot be learned."""

    def unsuitable(self, scenario: str, training: Training) -> str | None:
        """A frozen head has trained only the first task's units, so other tasks must share them."""
        if scenario != "domain":
            if self.head == "frozen":
                return (
                    "lfl freezes the head after the first task, so tasks must share its units; see head=free"
                )
            scenario = "domain"  # a free head can learn new units
        return super().unsuitable(scenario, training)

    def loss(self, batch: Batch) -> Tensor:
        """Return cross-entropy plus the weighted distance of features."""
        features_LBF = self.model.features(batch.x_LBX)
        loss_L = self.cross_entropy(mask(self.model.head(features_LBF), batch.active_LBU), batch)
        if self.task == 0:
            return loss_L
        with torch.no_grad():
            target_LBF = self.teacher.features(batch.x_LBX)
        return loss_L + self.lam * batch.mean_L((features_LBF - target_LBF).square().sum(2) / 2)

    def after_step(self, batch: Batch) -> None:
        """Restore the head: momentum and weight decay would change it even without a gradient."""
        if self.task and self.head == "frozen":
            for p, saved in zip(self.model.head.parameters(), self.teacher.head.parameters(), strict=True):
                p.detach().copy_(saved)
