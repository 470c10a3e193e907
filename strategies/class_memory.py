"""Memories that are written class by class: balanced reservoir, greedy balance, ring.

The first two decide row by row, by what they hold of each class, so a batch is walked through in its
order, all lanes at once; the ring has a closed form. Classes are units of the head; the ring tells the
classes of one task from those of another, also where they share units, unless boundaries are hidden.

Axes: L lanes, B batch, M memory slots, U units (one more for empty slots), C classes, K rows of a class.
"""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor

from strategies.draws import Draws
from strategies.memory import Memory
from strategies.streams import Batch, LaneStreams


def pick(among: Tensor, draw: Tensor) -> Tensor:
    """Return the index of one of the marked along the last axis, by a number in [0, 1); the last if none."""
    nth = (draw * among.sum(-1)).long().unsqueeze(-1)
    return (among.cumsum(-1) <= nth).sum(-1).clamp(max=among.shape[-1] - 1)


def real_rows(batch: Batch) -> Tensor:
    """Return which rows of a batch count, bool (L, B)."""
    return (
        torch.ones_like(batch.rows_LB, dtype=torch.bool) if batch.weight_LB is None else batch.weight_LB > 0
    )


class _RowByRow(Memory):
    """What the balanced memories share: the walk through a batch, and how many rows each class has shown."""

    draw_name: ClassVar[str]

    def __init__(self, slots: int, streams: LaneStreams, draws: Draws) -> None:
        super().__init__(slots, streams, draws)
        self.met_LU = torch.zeros(streams.lanes, streams.n_units, dtype=torch.long, device=streams.device)

    def state(self) -> dict[str, Tensor]:
        """Return what a checkpoint needs."""
        return {**super().state(), "met": self.met_LU}

    def write(self, batch: Batch, **kept: Tensor) -> None:
        """Offer rows one after the other."""
        empty = self.streams.n_units
        real_LB, size = real_rows(batch), batch.rows_LB.shape[1]
        draw_LB2 = self.draws.uniform(self.draw_name, 2 * size).view(-1, size, 2)
        used_LM = torch.cat([self.in_use_LM(), torch.zeros_like(self._lane_L1, dtype=torch.bool)], 1)
        unit_LM = torch.where(used_LM, self.streams.unit_LR.gather(1, self.rows_LM), empty)
        held_LU = torch.zeros(len(unit_LM), empty + 1, dtype=torch.long, device=unit_LM.device)
        held_LU.scatter_add_(1, unit_LM, torch.ones_like(unit_LM))
        free_L1, slots = self.filled_L.unsqueeze(1).clone(), []
        for b in range(size):
            unit_L1, real_L1 = batch.y_LB[:, b : b + 1], real_LB[:, b : b + 1]
            taken_L1, among_LM = self.decide(unit_L1, unit_LM, held_LU, free_L1, draw_LB2[:, b, 1:])
            slot_L1 = pick(among_LM, draw_LB2[:, b, 0]).unsqueeze(1)
            slot_L1 = torch.where(free_L1 < self.slots, free_L1, slot_L1)
            slot_L1 = torch.where(taken_L1 & real_L1, slot_L1, self.slots)
            gained_L1 = torch.where(slot_L1 < self.slots, unit_L1, empty)
            lost_L1 = unit_LM.gather(1, slot_L1)
            one_L1 = torch.ones_like(slot_L1)
            held_LU.scatter_add_(1, lost_L1, -one_L1).scatter_add_(1, gained_L1, one_L1)
            unit_LM.scatter_(1, slot_L1, gained_L1)
            free_L1 += (slot_L1 == free_L1) & (slot_L1 < self.slots)
            self.met_LU.scatter_add_(1, unit_L1, real_L1.long())
            slots.append(slot_L1)
        self.put(torch.cat(slots, 1), batch.rows_LB, **kept)
        self.seen_L += real_LB.sum(1)

    @staticmethod
    def largest(held_LU: Tensor) -> Tensor:
        """Return the classes of which most is held, bool (L, U); never that of the empty slots."""
        most_LU = held_LU == held_LU[:, :-1].amax(1, keepdim=True)
        most_LU[:, -1] = False
        return most_LU

    def decide(
        self, unit_L1: Tensor, unit_LM: Tensor, held_LU: Tensor, free_L1: Tensor, draw_L1: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Return whether a row is taken, bool (L, 1), and which slots it may replace if none is free."""
        raise NotImplementedError


class BalancedMemory(_RowByRow):
    """Class-balancing reservoir sampling (Chrysakis & Moens 2020, Algorithm 1).

    A class is full once it is, or has been, among the largest in a full memory. A row of a class that is not
    full replaces one of the largest classes; one of a full class replaces one of its own with probability
    (rows held) / (rows met), so that each class is a reservoir of its own.
    """

    draw_name = "class-balanced"

    def __init__(self, slots: int, streams: LaneStreams, draws: Draws) -> None:
        super().__init__(slots, streams, draws)
        self.full_LU = torch.zeros_like(self.met_LU, dtype=torch.bool)

    def state(self) -> dict[str, Tensor]:
        """Return what a checkpoint needs."""
        return {**super().state(), "full": self.full_LU}

    def decide(
        self, unit_L1: Tensor, unit_LM: Tensor, held_LU: Tensor, free_L1: Tensor, draw_L1: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Take a row for the largest class, or for its own with the reservoir's probability."""
        largest_LU = self.largest(held_LU)
        self.full_LU |= largest_LU[:, :-1] & (free_L1 == self.slots)
        full_L1 = self.full_LU.gather(1, unit_L1)
        among_LM = torch.where(full_L1, unit_LM == unit_L1, largest_LU.gather(1, unit_LM))
        met_L1 = self.met_LU.gather(1, unit_L1) + 1
        wins_L1 = draw_L1 * met_L1 < held_LU.gather(1, unit_L1)
        return (free_L1 < self.slots) | ~full_L1 | wins_L1, among_LM


class GreedyMemory(_RowByRow):
    """Greedy balancing sampler (Prabhu 2020, Algorithm 1): GDumb's.

    A row is taken if its class is new or holds less than an equal share of the slots among the classes met,
    and replaces one of the largest classes once the memory is full.
    """

    draw_name = "greedy"

    def decide(
        self, unit_L1: Tensor, unit_LM: Tensor, held_LU: Tensor, free_L1: Tensor, draw_L1: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Take a row whose class is below its share."""
        classes_L1 = (self.met_LU > 0).sum(1, keepdim=True)
        below_L1 = held_LU.gather(1, unit_L1) * classes_L1 < self.slots
        new_L1 = self.met_LU.gather(1, unit_L1) == 0
        return below_L1 | new_L1, self.largest(held_LU).gather(1, unit_LM)


class RingMemory(Memory):
    """The latest rows of each class, first in, first out, in equal shares (Chaudhry 2019, tiny memories)."""

    def __init__(self, slots: int, streams: LaneStreams, draws: Draws) -> None:
        super().__init__(slots, streams, draws)
        n_labels = sum(len(t.classes) for t in streams.streams[0].tasks)
        self.share = max(1, slots // n_labels)
        lanes, n_classes = streams.lanes, streams.n_tasks * streams.n_units
        self.met_LC = torch.zeros(lanes, n_classes, dtype=torch.long, device=streams.device)
        # Which slot holds the k-th row of a class; one column more, for rows that need no new slot.
        self.slot_LCK = torch.full((lanes, n_classes * self.share + 1), slots, device=streams.device)

    def state(self) -> dict[str, Tensor]:
        """Return what a checkpoint needs."""
        return {**super().state(), "met": self.met_LC, "slot": self.slot_LCK}

    def write(self, batch: Batch, **kept: Tensor) -> None:
        """Give each row the place of the oldest of its class, or a free one while its share is not full."""
        real_LB = real_rows(batch)
        class_LB = batch.y_LB
        if self.streams.training.boundaries == "shown":
            class_LB = class_LB + self.streams.task_of(batch.rows_LB) * self.streams.n_units
        same_LBB = (class_LB.unsqueeze(2) == class_LB.unsqueeze(1)) & real_LB.unsqueeze(1)
        nth_LB = self.met_LC.gather(1, class_LB) + same_LBB.tril(-1).sum(2)
        new_LB = real_LB & (nth_LB < self.share)
        fresh_LB = (self.filled_L.unsqueeze(1) + new_LB.cumsum(1) - 1).clamp(max=self.slots)
        place_LB = class_LB * self.share + nth_LB % self.share
        self.slot_LCK.scatter_(1, place_LB.masked_fill(~new_LB, self.slot_LCK.shape[1] - 1), fresh_LB)
        slot_LB = self.slot_LCK.gather(1, place_LB).masked_fill(~real_LB, self.slots)
        self.put(slot_LB, batch.rows_LB, **kept)
        self.met_LC.scatter_add_(1, class_LB, real_LB.long())
        self.seen_L += real_LB.sum(1)
