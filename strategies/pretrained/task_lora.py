"""LoRA factors per task: those of the row's task are used, or the sum over all tasks.

Axes: L lanes, T tasks, B batch, U units, I inputs, O outputs, K rank.
"""

import math
from typing import Annotated, Literal

import torch
from torch import Tensor
from torch.func import functional_call

from strategies.core import (
    Batch,
    LaneFloat,
    NotNegative,
    Search,
    Strategy,
    add_up,
    mask,
    uniform_parameter,
    unless,
)
from strategies.parts import tuned_transformer


class TaskLoRA(Strategy):
    """Base of the methods: each task starts with new factors, which are stored when it ends."""

    family = "pretrained"
    tunes = "lora"
    needs = "a transformer with tune=lora, task boundaries"
    needs_boundaries = True

    def setup(self) -> None:
        """Make room for every task's factors."""
        self._net, streams = tuned_transformer(self), self.streams
        # A list in the order of the model's parameters: their names are not valid in a checkpoint.
        self.kept = [
            torch.zeros(streams.lanes, streams.n_tasks, *p.shape[1:], device=p.device)
            for p in self._net.trained.values()
        ]

    @torch.no_grad()
    def begin_task(self, task: int) -> None:
        """Draw new factors from the model's initial distribution; their product is 0."""
        if task == 0:
            return
        generators = self.streams.generators(f"lora/{task}")
        for name, p in self._net.trained.items():
            if name.endswith("/down"):
                p.copy_(uniform_parameter(generators, p.shape[1:], 1 / math.sqrt(p.shape[1])))
            else:
                p.zero_()
        self.optimiser.reset(alike=False)  # its moments belong to the last task's factors

    @torch.no_grad()
    def end_task(self, task: int) -> None:
        """Store the task's factors."""
        for kept, p in zip(self.kept, self._net.trained.values(), strict=True):
            kept[:, task] = p


class LoRAPerTask(TaskLoRA):
    """A separate LoRA for each task, used for rows of that task only.

    h = W x + (alpha / r) B_t A_t x, where t is the task of the row. Nothing is forgotten or transferred
    (PerTaskFT in Wang et al. 2023, section 4).
    """

    name = "lora-per-task"
    paper = "Hu et al. 2022, LoRA: low-rank adaptation of large language models, section 4"
    scenarios = ("task",)

    def predict(self, batch: Batch) -> Tensor:
        """Return the logits of each row with the factors of its task."""
        task_LB = self.streams.task_of(batch.rows_LB)
        logits_LBU = self.model(batch.x_LBX)
        # Test rows come task by task: a batch has rows of few tasks.
        for task in task_LB.unique():
            if task != self.task:
                names = [f"trained.{name}" for name in self._net.trained]
                kept = {n: kept[:, task] for n, kept in zip(names, self.kept, strict=True)}
                own_LBU = functional_call(self.model, kept, (batch.x_LBX,))
                logits_LBU = torch.where((task_LB == task).unsqueeze(2), own_LBU, logits_LBU)
        return mask(logits_LBU, batch.active_LBU)


class IncLoRA(TaskLoRA):
    """New LoRA factors for each task, added to the frozen factors of all earlier tasks.

    h = W x + (alpha / r) sum_{i <= t} B_i A_i x, where only B_t and A_t are trained. This equals merging the
    factors into W after each task (IncLoRA in Wang et al. 2023, section 4).
    """

    name = "inc-lora"
    paper = "Wang et al. 2023, Orthogonal subspace learning for language models"

    def begin_task(self, task: int) -> None:
        """Concatenate the factors of earlier tasks and give them to the model."""
        super().begin_task(task)
        if task > 0:
            for name, kept in zip(self._net.trained, self.kept, strict=True):
                before = kept[:, :task]
                # (L, T, I, K) to (L, I, T K) on the way down, (L, T, K, O) to (L, T K, O) on the way up.
                down = name.endswith("/down")
                self._net.past[name] = before.transpose(1, 2).flatten(2) if down else before.flatten(1, 2)


class OLoRA(IncLoRA):
    """New LoRA factors for each task, orthogonal to those of earlier tasks.

    L = L_new + lambda_1 sum_{i < t} sum |A_i' A_t| over entries and layers; otherwise as inc-lora (Wang et
    al. 2023, eq. 6 to 8).
    """

    name = "o-lora"

    lam: Annotated[NotNegative, Search(0.05, 5, log=True)] = LaneFloat(0.5)
    """lambda_1: weight of the overlap between new and earlier factors."""
    penalty: Annotated[Literal["absolute", "squared"], unless("lam", 0.0)] = "absolute"
    """Entries of A_i' A_t: absolute (the released code) or squared (eq. 8)."""

    def extra_loss(self, batch: Batch, raw_LBU: Tensor) -> Tensor | None:
        """Return lambda_1 times the overlap, None in the first task."""
        overlaps = []
        for name, past_LIK in self._net.past.items():
            if name.endswith("/down"):
                between_LKK = torch.bmm(past_LIK.transpose(1, 2), self._net.trained[name])
                size_LKK = between_LKK.abs() if self.penalty == "absolute" else between_LKK.square()
                overlaps.append(size_LKK.flatten(1).sum(1))
        return self.lam * add_up(overlaps) if overlaps else None
