"""Exemplars: a memory in which all classes seen so far have an equal share.

Axes: L lanes, U units, S slots of one class, K rows in order, M rows of the whole memory, B batch.
"""

from __future__ import annotations

import torch
from torch import Tensor

from strategies.draws import Draws
from strategies.streams import Batch, LaneStreams


class Exemplars:
    """Row numbers by class, the best first; of class u of a lane the first ``count_LU`` slots are in use.

    A class keeps the best of its rows when its share shrinks, so nothing has to be chosen twice.
    """

    def __init__(self, size: int, streams: LaneStreams, draws: Draws) -> None:
        self.buffer, self.streams, self.draws = size, streams, draws
        slots = max(1, size // min(len(s.tasks[0].units) for s in streams.streams))
        shape, device = (streams.lanes, streams.n_units), streams.device
        self.rows_LUS = torch.zeros(*shape, slots, dtype=torch.long, device=device)
        self.count_LU = torch.zeros(*shape, dtype=torch.long, device=device)

    def state(self) -> dict[str, Tensor]:
        """Return what a checkpoint needs."""
        return {"rows": self.rows_LUS, "count": self.count_LU}

    def size(self) -> tuple[int, int]:
        """Return one lane's memory in samples and in bytes, with pixels and labels as if copied."""
        image = self.streams.x_N[0].nbytes + self.streams.unit_LR.element_size()
        return self.buffer, self.buffer * image

    @property
    def total_L(self) -> Tensor:
        """Rows kept by each lane."""
        return self.count_LU.sum(1)

    def reduce(self, share: int) -> None:
        """Let every class keep no more than its best ``share`` rows."""
        self.count_LU.clamp_(max=share)

    def write(self, unit_L: Tensor, rows_LK: Tensor, count_L: Tensor) -> None:
        """Keep the first ``count_L`` of rows given in order as those of one class of every lane."""
        lane_L = torch.arange(len(unit_L), device=unit_L.device)
        self.rows_LUS[lane_L, unit_L, : rows_LK.shape[1]] = rows_LK
        self.count_LU[lane_L, unit_L] = count_L

    def pick(self, nth_LB: Tensor, count_LU: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Return the n-th rows of every lane, classes one after another, and their units, int64 (L, B).

        ``count_LU`` says how many of each class are counted, all where it is not given. Past the last row
        the result is some row.
        """
        count_LU = self.count_LU if count_LU is None else count_LU
        end_LU = count_LU.cumsum(1)
        unit_LB = torch.searchsorted(end_LU, nth_LB, right=True).clamp(max=count_LU.shape[1] - 1)
        slot_LB = nth_LB - (end_LU - count_LU).gather(1, unit_LB)
        flat_LB = unit_LB * self.rows_LUS.shape[2] + slot_LB.clamp(0, self.rows_LUS.shape[2] - 1)
        return self.rows_LUS.flatten(1).gather(1, flat_LB), unit_LB

    def all(self) -> tuple[Tensor, Tensor, Tensor]:
        """Return every row kept with its unit, int64 (L, M), and which of them are real, bool (L, M)."""
        nth_LM = torch.arange(self.buffer, device=self.count_LU.device).expand(len(self.count_LU), -1)
        return *self.pick(nth_LM.contiguous()), nth_LM < self.total_L.unsqueeze(1)

    def read(self, n: int, like: Batch, count_LU: Tensor | None = None) -> Batch:
        """Return n rows of every lane, uniform with replacement over those kept.

        While a lane keeps none, and in a lane at rest, rows of ``like`` stand in that do not count.
        """
        total_L = self.total_L if count_LU is None else count_LU.sum(1)
        rows_LB, _ = self.pick(self.draws.below("exemplars", total_L, n), count_LU)
        empty_L1 = (total_L == 0).unsqueeze(1)
        again_B = torch.arange(n, device=rows_LB.device) % like.rows_LB.shape[1]
        rows_LB = torch.where(empty_L1, like.rows_LB[:, again_B], rows_LB)
        weight_LB = (~empty_L1).float().expand(rows_LB.shape)
        if like.weight_LB is not None:
            weight_LB = weight_LB * like.weight_LB.amax(1, keepdim=True)
        return self.streams.batch(rows_LB, weight_LB)
