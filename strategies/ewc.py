"""Elastic weight consolidation."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor

from strategies.base import CountOrNone, NotNegative, Share
from strategies.fisher import squared_gradients
from strategies.quadratic import QuadraticPenalty
from strategies.streams import pad_rows

_ROWS_AT_ONCE = 256


@dataclass
class EWC(QuadraticPenalty):
    """Elastic weight consolidation: parameters are held by the Fisher information of earlier tasks.

    lambda/2 * sum_k sum_i F_k,i (p_i - p*_k,i)^2, one penalty per finished task (Kirkpatrick 2017, eq. 3), F
    averaged over a task's rows; ``online`` keeps one penalty, centred at the latest parameters, and lets
    older importance decay (Schwarz 2018, eq. 9).
    """

    name: ClassVar[str] = "ewc"
    paper: ClassVar[str] = "Kirkpatrick et al. 2017, Overcoming catastrophic forgetting in neural networks"
    needs: ClassVar[str] = "task boundaries, twice the parameters"
    needs_boundaries: ClassVar[bool] = True
    presets: ClassVar[dict[str, dict[str, Any]]] = {
        "vandeven2022": {"lam": {"task": 1e5, "domain": 1e10, "class": 1e9}}
    }

    lam: NotNegative = 1000.0
    """Strength of the penalty."""
    variant: Literal["separate", "online"] = "separate"
    """One penalty per task, or one running penalty."""
    gamma: Share = 1.0
    """How much of the earlier importance is kept at each task, for online."""
    fisher: Literal["exact", "sampled", "true", "batched"] = "exact"
    """Estimator: expectation over the model's answers, one sampled answer, the label, or batches."""
    fisher_batch: CountOrNone = 128
    """Rows in a batch of the batched estimator, whose result depends on it; 0 for the training batch."""
    fisher_rows: CountOrNone = 0
    """Rows of a task that the Fisher is taken over, at most; 0 for all."""
    half: bool = True
    """Whether the penalty has the factor 1/2."""

    def strength(self) -> Tensor | float:
        """Return lambda, or twice that without the factor 1/2."""
        return self.lam if self.half else 2 * self.lam

    def end_task(self, task: int) -> None:
        """Add the task's Fisher."""
        if self.variant == "online":
            self.move(self.fisher_information(task), self.gamma)
        else:
            self.add(self.fisher_information(task))

    def fisher_information(self, task: int) -> list[Tensor]:
        """Return each parameter's mean squared gradient over the task's training rows, lanes first."""
        rows = [s.tasks[task].train_rows for s in self.streams.streams]
        if self.fisher_rows:
            rows = [r[: self.fisher_rows] for r in rows]
        size = _ROWS_AT_ONCE
        if self.fisher == "batched":
            size = self.fisher_batch or self.streams.training.batch
        # Whole chunks, so that sums round alike whatever the neighbours' number of rows.
        rows_LR, real_LR = pad_rows(rows, size)
        rows_LR, weight_LR = rows_LR.to(self.streams.device), real_LR.to(self.streams.device).float()
        n_L = weight_LR.sum(1)
        training = self.model.training
        self.model.eval()
        total = [torch.zeros_like(p) for p in self.model_tensors()]
        for rows_LB, weight_LB in zip(rows_LR.split(size, 1), weight_LR.split(size, 1), strict=True):
            batch = self.streams.batch(rows_LB.contiguous(), weight_LB)
            draw_LB = self.draws.uniform("fisher", rows_LB.shape[1])
            found = squared_gradients(self.model, batch, self.logits, self.fisher, draw_LB)
            torch._foreach_add_(total, found)
        self.model.zero_grad()
        self.model.train(training)
        return [f / n_L.view(-1, *[1] * (f.dim() - 1)) for f in total]
