"""Function distance regularisation."""

from typing import Annotated, Literal

import torch
from torch import Tensor

from strategies.core import Batch, LaneFloat, NotNegative, Search, Unsuitable, eval_mode, unless
from strategies.parts import Memory, Rehearsal, sample_rows


class TaskShares(Memory):
    """A memory that is divided equally between tasks."""

    def most_rows(self, lane: int) -> int:
        """Return the number of rows that a lane stores after the last task."""
        return self.slots - self.slots % self.streams.n_tasks


class FDR(Rehearsal):
    """Penalise the L2 distance to the network's own outputs at the end of each earlier task.

    L = L_new + alpha (E |p(x) - p_then(x)|^2)^(1/2) over stored rows, p the softmax (Benjamin 2019,
    section 3.1). Rows are chosen when a task ends; each finished task has an equal share of the memory.
    """

    name = "fdr"
    paper = "Benjamin, Rolnick & Kording 2019, Measuring and regularizing networks in function space"
    needs = "a memory of rows and probabilities, task boundaries"
    needs_boundaries = True

    alpha: Annotated[NotNegative, Search(0.05, 5, log=True)] = LaneFloat(1.0)
    """Weight of the distance."""
    distance: Annotated[Literal["function", "rows"], unless("alpha", 0.0)] = "function"
    """function: root of the mean squared distance (the paper); rows: mean of the rows' distances (Buzzega
    2020)."""

    def setup(self) -> None:
        """Make an empty memory with room for the probabilities of all units."""
        if self.buffer < self.streams.n_tasks:
            raise Unsuitable(
                f"buffer={self.buffer} is less than one row for each of the {self.streams.n_tasks} tasks"
            )
        self.memory = TaskShares(self.buffer, self.streams, self.draws, {"answer": (self.streams.n_units,)})

    def extra_loss(self, batch: Batch, raw_LBU: Tensor) -> Tensor | None:
        """Return the distance to the stored probabilities, None in the first task."""
        if self.task == 0:
            return None
        slots_LB = self.memory.draw_slots("replay", self.stored(batch))
        old = self.memory.read(slots_LB, batch)
        away_LBU = self.logits(old).softmax(2) - self.memory.read_kept("answer", slots_LB)
        square_LB = away_LBU.square().sum(2)
        # The square root has an infinite slope at 0, where every task begins; clamp gives it none there.
        if self.distance == "rows":
            return self.alpha * old.mean_L(square_LB.clamp(min=1e-12).sqrt())
        return self.alpha * old.mean_L(square_LB).clamp(min=1e-12).sqrt()

    def after_step(self, batch: Batch) -> None:
        """Write nothing within a task."""

    @torch.no_grad()
    def end_task(self, task: int) -> None:
        """Reduce earlier tasks to the new share; add an equal number of rows of this task."""
        memory, share = self.memory, self.buffer // (task + 1)
        of_LM = self.streams.task_of(memory.rows_LM[:, : memory.slots])
        keep_LM = torch.zeros_like(of_LM, dtype=torch.bool)
        for earlier in range(task):
            own_LM = (of_LM == earlier) & memory.in_use_LM()
            keep_LM |= own_LM & (own_LM.cumsum(1) <= share)
        memory.keep_only(keep_LM)
        rows_LS, real_LS = sample_rows(self.streams, self.draws, "rows", task, share)
        with eval_mode(self.model):
            softmax_LSU = self.logits(self.streams.replay(rows_LS, self.draws)).softmax(2)
        memory.append(rows_LS, real_LS > 0, answer=softmax_LSU)
