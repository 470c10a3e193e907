"""Less-forgetful learning."""

import copy
from typing import Annotated, Literal

import torch
from torch import Tensor

from strategies.core import Batch, LaneFloat, NotNegative, Search, Strategy, mask
from suites.base import Training


class LFL(Strategy):
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

    def setup(self) -> None:
        """Copy the network; the copy is refreshed after each task."""
        self.teacher = copy.deepcopy(self.model).requires_grad_(False).eval()

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

    def end_task(self, task: int) -> None:
        """Copy the network: its features are the targets of the next task."""
        self.teacher.load_state_dict(self.model.state_dict())
