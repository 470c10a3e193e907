"""Experience replay: new rows beside remembered ones."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor

from strategies.base import Count, CountOrNone, NotNegative, Strategy
from strategies.class_memory import BalancedMemory, RingMemory
from strategies.memory import Memory, join
from strategies.streams import Batch
from suites.base import Training


@dataclass
class Replay(Strategy):
    """What the replay methods share: a memory and how it is written."""

    family: ClassVar[str] = "replay"
    needs: ClassVar[str] = "a memory of rows"

    buffer: Count = 500
    """Rows in the memory of one lane."""

    def setup(self) -> None:
        """Make an empty memory."""
        self.memory = Memory(self.buffer, self.streams, self.draws)

    def after_step(self, batch: Batch) -> None:
        """Offer the rows just learned to the memory."""
        self.memory.write(batch)

    def memory_size(self) -> tuple[int, int]:
        """Count the memory as the literature does: rows, and bytes as if they were copied.

        What else a method keeps, second networks above all, counts in bytes.
        """
        samples, size = self.memory.size()
        others = [t.nbytes for name, t in self.state().items() if not name.startswith("memory.")]
        return samples, size + sum(others) // self.streams.lanes


@dataclass
class RowReplay(Replay):
    """A replay method that keeps rows alone, so that they can be chosen at the end of a task as well."""

    write: Literal["reservoir", "class-balanced", "ring", "per-class"] = "reservoir"
    """After each step, into one reservoir, a class-balanced one, or the latest rows of each class (ring);
    or at the end of a task, an equal share a class."""

    def unsuitable(self, scenario: str, training: Training) -> str | None:
        """Writing per class needs to know where a task ends, a ring in which task a shared class stands."""
        if training.boundaries == "hidden":
            if self.write == "per-class":
                return "write=per-class needs to know where tasks end; write=reservoir does not"
            if self.write == "ring" and scenario == "domain":
                return "write=ring needs to know the task where tasks share classes; write=reservoir does not"
        return super().unsuitable(scenario, training)

    def cannot_generate(self) -> str | None:
        """Memories that are kept by class need classes."""
        if self.generates and self.write in ("class-balanced", "ring"):
            return f"write={self.write} needs classes; write=reservoir does not"
        return super().cannot_generate()

    def setup(self) -> None:
        """Make an empty memory of the kind that is written so."""
        kinds = {"class-balanced": BalancedMemory, "ring": RingMemory}
        self.memory = kinds.get(self.write, Memory)(self.buffer, self.streams, self.draws)

    def after_step(self, batch: Batch) -> None:
        """Offer the rows just learned, where the memory is written step by step."""
        if self.write != "per-class":
            super().after_step(batch)

    def end_task(self, task: int) -> None:
        """Keep an equal share of the memory for each of the task's classes."""
        if self.write == "per-class":
            rows = [s.tasks[task].train_rows for s in self.streams.streams]
            n_labels = sum(len(t.classes) for t in self.streams.streams[0].tasks)
            self.memory.write_per_class(rows, max(1, self.buffer // n_labels))


@dataclass
class ER(RowReplay):
    """Experience replay: each step learns new rows and as many remembered ones.

    The loss is one mean over both (``concatenated``, Chaudhry 2019), L_new + lambda L_old (``sum``), or
    1/t L_new + (1 - 1/t) L_old at the t-th task (``tasks``, van de Ven 2022).
    """

    name: ClassVar[str] = "er"
    generates: ClassVar[bool] = True
    cost: ClassVar[float] = 2.0
    paper: ClassVar[str] = "Chaudhry et al. 2019, On tiny episodic memories in continual learning"
    presets: ClassVar[dict[str, dict[str, Any]]] = {
        "vandeven2022": {"buffer": 1000, "write": "per-class", "balance": "tasks"}
    }

    batch: CountOrNone = 0
    """Remembered rows per step; 0 for as many as new ones."""
    balance: Literal["concatenated", "sum", "tasks"] = "concatenated"
    """How the losses on new and old rows are weighed."""
    lam: NotNegative = 1.0
    """Weight of the old rows' loss where balance is sum."""

    def unsuitable(self, scenario: str, training: Training) -> str | None:
        """Weights by the number of tasks need to know it."""
        if self.balance == "tasks" and training.boundaries == "hidden":
            return "balance=tasks needs to know where tasks begin; concatenated and sum do not"
        return super().unsuitable(scenario, training)

    def indivisible(self) -> str | None:
        """Only the sum has a term of its own beside the loss on new rows."""
        return None if self.balance == "sum" else f"balance={self.balance} of {self.name} weighs new rows too"

    def replayed(self, batch: Batch) -> Batch:
        """Return the remembered rows of this step."""
        slots_LB = self.memory.draw_slots("replay", self.batch or batch.rows_LB.shape[1])
        return self.memory.read(slots_LB, batch)

    def both(self, batch: Batch) -> Batch:
        """Return the new rows and then the remembered ones."""
        return join(batch, self.replayed(batch))

    def extra_loss(self, batch: Batch, raw_LBU: Tensor) -> Tensor:
        """Return the remembered rows' term of the sum."""
        old = self.replayed(batch)
        return self.lam * self.cross_entropy(self.logits(old), old)

    def loss(self, batch: Batch) -> Tensor:
        """Return the weighed loss over new and remembered rows, one forward pass for both."""
        new = batch.rows_LB.shape[1]
        both = self.both(batch)
        logits_LBU = self.logits(both)
        if self.balance == "concatenated":
            return self.cross_entropy(logits_LBU, both)
        fresh, old = both.split(new)
        new_L = self.cross_entropy(logits_LBU[:, :new], fresh)
        old_L = self.cross_entropy(logits_LBU[:, new:], old)
        if self.balance == "sum":
            return new_L + self.lam * old_L
        share_L = torch.where(self.memory.filled_L > 0, 1 / (self.task + 1), 1.0)
        return share_L * new_L + (1 - share_L) * old_L
