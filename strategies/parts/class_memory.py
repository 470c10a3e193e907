"""Memories balanced over classes: balanced reservoir, greedy balance, ring.

For the balanced reservoir a class is a unit of the head, so it needs no tasks. For greedy balance and the
ring a unit in each task is a class of its own, unless boundaries are hidden. Otherwise, if tasks share units,
the memory would contain rows of the first or of the last task only.

Axes: L lanes, B batch, M memory slots, N candidates, U units and C classes (one more for empty slots), K rows
of a class.
"""

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

from strategies.core import Batch, Draws, LaneStreams, Unsuitable
from strategies.parts.memory import Memory


def pick_marked(among: Tensor, draw: Tensor) -> Tensor:
    """Return a marked index of the last axis, chosen by a draw in [0, 1); the last one if none is marked."""
    nth = (draw * among.sum(-1)).long().unsqueeze(-1)
    return (among.cumsum(-1) <= nth).sum(-1).clamp(max=among.shape[-1] - 1)


def real_rows(batch: Batch) -> Tensor:
    """Return which rows of a batch are not padding, bool (L, B)."""
    return batch.weight_LB > 0


def _class(streams: LaneStreams, rows_LB: Tensor) -> Tensor:
    """Return the class of each row, int64: a task and unit, or a unit if boundaries are hidden."""
    unit_LB = streams.units(rows_LB)
    if streams.training.boundaries == "hidden":
        return unit_LB
    return unit_LB + streams.task_of(rows_LB) * streams.n_units


def _count(index_LN: Tensor, n: int) -> Tensor:
    """Return how often each of 0 to n - 1 occurs in each lane, int64 (L, n)."""
    zero_LC = torch.zeros(len(index_LN), n, dtype=torch.long, device=index_LN.device)
    return zero_LC.scatter_add(1, index_LN, torch.ones_like(index_LN))


