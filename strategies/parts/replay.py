"""Bases of replay methods: a memory of rows, and how it is written."""

from typing import Literal

from torch import Tensor

from strategies.core import Batch, Count, CountOrNone, LaneModel, Strategy, join_batches, per_lane
from strategies.parts.class_memory import BalancedMemory, RingMemory, SharedMemory
from strategies.parts.memory import Memory
from suites.base import Training


class Replay(Strategy):
    """Base of replay methods: a memory that is written after each step."""

    family = "replay"
    needs = "a memory of rows"
    sized_by = {"memory": "buffer"}

    buffer: Count = 500
    """Rows in the memory of one lane."""

    def setup(self) -> None:
        """Create an empty memory."""
        self.memory = Memory(self.buffer, self.streams, self.draws)

    def begin_task(self, task: int) -> None:
        """Look once whether the memory has rows in every lane."""
        self.memory.look()

    def after_step(self, batch: Batch) -> None:
        """Offer the rows of this step to the memory."""
        self.memory.write(batch)


class Rehearsal(Replay):
    """Base of replay methods that use stored rows in their steps."""

    cost = 2.0
    sized_by = {"memory": "buffer", "compute": "batch"}

    batch: CountOrNone = 0
    """Stored rows per step; 0 for the number of new rows."""

    def step_cost(self, new: int) -> float:
        """Return the cost of a step; ``cost`` is that of equal numbers of stored and new rows."""
        return self.cost - 1 + (self.batch or new) / new

    def stored(self, batch: Batch) -> int:
        """Return the number of stored rows in the step of these new rows."""
        return self.batch or batch.rows_LB.shape[1]

    def replayed(self, batch: Batch) -> Batch:
        """Return the stored rows of this step."""
        return self.memory.replay("replay", self.stored(batch), batch)

    def both(self, batch: Batch) -> Batch:
        """Return the new rows and then the stored ones."""
        return join_batches(batch, self.replayed(batch))


class RowReplay(Replay):
    """Base of replay methods that store only rows, which can therefore also be chosen at a task's end."""

    write: Literal["reservoir", "class-balanced", "ring", "per-class"] = "reservoir"
    """After each step into a reservoir, a class-balanced reservoir or a ring (the latest rows of each class);
    or at the end of a task an equal share of each class (per-class)."""

    def unsuitable(self, scenario: str, training: Training) -> str | None:
        """``per-class`` needs the ends of tasks; ``ring`` needs a row's task if tasks share classes."""
        if training.boundaries == "hidden":
            if self.write == "per-class":
                return "write=per-class needs to know where tasks end; write=reservoir does not"
            if self.write == "ring" and scenario == "domain":
                return "write=ring needs a row's task if tasks share classes; write=reservoir does not"
        return super().unsuitable(scenario, training)

    def cannot_generate(self) -> str | None:
        """Memories balanced over classes need classes, which texts do not have."""
        if self.generates and self.write in ("class-balanced", "ring"):
            return f"write={self.write} needs classes; write=reservoir does not"
        return super().cannot_generate()

    def setup(self) -> None:
        """Create an empty memory of the kind that ``write`` names."""
        kinds = {"class-balanced": BalancedMemory, "ring": RingMemory, "per-class": SharedMemory}
        self.memory = kinds.get(self.write, Memory)(self.buffer, self.streams, self.draws)

    def after_step(self, batch: Batch) -> None:
        """Offer the rows of this step, unless the memory is written at the end of tasks."""
        if self.write != "per-class":
            super().after_step(batch)

    def end_task(self, task: int) -> None:
        """With ``per-class``, store an equal share for each of the task's classes."""
        if self.write == "per-class":
            assert isinstance(self.memory, SharedMemory)
            self.memory.write_per_class([s.tasks[task].train_rows for s in self.streams.streams])


def virtual_step(model: LaneModel, grads: tuple[Tensor, ...], lr_L: Tensor) -> dict[str, Tensor]:
    """Return the parameters after one plain gradient step, by name; the model is not changed."""
    named = zip(model.named_parameters(), grads, strict=True)
    return {name: p.detach() - per_lane(lr_L, p) * g for (name, p), g in named}
