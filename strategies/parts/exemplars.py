"""Exemplars: a memory shared equally by all classes of all tasks so far.

Axes: L lanes, G groups (a class of a task), S slots of a group, K rows in order, M rows of the whole memory,
B batch, N candidates of one class, F features, U units.
"""

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

from strategies.core import Batch, Draws, LaneStreams
from strategies.parts.class_memory import class_shares


class Exemplars:
    """Row numbers by group, best first; the first ``count_LG`` slots of a group are in use.

    A group is a class of one task, so that a class that comes back does not replace its earlier exemplars.
    Groups are ordered by unit, then task: if no class comes back, a group's number is its unit. The last
    group is always empty; a lane with fewer classes in a task than another uses it for the missing ones.
    When its share shrinks, a group keeps the best of its rows, so nothing is chosen again.
    """

    def __init__(self, size: int, streams: LaneStreams, draws: Draws) -> None:
        """Create an empty memory of ``size`` rows a lane; raises Unsuitable if a group would have none."""
        self.buffer, self.streams, self.draws = size, streams, draws
        tasks = [enumerate(s.tasks) for s in streams.streams]
        groups = [sorted((u, t) for t, task in of_lane for u in task.units) for of_lane in tasks]
        self._number = [{group: g for g, group in enumerate(of_lane)} for of_lane in groups]
        most = max(map(len, groups))
        class_shares(size, streams)
        self.none, device = most, streams.device
        padded = [[*of_lane, *[(0, streams.n_tasks)] * (most + 1 - len(of_lane))] for of_lane in groups]
        self.unit_LG, self.task_LG = torch.tensor(padded, device=device).unbind(2)
        # The number of slots does not depend on other lanes, since other shapes round differently.
        slots = min(size, streams.rows_of_largest_class)
        self.rows_LGS = torch.zeros(*self.unit_LG.shape, slots, dtype=torch.long, device=device)
        self.count_LG = torch.zeros_like(self.unit_LG)

    def held_rows(self, lane: int) -> tuple[int, int]:
        """Return the number of rows that a lane stores, and the bytes of each with its label."""
        return int(self.total_L[lane]), self.streams.row_bytes

    def most_rows(self, lane: int) -> int:
        """Return the number of rows that a lane stores after its last task, if no class has fewer."""
        groups = len(self._number[lane])
        return groups * (self.buffer // groups)

    def share_L(self, tasks: int) -> Tensor:
        """Return the rows that each group has after ``tasks`` tasks, shape (L,)."""
        return self.buffer // (self.task_LG < tasks).sum(1)

    def group_L(self, task: int, nth: int) -> Tensor:
        """Return the group of each lane's ``nth`` class of a task; the last, empty group if there is none."""
        units = [s.tasks[task].units for s in self.streams.streams]
        found = [
            number[of[nth], task] if nth < len(of) else self.none
            for number, of in zip(self._number, units, strict=True)
        ]
        return torch.tensor(found, device=self.unit_LG.device)

    @property
    def total_L(self) -> Tensor:
        """Rows stored by each lane."""
        return self.count_LG.sum(1)

    def reduce(self, share_L: Tensor) -> None:
        """Reduce every group to at most its best ``share_L`` rows."""
        self.count_LG.copy_(torch.minimum(self.count_LG, share_L.unsqueeze(1)))

    def write(self, group_L: Tensor, rows_LK: Tensor, count_L: Tensor) -> None:
        """Store the first ``count_L`` of ordered rows as the exemplars of one group of every lane."""
        lane_L = torch.arange(len(group_L), device=group_L.device)
        self.rows_LGS[lane_L, group_L, : rows_LK.shape[1]] = rows_LK
        self.count_LG[lane_L, group_L] = count_L

    def all(self) -> tuple[Tensor, Tensor, Tensor]:
        """Return every stored row with its unit, int64 (L, M), and which of them are real, bool (L, M)."""
        nth_LM = torch.arange(self.buffer, device=self.count_LG.device).repeat(len(self.count_LG), 1)
        rows_LM, group_LM = _pick(self.rows_LGS, self.count_LG, nth_LM)
        return rows_LM, self.unit_LG.gather(1, group_LM), nth_LM < self.total_L.unsqueeze(1)

    def freeze_for_reading(self) -> None:
        """Fix the rows that ``read`` draws from until the next call, whatever is written in between.

        A group's rows are sorted by number, so that a different order of herding, due to rounding, does not
        change what is read.
        """
        self._readable_LG = self.count_LG.clone()
        slot_S = torch.arange(self.rows_LGS.shape[2], device=self.rows_LGS.device)
        self._rows_LGS = _sorted(self.rows_LGS, slot_S >= self.count_LG.unsqueeze(2))

    def hold_out(self, every: int) -> Tensor:
        """Hold one in ``every`` rows of each group out of reading, evenly spread, and return them.

        Returns:
            Row numbers, shape (L, G, H), with H the largest number that one group can hold out; -1 for none.
        """
        count_LG1 = self._readable_LG.unsqueeze(2)
        held_LG1 = held_out_count(count_LG1, every)
        slot_S = torch.arange(self.rows_LGS.shape[2], device=self.rows_LGS.device)
        # Chooses h of n slots: those where a multiple of h / n passes a whole number.
        out_LGS = (slot_S * held_LG1 % count_LG1.clamp(min=1) < held_LG1) & (slot_S < count_LG1)
        most = max(1, len(slot_S) // every)
        held_LGH = self._rows_LGS.masked_fill(~out_LGS, -1).sort(2, descending=True).values[..., :most]
        self._readable_LG = self._readable_LG - held_LG1.squeeze(2)
        self._rows_LGS = _sorted(self._rows_LGS, out_LGS)
        return held_LGH

    def read(self, n: int, like: Batch) -> Batch:
        """Return n rows of every lane, drawn uniformly with replacement from the rows ready for reading.

        If there are none, or the lane rests, the rows of ``like`` are returned with weight 0.
        """
        total_L = self._readable_LG.sum(1)
        nth_LB = self.draws.below("exemplars", total_L, n)
        rows_LB, _ = _pick(self._rows_LGS, self._readable_LG, nth_LB)
        empty_L1 = (total_L == 0).unsqueeze(1)
        again_B = torch.arange(n, device=rows_LB.device) % like.rows_LB.shape[1]
        rows_LB = torch.where(empty_L1, like.rows_LB[:, again_B], rows_LB)
        weight_L1 = ~empty_L1 * like.learns_L.unsqueeze(1)
        return self.streams.replay(rows_LB, self.draws, weight_L1.expand(rows_LB.shape))


def herding_order(features_LNF: Tensor, real_LN: Tensor, wanted: int) -> Tensor:
    """Return the candidates to store, the best first, int64 (L, K), K = min(wanted, N).

    p_k = argmin_x ||mu - (phi(x) + sum_{j<k} phi(p_j)) / k||, each candidate at most once, with phi, mu and
    the mean of the k of length 1 (Rebuffi 2017, Algorithm 4; section 2 normalises every average). The
    first k of the result are the choice of size k. ``real_LN`` is 0 for padding: a lane with fewer than K
    real candidates has them all in front.
    """
    # Doubles: rounding differs with the lanes beside a lane, and in floats it decides between near ties.
    phi_LNF = F.normalize(features_LNF.double(), dim=2) * real_LN.unsqueeze(2)
    mean_LF = F.normalize(phi_LNF.sum(1), dim=1)
    sum_LF = torch.zeros_like(mean_LF)
    along_LN, square_LN = _inner(phi_LNF, mean_LF), phi_LNF.square().sum(2)
    out_LN = real_LN == 0
    chosen = [out_LN[:, :0].long()]
    for _ in range(min(wanted, real_LN.shape[1])):
        # For means of length 1 the nearest has the largest inner product with mu: mu (S + phi) / |S + phi|.
        length_LN = sum_LF.square().sum(1, keepdim=True) + 2 * _inner(phi_LNF, sum_LF) + square_LN
        inner_LN = (mean_LF * sum_LF).sum(1, keepdim=True) + along_LN
        cosine_LN = inner_LN / length_LN.clamp(min=1e-12).sqrt()
        best_L1 = cosine_LN.masked_fill(out_LN, -torch.inf).argmax(1, keepdim=True)
        out_LN = out_LN.scatter(1, best_L1, True)
        sum_LF = sum_LF + phi_LNF.gather(1, best_L1.unsqueeze(2).expand(-1, -1, phi_LNF.shape[2])).squeeze(1)
        chosen.append(best_L1)
    return torch.cat(chosen, 1)


def _inner(phi_LNF: Tensor, to_LF: Tensor) -> Tensor:
    """Return the inner product of every candidate with one vector of its lane, shape (L, N)."""
    return torch.bmm(phi_LNF, to_LF.unsqueeze(2)).squeeze(2)


def held_out_count(count: Tensor, every: int) -> Tensor:
    """Return how many of ``count`` rows are held out: one in ``every``, but at least one of two or more."""
    return (count // every).clamp(min=1) * (count > 1)


def _sorted(rows_LGS: Tensor, out_LGS: Tensor) -> Tensor:
    """Return rows sorted by number, those marked in ``out_LGS`` last."""
    return rows_LGS.masked_fill(out_LGS, torch.iinfo(torch.long).max).sort(2).values


def _pick(rows_LGS: Tensor, count_LG: Tensor, nth_LB: Tensor) -> tuple[Tensor, Tensor]:
    """Return the n-th rows of every lane, counted group after group, and their groups, int64 (L, B).

    For n past the last row, the result is an arbitrary row.
    """
    end_LG = count_LG.cumsum(1)
    group_LB = torch.searchsorted(end_LG, nth_LB, right=True).clamp(max=count_LG.shape[1] - 1)
    slot_LB = nth_LB - (end_LG - count_LG).gather(1, group_LB)
    flat_LB = group_LB * rows_LGS.shape[2] + slot_LB.clamp(0, rows_LGS.shape[2] - 1)
    return rows_LGS.flatten(1).gather(1, flat_LB), group_LB
