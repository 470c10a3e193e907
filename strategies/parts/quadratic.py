"""Quadratic penalties: each parameter is pulled back in proportion to its importance.

The sum of one penalty per task is again one quadratic: with importances F_k and centres c_k,
sum_k F_k (p - c_k)^2 has the gradient of (sum_k F_k)(p - c)^2 at c = sum_k F_k c_k / sum_k F_k. A step
therefore costs the same at task 2 and at task 200.

Axes: L lanes, B batch, R rows.
"""

from collections.abc import Callable

import torch
from torch import Tensor

from strategies.core import Batch, Strategy, eval_mode, gradients, pad_rows, per_lane

ROWS_AT_ONCE = 256
"""Rows in a chunk for estimators whose result does not depend on it."""


class QuadraticPenalty(Strategy):
    """Base of L2, EWC, SI, MAS and RWalk: importances, centres and the penalty's gradient."""

    family = "regularisation"
    needs = "task boundaries, twice the parameters"
    needs_boundaries = True

    def setup(self) -> None:
        """Start with zero importance, so without a penalty."""
        self.importance = [torch.zeros_like(p) for p in self.model_tensors()]
        self.centre = [p.clone() for p in self.model_tensors()]
        self._pull: list[Tensor] | None = None

    def strength(self) -> Tensor:
        """Return the factor a of the gradient a * F * (p - c), shape (L,)."""
        raise NotImplementedError

    def begin_task(self, task: int) -> None:
        """Multiply strength and importance once for the whole task."""
        factor_L = self.strength()
        self._pull = [per_lane(factor_L, f).to(f.dtype) * f for f in self.importance] if task else None

    def adjust_gradients(self) -> None:
        """Add the gradient of the penalty."""
        if self._pull is not None:
            away = torch._foreach_sub(list(self.model_tensors()), self.centre)
            torch._foreach_addcmul_(gradients(self.model), self._pull, away)

    def add(self, importance: list[Tensor]) -> None:
        """Add a task's penalty, centred at the current parameters, to the earlier ones."""
        for p, f, c, new in zip(self.model_tensors(), self.importance, self.centre, importance, strict=True):
            total = f + new
            # With zero importance the centre has no effect: set it to the current parameters.
            c.copy_(torch.where(total > 0, (f * c + new * p) / total.clamp(min=1e-38), p))
            f.copy_(total)

    def move(self, importance: list[Tensor]) -> None:
        """Add a task's importance, and centre the whole penalty at the current parameters."""
        torch._foreach_add_(self.importance, importance)
        torch._foreach_copy_(self.centre, list(self.model_tensors()))

    def decay_importance(self, share_L: Tensor) -> None:
        """Multiply the earlier importance by a share, shape (L,)."""
        for f in self.importance:
            f.mul_(per_lane(share_L, f))

    def replace_importance(self, importance: list[Tensor]) -> None:
        """Replace the importance, and centre the penalty at the current parameters."""
        torch._foreach_zero_(self.importance)
        self.move(importance)

    def mean_over_rows(
        self, task: int, size: int, measure: Callable[[Batch], list[Tensor]], at_most: int = 0
    ) -> list[Tensor]:
        """Return the mean of a measure over a task's training rows, for each parameter.

        Args:
            task: The task whose rows are used.
            size: Rows in a batch.
            measure: Returns the sum over a batch's rows for each parameter; the model is in eval mode.
            at_most: Use no more than this number of rows; 0 for all.
        """
        rows = [s.tasks[task].train_rows for s in self.streams.streams]
        if at_most:
            rows = [r[:at_most] for r in rows]
        # Whole chunks, so that rounding does not depend on other lanes' number of rows.
        rows_LR, real_LR = pad_rows(rows, size)
        rows_LR, weight_LR = rows_LR.to(self.streams.device), real_LR.to(self.streams.device).float()
        n_L = weight_LR.sum(1)
        with eval_mode(self.model):
            total = [torch.zeros_like(p) for p in self.model_tensors()]
            for rows_LB, weight_LB in zip(rows_LR.split(size, 1), weight_LR.split(size, 1), strict=True):
                torch._foreach_add_(total, measure(self.streams.batch(rows_LB.contiguous(), weight_LB)))
            self.model.zero_grad()
        return [t / per_lane(n_L, t) for t in total]
