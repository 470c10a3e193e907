"""Sparse experience replay.

Axes: L lanes, B batch.
"""

import torch
from torch import Tensor

from strategies.core import Batch, Count, CountOrNone, copy_buffers, restore_buffers
from strategies.parts import RowReplay


class SparseER(RowReplay):
    """Sparse experience replay: one step on remembered rows alone after every so many steps on new ones.

    At the defaults one row is reviewed for each hundred learned (de Masson d'Autume 2019, section 3.2).
    """

    name = "sparse-er"
    cost = 1.01
    paper = "de Masson d'Autume et al. 2019, Episodic memory in lifelong language learning"

    every: Count = 100
    """Steps on new rows before each step on remembered ones."""
    batch: CountOrNone = 0
    """Remembered rows of such a step; 0 for the number of new ones."""

    def setup(self) -> None:
        """Make an empty memory, and count steps from the first of the stream on."""
        super().setup()
        self.steps_L = torch.zeros(self.streams.lanes, dtype=torch.long, device=self.streams.device)
        self._steps: list[int] = []

    def learn(self, batch: Batch) -> Tensor:
        """Take one step on new rows, and one on remembered rows in the lanes whose turn it is."""
        loss_L = super().learn(batch)
        active = self.context.active or (True,) * self.streams.lanes
        # The same count twice: one for checkpoints, one to know without asking the device whose turn it is.
        if not self._steps:
            self._steps = [int(n) for n in self.steps_L]
        self._steps = [n + on for n, on in zip(self._steps, active, strict=True)]
        self.steps_L += batch.learns_L > 0
        # A memory written at the end of a task is empty in the first, any other before the first step.
        filled = self.task > 0 if self.write == "per-class" else True
        due = tuple(
            on and filled and n > 1 and n % self.every == 0 for n, on in zip(self._steps, active, strict=True)
        )
        # Every lane draws at every step: its later draws must not depend on whose turn it was.
        slots_LB = self.memory.draw_slots("replay", self.batch or batch.rows_LB.shape[1])
        old = self.memory.read(slots_LB, batch)
        if any(due):
            self.review(old, due)
        return loss_L

    def review(self, old: Batch, due: tuple[bool, ...]) -> None:
        """Take a step on remembered rows."""
        self.model.zero_grad()
        buffers = copy_buffers(self.model)
        with self.autocast():
            loss_L = self.cross_entropy(self.logits(old), old)
        loss_L.sum().backward()
        restore_buffers(self.model, buffers, torch.tensor(due, device=loss_L.device))
        self.optimiser.step(due)