def class_shares(slots: int, streams: LaneStreams) -> list[int]:
    """Return the slots that each lane has for every class of every task, in equal shares.

    Raises:
        Unsuitable: There are fewer slots than classes, so some class would have none.
    """
    classes = [sum(len(t.units) for t in s.tasks) for s in streams.streams]
    if slots < max(classes):
        raise Unsuitable(
            f"buffer={slots} is less than one row for each of the {max(classes)} classes of all tasks"
        )
    return [slots // n for n in classes]


class BalancedMemory(Memory):
    """Class-balancing reservoir sampling (Chrysakis & Moens 2020).

    Each row gets a random key, and each class stores the rows with its smallest keys: a reservoir per class.
    A class stores all its rows until the memory is full; then each new row replaces one of a largest class,
    and a class that has lost rows does not grow again. A whole batch can therefore be written by one sort:
    candidates are stored by rank within their class, and at equal ranks by a fixed order of the classes. (The
    paper draws each time which of equally large classes loses a row.)
    """

    def __init__(self, slots: int, streams: LaneStreams, draws: Draws) -> None:
        super().__init__(slots, streams, draws, {"key": ()})
        self.met_LU = torch.zeros(streams.lanes, streams.n_units + 1, dtype=torch.long, device=streams.device)
        self.order_LU = draws.uniform("order of classes", streams.n_units + 1).argsort(1)

    def write(self, batch: Batch, **kept: Tensor) -> None:
        """Keep the first of the stored and the new rows by rank within their class."""
        empty, real_LB = self.streams.n_units, real_rows(batch)
        there_LN = torch.cat([self.in_use_LM(), real_LB], 1)
        rows_LN = torch.cat([self.rows_LM[:, : self.slots], batch.rows_LB], 1)
        unit_LN = torch.where(there_LN, self.streams.units(rows_LN), empty)
        key_LB = self.draws.uniform("key", real_LB.shape[1]).float()
        kept_LN = {
            name: torch.cat([self.kept[name][:, : self.slots], new], 1)
            for name, new in {**kept, "key": key_LB}.items()
        }
        held_LU = _count(unit_LN[:, : self.slots], empty + 1)
        whole_LU = held_LU == self.met_LU
        self.met_LU += _count(unit_LN[:, self.slots :], empty + 1)
        self.met_LU[:, -1] = 0
        # In the order of class, then key, a row's rank is its distance from the first row of its class.
        by_key_LN = (unit_LN + kept_LN["key"].double()).argsort(dim=1, stable=True)
        unit_LN = unit_LN.gather(1, by_key_LN)
        count_LU = _count(unit_LN, empty + 1)
        begin_LU = count_LU.cumsum(1) - count_LU
        rank_LN = torch.arange(unit_LN.shape[1], device=unit_LN.device) - begin_LU.gather(1, unit_LN)
        most_LU = torch.where(whole_LU, count_LU, held_LU)
        out_LN = (rank_LN >= most_LU.gather(1, unit_LN)) | (unit_LN == empty)
        place_LN = rank_LN * (empty + 1) + self.order_LU.gather(1, unit_LN)
        best_LM = place_LN.masked_fill(out_LN, torch.iinfo(torch.long).max).argsort(1)[:, : self.slots]
        from_LM = by_key_LN.gather(1, best_LM)
        self.rows_LM[:, : self.slots] = rows_LN.gather(1, from_LM)
        for name, values in kept_LN.items():
            self.kept[name][:, : self.slots] = values[self._lane_L1, from_LM]
        self.filled_L.copy_((~out_LN).sum(1).clamp(max=self.slots))
        self.seen_L += real_LB.sum(1)


class GreedyMemory(Memory):
    """The greedy balancing sampler of GDumb (Prabhu 2020, Algorithm 1).

    A row is stored if its class is new or has less than an equal share of the slots among the classes seen.
    Once the memory is full, it replaces a row of one of the largest classes. Rows are offered one by one, as
    in the paper.
    """

    def __init__(self, slots: int, streams: LaneStreams, draws: Draws) -> None:
        super().__init__(slots, streams, draws)
        n_classes = streams.n_tasks * streams.n_units
        self.met_LC = torch.zeros(streams.lanes, n_classes, dtype=torch.bool, device=streams.device)

    def write(self, batch: Batch, **kept: Tensor) -> None:
        """Offer rows one by one."""
        empty, real_LB = self.met_LC.shape[1], real_rows(batch)
        draw_LB = self.draws.uniform("greedy", real_LB.shape[1])
        new_LB = _class(self.streams, batch.rows_LB)
        held_LM = _class(self.streams, self.rows_LM[:, : self.slots])
        held_LM = torch.where(self.in_use_LM(), held_LM, empty)
        slots = []
        for b in range(real_LB.shape[1]):
            new_L1 = new_LB[:, b : b + 1]
            count_LC = _count(held_LM, empty + 1)[:, :-1]
            below_L1 = count_LC.gather(1, new_L1) * self.met_LC.sum(1, keepdim=True) < self.slots
            taken_L1 = real_LB[:, b : b + 1] & (below_L1 | ~self.met_LC.gather(1, new_L1))
            largest_LC = F.pad(count_LC == count_LC.amax(1, keepdim=True), (0, 1))
            free_LM = held_LM == empty
            among_LM = torch.where(free_LM.any(1, keepdim=True), free_LM, largest_LC.gather(1, held_LM))
            # The first free slot, else a random slot of the largest classes.
            draw_L = torch.where(free_LM.any(1), 0, draw_LB[:, b])
            slot_L1 = pick_marked(among_LM, draw_L).unsqueeze(1)
            held_LM = torch.where(taken_L1, held_LM.scatter(1, slot_L1, new_L1), held_LM)
            self.met_LC |= F.one_hot(new_L1.squeeze(1), empty).bool() & real_LB[:, b : b + 1]
            slots.append(torch.where(taken_L1, slot_L1, self.slots))
        self.put(torch.cat(slots, 1), batch.rows_LB, **kept)
        self.seen_L += real_LB.sum(1)


class SharedMemory(Memory):
    """A memory with an equal share of slots for every class of every task."""

    def __init__(self, slots: int, streams: LaneStreams, draws: Draws) -> None:
        super().__init__(slots, streams, draws)
        self.share_L1 = torch.tensor(class_shares(slots, streams), device=streams.device).unsqueeze(1)

    def most_rows(self, lane: int) -> int:
        """Return the number of rows of the lane's shares, which can leave some slots empty."""
        return int(self.share_L1[lane]) * sum(len(t.units) for t in self.streams.streams[lane].tasks)

    def write_per_class(self, rows: list[Tensor]) -> None:
        """Add random rows of each class among each lane's ``rows``, up to its share."""
        # One draw of the largest length for all lanes, so that no lane's numbers depend on other lanes.
        self.changed()
        draw_LR = self.draws.uniform("per class", max(len(r) for r in rows))
        for lane, rows_R in enumerate(rows):
            rows_R = rows_R.to(self.rows_LM.device)[draw_LR[lane, : len(rows_R)].argsort()]
            units_R = self.streams.units_of(lane, rows_R)
            for unit in units_R.unique():
                start = int(self.filled_L[lane])
                chosen = rows_R[units_R == unit][: min(int(self.share_L1[lane]), self.slots - start)]
                self.rows_LM[lane, start : start + len(chosen)] = chosen
                self.filled_L[lane] += len(chosen)


class RingMemory(SharedMemory):
    """The latest rows of each class in equal shares, first in, first out (Chaudhry 2019, tiny memories)."""

    def __init__(self, slots: int, streams: LaneStreams, draws: Draws) -> None:
        super().__init__(slots, streams, draws)
        self.most = int(self.share_L1.max())
        lanes, n_classes = streams.lanes, streams.n_tasks * streams.n_units
        self.met_LC = torch.zeros(lanes, n_classes, dtype=torch.long, device=streams.device)
        # The slot of the k-th row of a class; the extra last column is for writes to discard.
        self.slot_LCK = torch.full((lanes, n_classes * self.most + 1), slots, device=streams.device)

    def write(self, batch: Batch, **kept: Tensor) -> None:
        """Write each row to a free slot until its class's share is full, then over the class's oldest row."""
        real_LB = real_rows(batch)
        class_LB = _class(self.streams, batch.rows_LB)
        same_LBB = (class_LB.unsqueeze(2) == class_LB.unsqueeze(1)) & real_LB.unsqueeze(1)
        nth_LB = self.met_LC.gather(1, class_LB) + same_LBB.tril(-1).sum(2)
        new_LB = real_LB & (nth_LB < self.share_L1)
        fresh_LB = (self.filled_L.unsqueeze(1) + new_LB.cumsum(1) - 1).clamp(max=self.slots)
        place_LB = class_LB * self.most + nth_LB % self.share_L1
        self.slot_LCK.scatter_(1, place_LB.masked_fill(~new_LB, self.slot_LCK.shape[1] - 1), fresh_LB)
        slot_LB = self.slot_LCK.gather(1, place_LB).masked_fill(~real_LB, self.slots)
        self.put(slot_LB, batch.rows_LB, **kept)
        self.met_LC.scatter_add_(1, class_LB, real_LB.long())
        self.seen_L += real_LB.sum(1)
