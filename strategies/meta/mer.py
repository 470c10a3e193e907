"""Meta-experience replay.

Axes: L lanes, B batch.
"""

from collections.abc import Sequence
from typing import Annotated, Literal

import torch
from torch import Tensor

from strategies.core import Batch, Count, CountOrNone, LaneFloat, Search, Share, per_lane
from strategies.parts import Replay


class MER(Replay):
    """Meta-experience replay: Reptile over steps on new and stored rows.

    Each of s paths starts at p_0 = p and takes one step on the new rows and one on each of k draws from the
    memory, ending at p_k; then p = p_0 + beta (p_k - p_0). After all paths p = p_start + gamma (p - p_start)
    (Riemer 2019, Algorithm 1). To first order this rewards gradients of new and old rows that agree.
    """

    name = "mer"
    family = "meta"
    cost = 10.0
    sized_by = {"memory": "buffer", "compute": "steps"}
    paper = "Riemer et al. 2019, Learning to learn without forgetting by maximizing transfer"
    presets = {
        # MNIST permutations with 500 memories, as in the released scripts: one epoch, one row per step.
        "riemer2019": {"batches": 10, "steps": 25, "beta": 0.03, "batch": 1, "optimiser": "sgd", "lr": 0.03}
        | {"epochs": 1, "iterations": 0}
    }

    batches: Count = 2
    """s: number of paths."""
    steps: Count = 4
    """k: draws from the memory in a path."""
    rows: CountOrNone = 0
    """Stored rows in a draw; 0 for the number of new rows."""
    beta: Annotated[Share, Search(0.03, 1, log=True)] = LaneFloat(0.3)
    """Share of each path's change of the parameters that is applied."""
    gamma: Annotated[Share, Search(0.1, 1)] = LaneFloat(1.0)
    """Share of the change over all paths that is applied."""
    place: Literal["first", "last"] = "first"
    """Place of the new rows in a path: first (released code of Algorithm 1) or last (of Algorithm 6)."""

    def step_cost(self, new: int) -> float:
        """Return the cost of all paths of a step."""
        return self.batches * (1 + self.steps * (self.rows or new) / new)

    def learn(self, batch: Batch) -> Tensor:
        """Follow the paths; return the mean loss on the new rows over the paths."""
        start, total_L = self._parameters(), torch.zeros(self.streams.lanes, device=self.streams.device)
        for _ in range(self.batches):
            path_start = self._parameters()
            if self.place == "first":
                total_L += self.step(batch)
            for _ in range(self.steps):
                self.step(self.memory.replay("replay", self.rows or batch.rows_LB.shape[1], batch))
            if self.place == "last":
                total_L += self.step(batch)
            self.interpolate(path_start, self.beta)
        self.interpolate(start, self.gamma)
        return total_L / self.batches

    def step(self, batch: Batch) -> Tensor:
        """Take one ordinary step of the optimiser and return its loss, shape (L,)."""
        self.model.zero_grad()
        with self.autocast():
            loss_L = self.cross_entropy(self.logits(batch), batch)
        self.backward(loss_L)
        self.optimiser.step(self.context.active)
        return loss_L.detach()

    def _parameters(self) -> list[Tensor]:
        return [p.clone() for p in self.model_tensors()]

    @torch.no_grad()
    def interpolate(self, start: Sequence[Tensor], share_L: Tensor) -> None:
        """Set parameters to ``start`` plus a share of their change since."""
        for p, s in zip(self.model_tensors(), start, strict=True):
            p.copy_(torch.lerp(s, p, per_lane(share_L, p)))
