"""Experience replay."""

from typing import Annotated, Literal

import torch
from torch import Tensor

from strategies.core import Batch, LaneFloat, NotNegative, Search, only_if
from strategies.parts import Rehearsal, RowReplay
from suites.base import Training


class ER(Rehearsal, RowReplay):
    """Experience replay: each step learns new rows and an equal number of stored rows.

    The loss is one mean over both (``concatenated``, Chaudhry 2019), L_new + lambda L_old (``sum``), or
    1/t L_new + (1 - 1/t) L_old at the t-th task (``tasks``, van de Ven 2022).
    """

    name = "er"
    generates = True
    paper = "Chaudhry et al. 2019, On tiny episodic memories in continual learning"
    presets = {"vandeven2022": {"buffer": 1000, "write": "per-class", "balance": "tasks"}}

    balance: Literal["concatenated", "sum", "tasks"] = "concatenated"
    """concatenated: one mean over new and stored rows; sum: L_new + lam L_old; tasks: at task t,
    1/t L_new + (1 - 1/t) L_old."""
    lam: Annotated[NotNegative, Search(0.1, 10, log=True), only_if("balance", "sum")] = LaneFloat(1.0)
    """lambda: weight of the loss on stored rows with balance=sum."""

    def unsuitable(self, scenario: str, training: Training) -> str | None:
        """Refuse balance=tasks where boundaries are hidden: its weights depend on the task number."""
        if self.balance == "tasks" and training.boundaries == "hidden":
            return "balance=tasks needs to know where tasks begin; concatenated and sum do not"
        return super().unsuitable(scenario, training)

    def not_composable_reason(self) -> str | None:
        """Refuse all but balance=sum: the others also weight the loss on new rows."""
        if self.balance == "sum":
            return None
        return f"balance={self.balance} of {self.name} weights new rows too; balance=sum does not"

    def extra_loss(self, batch: Batch, raw_LBU: Tensor) -> Tensor:
        """Return lambda L_old."""
        old = self.replayed(batch)
        return self.lam * self.cross_entropy(self.logits(old), old)

    def loss(self, batch: Batch) -> Tensor:
        """Return the weighted loss on new and stored rows; one forward pass for both."""
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
