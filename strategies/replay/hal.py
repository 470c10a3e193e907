"""Hindsight anchor learning.

Axes: L lanes, B batch, A anchors, K anchors of a task, F features, U units; X the axes of one row.
"""

import copy
from typing import Annotated, Literal

import torch
from torch import Tensor
from torch.func import functional_call

from strategies.core import (
    OPTIMISERS,
    Batch,
    Count,
    LaneFloat,
    LaneModel,
    NotNegative,
    Search,
    Share,
    eval_mode,
    gradients,
    mask,
    need_numbers,
    per_lane,
    row_losses,
    unless,
)
from strategies.parts import virtual_step
from strategies.replay.er import ER


class HAL(ER):
    """Experience replay plus anchors, whose logits a step must not change: one image per class and task.

    A trial step on new and stored rows gives theta~ = theta - lr grad L. The real step then follows the
    gradient of L + lambda mean |h(e) - h~(e)|^2 over anchors e. When a task ends, its anchors are made by
    gradient ascent on l(f_M(e), y) - l(f(e), y) - gamma |phi(e) - phi|^2, where f_M is the network tuned on
    the memory and phi the running mean of the task's features (Chaudhry 2021, section 3).
    """

    name = "hal"
    cost = 2.33  # the features' mean is a third; a task's few anchors are not counted
    paper = "Chaudhry et al. 2021, Using hindsight to anchor past knowledge in continual learning"
    needs = "a memory of rows, task boundaries, an image per class"
    needs_boundaries = True
    presets = {}

    write: Literal["reservoir", "class-balanced", "ring", "per-class"] = "ring"
    """Rows that are stored (as in er); the paper stores the latest of each class (ring)."""
    anchoring: Annotated[NotNegative, Search(0.01, 1, log=True)] = LaneFloat(0.1)
    """Weight of the squared change of the anchors' logits: the paper's lambda."""
    gamma: Annotated[NotNegative, unless("anchoring", 0.0), unless("anchor_lr", 0.0)] = LaneFloat(0.1)
    """Weight of the squared distance between an anchor's features and their mean over the task."""
    beta: Annotated[Share, unless("gamma", 0.0), unless("anchoring", 0.0), unless("anchor_lr", 0.0)] = (
        LaneFloat(0.5)
    )
    """Decay of the running mean of features."""
    anchor_steps: Annotated[Count, unless("anchoring", 0.0), unless("anchor_lr", 0.0)] = 100
    """Gradient steps to make an anchor."""
    anchor_lr: Annotated[NotNegative, unless("anchoring", 0.0)] = LaneFloat(0.1)
    """Learning rate of these steps (the paper takes the network's, which is trained by SGD)."""

    def step_cost(self, new: int) -> float:
        """Return the cost of a step: ER's, and a forward pass for the mean of features."""
        return 1 + (self.batch or new) / new + 1 / 3

    def setup(self) -> None:
        """Make an empty memory and room for the anchors of all tasks."""
        need_numbers(self.name, self.streams)
        super().setup()
        streams = self.streams
        classes = [[len(t.units) for t in s.tasks] for s in streams.streams]
        self._per_task = max(map(max, classes))
        # A task with fewer classes than the largest has fewer anchors; its unused slots are ignored.
        nth_K = torch.arange(self._per_task, device=streams.device)
        self._real_LA = (nth_K < torch.tensor(classes, device=streams.device).unsqueeze(2)).flatten(1)
        n_anchors = self._per_task * streams.n_tasks
        self.anchor_LACHW = torch.zeros(streams.lanes, n_anchors, *streams.shape, device=streams.device)

    def begin_task(self, task: int) -> None:
        """Reset the mean of features; look up the anchors of earlier tasks."""
        streams = self.streams
        self._mean_LF = torch.zeros_like(self.model.head.weight[:, :, 0])
        of_A = torch.arange(self.anchor_LACHW.shape[1], device=streams.device) // self._per_task
        units_LAU = self.units(task)
        if streams.scenario == "task":
            units_LAU = streams.own_LTU[:, of_A]
        self._used_LAU = units_LAU & (self._real_LA & (of_A < task)).unsqueeze(2)

    def units(self, task: int) -> Tensor:
        """Return the units active for anchors of this task, bool (L, 1, U)."""
        if self.streams.scenario == "task":
            return self.streams.own_LTU[:, task : task + 1]
        active = self.streams.active(torch.zeros(1, 1, dtype=torch.long))
        return torch.ones_like(self.streams.own_LTU[:, :1]) if active is None else active

    def learn(self, batch: Batch) -> Tensor:
        """Take one step on the rows' loss and on the change of the anchors' logits in the trial step."""
        with self.autocast():
            loss_L = self.loss(batch)
        self.backward(loss_L)
        if self.task > 0:
            with eval_mode(self.model), self.autocast():
                change_L = self.change()
            (self.anchoring * change_L).sum().backward()
        self.adjust_gradients()
        self.optimiser.step(self.context.active)
        return loss_L.detach()

    def change(self) -> Tensor:
        """Return the mean squared change of the anchors' logits in a trial step, shape (L,)."""
        with torch.no_grad():
            grads = tuple(gradients(self.model))
            ahead = virtual_step(self.model, grads, self.optimiser.lr_L)
            target_LAU = functional_call(self.model, ahead, self.anchor_LACHW)
        square_LAU = (self.model(self.anchor_LACHW) - target_LAU).square()
        used_LAU = self._used_LAU.expand_as(square_LAU)
        return torch.where(used_LAU, square_LAU, 0).sum((1, 2)) / used_LAU.sum((1, 2))

    @torch.no_grad()
    def after_step(self, batch: Batch) -> None:
        """Write to the memory and update the running mean of the new rows' features."""
        super().after_step(batch)
        with eval_mode(self.model):
            h_LBF = self.model.features(batch.x_LBX)
        n_L1 = batch.weight_LB.sum(1, keepdim=True)
        mean_LF = (h_LBF * batch.weight_LB.unsqueeze(2)).sum(1) / n_L1.clamp(min=1)
        beta_L1 = self.beta.unsqueeze(1)
        moved_LF = beta_L1 * self._mean_LF + (1 - beta_L1) * mean_LF
        self._mean_LF = torch.where(n_L1 > 0, moved_LF, self._mean_LF)

    def end_task(self, task: int) -> None:
        """Make the task's anchors."""
        super().end_task(task)
        lanes, size = self.streams.lanes, self._per_task
        units = [(list(s.tasks[task].units) * size)[:size] for s in self.streams.streams]
        y_LK = torch.tensor(units, device=self.streams.device)
        pixels = self.anchor_LACHW[0, 0].numel()
        e_LKCHW = self.draws.uniform("anchors", size * pixels).float()
        e_LKCHW = e_LKCHW.view(lanes, size, *self.streams.shape).requires_grad_()
        batch = Batch(e_LKCHW, y_LK, y_LK, torch.ones(y_LK.shape, device=y_LK.device), self.units(task))
        with eval_mode(self.model):
            tuned = self.tuned()
            for _ in range(self.anchor_steps):
                rise_L = self.hindsight(batch, tuned)
                (uphill,) = torch.autograd.grad(rise_L.sum(), [e_LKCHW])
                e_LKCHW.data += per_lane(self.anchor_lr, uphill) * uphill
        self.anchor_LACHW[:, task * size : (task + 1) * size] = e_LKCHW.detach()

    def padding_bytes(self, lane: int) -> int:
        """Return the bytes of unused anchor slots, which the lane's tasks have no classes for."""
        return int((~self._real_LA[lane]).sum()) * self.anchor_LACHW[0, 0].nbytes

    def hindsight(self, batch: Batch, tuned: LaneModel) -> Tensor:
        """Return the loss that tuning adds, minus gamma times the distance from the task, shape (L,)."""
        h_LKF = self.model.features(batch.x_LBX)
        now_LK = row_losses(mask(self.model.head(h_LKF), batch.active_LBU), batch.y_LB)
        later_LK = row_losses(self.logits(batch, tuned), batch.y_LB)
        away_LK = (h_LKF - self._mean_LF.unsqueeze(1)).square().sum(2)
        return (later_LK - now_LK).sum(1) - self.gamma * away_LK.sum(1)

    def tuned(self) -> LaneModel:
        """Return a copy of the network after one pass over the memory with plain SGD."""
        model = copy.deepcopy(self.model).eval()
        rates = self.optimiser.lr, [0.0] * self.streams.lanes
        sgd = OPTIMISERS["sgd"](list(model.parameters()), *rates)
        order_LM = self.memory.draw_distinct("tuning", self.memory.slots)
        for slots_LB in order_LM.split(self.streams.training.batch, 1):
            # Empty slots come last and have weight 0: their steps change nothing.
            rows_LB = self.memory.rows_LM.gather(1, slots_LB % self.memory.filled_L.unsqueeze(1))
            weight_LB = (slots_LB < self.memory.filled_L.unsqueeze(1)).float()
            old = self.streams.replay(rows_LB, self.draws, weight_LB)
            loss_L = self.cross_entropy(self.logits(old, model), old)
            sgd.descend(loss_L)
        return model.requires_grad_(False)
