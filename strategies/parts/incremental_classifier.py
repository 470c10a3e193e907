"""Bases of class-incremental methods: exemplars are chosen by herding and replayed with new rows.

Axes: L lanes, B batch, U units, N rows of one class, K rows in order.
"""

from collections.abc import Iterator
from dataclasses import replace
from typing import ClassVar, Literal

import torch
from torch import Tensor

from strategies.core import Batch, Count, CountOrNone, Strategy, Unsuitable, join_batches, mask, pad_rows
from strategies.parts.exemplars import Exemplars, herding_order
from strategies.parts.nearest_mean import features_of
from strategies.parts.teacher import WithTeacher, soft_cross_entropy


class ExemplarReplay(Strategy):
    """Base of methods that store exemplars of every class and train on them and the new rows together."""

    family = "class-incremental"
    needs = "task boundaries, a memory of rows"
    scenarios: ClassVar[tuple[str, ...]] = ("class", "online")
    needs_boundaries = True
    cost = 2.0
    sized_by = {"memory": "buffer", "compute": "batch"}

    buffer: Count = 500
    """Rows in the memory of one lane, shared equally by the classes of the tasks seen."""
    batch: CountOrNone = 0
    """Exemplars per step; 0 for the number of new rows."""
    mixing: Literal["union", "equal"] = "union"
    """Exemplars weigh as in one shuffled set with the task's rows (union, the papers), or half (equal)."""

    def step_cost(self, new: int) -> float:
        """Return the cost of a step: new rows and exemplars, and for both what ``cost`` adds to ER's 2."""
        return self.cost / 2 * (1 + (self.batch or new) / new)

    def setup(self) -> None:
        """Create an empty memory."""
        if self.streams.scenario == "domain":
            raise Unsuitable(
                f"{self.name} needs new classes at every task; the tasks of this stream share theirs"
            )
        self.exemplars = Exemplars(self.buffer, self.streams, self.draws)
        self._old_LU = self._new_LU = torch.zeros_like(self.streams.own_LTU[:, 0])

    def begin_task(self, task: int) -> None:
        """Look up which units are old and new, and compute the number of exemplars per new row.

        The task's classes are new, including one that has come back, because it has labels and many rows
        again. The other classes seen are old.
        """
        self.exemplars.freeze_for_reading()
        own_LTU = self.streams.own_LTU
        self._seen_LU, self._new_LU = own_LTU[:, : task + 1].any(1), own_LTU[:, task]
        self._old_LU = self._seen_LU & ~self._new_LU
        rows = [len(s.tasks[task].train_rows) for s in self.streams.streams]
        self._ratio_L = self.exemplars.total_L / torch.tensor(rows, device=own_LTU.device)

    def with_exemplars(self, batch: Batch) -> Batch:
        """Return new rows followed by exemplars, with the weights of ``mixing``."""
        if self.task == 0:
            return batch
        old = self.exemplars.read(self.batch or batch.rows_LB.shape[1], batch)
        new_L = batch.weight_LB.sum(1)
        wanted_L = new_L * self._ratio_L if self.mixing == "union" else new_L
        share_L1 = (wanted_L / old.rows_LB.shape[1]).unsqueeze(1)
        return join_batches(batch, replace(old, weight_LB=old.weight_LB * share_L1))

    def end_task(self, task: int) -> None:
        """Shrink the share of earlier classes and choose exemplars of the task's classes."""
        share_L = self.exemplars.share_L(task + 1)
        self.exemplars.reduce(share_L)
        for group_L, _, rows_LN, real_LN in self.classes(task):
            features_LNF, count_L = features_of(self.model, self.streams, rows_LN), real_LN.sum(1)
            order_LK = herding_order(features_LNF, real_LN, int(share_L.max()))
            self.exemplars.write(group_L, rows_LN.gather(1, order_LK), torch.minimum(count_L, share_L))

    def classes(self, task: int) -> Iterator[tuple[Tensor, Tensor, Tensor, Tensor]]:
        """Yield the group, unit, training rows and padding of each class of a task.

        Shapes are (L,), one-hot (L, U), (L, N) and (L, N), which is 1 for real rows and 0 for padding. A lane
        with fewer classes than another has the memory's empty group, no unit and no real row instead.
        """
        streams, device = self.streams.streams, self.streams.device
        unit_U = torch.arange(self.streams.n_units, device=self.streams.device)
        # The same length for every class and lane, so that rounding does not depend on other lanes' sizes. It
        # is not zero for a class without rows, as beside a lane that has some.
        most = self.streams.rows_of_largest_class
        for nth in range(max(len(s.tasks[task].units) for s in streams)):
            of_lanes, units = [], []
            for lane, s in enumerate(streams):
                rows_R, own = s.tasks[task].train_rows.to(device), s.tasks[task].units
                units.append(own[nth] if nth < len(own) else -1)
                of_lanes.append(rows_R[(self.streams.units_of(lane, rows_R) == units[-1]) & (units[-1] >= 0)])
            rows_LN, real_LN = pad_rows(of_lanes, most, most)
            is_unit_LU = torch.tensor(units, device=unit_U.device).unsqueeze(1) == unit_U
            yield self.exemplars.group_L(task, nth), is_unit_LU, rows_LN, real_LN


class Distilled(WithTeacher, ExemplarReplay):
    """Exemplars, and distillation of old classes from a copy of the network before the task (the teacher)."""

    needs = "task boundaries, a memory of rows, a copy of the network"
    cost = 2.67  # two thirds: the teacher's forward passes

    @property
    def old_share_L(self) -> Tensor:
        """The share of old classes among those seen: the weight of distillation in BiC and WA."""
        return self._old_LU.sum(1) / self._seen_LU.sum(1)

    def with_distillation(
        self, loss_L: Tensor, both: Batch, logits_LBU: Tensor, target_LBU: Tensor, temperature_L: Tensor
    ) -> Tensor:
        """Return (1 - a) of the loss plus a of the distillation over the old units, a their share, (L,)."""
        old_L1U, share_L = self._old_LU.unsqueeze(1), self.old_share_L
        old_LB = soft_cross_entropy(mask(logits_LBU, old_L1U), mask(target_LBU, old_L1U), temperature_L)
        return (1 - share_L) * loss_L + share_L * both.mean_L(old_LB)
