"""Replay memory: it stores row numbers, is written as a reservoir, and is read uniformly.

Memories balanced over classes are in ``class_memory``.

Axes: L lanes, B batch, M memory slots, C classes; X the axes of one row.
"""

from functools import cache

import torch
from torch import Tensor

from strategies.core import Ahead, Batch, Draws, LaneStreams

_AT_ONCE = 2**24
"""Comparisons of slots that are made together: 16 MB."""


class Memory:
    """The replay memory of all lanes: row numbers in the first ``filled_L`` slots, and more tensors per slot.

    Args:
        slots: Number of rows that each lane can store.
        streams: The streams of all lanes.
        draws: The source of random numbers.
        kept: Names and shapes of float tensors to store per slot: ``{"logits": (10,)}``.
    """

    def __init__(
        self, slots: int, streams: LaneStreams, draws: Draws, kept: dict[str, tuple[int, ...]] | None = None
    ) -> None:
        lanes, device = streams.lanes, streams.device
        self.slots, self.streams, self.draws = slots, streams, draws
        # One extra slot, which is never read, for writes to discard.
        self.rows_LM = torch.zeros(lanes, slots + 1, dtype=torch.long, device=device)
        self.filled_L = torch.zeros(lanes, dtype=torch.long, device=device)
        self.seen_L = torch.zeros(lanes, dtype=torch.long, device=device)
        self.kept = {
            name: torch.zeros(lanes, slots + 1, *shape, device=device) for name, shape in (kept or {}).items()
        }
        self._lane_L1 = torch.arange(lanes, device=device).unsqueeze(1)

    def held_rows(self, lane: int) -> tuple[int, int]:
        """Return the number of rows that a lane stores, and the bytes of each with its label and tensors."""
        extra = sum(k[0, 0].nbytes for k in self.kept.values())
        return int(self.filled_L[lane]), self.streams.row_bytes + extra

    def most_rows(self, lane: int) -> int:
        """Return the number of rows that a lane stores when the memory is full."""
        return self.slots

    def write(self, batch: Batch, **kept: Tensor) -> None:
        """Offer rows to a reservoir (Vitter 1985, Algorithm R): each row seen is equally likely to be stored.

        Rows are offered in order: of two for the same slot the later is stored. Other memories decide
        otherwise which rows to store.

        Args:
            batch: The rows; those with weight 0, padding, are skipped.
            kept: The further tensors of these rows, by name, (L, B, ...) each.
        """
        size = batch.rows_LB.shape[1]
        if batch.all_count and self.draws.can_plan:
            ahead, step = self.draws.ahead("reservoir", size)
            plan = self.draws.plans.get(self)
            if plan is None or not plan.is_for(ahead, step):
                plan = self.draws.plans[self] = _Plan(self, ahead, step)
            slot_LB, counts = plan.take()
            self.draws.filled.add(self)
        else:
            self.changed()
            real_LB = batch.weight_LB > 0
            nth_LB = self.seen_L.unsqueeze(1) + real_LB.cumsum(1)
            draw_LB = self.draws.uniform("reservoir", size)
            slot_LB = torch.where(real_LB, self._slot(nth_LB, draw_LB), self.slots)
            slot_LB = _last_of_each(slot_LB, self.slots)
            seen_L = nth_LB[:, -1]
            counts = [seen_L, torch.maximum(self.filled_L, seen_L.clamp(max=self.slots))]
        self._scatter(slot_LB, batch.rows_LB, kept)
        torch._foreach_copy_([self.seen_L, self.filled_L], counts)

    def write_reservoir(self, batch: Batch, **kept: Tensor) -> None:
        """Offer rows as ``Memory.write`` does, even if a subclass overrides it; the name of 0.1.0."""
        Memory.write(self, batch, **kept)

    def changed(self) -> None:
        """Forget the slots that were planned ahead: rows were written or dropped in another way."""
        self.draws.plans.pop(self, None)

    def put(self, slot_LB: Tensor, rows_LB: Tensor, **kept: Tensor) -> None:
        """Write rows to slots; the caller leaves no gap after the slots in use.

        Slot number ``slots`` discards the row. Of several rows for one slot the last is stored.
        """
        self.changed()
        taken_LB = (slot_LB + 1).masked_fill(slot_LB == self.slots, 0)
        torch.maximum(self.filled_L, taken_LB.amax(1), out=self.filled_L)
        self._scatter(_last_of_each(slot_LB, self.slots), rows_LB, kept)

    def _scatter(self, slot_LB: Tensor, rows_LB: Tensor, kept: dict[str, Tensor]) -> None:
        self.rows_LM.scatter_(1, slot_LB, rows_LB)
        for name, values in kept.items():
            self.kept[name][self._lane_L1, slot_LB] = values

    def append(self, rows_LB: Tensor, real_LB: Tensor, **kept: Tensor) -> None:
        """Write the real rows to the next free slots, until there are none."""
        slot_LB = self.filled_L.unsqueeze(1) + real_LB.long().cumsum(1) - 1
        self.put(slot_LB.masked_fill(~real_LB, self.slots).clamp(max=self.slots), rows_LB, **kept)

    def keep_only(self, keep_LM: Tensor) -> None:
        """Drop all rows but the marked ones, bool (L, M), and close the gaps; the order stays."""
        self.changed()
        self.draws.filled.discard(self)
        keep_LM = keep_LM & self.in_use_LM()
        order_LM = (~keep_LM).long().argsort(dim=1, stable=True)
        self.rows_LM[:, : self.slots] = self.rows_LM.gather(1, order_LM)
        for values in self.kept.values():
            values[:, : self.slots] = values[self._lane_L1, order_LM]
        self.filled_L.copy_(keep_LM.sum(1))

    def in_use_LM(self) -> Tensor:
        """Return which slots contain a row, bool (L, M)."""
        return torch.arange(self.slots, device=self.rows_LM.device) < self.filled_L.unsqueeze(1)

    def _slot(self, nth: Tensor, draw: Tensor) -> Tensor:
        """Return the slot of the n-th row: the next free one, else a random one of n; ``slots`` if none."""
        drawn = (draw * nth).long()
        return torch.where(nth <= self.slots, nth - 1, drawn.clamp(max=self.slots))

    def look(self) -> None:
        """Note on the host whether every lane has a row: reading is then cheaper. Waits for the device."""
        if bool((self.filled_L > 0).all()):
            self.draws.filled.add(self)

    def replay(self, name: str, n: int, like: Batch) -> Batch:
        """Return a batch of n rows of every lane, drawn as by ``draw_slots`` and read as by ``read``."""
        return self.read(self.draw_slots(name, n), like, drawn=True)

    def draw_slots(self, name: str, n: int) -> Tensor:
        """Return n slots of every lane, drawn uniformly with replacement from those in use, int64 (L, n)."""
        return self.draws.below(name, self.filled_L, n)

    def draw_distinct(self, name: str, n: int, among_LM: Tensor | None = None) -> Tensor:
        """Return n different slots of every lane, drawn from those marked (default: in use), int64 (L, n).

        If n is larger than the number of slots, all are returned. Marked slots come first; if they are fewer
        than n, others follow.
        """
        among_LM = self.in_use_LM() if among_LM is None else among_LM
        key_LM = self.draws.uniform(name, self.slots) - (~among_LM).double()
        return key_LM.topk(min(n, self.slots), 1).indices

    def read_kept(self, name: str, slots_LB: Tensor) -> Tensor:
        """Return the stored tensor ``name`` of the rows in slots, shape (L, B, ...)."""
        return self.kept[name][self._lane_L1, slots_LB]

    def read(self, slots_LB: Tensor, like: Batch, raw: bool = False, drawn: bool = False) -> Batch:
        """Return a batch of the rows in slots.

        An empty slot gives a row of ``like`` with weight 0, so that batch statistics are of real images. Rows
        are augmented as new rows are.

        Args:
            slots_LB: Slot numbers, int64.
            like: The batch of this step.
            raw: Whether to return rows without augmentation, to measure them instead of training on them.
            drawn: Whether the slots are from ``draw_slots``: then only those of an empty memory are empty.
        """
        rows_LB = self.rows_LM.gather(1, slots_LB)
        if drawn and like.all_count and self in self.draws.filled:  # a dozen operations fewer
            return self.streams.replay(rows_LB, self.draws)
        in_use_LB = slots_LB < self.filled_L.unsqueeze(1)
        stand_in_LB = like.rows_LB
        if slots_LB.shape[1] != stand_in_LB.shape[1]:
            again_B = torch.arange(slots_LB.shape[1], device=rows_LB.device) % stand_in_LB.shape[1]
            stand_in_LB = stand_in_LB[:, again_B]
        rows_LB = torch.where(in_use_LB, rows_LB, stand_in_LB)
        weight_LB = in_use_LB.float()
        if not like.all_count:  # a resting lane replays nothing
            weight_LB = weight_LB * like.learns_L.unsqueeze(1)
        if raw:
            return self.streams.batch(rows_LB, weight_LB)
        return self.streams.replay(rows_LB, self.draws, weight_LB)


