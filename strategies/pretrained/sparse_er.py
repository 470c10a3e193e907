"""Sparse experience replay.

Axes: L lanes, B batch.
"""

import torch
from torch import Tensor

from strategies.core import Batch, Count, CountOrNone, copy_buffers, restore_buffers, send
from strategies.parts import RowReplay


class SparseER(RowReplay):
    """Sparse experience replay: one step on stored rows after every ``every`` steps on new rows.

    By default one row is replayed per hundred new rows (de Masson d'Autume 2019, section 3.2).
    """

    name = "sparse-er"
    cost = 1.01
    sized_by = {"memory": "buffer", "compute": "every"}
    paper = "de Masson d'Autume et al. 2019, Episodic memory in lifelong language learning"

    every: Count = 100
    """Steps on new rows before each step on stored rows."""
    batch: CountOrNone = 0
    """Stored rows in such a step; 0 for the number of new rows."""

    def step_cost(self, new: int) -> float:
        """Return the cost of a step: new rows, and stored rows at one in ``every`` steps."""
        return 1 + (self.batch or new) / new / self.every

    def setup(self) -> None:
        """Make an empty memory; count steps from the start of the stream."""
        super().setup()
        self.steps_L = torch.zeros(self.streams.lanes, dtype=torch.long, device=self.streams.device)
        self._steps = [0] * self.streams.lanes

    def learn(self, batch: Batch) -> Tensor:
        """Take one step on new rows, and one on stored rows in lanes whose turn it is."""
        loss_L = super().learn(batch)
        active = self.context.active or (True,) * self.streams.lanes
        # Counted twice, so that the host need not read from the device whose turn it is.
        self._steps = [n + on for n, on in zip(self._steps, active, strict=True)]
        self.steps_L += batch.learns_L > 0
        # write=per-class fills the memory at the end of a task; the others, after each step.
        filled = self.task > 0 if self.write == "per-class" else True
        due = tuple(
            on and filled and n > 1 and n % self.every == 0 for n, on in zip(self._steps, active, strict=True)
        )
        # Every lane draws at every step, so that draws do not depend on other lanes' turns.
        old = self.memory.replay("replay", self.batch or batch.rows_LB.shape[1], batch)
        if any(due):
            self.review(old, due)
        return loss_L

    def review(self, old: Batch, due: tuple[bool, ...]) -> None:
        """Take a step on stored rows."""
        self.model.zero_grad()
        buffers = copy_buffers(self.model)
        with self.autocast():
            loss_L = self.cross_entropy(self.logits(old), old)
        self.backward(loss_L)
        restore_buffers(self.model, buffers, send(torch.tensor(due), loss_L.device))
        self.optimiser.step(due)
