"""Class-incremental learning with dual memory.

Axes: L lanes, B batch, N rows of one class, M exemplars, U units.
"""

from typing import Literal

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

from strategies.core import Batch, eval_mode
from strategies.parts import ExemplarReplay

_ROWS_AT_ONCE = 256


class IL2M(ExemplarReplay):
    """IL2M: plain replay; scores of old classes are rectified by statistics from when they were learned.

    Where a new class has the highest score, an old class i gets s_i * mu_P(i) / mu_N(i) * conf_N / conf_P
    instead of s_i. mu is the class's mean score on its own rows, conf the mean highest score on the new rows
    of a task, P the latest task with class i and N the latest task (Belouadah & Popescu 2019, eq. 1).
    """

    name = "il2m"
    paper = "Belouadah & Popescu 2019, IL2M: Class incremental learning with dual memory"

    scores: Literal["probabilities", "logits"] = "probabilities"
    """Scores that are rectified: softmax over the classes seen, or logits (the released code)."""

    def setup(self) -> None:
        """Make an empty memory and a table of statistics."""
        super().setup()
        shape, device = (self.streams.lanes, self.streams.n_units), self.streams.device
        self.first_LU = torch.ones(shape, device=device)
        self.now_LU = torch.ones(shape, device=device)
        self.confidence_LU = torch.ones(shape, device=device)
        self.latest_LU = torch.zeros(shape, dtype=torch.bool, device=device)

    def begin_task(self, task: int) -> None:
        """Rectify nothing until the new classes have statistics."""
        super().begin_task(task)
        self.latest_LU.zero_()

    def loss(self, batch: Batch) -> Tensor:
        """Return cross-entropy over new rows and exemplars."""
        both = self.with_exemplars(batch)
        return self.cross_entropy(self.logits(both), both)

    @torch.no_grad()
    def end_task(self, task: int) -> None:
        """Store mean scores of new classes on their rows and of old ones on exemplars; choose exemplars."""
        highest_L, rows_L = torch.zeros_like(self.first_LU[:, 0]), torch.zeros_like(self.first_LU[:, 0])
        for _, is_unit_LU, rows_LN, real_LN in self.classes(task):
            score_LNU = self.scores_of(rows_LN)
            mean_LU = (score_LNU * real_LN.unsqueeze(2)).sum(1) / real_LN.sum(1, keepdim=True).clamp(min=1)
            for table_LU in (self.first_LU, self.now_LU):
                table_LU.copy_(torch.where(is_unit_LU, mean_LU, table_LU))
            highest_L += (score_LNU.amax(2) * real_LN).sum(1)
            rows_L += real_LN.sum(1)
        confidence_L1 = (highest_L / rows_L.clamp(min=1)).unsqueeze(1)
        self.confidence_LU.copy_(torch.where(self._new_LU, confidence_L1, self.confidence_LU))
        self.latest_LU.copy_(self._new_LU)
        if task > 0:
            rows_LM, unit_LM, real_LM = self.exemplars.all()
            own_LM = self.scores_of(rows_LM).gather(2, unit_LM.unsqueeze(2)).squeeze(2)
            of_LMU = F.one_hot(unit_LM, self.streams.n_units) * real_LM.unsqueeze(2)
            mean_LU = (own_LM.unsqueeze(2) * of_LMU).sum(1) / of_LMU.sum(1).clamp(min=1)
            self.now_LU.copy_(torch.where(self._old_LU, mean_LU, self.now_LU))
        super().end_task(task)

    def scores_of(self, rows_LN: Tensor) -> Tensor:
        """Return the scores of rows for all units, shape (L, N, U)."""
        with eval_mode(self.model):
            parts = [self.score(self.streams.batch(r.contiguous())) for r in rows_LN.split(_ROWS_AT_ONCE, 1)]
        return torch.cat(parts, 1)

    def score(self, batch: Batch) -> Tensor:
        """Return the scores of a batch before they are rectified."""
        logits_LBU = self.logits(batch).float()
        return logits_LBU.softmax(2) if self.scores == "probabilities" else logits_LBU

    def predict(self, batch: Batch) -> Tensor:
        """Return rectified scores; rows whose highest score is that of an old class stay unchanged."""
        score_LBU = self.score(batch)
        latest_L1 = self.latest_LU.sum(1, keepdim=True).clamp(min=1)
        confidence_L1 = (self.confidence_LU * self.latest_LU).sum(1, keepdim=True) / latest_L1
        factor_LU = self.first_LU / self.now_LU * (confidence_L1 / self.confidence_LU)
        wins_LB1 = self.latest_LU.gather(1, score_LBU.argmax(2)).unsqueeze(2)
        old_L1U = self._old_LU.unsqueeze(1)
        return torch.where(wins_LB1 & old_L1U, score_LBU * factor_LU.unsqueeze(1), score_LBU)
