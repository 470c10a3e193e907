"""Training the head alone."""

from typing import Literal

import torch
from torch import Tensor

from strategies.core import Batch, Strategy, mask
from suites.base import Training


class Frozen(Strategy):
    """Features are frozen after the first task; from then on only the head is trained.

    All forgetting is then the head's, and what cannot be learned is missing from the features.
    """

    name = "frozen"
    cost = 0.33  # from the second task on: no backward pass through the features
    paper = "Razavian et al. 2014, CNN features off-the-shelf"
    needs = "to know where the first task ends"

    features: Literal["first", "initial"] = "first"
    """Features of the network after the first task, or of the untrained one: random features."""

    def unsuitable(self, scenario: str, training: Training) -> str | None:
        """With hidden boundaries the end of the first task is unknown, which ``features=first`` needs."""
        if self.features == "first" and training.boundaries == "hidden":
            return "features=first needs to know where the first task ends; features=initial does not"
        return super().unsuitable(scenario, training)

    def setup(self) -> None:
        """Create an optimiser for the head alone, with the network's learning rates."""
        self.head_optimiser = self.optimiser.alike(self.model.head.parameters())

    def learn(self, batch: Batch) -> Tensor:
        """Take a step with the head alone, or with all parameters while features are trained."""
        if self.features == "first" and self.task == 0:
            return super().learn(batch)
        self.model.eval()  # running statistics are part of the features
        with self.autocast():
            with torch.no_grad():
                features_LBF = self.model.features(batch.x_LBX)
            logits_LBU = self.model.head(features_LBF)
            loss_L = self.cross_entropy(mask(logits_LBU, batch.active_LBU), batch)
        self.backward(loss_L)
        self.head_optimiser.step(self.context.active)
        return loss_L.detach()
