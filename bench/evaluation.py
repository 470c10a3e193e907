"""The score matrix R, kept as counts, for all lanes at once.

Axes: L lanes, B batch, T tasks, R rows, U units.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from bench.clock import Clock
from strategies.base import Strategy
from strategies.streams import LaneStreams, pad_rows

_ROWS_AT_ONCE = 500
"""Rows are padded to whole chunks: a product of another height may round differently, and a lane's scores
must not depend on how many rows its neighbours have."""
Counts = list[list[int | None]]


class Scorer:
    """Counts of right answers on every task's test and validation rows, row by row of R."""

    def __init__(self, streams: LaneStreams, strategy: Strategy) -> None:
        self.streams, self.strategy = streams, strategy
        self.rows = {
            "test": self._rows([[t.test_rows for t in s.tasks] for s in streams.streams]),
            "validation": self._rows([[t.validation_rows for t in s.tasks] for s in streams.streams]),
        }
        rows, tasks = streams.n_tasks + 1, streams.n_tasks
        self.right: dict[str, list[Counts]] = {
            split: [[[None] * tasks for _ in range(rows)] for _ in range(streams.lanes)]
            for split in self.rows
        }
        self.curves: list[list[dict[str, Any]]] = [[] for _ in range(streams.lanes)]

    def _rows(self, of_lanes: list[list[Tensor]]) -> tuple[Tensor, Tensor, list[list[int]]]:
        """Return all tasks' rows of every lane, which of them are real, and how many each task has."""
        device = self.streams.device
        totals = [[len(rows) for rows in tasks] for tasks in of_lanes]
        rows_LR, real_LR = pad_rows([torch.cat(tasks) for tasks in of_lanes], _ROWS_AT_ONCE)
        return rows_LR.to(device), real_LR.to(device), totals

    @torch.no_grad()
    def count(self, split: str) -> list[list[int]]:
        """Return each lane's right answers per task: the one copy to the host of an evaluation."""
        rows_LR, real_LR, _ = self.rows[split]
        right_LT = torch.zeros(
            self.streams.lanes, self.streams.n_tasks, dtype=torch.long, device=rows_LR.device
        )
        if rows_LR.shape[1] == 0:
            return right_LT.tolist()
        training = self.strategy.model.training
        self.strategy.model.eval()
        for rows_LB, real_LB in zip(
            rows_LR.split(_ROWS_AT_ONCE, 1), real_LR.split(_ROWS_AT_ONCE, 1), strict=True
        ):
            batch = self.streams.batch(rows_LB.contiguous(), real_LB)
            right_LB = (self.strategy.predict(batch).argmax(2) == batch.y_LB).long() * real_LB
            right_LT.scatter_add_(1, self.streams.task_of(batch.rows_LB), right_LB)
        self.strategy.model.train(training)
        return right_LT.tolist()

    def measure(self, row: int, clock: Clock) -> None:
        """Fill one row of R."""
        with clock.scoring(within_task=False):
            for split, lanes in self.right.items():
                for lane, counts in enumerate(self.count(split)):
                    lanes[lane][row] = [*counts]

    def curve(self, task: int, step: int, active: tuple[bool, ...] | None, clock: Clock) -> None:
        """Note the active lanes' validation scores inside a task, whose number counts from 1."""
        with clock.scoring(within_task=True):
            for lane, right in enumerate(self.count("validation")):
                if active is not None and not active[lane]:
                    continue
                total = self.rows["validation"][2][lane]
                self.curves[lane].append({"task": task, "step": step, "right": right, "total": total})

    def record(self, lane: int) -> dict[str, Any]:
        """Return one lane's matrices and curves."""
        found: dict[str, Any] = {}
        for split, lanes in self.right.items():
            totals = self.rows[split][2][lane]
            total = [
                [None if r is None else n for r, n in zip(row, totals, strict=True)] for row in lanes[lane]
            ]
            found[split] = {"right": lanes[lane], "total": total}
        return {**found, "curves": self.curves[lane]}

    def load(self, lane: int, record: dict[str, Any]) -> None:
        """Go on from a checkpoint."""
        for split in self.right:
            self.right[split][lane] = record[split]["right"]
        self.curves[lane] = record["curves"]
