"""The score matrix R as counts of correct predictions for all lanes, and confusion counts.

Axes: L lanes, B batch, T tasks, R rows, U units, P pairs of a task and one of its units, O outside rows, K
counts above zero.
"""

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from bench.plan import Fields
from bench.train.score_rows import ScoreRows
from strategies.core import Batch, LaneStreams, Strategy, eval_mode, pad_rows

_ROWS_AT_ONCE = 500
"""Rows are padded to full chunks: a product of another height may round differently, and scores of a lane
must not depend on its neighbours' numbers of rows."""
_TEXTS_AT_ONCE = 64
"""Smaller for texts, because padding is expensive in a transformer."""


class _Places:
    """Where the counts of some tasks are: confusion counts of all tasks and units would be T * U * U numbers.

    Only the units of each task have a place, in the order of tasks and units.
    """

    def __init__(self, streams: LaneStreams, tasks: range) -> None:
        self.tasks = tasks
        own_LP = streams.own_LTU[:, tasks.start : tasks.stop].flatten(1)
        self.pair_LP = own_LP.cumsum(1) - 1
        order_LP = own_LP.long().argsort(dim=1, descending=True, stable=True)
        self.place_LP = order_LP[:, : int(own_LP.sum(1).max())]


class AccuracyScorer:
    """Counts correct predictions on the test and validation rows of all tasks, one row of R at a time.

    Beside each row of R it stores confusion counts: how often each true unit was predicted as which unit.
    """

    def __init__(self, streams: LaneStreams, strategy: Strategy) -> None:
        self.streams, self.strategy = streams, strategy
        self._at_once = _TEXTS_AT_ONCE if streams.reads_tokens else _ROWS_AT_ONCE
        self.rows = {
            "test": self._rows([[t.test_rows for t in s.tasks] for s in streams.streams]),
            "validation": self._rows([[t.validation_rows for t in s.tasks] for s in streams.streams]),
            "outside": self._rows([[s.outside_rows] for s in streams.streams]),
        }
        self._every_task = _Places(streams, range(streams.n_tasks))
        rows, lanes = streams.n_tasks + 1, range(streams.lanes)
        self.right: dict[str, list[ScoreRows]] = {
            split: [ScoreRows(streams.training, streams.n_tasks) for _ in lanes]
            for split in ("test", "validation")
        }
        self.confused: dict[str, list[list[NDArray[np.int32]]]] = {
            split: [[] for _ in lanes] for split in self.right
        }
        self.curves: list[list[Fields]] = [[] for _ in lanes]
        self.outside: list[list[float | None]] = [[None] * rows for _ in lanes]
        self.tested: list[list[Fields]] = [[] for _ in lanes]
        self._tested_now: list[Tensor] = []

    def _rows(self, of_lanes: list[list[Tensor]]) -> tuple[Tensor, Tensor, list[list[int]]]:
        """Return the rows of all tasks for every lane, which are not padding, and the number of each task."""
        device = self.streams.device
        totals = [[len(rows) for rows in tasks] for tasks in of_lanes]
        rows_LR, real_LR = pad_rows([torch.cat(tasks) for tasks in of_lanes], self._at_once)
        return rows_LR.to(device), real_LR.to(device), totals

    @torch.no_grad()
    def _answers_of(self, rows_LR: Tensor, real_LR: Tensor) -> Iterator[tuple[Batch, Tensor, Tensor]]:
        if rows_LR.shape[1] == 0:
            return
        with eval_mode(self.strategy.model):
            chunks = (t.split(self._at_once, 1) for t in (rows_LR, real_LR))
            for rows_LB, real_LB in zip(*chunks, strict=True):
                batch = self.streams.batch(rows_LB.contiguous(), real_LB)
                yield batch, real_LB, self.strategy.predict(batch)
                if self.streams.data.file is not None:
                    self.streams.data.file.release()

    def _rows_of(self, split: str, tasks: range) -> tuple[Tensor, Tensor]:
        """Return the rows of some tasks for every lane, and which are not padding."""
        if len(tasks) == self.streams.n_tasks:
            return self.rows[split][:2]
        name = f"{split}_rows"
        return self._rows([[getattr(s.tasks[t], name) for t in tasks] for s in self.streams.streams])[:2]

    def _confusion(self, split: str, of: _Places, confidence: list[Tensor] | None = None) -> Tensor:
        """Return how often each true unit of each task was predicted as which, (L, P, U), on the device.

        If ``confidence`` is given, the confidence of every prediction is appended to it.
        """
        (lanes, pairs), units = of.place_LP.shape, self.streams.n_units
        count_LPU = torch.zeros(lanes, pairs * units, dtype=torch.int32, device=self.streams.device)
        for batch, real_LB, scores_LBU in self._answers_of(*self._rows_of(split, of.tasks)):
            place_LB = (self.streams.task_of(batch.rows_LB) - of.tasks.start) * units + batch.y_LB
            pair_LB = of.pair_LP.gather(1, place_LB.clamp(min=0)).clamp(min=0)  # padding may have no label
            count_LPU.scatter_add_(1, pair_LB * units + scores_LBU.argmax(2), real_LB.int())
            if confidence is not None:
                confidence.append(_confidence(scores_LBU))
        return count_LPU.view(lanes, pairs, units)

    def _right(self, count_LPU: Tensor, of: _Places) -> list[list[int]]:
        """Return the correct predictions of each lane and task."""
        place_LP = of.place_LP.to(count_LPU.device)
        right_LP = count_LPU.gather(2, (place_LP % self.streams.n_units).unsqueeze(2)).squeeze(2)
        right_LT = right_LP.new_zeros(self.streams.lanes, len(of.tasks))
        return right_LT.scatter_add_(1, place_LP // self.streams.n_units, right_LP).tolist()

    def count(self, split: str) -> list[list[int]]:
        """Return the correct predictions of each lane and task; copies to the host once."""
        return self._right(self._confusion(split, self._every_task), self._every_task)

    def validation_of(self, tasks: Sequence[int]) -> list[int]:
        """Return the correct predictions of each lane on the validation rows of some tasks."""
        streams = self.streams.streams
        rows_LR, real_LR, _ = self._rows([[s.tasks[t].validation_rows for t in tasks] for s in streams])
        right_L = torch.zeros(len(streams), dtype=torch.long, device=self.streams.device)
        for batch, real_LB, scores_LBU in self._answers_of(rows_LR, real_LR):
            right_L += ((scores_LBU.argmax(2) == batch.y_LB) * real_LB).sum(1)
        found: list[int] = right_L.tolist()
        return found

    def measure(self, row: int) -> None:
        """Fill one row of R, for the tasks that ``eval`` scores."""
        tasks = self.streams.training.scored_after(row, self.streams.n_tasks)
        if not tasks:
            return
        every = len(tasks) == self.streams.n_tasks
        of = self._every_task if every else _Places(self.streams, tasks)
        for split, lanes in self.right.items():
            outside = every and split == "test" and row > 0 and self.rows["outside"][0].shape[1] > 0
            confidence: list[Tensor] | None = [] if outside else None
            count_LPU = self._confusion(split, of, confidence).cpu()
            for lane, counts in enumerate(self._right(count_LPU, of)):
                lanes[lane].rows[row] = [*counts]
            for lane, found in enumerate(self._sparse(count_LPU.numpy(), row, of)):
                self.confused[split][lane].append(found)
            if confidence:
                for lane, area in enumerate(self._outside_area(torch.cat(confidence, 1), row)):
                    self.outside[lane][row] = area

    def _sparse(self, count_LPU: NDArray[np.int32], row: int, of: _Places) -> list[NDArray[np.int32]]:
        """Return counts above zero of each lane, (K, 5): row of R, task from 1, true unit, prediction, count.

        They are few, because most classes are confused with few others.
        """
        lane_K, pair_K, unit_K = count_LPU.nonzero()
        place_K = of.place_LP.cpu().numpy()[lane_K, pair_K]
        task_K, true_K = place_K // self.streams.n_units, place_K % self.streams.n_units
        count_K = count_LPU[lane_K, pair_K, unit_K]
        columns = (np.full_like(task_K, row), task_K + of.tasks.start + 1, true_K, unit_K, count_K)
        found_K5 = np.stack(columns, 1).astype(np.int32)
        return np.split(found_K5, np.searchsorted(lane_K, range(1, self.streams.lanes)))

    def _outside_area(self, inside_LR: Tensor, row: int) -> list[float]:
        """Return for each lane how well confidence separates rows of the tasks so far from outside rows."""
        rows_LR, real_LR, _ = self.rows["test"]
        counts_LR = (real_LR > 0) & (self.streams.task_of(rows_LR) < row)
        outside = self._answers_of(*self.rows["outside"][:2])
        outside_LO = torch.cat([_confidence(scores) for _, _, scores in outside], 1)
        return area_L(inside_LR, counts_LR, outside_LO, self.rows["outside"][1] > 0).tolist()

    def curve(self, task: int, step: int, active: tuple[bool, ...] | None) -> None:
        """Append validation scores of the active lanes within a task; tasks and steps are counted from 1."""
        for lane, right in enumerate(self.count("validation")):
            if active is None or active[lane]:
                total = self.rows["validation"][2][lane]
                self.curves[lane].append({"task": task, "step": step, "right": right, "total": total})

    @torch.no_grad()
    def test_first(self, batch: Batch) -> None:
        """Count the correct predictions of a batch that is learned next; they stay on the device."""
        with eval_mode(self.strategy.model):
            right_LB = self.strategy.predict(batch).argmax(2) == batch.y_LB
        counted_LB = batch.weight_LB > 0
        self._tested_now.append(torch.stack([(right_LB & counted_LB).sum(1), counted_LB.sum(1)]))

    def end_tests(self, task: int) -> None:
        """Copy the counts of a task, from 1, to the host; batches without rows of a lane are left out."""
        if not self._tested_now:
            return
        for lane, (right, total) in enumerate(torch.stack(self._tested_now, 2).transpose(0, 1).tolist()):
            both = [(r, n) for r, n in zip(right, total, strict=True) if n]
            point = {"task": task, "right": [r for r, _ in both], "total": [n for _, n in both]}
            self.tested[lane].append(point)
        self._tested_now = []

    def record(self, lane: int) -> Fields:
        """Return the matrices and curves of a lane."""
        found: Fields = {"prequential": self.tested[lane]} if self.tested[lane] else {}
        for split, lanes in self.right.items():
            found[split] = lanes[lane].record("right", total=self.rows[split][2][lane])
        if self.rows["outside"][0].shape[1]:
            found["outside"] = self.outside[lane]
        return {**found, "curves": self.curves[lane]}

    def classes(self, lane: int) -> Fields:
        """Return the confusion counts of a lane and the names of its units; see bench.results.per_class."""
        of = {split: [c for c in lanes[lane] if len(c)] for split, lanes in self.confused.items()}
        found = {split: np.concatenate(counts).tolist() if counts else [] for split, counts in of.items()}
        return {"units": self.streams.streams[lane].unit_names(), **found}

    def rows_of(self, lane: int, first: int, end: int) -> Fields:
        """Return rows ``first`` to ``end`` (exclusive) of a lane's matrices, for a checkpoint."""
        return {
            "right": {split: lanes[lane].written(first, end) for split, lanes in self.right.items()},
            "confused": {
                split: [c.tolist() for c in lanes[lane] if len(c) and first <= c[0, 0] < end]
                for split, lanes in self.confused.items()
            },
            "outside": self.outside[lane][first:end],
            "curves": [point for point in self.curves[lane] if first <= point["task"] < end],
            "prequential": [point for point in self.tested[lane] if first <= point["task"] < end],
        }

    def load_rows(self, lane: int, first: int, rows: Fields) -> None:
        """Continue from a checkpoint: add rows from ``first`` on."""
        for split, right in rows["right"].items():
            self.right[split][lane].load(first, right)
            counts = (np.array(c, dtype=np.int32) for c in rows["confused"][split])
            self.confused[split][lane] += counts
        self.outside[lane][first : first + len(rows["outside"])] = rows["outside"]
        self.curves[lane] += rows["curves"]
        self.tested[lane] += rows.get("prequential", [])


def _confidence(scores_LBU: Tensor) -> Tensor:
    """Return the largest softmax probability, (L, B); in double, in which fewer round to 1."""
    return scores_LBU.double().softmax(2).amax(2)


def area_L(inside_LR: Tensor, counts_LR: Tensor, outside_LO: Tensor, real_LO: Tensor) -> Tensor:
    """Return the area under the ROC curve of each lane, (L,), of inside rows against outside rows.

    It is the share of pairs of an inside and an outside row in which the inside row has the larger value;
    ties are half a win (Hanley & McNeil 1982). 0 in a lane without inside or outside rows.

    Args:
        inside_LR: Values of inside rows.
        counts_LR: Which inside rows are used.
        outside_LO: Values of outside rows.
        real_LO: Which outside rows are not padding.
    """
    # Padding and NaN become infinite, so that no inside row is above them.
    sorted_LO = torch.where(real_LO, outside_LO, torch.inf).nan_to_num(nan=torch.inf).sort(1).values
    inside_LR = inside_LR.nan_to_num(nan=-torch.inf).contiguous()
    below_LR = torch.searchsorted(sorted_LO, inside_LR)
    up_to_LR = torch.searchsorted(sorted_LO, inside_LR, right=True)
    won_L = ((below_LR + up_to_LR) * counts_LR).sum(1) / 2
    return won_L / (counts_LR.sum(1) * real_LO.sum(1)).clamp(min=1)
