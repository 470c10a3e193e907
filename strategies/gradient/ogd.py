"""Orthogonal gradient descent.

Axes: L lanes, B batch, D directions, P parameters, R rows, K logits of a row, U units; X the axes of one row.
"""

from typing import Literal

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from strategies.core import Count, Momentum, Strategy, eval_mode, gradients, lane_vectors, write_lane_vectors
from strategies.parts import sample_rows

_DEPENDENT = 1e-5
"""A gradient adds no direction if the share of its length that is new is below this, which is rounding."""


class OGD(Strategy):
    """Orthogonal gradient descent: to first order, steps do not change the logits of earlier rows.

    g <- g - sum_v (g . v) v over the stored directions v: gradients of logits at the end of each task, made
    orthonormal by Gram-Schmidt (Farajtabar 2020, Algorithm 1).
    """

    name = "ogd"
    family = "gradient"
    paper = "Farajtabar et al. 2020, Orthogonal gradient descent for continual learning"
    needs = "task boundaries, many times the parameters"
    needs_boundaries = True
    projects = True
    sized_by = {"memory": "directions"}

    directions: Count = 200
    """Gradients stored per task."""
    logits_of: Literal["gtl", "ave", "all"] = "gtl"
    """Which logits of a row: that of its label, the mean of all, or each of them."""

    def setup(self) -> None:
        """Allocate the directions of all tasks but the last, which no task follows."""
        parameters = sum(p[0].numel() for p in self.model.parameters())
        room = (self.streams.n_tasks - 1) * self.directions
        self.basis_LDP = torch.zeros(self.streams.lanes, room, parameters, device=self.streams.device)

    def adjust_gradients(self) -> None:
        """Remove the gradient's components along the stored directions."""
        if self.task > 0:
            now = gradients(self.model)
            write_lane_vectors(self.orthogonal(lane_vectors(now).unsqueeze(1), self.task).squeeze(1), now)

    def orthogonal(self, vectors_LDP: Tensor, tasks: int) -> Tensor:
        """Return vectors without their component in the span of the first ``tasks`` tasks' directions."""
        known_LDP = self.basis_LDP[:, : tasks * self.directions]
        return vectors_LDP - torch.bmm(torch.bmm(vectors_LDP, known_LDP.transpose(1, 2)), known_LDP)

    def end_task(self, task: int) -> None:
        """Add the task's directions."""
        if task < self.streams.n_tasks - 1:
            new_LDP = self.logit_gradients(task)
            length_LD1 = new_LDP.norm(dim=2, keepdim=True)
            for _ in range(2):  # the second time removes rounding errors of the first
                new_LDP = self.orthogonal(new_LDP, task)
            room = self.basis_LDP[:, task * self.directions : (task + 1) * self.directions]
            room.copy_(gram_schmidt(new_LDP, length_LD1))
            if isinstance(self.optimiser, Momentum):  # momentum still contains this task's gradients
                carried = self.optimiser.moments[0]
                across_L1P = self.orthogonal(lane_vectors(carried).unsqueeze(1), task + 1)
                write_lane_vectors(across_L1P.squeeze(1), carried)

    def logit_gradients(self, task: int) -> Tensor:
        """Return gradients of logits at rows of a task, zeros if a lane has too few rows, (L, D, P)."""
        streams = self.streams
        # Units that a row can be classified as: in task-incremental streams its task's, else all.
        own = [
            s.tasks[task].units if streams.scenario == "task" else range(s.n_units) for s in streams.streams
        ]
        units_LK = pad_sequence([torch.tensor(units) for units in own], batch_first=True).to(streams.device)
        count_L1 = torch.tensor([[len(units)] for units in own], device=streams.device)
        # Directions per row: with ``all``, lanes with other numbers of units use other numbers of rows.
        per_row_L1 = count_L1 if self.logits_of == "all" else torch.ones_like(count_L1)
        n_rows = -(-self.directions // int(per_row_L1.min()))
        rows_LR, real_LR = sample_rows(streams, self.draws, "ogd", task, n_rows)
        real_LK = torch.arange(units_LK.shape[1], device=streams.device) < count_L1
        parameters, found = list(self.model.parameters()), []
        for direction in range(self.directions):
            row_L1 = direction // per_row_L1
            batch = streams.batch(rows_LR.gather(1, row_L1))
            with eval_mode(self.model):
                logits_LU = self.model(batch.x_LBX).squeeze(1) * real_LR.gather(1, row_L1)
            if self.logits_of == "ave":
                value_L = (logits_LU.gather(1, units_LK) * real_LK).sum(1) / count_L1.squeeze(1)
            else:
                unit_L1 = (
                    batch.y_LB if self.logits_of == "gtl" else units_LK.gather(1, direction % per_row_L1)
                )
                value_L = logits_LU.gather(1, unit_L1).squeeze(1)
            found.append(lane_vectors(torch.autograd.grad(value_L.sum(), parameters, materialize_grads=True)))
        return torch.stack(found, 1)


def gram_schmidt(vectors_LDP: Tensor, length_LD1: Tensor) -> Tensor:
    """Return vectors made orthonormal one after another, zeros for one that depends on earlier ones.

    ``length_LD1`` is the length of each before any component was removed.
    """
    done_LDP = torch.zeros_like(vectors_LDP)
    for i in range(vectors_LDP.shape[1]):
        v_L1P, before_LDP = vectors_LDP[:, i : i + 1], done_LDP[:, :i]
        for _ in range(2):
            v_L1P = v_L1P - torch.bmm(torch.bmm(v_L1P, before_LDP.transpose(1, 2)), before_LDP)
        left_L11 = v_L1P.norm(dim=2, keepdim=True)
        new_L11 = left_L11 > _DEPENDENT * length_LD1[:, i : i + 1]
        done_LDP[:, i : i + 1] = torch.where(new_L11, v_L1P / left_L11.clamp(min=1e-30), 0)
    return done_LDP
