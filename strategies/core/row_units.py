"""The unit of the label of every row number.

Axes: L lanes, B batch, N images, R rows, T tasks, C classes, P pairs of a task and a class, W wrong labels.
"""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from suites.base import Stream

_TABLE_BYTES_CPU, _TABLE_BYTES_GPU = 2**27, 2**31
"""Largest size of a table of all row numbers, of which there are T * N in each lane."""


class RowUnits:
    """The unit of each row number of each lane: from a table, or, where that is large, from class and task.

    Args:
        streams: One stream per lane, of the same suite and scenario.
        device: Where the tables are stored.
    """

    def __init__(self, streams: Sequence[Stream], device: torch.device) -> None:
        y_N, n_tasks = streams[0].data.y_N, len(streams[0].tasks)
        limit = _TABLE_BYTES_GPU if device.type == "cuda" else _TABLE_BYTES_CPU
        wrong = [
            (torch.cat([t.wrong_rows for t in s.tasks]), [t.wrong_units for t in s.tasks]) for s in streams
        ]
        self._table_LR: Tensor | None = None
        if 8 * len(streams) * n_tasks * len(y_N) <= limit:
            self._table_LR = torch.stack([s.unit_TC[:, y_N].flatten() for s in streams])
            for lane, (rows_W, units) in enumerate(wrong):
                self._table_LR[lane, rows_W] = torch.cat(units)
            self._table_LR = self._table_LR.to(device)
            self.tensors = [self._table_LR]
            return
        self._n, self._classes = len(y_N), streams[0].unit_TC.shape[1]
        # A row of no class has -1, the last class of the table, whose unit nobody asks for.
        self._y_N = (y_N % self._classes if bool((y_N < 0).any()) else y_N).to(device)
        self._unit_LP = torch.stack([s.unit_TC.flatten() for s in streams]).to(device)
        self._wrong_LW = self._wrong_unit_LW = torch.empty(0)
        self.tensors = [self._y_N, self._unit_LP]
        if any(len(rows_W) for rows_W, _ in wrong):
            last = n_tasks * len(y_N)  # no row number
            orders = [rows_W.argsort() for rows_W, _ in wrong]
            rows = [rows_W[order_W] for (rows_W, _), order_W in zip(wrong, orders, strict=True)]
            of_rows = [torch.cat(units)[order_W] for (_, units), order_W in zip(wrong, orders, strict=True)]
            self._wrong_LW = pad_sequence([*rows], batch_first=True, padding_value=last).to(device)
            self._wrong_unit_LW = pad_sequence(of_rows, batch_first=True).to(device)
            self.tensors += [self._wrong_LW, self._wrong_unit_LW]

    def __call__(self, rows_LB: Tensor, lanes: slice = slice(None)) -> Tensor:
        """Return the unit of each row number of some lanes, by default all: int64 (L, B)."""
        if self._table_LR is not None:
            return self._table_LR[lanes].gather(1, rows_LB)
        pair_LB = rows_LB // self._n * self._classes + self._y_N[rows_LB % self._n]
        unit_LB = self._unit_LP[lanes].gather(1, pair_LB)
        if not len(self._wrong_LW):
            return unit_LB
        wrong_LW, wrong_unit_LW = self._wrong_LW[lanes].contiguous(), self._wrong_unit_LW[lanes]
        place_LB = torch.searchsorted(wrong_LW, rows_LB).clamp(max=wrong_LW.shape[1] - 1)
        is_wrong_LB = wrong_LW.gather(1, place_LB) == rows_LB
        return torch.where(is_wrong_LB, wrong_unit_LW.gather(1, place_LB), unit_LB)
