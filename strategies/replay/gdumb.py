"""GDumb: a greedy sampler and a dumb learner."""

import torch
from torch import Tensor

from strategies.core import Batch, Count, copy_buffers, restore_buffers, send
from strategies.parts import GreedyMemory, Replay


class GDumb(Replay):
    """Fill a class-balanced memory; after each task train a network on it from scratch.

    A greedy sampler balances the classes (Prabhu 2020, Algorithm 1); nothing is learned during a task. The
    method shows what a memory of this size is worth without any continual learning.
    """

    name = "gdumb"
    cost = 0.0
    paper = "Prabhu, Torr & Dokania 2020, GDumb: a simple approach that questions our progress"
    needs = "a memory of rows, task boundaries to know when to train"
    needs_boundaries = True
    restarts = True
    one_pass = True

    passes: Count = 50
    """Passes over the memory after each task (the paper: 128 for MNIST, 256 else, with a cosine schedule)."""

    def setup(self) -> None:
        """Make an empty memory."""
        self.memory = GreedyMemory(self.buffer, self.streams, self.draws)
        self.loss_LT = torch.zeros(self.streams.lanes, self.streams.n_tasks, device=self.streams.device)

    def learn(self, batch: Batch) -> Tensor:
        """Learn nothing: the rows are offered to the memory after the step."""
        return torch.zeros(self.streams.lanes, device=self.streams.device)

    def end_task(self, task: int) -> None:
        """Train on the memory in shuffled passes, in batches of the training's size."""
        size = self.streams.training.batch
        slots, filled_L1 = self.memory.slots, self.memory.filled_L.unsqueeze(1)
        steps = [-(-int(n) // size) for n in self.memory.filled_L]
        total_L = torch.zeros_like(self.loss_LT[:, 0])
        lane_L1 = torch.arange(self.streams.lanes, device=total_L.device).unsqueeze(1)
        for _ in range(self.passes):
            order_LM = self.memory.draw_distinct("epoch", slots)
            draw_LM3 = self.streams.draw_replay(self.draws, slots)
            for step in range(max(steps)):
                place_B = torch.arange(step * size, (step + 1) * size, device=filled_L1.device)
                # Incomplete batches, and those of lanes that have finished, are padded with rows of weight 0.
                nth_LB = place_B % filled_L1
                rows_LB = self.memory.rows_LM.gather(1, order_LM.gather(1, nth_LB))
                draw_LB3 = None if draw_LM3 is None else draw_LM3[lane_L1, nth_LB]
                self.context.active = tuple(step < n for n in steps)
                total_L += self.step(self.streams.batch(rows_LB, (place_B < filled_L1).float(), draw_LB3))
        self.loss_LT[:, task] = total_L / torch.tensor(steps, device=total_L.device) / self.passes

    def step(self, batch: Batch) -> Tensor:
        """Take one step on rows of the memory and return its loss, shape (L,)."""
        assert self.context.active is not None
        buffers = copy_buffers(self.model)
        self.model.zero_grad()
        loss_L = super().learn(batch)
        restore_buffers(self.model, buffers, send(torch.tensor(self.context.active), loss_L.device))
        return loss_L

    def notes(self) -> dict[str, Tensor]:
        """Return the mean loss of each task's training on the memory."""
        return {"memory_loss": self.loss_LT}
