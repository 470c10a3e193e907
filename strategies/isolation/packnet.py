"""PackNet: each task owns a part of the weights.

Axes: L lanes, N weights of a layer, U units; X the axes of one row.
"""

from typing import Annotated

import torch
from torch import Tensor

from strategies.core import Batch, LaneFloat, Search, Share, Strategy, per_lane, unless
from strategies.parts import by_task, hidden_layers, with_masks


class PackNet(Strategy):
    """PackNet: after each task the smallest weights are freed for later tasks, the others are frozen.

    A task trains the free weights of the hidden layers; a share ``pruned`` of them, those smallest in
    magnitude in each layer, is set to 0; the others are trained further and then frozen (Mallya & Lazebnik
    2018, section 3). Rows of a task are predicted with its own weights and those of the tasks before it.
    """

    name = "packnet"
    family = "isolation"
    paper = "Mallya & Lazebnik 2018, PackNet: Adding multiple tasks to a single network"
    needs = "the task of every row, the owner of every weight, dense layers and convolutions"
    scenarios = ("task",)
    needs_boundaries = True

    pruned: Annotated[Share, Search(0.3, 0.9)] = LaneFloat(0.75)
    """Share of the weights trained by a task that are freed again."""
    retrain: Annotated[Share, unless("pruned", 0.0)] = LaneFloat(1 / 3)
    """Share of a task's steps that come after pruning; the paper takes half as many steps as before it."""

    def setup(self) -> None:
        """Start with all weights free: ``owner`` is 0; the weights of task t will have t + 1."""
        self._layers = hidden_layers(self.model, self.name)
        self.owner = [torch.zeros_like(m.weight, dtype=torch.int16) for m in self._layers]

    def begin_task(self, task: int) -> None:
        """Train the free weights, with a fresh optimiser: old moments would move frozen weights."""
        self.optimiser.reset(alike=False)
        _, steps = self.streams.steps_of_task(task)
        steps_L = torch.tensor(steps, device=self.streams.device)
        self._prune_at_L = ((1 - self.retrain) * steps_L).round().clamp(min=1)
        # Copied to the host, so that other steps need not read from the device.
        self._prune_at = set(self._prune_at_L.tolist())
        self._step = 0
        self._hold()

    def learn(self, batch: Batch) -> Tensor:
        """Take a step, restore parameters that must not change, and prune at the pruning step."""
        loss_L = super().learn(batch)
        with torch.no_grad():
            for p, learns, fixed in zip(self.model.parameters(), self._learns, self._fixed, strict=True):
                p.copy_(torch.where(learns, p, fixed))
        self._step += 1
        if self._step in self._prune_at:
            self._prune(self._prune_at_L == self._step)
            self._hold()
        return loss_L

    @torch.no_grad()
    def _prune(self, now_L: Tensor) -> None:
        """In some lanes, set the smallest free weights to 0 and assign the others to the task."""
        for layer, owner in zip(self._layers, self.owner, strict=True):
            free_LN = (owner == 0).flatten(1)
            size_LN = layer.weight.abs().flatten(1).masked_fill(~free_LN, torch.inf)
            place_LN = size_LN.argsort(stable=True, dim=1).argsort(1)
            small_LN = place_LN < (self.pruned * free_LN.sum(1)).round().unsqueeze(1)
            freed_LN, kept_LN = (free_LN & now_L.unsqueeze(1) & part for part in (small_LN, ~small_LN))
            layer.weight.masked_fill_(freed_LN.view_as(owner), 0)
            owner.masked_fill_(kept_LN.view_as(owner), self.task + 1)

    def _hold(self) -> None:
        """Decide which parameters are trained from here on, and save the values of the others."""
        after_L = self._prune_at_L <= self._step
        learns = {}
        for layer, owner in zip(self._layers, self.owner, strict=True):
            learns[layer.weight] = torch.where(per_lane(after_L, owner), owner == self.task + 1, owner == 0)
            if layer.bias is not None:  # biases have no owner: all tasks use the first task's
                learns[layer.bias] = torch.full_like(layer.bias, self.task == 0, dtype=torch.bool)
        own_LU = self.streams.own_LTU[:, self.task]
        head = self.model.head
        learns |= {head.weight: own_LU.unsqueeze(1).expand_as(head.weight), head.bias: own_LU}
        self._learns = [learns[p] for p in self.model.parameters()]
        self._fixed = [p.clone() for p in self.model_tensors()]

    def predict(self, batch: Batch) -> Tensor:
        """Predict each row with the weights of its task and of the tasks before it."""
        logits = []
        for task in range(self.task):
            own = [(owner > 0) & (owner <= task + 1) for owner in self.owner]
            logits.append(self.logits(batch, with_masks(self.model, self._layers, own)))
        logits.append(self.logits(batch))
        return by_task(logits, self.streams.task_of(batch.rows_LB).clamp(max=self.task))
