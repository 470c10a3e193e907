"""Elastic weight consolidation."""

from typing import Annotated, Literal

from torch import Tensor

from strategies.core import Batch, CountOrNone, LaneFloat, NotNegative, Search, Share, only_if, unless
from strategies.parts import ROWS_AT_ONCE, QuadraticPenalty, squared_gradients


class EWC(QuadraticPenalty):
    """Elastic weight consolidation: changes are penalised in proportion to earlier tasks' Fisher information.

    lambda/2 * sum_k sum_i F_k,i (p_i - p*_k,i)^2, one penalty per finished task (Kirkpatrick 2017, eq. 3), F
    averaged over a task's rows; ``online`` has one penalty, centred at the latest parameters, and multiplies
    older importance by gamma at each task (Schwarz 2018, eq. 9).
    """

    name = "ewc"
    generates = True
    paper = "Kirkpatrick et al. 2017, Overcoming catastrophic forgetting in neural networks"
    presets = {"vandeven2022": {"lam": {"task": 1e5, "domain": 1e10, "class": 1e9}}}

    lam: Annotated[NotNegative, Search(1, 1e6, log=True)] = LaneFloat(1000.0)
    """Strength of the penalty."""
    variant: Annotated[Literal["separate", "online"], unless("lam", 0.0)] = "separate"
    """One penalty per task, or one running penalty."""
    gamma: Annotated[Share, Search(0.5, 1), only_if("variant", "online")] = LaneFloat(1.0)
    """Factor of the earlier importance at each task, for online."""
    fisher: Literal["exact", "sampled", "true", "batched"] = "exact"
    """Estimator: expectation over the model's predictions, one sampled class, the label, or batches."""
    fisher_batch: Annotated[CountOrNone, only_if("fisher", "batched"), unless("lam", 0.0)] = 128
    """Rows in a batch of the batched estimator, which change its result; 0 for the training batch size."""
    fisher_rows: Annotated[CountOrNone, unless("lam", 0.0)] = 0
    """Largest number of a task's rows that the Fisher is computed from; 0 for all."""
    half: Annotated[bool, unless("lam", 0.0)] = True
    """Whether the penalty has the factor 1/2."""

    def cannot_generate(self) -> str | None:
        """Only ``batched`` needs no more than the loss; the others need log p(y|x) of classes."""
        if self.generates and self.fisher != "batched":
            return f"fisher={self.fisher} cannot learn to generate text; fisher=batched can"
        return super().cannot_generate()

    def strength(self) -> Tensor:
        """Return lambda with the factor 1/2, twice lambda without."""
        return self.lam if self.half else 2 * self.lam

    def end_task(self, task: int) -> None:
        """Add the task's Fisher."""
        if self.variant == "online":
            self.decay_importance(self.gamma)
            self.move(self.fisher_information(task))
        else:
            self.add(self.fisher_information(task))

    def fisher_information(self, task: int) -> list[Tensor]:
        """Return each parameter's mean squared gradient over the task's training rows, lanes first."""
        size = ROWS_AT_ONCE
        if self.fisher == "batched":
            size = self.fisher_batch or self.streams.training.batch
        return self.mean_over_rows(task, size, self._squares, self.fisher_rows)

    def _squares(self, batch: Batch) -> list[Tensor]:
        draw_LB = self.draws.uniform("fisher", batch.rows_LB.shape[1])
        return squared_gradients(self.model, batch, self.logits, self.fisher, draw_LB)
