"""Replay with two slow copies of the network."""

import copy
from typing import Annotated

import torch
from torch import Tensor

from strategies.core import (
    Batch,
    CountOrNone,
    LaneFloat,
    LaneModel,
    Later,
    NotNegative,
    Search,
    Share,
    join_batches,
    mask,
    per_lane,
    unless,
)
from strategies.parts import Rehearsal, RowReplay, real_rows


class CLSER(Rehearsal, RowReplay):
    """Replay with two running means of the parameters, a plastic and a stable one, as teachers.

    L = CE(new and stored rows) + lambda |h(x) - z|^2 on stored rows, where z are the logits of the
    mean model that gives the true label the higher probability. After a share of the steps a mean model moves
    to a p + (1 - a) theta (Arani 2022, eq. 1 to 4 and Algorithm 1). The stable model predicts.
    """

    name = "cls-er"
    cost = 2.67  # two thirds of a pass: both mean models run forward only
    paper = "Arani, Sarfraz & Zonooz 2022, Learning fast, learning slow"
    needs = "a memory of rows, two copies of the network"
    presets = {
        "arani2022-cifar10": {
            "lam": 0.15, "plastic_rate": 0.9, "stable_rate": 0.1, "plastic_decay": 0.999,
            "stable_decay": 0.999, "optimiser": "sgd", "lr": 0.1, "batch": 32, "epochs": 50, "augment": True,
        }
    }  # fmt: skip

    batch: Annotated[CountOrNone, Later()] = 0
    lam: Annotated[NotNegative, Search(0.05, 5, log=True)] = LaneFloat(2.0)
    """lambda: weight of the squared distance to the mean models' logits."""
    plastic_rate: Annotated[Share, unless("lam", 0.0)] = LaneFloat(1.0)
    """Share of the steps after which the plastic model moves."""
    stable_rate: Annotated[Share, Search(0.1, 1)] = LaneFloat(0.9)
    """Share of the steps after which the stable model moves."""
    plastic_decay: Annotated[Share, unless("plastic_rate", 0.0), unless("lam", 0.0)] = LaneFloat(0.99)
    """a of the plastic model: share of its own parameters in the moving average (less in the first steps)."""
    stable_decay: Annotated[Share, unless("stable_rate", 0.0)] = LaneFloat(0.99)
    """a of the stable model."""

    def step_cost(self, new: int) -> float:
        """Return the cost of a step: new and stored rows, and forward passes of both mean models."""
        return 1 + 5 / 3 * (self.batch or new) / new

    def setup(self) -> None:
        """Make an empty memory and copy the network twice."""
        super().setup()
        self.plastic, self.stable = (copy.deepcopy(self.model).requires_grad_(False).eval() for _ in range(2))
        self.steps_L = torch.zeros(self.streams.lanes, device=self.streams.device)

    def loss(self, batch: Batch) -> Tensor:
        """Return cross-entropy plus the distance to the mean models; one forward pass for both."""
        new, old = batch.rows_LB.shape[1], self.replayed(batch)
        both = join_batches(batch, old)
        raw_LBU = self.model(both.x_LBX)
        square_LB = (raw_LBU[:, new:] - self.target(old)).square().mean(2)
        loss_L = self.cross_entropy(mask(raw_LBU, both.active_LBU), both)
        return loss_L + self.lam * old.mean_L(square_LB)

    @torch.no_grad()
    def target(self, old: Batch) -> Tensor:
        """Return for each row the logits of the mean model that gives its label the higher probability."""
        stable_LBU, plastic_LBU = self.stable(old.x_LBX), self.plastic(old.x_LBX)
        y_LB1 = old.y_LB.unsqueeze(2)
        sure_LB1, other_LB1 = (
            mask(raw, old.active_LBU).softmax(2).gather(2, y_LB1) for raw in (stable_LBU, plastic_LBU)
        )
        return torch.where(sure_LB1 > other_LB1, stable_LBU, plastic_LBU)

    def after_step(self, batch: Batch) -> None:
        """Write to the memory and move the mean models."""
        super().after_step(batch)
        on_L = real_rows(batch).any(1)
        self.steps_L += on_L
        for name, mean, rate, decay in (
            ("plastic", self.plastic, self.plastic_rate, self.plastic_decay),
            ("stable", self.stable, self.stable_rate, self.stable_decay),
        ):
            moves_L = on_L & (self.draws.uniform(name, 1).squeeze(1) < rate)
            # A plain mean over all steps so far, until ``decay`` is the smaller factor.
            decay_L = torch.minimum(1 - 1 / (self.steps_L + 1), decay)
            self.move(mean, torch.where(moves_L, 1 - decay_L, 0))

    @torch.no_grad()
    def move(self, mean: LaneModel, share_L: Tensor) -> None:
        """Move a mean model, running statistics included, a share of the way towards the network."""
        for ours, now in zip(mean.state_dict().values(), self.model.state_dict().values(), strict=True):
            if now.is_floating_point():
                ours.lerp_(now, per_lane(share_L, now).to(now.dtype))
            else:  # a count of batches, as batch normalisation has
                ours.copy_(now)

    def predict(self, batch: Batch) -> Tensor:
        """Return the stable model's logits."""
        return self.logits(batch, self.stable)
