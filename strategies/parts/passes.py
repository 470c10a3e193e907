"""Batches of rows in shuffled passes, for methods that lay out their own.

Axes: L lanes, R rows, B batch.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from strategies.core import hashed, pad_rows


class Passes:
    """Each lane's rows, pass after pass, in an order drawn anew for each; what fills no batch is left out.

    Of fewer rows than a batch holds, some stand in it more than once.
    """

    def __init__(self, rows_of_lanes: Sequence[Tensor], batch: int) -> None:
        self._rows_LR, real_LR = pad_rows(rows_of_lanes, 1)
        self._real_LR = real_LR.bool()
        self._order_LR = torch.zeros_like(self._rows_LR)
        self._count_L1 = real_LR.sum(1, keepdim=True).clamp(min=1)
        self._batch_B = torch.arange(batch, device=self._rows_LR.device)
        self._in_a_pass = [max(1, len(rows_R) // batch) for rows_R in rows_of_lanes]
        self._in_a_pass_L1 = torch.tensor(self._in_a_pass, device=self._rows_LR.device).unsqueeze(1)
        self._taken = 0

    def following(self, key_L: Tensor) -> Tensor:
        """Return the next batch's rows, int64 (L, B); orders follow from keys in [0, 1)."""
        place_L1 = self._taken % self._in_a_pass_L1
        # Known without asking the device, which would have to wait.
        if any(self._taken % n == 0 for n in self._in_a_pass):
            drawn_LR = hashed(key_L, "pass", self._rows_LR.shape[1])
            anew_LR = torch.where(self._real_LR, drawn_LR, 2.0).argsort(1)
            self._order_LR = torch.where(place_L1 == 0, anew_LR, self._order_LR)
        self._taken += 1
        index_LB = (place_L1 * len(self._batch_B) + self._batch_B) % self._count_L1
        return self._rows_LR.gather(1, self._order_LR.gather(1, index_LB))
