"""Memory aware synapses."""

from collections.abc import Callable
from typing import Annotated, Literal

import torch
from torch import Tensor

from strategies.core import Batch, CountOrNone, LaneFloat, NotNegative, Search, gradients, only_if, unless
from strategies.parts import ROWS_AT_ONCE, QuadraticPenalty, absolute_gradients


class MAS(QuadraticPenalty):
    """Memory aware synapses: changes are penalised in proportion to their effect on outputs, without labels.

    lambda * sum_i Omega_i (p_i - p*_i)^2, Omega the sum over tasks of the mean over rows of
    |d ||f(x)||^2 / d p_i|, f the logits of the active units (Aljundi 2018, section 4).
    """

    name = "mas"
    paper = "Aljundi et al. 2018, Memory aware synapses: learning what (not) to forget"

    lam: Annotated[NotNegative, Search(1e-4, 100, log=True)] = LaneFloat(0.01)
    """Strength of the penalty; the paper's 1 is for one head per task, and too strong for a shared head."""
    estimator: Annotated[Literal["exact", "batched"], unless("lam", 0.0)] = "exact"
    """Absolute gradient of each row (the paper), or of batches' sums (what most code does)."""
    estimator_batch: Annotated[CountOrNone, only_if("estimator", "batched")] = 128
    """Rows in a batch of the batched estimator, which change its result; 0 for the training batch size."""

    def strength(self) -> Tensor:
        """Return 2 lambda: the penalty has no factor 1/2."""
        return 2 * self.lam

    def end_task(self, task: int) -> None:
        """Add the task's importance and move the centre to the current parameters."""
        if self.estimator == "exact":
            self.move(self.mean_over_rows(task, ROWS_AT_ONCE, self._each))
        else:
            size = self.estimator_batch or self.streams.training.batch
            self.move(self.mean_over_rows(task, size, self._batched))

    def _each(self, batch: Batch) -> list[Tensor]:
        return absolute_gradients(self.model, batch, self.square_norm_LB)

    def _batched(self, batch: Batch) -> list[Tensor]:
        self.model.zero_grad()
        (self.square_norm_LB(batch) * batch.weight_LB).sum().backward()
        return [g.abs() for g in gradients(self.model)]

    def square_norm_LB(self, batch: Batch, model: Callable[[Tensor], Tensor] | None = None) -> Tensor:
        """Return each row's squared norm of the active logits, shape (L, B)."""
        raw_LBU: Tensor = (model or self.model)(batch.x_LBX)
        if batch.active_LBU is not None:
            raw_LBU = torch.where(batch.active_LBU, raw_LBU, 0)
        return raw_LBU.square().sum(2)
