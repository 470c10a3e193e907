"""Bias correction.

Axes: L lanes, B batch, G groups (a class of a task), H rows held out of one group, V rows held out of all,
N rows of one class, U units; X the axes of one row.
"""

from dataclasses import replace
from typing import Annotated, Literal

import torch
from torch import Tensor

from strategies.core import (
    Batch,
    Bounds,
    Count,
    LaneFloat,
    NotNegative,
    Search,
    eval_mode,
    make_optimiser,
    mask,
    unless,
)
from strategies.parts import Distilled, held_out_count


class BiC(Distilled):
    """Bias correction: a scale and a shift, fitted on held-out rows, correct the logits of new classes.

    Stage 1 minimises lambda KD + (1 - lambda) CE on new rows and exemplars, lambda = old classes / classes
    seen (Wu 2019, eq. 1 to 3). Stage 2 fits alpha and beta in q_u = alpha o_u + beta for the new units u, by
    cross-entropy on an equal number of held-out rows of every class seen (eq. 4 and 5).
    """

    name = "bic"
    paper = "Wu et al. 2019, Large scale incremental learning"

    temperature: Annotated[LaneFloat, Bounds(1e-3), Search(1, 5)] = LaneFloat(2.0)
    """Logits are divided by this before the softmax of the distillation."""
    held_out: Annotated[int, Bounds(2)] = 10
    """One in ``held_out`` exemplars is held out for stage 2."""
    layers: Literal["last", "each"] = "last"
    """Corrections applied: that of the latest task (earlier ones reach the network by distillation), or each
    task's own."""
    fit_steps: Annotated[Count, unless("fit_rate", 0.0)] = 200
    """Steps of Adam on all held-out rows in stage 2."""
    fit_rate: Annotated[NotNegative, Search(1e-3, 0.1, log=True)] = LaneFloat(0.02)
    """Learning rate of these steps."""
    shrink: Annotated[NotNegative, unless("fit_rate", 0.0)] = LaneFloat(0.0)
    """Weight of beta^2 / 2 in stage 2 (0.1 in the released code, 0 in the paper)."""

    def setup(self) -> None:
        """Start with no correction."""
        super().setup()
        shape, device = (self.streams.lanes, self.streams.n_units), self.streams.device
        self.alpha_LU, self.beta_LU = torch.ones(shape, device=device), torch.zeros(shape, device=device)

    def begin_task(self, task: int) -> None:
        """Save the teacher's correction; hold out exemplars and an equal number of rows of new classes."""
        super().begin_task(task)
        self._taught = self.alpha_LU.clone(), self.beta_LU.clone()
        if self.layers == "last":
            self.alpha_LU.fill_(1)
            self.beta_LU.zero_()
        self._held_LGH = self.exemplars.hold_out(self.held_out)
        if task == 0:
            return
        nth_H = torch.arange(self._held_LGH.shape[2], device=self.streams.device)
        share_L = self.exemplars.share_L(task)
        for group_L, _, rows_LN, real_LN in self.classes(task):
            held_L = held_out_count(torch.minimum(real_LN.sum(1), share_L), self.held_out)
            size = min(len(nth_H), rows_LN.shape[1])
            rows_LH = torch.where(nth_H[:size] < held_L.unsqueeze(1), rows_LN[:, :size], -1)
            self._held_LGH[torch.arange(len(group_L), device=group_L.device), group_L, :size] = rows_LH

    def corrected(self, logits_LBU: Tensor) -> Tensor:
        """Return alpha o + beta."""
        return logits_LBU * self.alpha_LU.unsqueeze(1) + self.beta_LU.unsqueeze(1)

    def loss(self, batch: Batch) -> Tensor:
        """Return stage 1's cross-entropy and distillation; held-out rows have weight 0."""
        if self.task == 0:
            return super().loss(batch)
        held_LBV = batch.rows_LB.unsqueeze(2) == self._held_LGH.flatten(1).unsqueeze(1)
        both = self.with_exemplars(replace(batch, weight_LB=batch.weight_LB * ~held_LBV.any(2)))
        logits_LBU = self.corrected(self.model(both.x_LBX))
        loss_L = self.cross_entropy(mask(logits_LBU, both.active_LBU), both)
        with torch.no_grad():
            alpha_LU, beta_LU = self._taught
            target_LBU = self.teacher(both.x_LBX) * alpha_LU.unsqueeze(1) + beta_LU.unsqueeze(1)
        return self.with_distillation(loss_L, both, logits_LBU, target_LBU, self.temperature)

    def end_task(self, task: int) -> None:
        """Fit the correction of the new units, then choose exemplars."""
        if task > 0:
            self.fit()
        super().end_task(task)

    def fit(self) -> None:
        """Fit alpha and beta of every lane on the held-out rows."""
        rows_LV = self._held_LGH.flatten(1)
        held = self.streams.batch(rows_LV.clamp(min=0), (rows_LV >= 0).float())
        held.y_LB.clamp_(min=0)  # padding is row 0, which may have no unit here
        with eval_mode(self.model), torch.no_grad():
            logits_LVU = self.model(held.x_LBX)
        # Adam does not depend on the gradient's scale, so each lane's learning rate can be applied here.
        moved_L2 = torch.zeros(len(rows_LV), 2, device=rows_LV.device, requires_grad=True)
        update = make_optimiser("adam", [moved_L2], len(rows_LV), 1.0)
        for _ in range(self.fit_steps):
            alpha_L, beta_L = 1 + self.fit_rate * moved_L2[:, 0], self.fit_rate * moved_L2[:, 1]
            update.descend(self.fit_loss(logits_LVU, held, alpha_L, beta_L))
        moved_L2 = moved_L2.detach()
        way_L2 = self.fit_rate.unsqueeze(1) * moved_L2
        self.alpha_LU.copy_(torch.where(self._new_LU, 1 + way_L2[:, :1], self.alpha_LU))
        self.beta_LU.copy_(torch.where(self._new_LU, way_L2[:, 1:], self.beta_LU))

    def fit_loss(self, logits_LVU: Tensor, held: Batch, alpha_L: Tensor, beta_L: Tensor) -> Tensor:
        """Return stage 2's loss at alpha and beta, over the classes seen, shape (L,)."""
        new_L1U = self._new_LU.unsqueeze(1)
        changed_LVU = logits_LVU * alpha_L.view(-1, 1, 1) + beta_L.view(-1, 1, 1)
        logits_LVU = mask(
            torch.where(new_L1U, changed_LVU, self.corrected(logits_LVU)), self._seen_LU.unsqueeze(1)
        )
        return self.cross_entropy(logits_LVU, held) + self.shrink * beta_L.square() / 2

    def predict(self, batch: Batch) -> Tensor:
        """Return the corrected logits."""
        return mask(self.corrected(self.model(batch.x_LBX)), batch.active_LBU)

    def notes(self) -> dict[str, Tensor]:
        """Return alpha and beta of every unit at the end of the stream."""
        return {"alpha": self.alpha_LU, "beta": self.beta_LU}
