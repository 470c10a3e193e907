"""Gradient episodic memory.

Axes: L lanes, B batch, M memory slots of a task, K earlier tasks, T tasks, P parameters.
"""

from dataclasses import dataclass
from typing import Annotated, Literal

import numpy as np
import torch
from torch import Tensor

from strategies.core import (
    Batch,
    Count,
    LaneFloat,
    NotNegative,
    Search,
    Strategy,
    Unsuitable,
    gradients,
    lane_vectors,
    unless,
    write_lane_vectors,
)


@dataclass
class Rings:
    """The last rows of each task, and the number of rows of each task so far."""

    rows_LTM: Tensor
    seen_LT: Tensor
    row_bytes: int

    def held_rows(self, lane: int) -> tuple[int, int]:
        """Return the number of rows that a lane stores, and the bytes of each with its label."""
        per_task = self.rows_LTM.shape[2] - 1
        return int(self.seen_LT[lane].clamp(max=per_task).sum()), self.row_bytes

    def most_rows(self, lane: int) -> int:
        """Return the number of rows that a lane stores when all rings are full."""
        return self.seen_LT.shape[1] * (self.rows_LTM.shape[2] - 1)


class GEM(Strategy):
    """GEM: a step may not, to first order, raise the loss on the memory of any earlier task.

    g becomes the nearest z with G z >= 0, the rows of G the gradients on the memories: z = g + G^T v, with v
    the minimum over v >= 0 of 1/2 v^T G G^T v + (G g)^T v (Lopez-Paz & Ranzato 2017, eq. 8 to 11). If g
    violates no constraint, it is not changed.
    """

    name = "gem"
    # One more pass for each earlier task: two on average over five tasks.
    cost = 3.0
    family = "gradient"
    paper = "Lopez-Paz & Ranzato 2017, Gradient episodic memory for continual learning"
    needs = "task boundaries, a memory of rows"
    needs_boundaries = True
    projects = True
    waits = "its quadratic programme is solved on the host"
    sized_by = {"memory": "buffer"}

    buffer: Count = 500
    """Rows in the memory of one lane, shared equally between tasks; each task stores its last rows."""
    gamma: Annotated[NotNegative, Search(0, 1)] = LaneFloat(0.5)
    """Memory strength: weight of the earlier tasks' gradients in a step that violates a constraint."""
    strength: Annotated[Literal["bound", "added"], unless("gamma", 0.0)] = "bound"
    """Memory strength is the lower bound of v (the released code), or is added to v (the text)."""

    def setup(self) -> None:
        """Create an empty ring of rows for every task."""
        streams = self.streams
        self.per_task = self.buffer // streams.n_tasks
        if self.per_task == 0:
            raise Unsuitable(
                f"buffer={self.buffer} is less than one row for each of the {streams.n_tasks} tasks"
            )
        shape = (streams.lanes, streams.n_tasks)
        self.memory = Rings(
            # One extra slot, which is never read, for writes to discard.
            torch.zeros(*shape, self.per_task + 1, dtype=torch.long, device=streams.device),
            torch.zeros(shape, dtype=torch.long, device=streams.device),
            streams.row_bytes,
        )

    def after_step(self, batch: Batch) -> None:
        """Write the rows of this step into the task's ring."""
        real_LB = batch.weight_LB.long()
        nth_LB = real_LB.cumsum(1)
        seen_L1, new_L1 = self.memory.seen_LT[:, self.task : self.task + 1], nth_LB[:, -1:]
        # If a batch is longer than the ring, only its end is stored, so that no slot is written twice.
        stays_LB = (real_LB > 0) & (nth_LB > new_L1 - self.per_task)
        slot_LB = ((seen_L1 + nth_LB - 1) % self.per_task).masked_fill(~stays_LB, self.per_task)
        self.memory.rows_LTM[:, self.task].scatter_(1, slot_LB, batch.rows_LB)
        seen_L1 += new_L1

    def remembered(self, task: int) -> Batch:
        """Return the memory of a task; empty slots repeat the first row with weight 0."""
        rows_LM = self.memory.rows_LTM[:, task, : self.per_task]
        full_LM = torch.arange(self.per_task, device=rows_LM.device) < self.memory.seen_LT[:, task : task + 1]
        rows_LM = torch.where(full_LM, rows_LM, rows_LM[:, :1])
        return self.streams.replay(rows_LM, self.draws, full_LM.float())

    def adjust_gradients(self) -> None:
        """Project each lane's gradient to the nearest one that raises no earlier task's loss."""
        if self.task == 0:
            return
        parameters = list(self.model.parameters())
        past = []
        for task in range(self.task):
            old = self.remembered(task)
            with self.autocast():
                loss_L = self.cross_entropy(self.logits(old), old)
            past.append(lane_vectors(torch.autograd.grad(loss_L.sum(), parameters, materialize_grads=True)))
        now = gradients(self.model)
        write_lane_vectors(
            project(lane_vectors(now), torch.stack(past, 1), self.gamma, self.strength == "bound"), now
        )


def project(g_LP: Tensor, past_LKP: Tensor, gamma_L: Tensor, bound: bool) -> Tensor:
    """Return g + G^T v, the gradient nearest to g that has no negative product with a row of G."""
    inner_LK = (past_LKP * g_LP.unsqueeze(1)).sum(2)
    products = [(past_LKP * past_LKP[:, k : k + 1]).sum(2) for k in range(past_LKP.shape[1])]
    gram_LKK = torch.stack(products, 2)
    # One copy to the host for all.
    given = torch.cat([inner_LK.unsqueeze(2), gram_LKK], 2).double().cpu().numpy()
    gamma = gamma_L.double().cpu().numpy()
    v = np.stack([multipliers(one[:, 1:], one[:, 0], c, bound) for one, c in zip(given, gamma, strict=True)])
    v_LK = torch.from_numpy(v).to(g_LP)
    return g_LP + (v_LK.unsqueeze(2) * past_LKP).sum(1)


def multipliers(gram: np.ndarray, inner: np.ndarray, gamma: float, bound: bool) -> np.ndarray:
    """Return one lane's v, shape (K,), from G G^T and G g; zeros if no constraint is violated.

    With G G^T = A^T A and A^T b = -G g, v minimises |A v - b| over v >= 0. The bound v >= gamma is the same
    problem for v - gamma, with g replaced by g + gamma G^T 1.
    """
    if not (inner < 0).any() or not (np.isfinite(inner).all() and np.isfinite(gram).all()):
        return np.zeros_like(inner)  # a diverged lane is not changed, and does not stop the others
    from scipy.optimize import nnls  # imported here because it takes a second to load

    start = gamma if bound else 0.0
    inner = inner + start * gram.sum(1)
    # Gradients are scaled to unit length, so that the solver's tolerances fit all of them.
    length = np.sqrt(gram.diagonal())
    scale = np.divide(1.0, length, out=np.zeros_like(length), where=length > 0)
    values, vectors = np.linalg.eigh(gram * scale[:, None] * scale)
    real = values > 1e-12 * values[-1]
    root = np.sqrt(values[real])
    target = -(vectors[:, real].T @ (scale * inner)) / root
    size = float(np.linalg.norm(target))
    if size == 0:
        return np.full_like(inner, gamma)
    v, _ = nnls(root[:, None] * vectors[:, real].T, target / size, maxiter=100 * len(inner))
    return np.asarray(size * scale * v + gamma)
