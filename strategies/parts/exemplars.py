"""Exemplars: a memory in which all classes seen so far have an equal share.

Axes: L lanes, U units, S slots of one class, K rows in order, M rows of the whole memory, B batch,
N candidates of one class, F features.
"""

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

from strategies.core import Batch, Draws, LaneStreams


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
        """Rows stored by each lane."""
        return self.count_LU.sum(1)

    def reduce(self, share: int) -> None:
        """Let every class keep no more than its best ``share`` rows."""
        self.count_LU.clamp_(max=share)

    def write(self, unit_L: Tensor, rows_LK: Tensor, count_L: Tensor) -> None:
        """Keep the first ``count_L`` of rows given in order as those of one class of every lane."""
        lane_L = torch.arange(len(unit_L), device=unit_L.device)
        self.rows_LUS[lane_L, unit_L, : rows_LK.shape[1]] = rows_LK
        self.count_LU[lane_L, unit_L] = count_L

    def all(self) -> tuple[Tensor, Tensor, Tensor]:
        """Return every stored row with its unit, int64 (L, M), and which of them are real, bool (L, M)."""
        nth_LM = torch.arange(self.buffer, device=self.count_LU.device).repeat(len(self.count_LU), 1)
        rows_LM, unit_LM = _pick(self.rows_LUS, self.count_LU, nth_LM)
        return rows_LM, unit_LM, nth_LM < self.total_L.unsqueeze(1)

    def freeze_for_reading(self) -> None:
        """Fix what is read until the next call: changes in between are not seen.

        A class's rows are laid out by number, so that two that rounding let change places in the order of
        herding do not change what is read.
        """
        self._readable_LU = self.count_LU
        slot_S = torch.arange(self.rows_LUS.shape[2], device=self.rows_LUS.device)
        self._rows_LUS = _sorted(self.rows_LUS, slot_S >= self.count_LU.unsqueeze(2))

    def hold_out(self, every: int) -> Tensor:
        """Take one of ``every`` rows of each class from what is read, spread evenly; -1 means none.

        Shape (L, U, H), H as many as can be held out of one class.
        """
        count_LU1 = self._readable_LU.unsqueeze(2)
        held_LU1 = held_out_count(count_LU1, every)
        slot_S = torch.arange(self.rows_LUS.shape[2], device=self.rows_LUS.device)
        # Of n slots in a row, those where a multiple of h / n passes a whole number are h of them.
        out_LUS = (slot_S * held_LU1 % count_LU1.clamp(min=1) < held_LU1) & (slot_S < count_LU1)
        most = max(1, len(slot_S) // every)
        held_LUH = self._rows_LUS.masked_fill(~out_LUS, -1).sort(2, descending=True).values[..., :most]
        self._readable_LU = self._readable_LU - held_LU1.squeeze(2)
        self._rows_LUS = _sorted(self._rows_LUS, out_LUS)
        return held_LUH

    def read(self, n: int, like: Batch) -> Batch:
        """Return n rows of every lane, uniform with replacement over what is ready for reading.

        While there is none, and in a lane at rest, rows of ``like`` stand in that do not count.
        """
        total_L = self._readable_LU.sum(1)
        nth_LB = self.draws.below("exemplars", total_L, n)
        rows_LB, _ = _pick(self._rows_LUS, self._readable_LU, nth_LB)
        empty_L1 = (total_L == 0).unsqueeze(1)
        again_B = torch.arange(n, device=rows_LB.device) % like.rows_LB.shape[1]
        rows_LB = torch.where(empty_L1, like.rows_LB[:, again_B], rows_LB)
        weight_L1 = ~empty_L1 * like.learns_L.unsqueeze(1)
        return self.streams.replay(rows_LB, self.draws, weight_L1.expand(rows_LB.shape))


def herding_order(features_LNF: Tensor, real_LN: Tensor, wanted: int) -> Tensor:
    """Return the candidates to keep, the best first, int64 (L, K), K = min(wanted, N).

    p_k = argmin_x ||mu - (phi(x) + sum_{j<k} phi(p_j)) / k||, each candidate at most once, with phi of
    length 1 (Rebuffi 2017, Algorithm 4). Any first part of the result is the choice of that size. ``real_LN``
    is 0 for padding: a lane with fewer than K real candidates has them all in front.
    """
    phi_LNF = F.normalize(features_LNF, dim=2) * real_LN.unsqueeze(2)
    mean_LF = F.normalize(phi_LNF.sum(1), dim=1)
    sum_LF = torch.zeros_like(mean_LF)
    out_LN = real_LN == 0
    chosen = []
    for k in range(1, min(wanted, real_LN.shape[1]) + 1):
        # With |phi| = 1 the nearest is the one that points most along what is missing: k mu - sum.
        gain_LN = torch.bmm(phi_LNF, (k * mean_LF - sum_LF).unsqueeze(2)).squeeze(2)
        best_L1 = gain_LN.masked_fill(out_LN, -torch.inf).argmax(1, keepdim=True)
        out_LN = out_LN.scatter(1, best_L1, True)
        sum_LF = sum_LF + phi_LNF.gather(1, best_L1.unsqueeze(2).expand(-1, -1, phi_LNF.shape[2])).squeeze(1)
        chosen.append(best_L1)
    return torch.cat(chosen, 1)


def held_out_count(count: Tensor, every: int) -> Tensor:
    """Return how many of a number of rows are held out: one of ``every``, of two or more at least one."""
    return (count // every).clamp(min=1) * (count > 1)


def _sorted(rows_LUS: Tensor, out_LUS: Tensor) -> Tensor:
    """Return rows by number, those that are out last."""
    return rows_LUS.masked_fill(out_LUS, torch.iinfo(torch.long).max).sort(2).values


def _pick(rows_LUS: Tensor, count_LU: Tensor, nth_LB: Tensor) -> tuple[Tensor, Tensor]:
    """Return the n-th rows of every lane, classes one after another, and their units, int64 (L, B).

    Past the last row the result is some row.
    """
    end_LU = count_LU.cumsum(1)
    unit_LB = torch.searchsorted(end_LU, nth_LB, right=True).clamp(max=count_LU.shape[1] - 1)
    slot_LB = nth_LB - (end_LU - count_LU).gather(1, unit_LB)
    flat_LB = unit_LB * rows_LUS.shape[2] + slot_LB.clamp(0, rows_LUS.shape[2] - 1)
    return rows_LUS.flatten(1).gather(1, flat_LB), unit_LB