class _Plan:
    """The slots of a reservoir's rows for some steps, if every step offers a whole batch.

    Which rows a reservoir stores depends on draws and counts alone, so many steps are decided together.
    """

    def __init__(self, memory: Memory, ahead: Ahead, step: int) -> None:
        lanes, size = len(memory.seen_L), ahead.block_LKn.shape[2]
        most = max(1, _AT_ONCE // (lanes * size * size))
        draw_LKB = ahead.block_LKn[:, step : step + most]
        per_step_K = torch.arange(0, draw_LKB.shape[1], device=draw_LKB.device) * size
        seen_LK = memory.seen_L.unsqueeze(1) + per_step_K
        nth_LKB = seen_LK.unsqueeze(2) + torch.arange(1, size + 1, device=draw_LKB.device)
        slot_LKB = _last_of_each(memory._slot(nth_LKB, draw_LKB), memory.slots)
        seen_LK = seen_LK + size
        filled_LK = torch.maximum(memory.filled_L.unsqueeze(1), seen_LK.clamp(max=memory.slots))
        self.ahead, self.at = ahead, (ahead.start, step)
        self.steps = [*zip(slot_LKB.unbind(1), seen_LK.unbind(1), filled_LK.unbind(1), strict=True)][::-1]

    def is_for(self, ahead: Ahead, step: int) -> bool:
        """Return whether the next step planned is this one."""
        return self.ahead is ahead and self.at == (ahead.start, step) and bool(self.steps)

    def take(self) -> tuple[Tensor, list[Tensor]]:
        """Return the slots of the next step, (L, B), and the numbers of rows seen and stored after it."""
        self.at = self.at[0], self.at[1] + 1
        slot_LB, *counts = self.steps.pop()
        return slot_LB, counts


def _last_of_each(slot: Tensor, discard: int) -> Tensor:
    """Replace slots that occur again later in the last axis: scatter does not define which write is kept."""
    later_BB = _later_BB(slot.shape[-1], slot.device)
    beaten = ((slot.unsqueeze(-1) == slot.unsqueeze(-2)) & later_BB).any(-1)
    return slot.masked_fill(beaten, discard)


@cache
def _later_BB(size: int, device: torch.device) -> Tensor:
    """Return whether the column is greater than the row; cached, as every step needs it."""
    return torch.ones(size, size, dtype=torch.bool, device=device).triu(1)


def pick_rows(batch: Batch, place_LB: Tensor) -> Batch:
    """Return the rows at some positions of a batch, with the crops and flips that they have there."""
    lane_L1 = torch.arange(len(place_LB), device=place_LB.device).unsqueeze(1)
    return batch.rearranged(lambda of_rows_LB: of_rows_LB[lane_L1, place_LB])
