"""Reads the rows of coming steps of a mapped data set, so that a step does not wait for the disk.

Axes: L lanes, S steps, B batch.
"""

from __future__ import annotations

import mmap
from functools import partial

import torch

from bench.train.background import Background
from bench.train.schedule import Schedule
from suites.base import Data

_BLOCK_BYTES = 2**24


class ReadAhead(Background):
    """Reads the rows of a task a block of steps before they are learned, in a thread.

    What is read is not used: it is in the system's cache then, and each batch is made as for a data set in
    memory. Rows that a method stores are read when it asks for them.
    """

    def __init__(self, data: Data, schedule: Schedule, device: torch.device) -> None:
        super().__init__()
        self.data, self.schedule = data, schedule
        self._reads = data.file is not None and device.type == "cpu"
        step_bytes = schedule.rows_SLB.shape[1:].numel() * data.x_N[0].nbytes
        self._steps = max(1, _BLOCK_BYTES // max(1, step_bytes))

    def before(self, step: int) -> None:
        """Wait for the rows of a step, counted from 0, and have the next block read."""
        if self._reads and step % self._steps == 0:
            if step == 0:
                self._read(0)
            self._read(step + self._steps)

    def _read(self, step: int) -> None:
        self.start(partial(self._read_rows, self.schedule.rows_SLB[step : step + self._steps]))

    def _read_rows(self, rows_SLB: torch.Tensor) -> None:
        assert self.data.file is not None
        self.data.file.release()
        # In their order in the file, which disks are made for.
        index = self.data.index_of(rows_SLB.flatten()).sort().values
        values, width = self.data.x_N.view(-1), self.data.x_N[0].numel()
        for start in range(0, width, max(1, mmap.PAGESIZE // values.element_size())):
            values[start::width].index_select(0, index)  # a value of each page is enough
